import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteConfigSpace, createFunction, type PciFunction, VpciError } from '../../src/index.ts';
import {
  type Access,
  arbitraryAccess,
  arbitraryConfig,
  arbitraryOptions,
  type ReferenceOptions,
} from '../support/arbitrary-config.ts';
import { byteAt, dwordAt, extendedLinks, standardLinks } from '../support/reference-chain.ts';

// What holds for any host, any options and any guest, said without a model of the function.

const numRuns = Number(process.env['VPCI_RUNS'] ?? 300);

/** A function whose PASID is left out where it can't be shown; undefined where other options are refused. */
function create(host: ByteConfigSpace, options: ReferenceOptions): PciFunction | undefined {
  try {
    return createFunction({ ...options, onPasidRefused: 'omit', physical: host });
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    const others = options.ats === true || options.pri === true || options.passthroughRanges !== undefined;
    expect(others, `refused: ${error.code} ${error.message}`).toBe(true);
    return undefined;
  }
}

function view(fn: PciFunction): Uint8Array {
  const bytes = new Uint8Array(fn.size);
  fn.readInto(0, bytes);
  return bytes;
}

function drive(fn: PciFunction, access: Access): void {
  if (access.kind === 'reset') return fn.reset(access.reset);
  const places = [...fn.capabilities, ...fn.extendedCapabilities].map(({ offset }) => offset);
  const { where } = access;
  const at =
    'at' in where ? where.at : (places[where.index % Math.max(1, places.length)] ?? 0x100) + where.delta;
  if (access.kind === 'read') fn.read(at, access.size);
  else if (access.kind === 'write') fn.write(at, access.size, access.value);
  else if (access.kind === 'readInto') fn.readInto(at, new Uint8Array(access.length));
  else fn.writeFrom(at, Uint8Array.from(access.bytes));
}

/** Follows both of the guest's chains and fails at the first bad link. Returns the offsets by ID. */
function walkGuest(bytes: Uint8Array): { standard: [number, number][]; extended: [number, number][] } {
  const cardBus = (byteAt(bytes, 0x0e) & 0x7f) === 2;
  const standard: [number, number][] = [];
  let at = (byteAt(bytes, 6) & 0x10) === 0 ? 0 : byteAt(bytes, cardBus ? 0x14 : 0x34);
  while (at !== 0) {
    expect(at % 4 === 0 && at >= 0x40 && at < 0x100, `standard link to 0x${at.toString(16)}`).toBe(true);
    standard.push([byteAt(bytes, at), at]);
    expect(standard.length).toBeLessThanOrEqual(48);
    at = byteAt(bytes, at + 1);
  }
  const extended: [number, number][] = [];
  at = bytes.length < 0x1000 || dwordAt(bytes, 0x100) === 0 ? 0 : 0x100;
  while (at !== 0) {
    expect(at % 4 === 0 && at >= 0x100 && at < 0x1000, `extended link to 0x${at.toString(16)}`).toBe(true);
    const header = dwordAt(bytes, at);
    extended.push([header & 0xffff, at]);
    expect(extended.length).toBeLessThanOrEqual(960);
    at = header >>> 20;
  }
  return { standard, extended };
}

/** Bytes that may differ from the physical ones without a finding: links, and what was asked for. */
function rebuiltBytes(fn: PciFunction, physical: Uint8Array): Set<number> {
  // Status, and the Capabilities Pointer, which a CardBus bridge has at 14h.
  const rebuilt = new Set([0x06, (byteAt(physical, 0x0e) & 0x7f) === 2 ? 0x14 : 0x34]);
  for (const { offset } of [...fn.capabilities, ...standardLinks(physical)]) rebuilt.add(offset + 1);
  for (const { offset } of [...fn.extendedCapabilities, ...extendedLinks(physical)]) {
    rebuilt.add(offset + 2).add(offset + 3);
  }
  for (const { offset, length, synthesized } of fn.extendedCapabilities) {
    if (synthesized) for (let at = offset; at < offset + length; at++) rebuilt.add(at);
  }
  // Initiate Function Level Reset reads 0 by definition, whatever a broken device returns.
  for (const { id, offset } of fn.capabilities) {
    if (id === 0x10) rebuilt.add(offset + 9);
    if (id === 0x13) rebuilt.add(offset + 4);
  }
  return rebuilt;
}

const runs = fc.array(arbitraryAccess, { maxLength: 30 });

describe('any function of any host', () => {
  it('is made without an exception, and PASID is left out where it must be', () => {
    fc.assert(
      fc.property(arbitraryConfig, arbitraryOptions, (bytes, all) => {
        const { ats: _ats, pri: _pri, passthroughRanges: _ranges, ...options } = all;
        const fn = createFunction({ ...options, onPasidRefused: 'omit', physical: bytes });
        if ((options.pasid?.width ?? 0) > 0 && fn.pasid === undefined) {
          expect(fn.findings.map(({ code }) => code)).toContain('pasid-omitted');
        }
      }),
      { numRuns },
    );
  });

  it('shows chains that can be walked, before and after any access, and PASID at its place', () => {
    fc.assert(
      fc.property(arbitraryConfig, arbitraryOptions, runs, (bytes, options, accesses) => {
        const fn = create(new ByteConfigSpace(bytes.slice()), options);
        if (fn === undefined) return;
        const before = walkGuest(view(fn));
        for (const access of accesses) drive(fn, access);
        const bytesNow = view(fn);
        expect(walkGuest(bytesNow)).toEqual(before);
        const pasids = before.extended.filter(([id]) => id === 0x1b).map(([, at]) => at);
        expect(pasids).toEqual(fn.pasid === undefined ? [] : [fn.pasid.offset]);
        if (fn.pasid === undefined) return;
        const { offset, width } = fn.pasid;
        expect(byteAt(bytesNow, offset + 5)).toBe(width);
        expect(width).toBe(Math.min(options.pasid?.width ?? 0, options.maxPasidWidth ?? 20));
        const control = byteAt(bytesNow, offset + 6) & ~byteAt(bytesNow, offset + 4) & ~1;
        expect(control, 'only what is supported can be enabled').toBe(0);
        expect(byteAt(bytesNow, offset + 7)).toBe(0);
      }),
      { numRuns },
    );
  });

  it('lets a guest change nothing physical but the forwarded bits', () => {
    fc.assert(
      fc.property(arbitraryConfig, arbitraryOptions, runs, (bytes, all, accesses) => {
        const { passthroughRanges: _ranges, ...options } = all;
        const host = new ByteConfigSpace(bytes.slice());
        const fn = create(host, options);
        if (fn === undefined) return;
        for (const access of accesses) drive(fn, access);
        const may = new Map<number, number>();
        for (const { id, offset } of fn.capabilities) {
          // Relaxed Ordering, No Snoop, AtomicOp Requester Enable.
          if (id === 0x10)
            may
              .set(offset + 8, 0x10)
              .set(offset + 9, 0x08)
              .set(offset + 0x28, 0x40);
        }
        for (const [at, byte] of host.bytes.entries()) {
          if (byte === bytes[at]) continue;
          expect((byte ^ byteAt(bytes, at)) & ~(may.get(at) ?? 0), `byte 0x${at.toString(16)}`).toBe(0);
        }
      }),
      { numRuns },
    );
  });

  it('names in a finding whatever it shows otherwise than the host has it', () => {
    fc.assert(
      fc.property(arbitraryConfig, arbitraryOptions, (bytes, options) => {
        const fn = create(new ByteConfigSpace(bytes.slice()), options);
        if (fn === undefined) return;
        const rebuilt = rebuiltBytes(fn, bytes);
        const named = new Uint8Array(bytes.length);
        for (const { offset, length } of fn.findings) named.fill(1, offset, offset + length);
        for (const [at, byte] of view(fn).subarray(0, bytes.length).entries()) {
          if (byte === bytes[at] || rebuilt.has(at) || named[at] === 1) continue;
          expect(named[at], `byte 0x${at.toString(16)} differs without a finding`).toBe(1);
        }
      }),
      { numRuns },
    );
  });
});
