import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeTlp,
  encodeTlp,
  type MemoryTlp,
  type MemoryTlpInit,
  type TlpFailure,
  tlpToRequest,
} from '../../src/pci/tlp.ts';

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const fromHex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));

const read: MemoryTlpInit = { kind: 'read', requester: 0x0100, address: 0x4000_0000n, length: 16 };

function failureOf(text: string): TlpFailure | 'none' {
  const result = decodeTlp(fromHex(text));
  return result.ok ? 'none' : result.failure;
}

function decoded(init: MemoryTlpInit): MemoryTlp {
  const result = decodeTlp(encodeTlp(init));
  if (!result.ok) throw new Error(result.failure);
  return result.tlp;
}

const bits = (count: number): fc.Arbitrary<number> => fc.integer({ min: 0, max: 2 ** count - 1 });

/** Any valid request. */
const requests: fc.Arbitrary<MemoryTlp> = fc
  .record({
    kind: fc.constantFrom<MemoryTlp['kind'][]>('read', 'write', 'fetch-add', 'swap', 'compare-swap'),
    requester: bits(16),
    address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
    length: fc.integer({ min: 1, max: 1024 }),
    tag: bits(10),
    trafficClass: bits(3),
    attributes: bits(3),
    at: fc.constantFrom<MemoryTlp['at'][]>('untranslated', 'translation', 'translated'),
    firstBe: bits(4),
    lastBe: bits(4),
    noWrite: fc.boolean(),
    pasid: fc.option(fc.record({ pasid: bits(20), execute: fc.boolean(), privileged: fc.boolean() })),
  })
  .map((tlp): MemoryTlp => {
    if (tlp.at === 'translation') {
      return { ...tlp, kind: 'read', address: tlp.address & ~0xfffn, length: tlp.length & 0x3fe || 2 };
    }
    const base = { ...tlp, noWrite: false };
    if (tlp.kind !== 'read' && tlp.kind !== 'write') {
      return { ...base, address: tlp.address & ~0x1fn, length: tlp.kind === 'compare-swap' ? 8 : 2 };
    }
    const room = (4096 - Number(tlp.address & 0xffcn)) / 4;
    const length = Math.min(tlp.length, room);
    const enables = length === 1 ? { lastBe: 0 } : { firstBe: tlp.firstBe || 1, lastBe: tlp.lastBe || 8 };
    return { ...base, address: tlp.address & ~3n, length, ...enables };
  });

describe('a memory request', () => {
  it('is laid out as PCIe lays it out', () => {
    expect(toHex(encodeTlp(read))).toBe('00000010010000ff40000000');
    expect(toHex(encodeTlp({ ...read, kind: 'write', length: 1, tag: 0x5a }))).toBe(
      '4000000101005a0f40000000',
    );
    expect(toHex(encodeTlp({ ...read, address: 0x1_2345_6000n }))).toBe('20000010010000ff0000000123456000');
    expect(toHex(encodeTlp({ ...read, kind: 'fetch-add', length: 2 }))).toBe('4c000002010000ff40000000');
    expect(toHex(encodeTlp({ ...read, kind: 'swap', length: 1 }))).toBe('4d0000010100000f40000000');
    expect(toHex(encodeTlp({ ...read, kind: 'compare-swap', length: 4 }))).toBe('4e000004010000ff40000000');
    expect(toHex(encodeTlp({ ...read, length: 1024 }))).toBe('00000000010000ff40000000');
    expect(toHex(encodeTlp({ ...read, at: 'translated' }))).toBe('00000810010000ff40000000');
    expect(toHex(encodeTlp({ ...read, tag: 0x300, trafficClass: 5, attributes: 7 }))).toBe(
      '00dc3010010000ff40000000',
    );
  });

  it('has its PASID in front', () => {
    const pasid = { pasid: 0xabcde, execute: true, privileged: false };
    expect(toHex(encodeTlp({ ...read, pasid }))).toBe('911abcde00000010010000ff40000000');
  });

  it('for a translation has NW in bit 0 of the address', () => {
    const request: MemoryTlpInit = { ...read, at: 'translation', length: 2, noWrite: true };
    expect(toHex(encodeTlp(request))).toBe('00000402010000ff40000001');
    expect(decoded(request)).toMatchObject({ noWrite: true, address: 0x4000_0000n });
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(requests, (tlp) => {
        const bytes = encodeTlp(tlp);
        const result = decodeTlp(bytes);
        expect(result).toEqual({ ok: true, tlp, headerBytes: bytes.length });
      }),
    );
  });

  it('is found in front of its data, anywhere in a buffer', () => {
    const bytes = new Uint8Array(64).fill(0xaa);
    bytes.set(encodeTlp({ ...read, kind: 'write', length: 4 }), 8);
    expect(decodeTlp(bytes.subarray(8))).toMatchObject({ ok: true, headerBytes: 12 });
  });
});

describe('bytes that are no memory request', () => {
  it.each<[TlpFailure, string]>([
    ['truncated', ''],
    ['truncated', '000000'],
    ['truncated', '00000010 010000ff 400000'],
    ['truncated', '20000010 010000ff 40000000'],
    ['truncated', '91000001'],
    ['unsupported-prefix', '92000001 00000010 010000ff 40000000'],
    ['unsupported-prefix', '80000001 00000010 010000ff 40000000'],
    ['repeated-pasid-prefix', '91000001 91000001 00000010 010000ff 40000000'],
    ['reserved-pasid-bits', '91400001 00000010 010000ff 40000000'],
    ['not-a-memory-request', '04000001 0100000f 01000000'],
    ['not-a-memory-request', '4a000001 01000004 01000000'],
    ['not-a-memory-request', 'a0000001 01000004 01000000'],
    ['reserved-address-type', '00000c10 010000ff 40000000'],
    ['reserved-address-type', '40000410 010000ff 40000000'],
    ['translation-length', '00000401 0100000f 40000000'],
    ['byte-enables', '00000001 010000ff 40000000'],
    ['byte-enables', '00000002 0100000f 40000000'],
    ['byte-enables', '00000002 010000f0 40000000'],
    ['atomic-length', '4c000003 010000ff 40000000'],
    ['atomic-length', '4e000001 0100000f 40000000'],
    ['atomic-length', '4c000008 010000ff 40000000'],
    ['atomic-alignment', '4c000002 010000ff 40000004'],
    ['atomic-alignment', '4e000008 010000ff 40000008'],
    ['crosses-4k', '00000002 010000ff 40000ffc'],
  ])('%s: %s', (failure, text) => {
    expect(failureOf(text)).toBe(failure);
  });

  it('never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const result = decodeTlp(bytes);
        expect(result.ok ? result.headerBytes <= bytes.length : result.failure !== undefined).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it('that nearly are one have a result too', () => {
    const flip = fc.tuple(requests, fc.nat(200), fc.integer({ min: 1, max: 255 }));
    fc.assert(
      fc.property(flip, ([tlp, at, mask]) => {
        const bytes = encodeTlp(tlp);
        bytes[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ mask;
        const result = decodeTlp(bytes);
        if (result.ok) expect(() => encodeTlp(result.tlp)).not.toThrow();
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a read with a steering tag', () => {
  it('has all bytes enabled', () => {
    expect(decodeTlp(fromHex('00010002 01000012 40000000'))).toMatchObject({
      tlp: { firstBe: 0xf, lastBe: 0xf },
    });
    expect(decodeTlp(fromHex('00010001 01000012 40000000'))).toMatchObject({
      tlp: { firstBe: 0xf, lastBe: 0 },
    });
  });
});

describe('encodeTlp refuses', () => {
  it.each<[string, Partial<MemoryTlp>]>([
    ['a wide PASID', { pasid: { pasid: 0x100000, execute: false, privileged: false } }],
    ['a requester over 16 bits', { requester: 0x10000 }],
    ['a fractional tag', { tag: 0.5 }],
    ['a length of 0', { length: 0 }],
    ['a length of 1025', { length: 1025 }],
    ['a length that is no number', { length: Number.NaN }],
    ['an address between DWs', { address: 2n }],
    ['a negative address', { address: -4n }],
    ['an address over 64 bits', { address: 1n << 64n }],
    ['a translation request inside a page', { at: 'translation', address: 4n }],
    ['noWrite without a translation request', { noWrite: true }],
    ['a request across 4 KiB', { address: 0xffcn }],
    ['byte enables of no byte', { firstBe: 0 }],
  ])('%s', (_what, fields) => {
    expect(() => encodeTlp({ ...read, ...fields })).toThrow(expect.objectContaining({ code: 'VPCI_TLP' }));
  });
});

describe('tlpToRequest', () => {
  const ask = (init: Partial<MemoryTlpInit>) => tlpToRequest(decoded({ ...read, ...init }));
  const pasid = { pasid: 5, execute: true, privileged: true };

  it('says who asks for what', () => {
    expect(ask({})).toEqual({
      rid: 0x0100,
      pasid: null,
      address: 0x4000_0000n,
      access: 'read',
      size: 64,
      privileged: false,
      noWrite: false,
      at: 'untranslated',
    });
  });

  it('knows the access', () => {
    expect(ask({ pasid })).toMatchObject({ pasid: 5, access: 'execute', privileged: true });
    expect(ask({ pasid: { ...pasid, execute: false } }).access).toBe('read');
    expect(ask({ pasid, kind: 'write' }).access).toBe('write');
    expect(ask({ pasid, kind: 'swap', length: 2 })).toMatchObject({ access: 'atomic', size: 8 });
    expect(ask({ at: 'translated' }).at).toBe('translated');
  });

  it('gives a translation request its page', () => {
    const request = { at: 'translation', length: 2, noWrite: true } as const;
    expect(ask(request)).toMatchObject({ access: 'read', address: 0x4000_0000n, size: 4096, noWrite: true });
    expect(ask({ ...request, pasid }).access).toBe('execute');
  });

  it.each([
    [1, 0xf, 0, 0, 4],
    [1, 0b0110, 0, 1, 2],
    [1, 0b1000, 0, 3, 1],
    [1, 0, 0, 0, 0],
    [2, 0b1100, 0b0001, 2, 3],
    [3, 0b1111, 0b0111, 0, 11],
  ])('counts enabled bytes: %i DW, %i, %i', (length, firstBe, lastBe, skipped, size) => {
    const request = ask({ length, firstBe, lastBe });
    expect(request).toMatchObject({ address: 0x4000_0000n + BigInt(skipped), size });
  });
});
