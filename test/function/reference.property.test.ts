import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createFunction, type PciFunction, VpciError } from '../../src/index.ts';
import {
  type Access,
  arbitraryAccess,
  arbitraryConfig,
  arbitraryOptions,
  type ReferenceOptions,
  type Where,
} from '../support/arbitrary-config.ts';
import { malformed, RecordingConfigSpace } from '../support/recording-config-space.ts';
import { ReferenceFunction } from '../support/reference-function.ts';
import { Refused } from '../support/reference-plan.ts';

// The whole function against a naive reference written apart, access by access. VPCI_RUNS=n for a longer hunt.

const numRuns = Number(process.env['VPCI_RUNS'] ?? 400);

interface Pair {
  readonly fn: PciFunction;
  readonly reference: ReferenceFunction;
  readonly host: RecordingConfigSpace;
}

/** Undefined when both refuse; a test failure when one does. */
function create(bytes: Uint8Array, options: ReferenceOptions): Pair | undefined {
  const host = new RecordingConfigSpace(bytes);
  let refused: unknown;
  let reference: ReferenceFunction | undefined;
  try {
    reference = new ReferenceFunction(bytes, options);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused = error;
  }
  let fn: PciFunction;
  try {
    fn = createFunction({ ...options, physical: host });
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    expect(refused, `refused with ${error.code} (${error.message}), and nothing is wrong`).toBeDefined();
    return undefined;
  }
  expect(host.writes, 'making a function writes nothing').toEqual([]);
  if (reference === undefined) throw new Error(`must be refused: ${String(refused)}`);
  host.drain();
  return { fn, reference, host };
}

/** The places of `where` in this function: chain headers, and 0x100. */
function resolve({ plan }: ReferenceFunction, where: Where): number {
  if ('at' in where) return where.at;
  const places = [...plan.standard, ...plan.extended].map((link) => link.offset);
  return (places[where.index % Math.max(1, places.length)] ?? 0x100) + where.delta;
}

function littleEndian(value: number, size: number): number[] {
  return [0, 8, 16, 24].slice(0, size).map((shift) => (value >>> shift) & 0xff);
}

/** Does `access` on both sides and compares what the guest and the host saw. */
function step({ fn, reference, host }: Pair, access: Access): void {
  if (access.kind === 'reset') {
    fn.reset(access.reset);
    reference.reset(access.reset);
    expect(host.drain(), 'a reset touches no hardware').toEqual([]);
    return;
  }
  const offset = resolve(reference, access.where);
  const name = `${access.kind} at 0x${offset.toString(16)}`;
  const pair = { fn, reference, host };
  if (access.kind === 'read') {
    const value = fn.read(offset, access.size);
    expect(value, name).toBe(value >>> 0);
    // Nothing is in front of the space: an access that begins there is past the end as a whole.
    const expected = offset < 0 ? [0xff, 0xff, 0xff, 0xff] : reference.read(offset, access.size);
    expect(littleEndian(value, access.size), name).toEqual(expected.slice(0, access.size));
  } else if (access.kind === 'readInto') {
    const bytes = new Uint8Array(access.length);
    fn.readInto(offset, bytes);
    const expected = reference.read(offset, access.length);
    expect([...bytes], name).toEqual(expected);
  } else if (access.kind === 'write') {
    fn.write(offset, access.size, access.value);
    if (offset >= 0) reference.write(offset, littleEndian(access.value, access.size));
  } else {
    fn.writeFrom(offset, Uint8Array.from(access.bytes));
    reference.write(offset, access.bytes);
  }
  const length =
    access.kind === 'readInto'
      ? access.length
      : access.kind === 'writeFrom'
        ? access.bytes.length
        : access.size;
  checkHostAccesses(pair, name, offset, length);
  const wrong = host.bytes.findIndex((byte, at) => byte !== reference.host[at]);
  if (wrong !== -1) {
    expect(host.bytes[wrong], `${name}: physical byte 0x${wrong.toString(16)}`).toBe(reference.host[wrong]);
  }
}

/** Each host access is well formed and touches only bytes that the guest addressed and the host owns. */
function checkHostAccesses({ reference, host }: Pair, name: string, offset: number, length: number): void {
  for (const access of host.drain()) {
    const what = `${name}: host ${access.kind} of ${access.size} at 0x${access.offset.toString(16)}`;
    expect(malformed(access, host.size), what).toBeUndefined();
    for (let at = access.offset; at < access.offset + access.size; at++) {
      const { virtual, forward } = reference.cell(at);
      const allowed = access.kind === 'read' ? virtual !== 0xff : forward !== 0;
      expect(allowed, `${what}: byte 0x${at.toString(16)} is not the host's`).toBe(true);
      expect(at >= offset && at < offset + length, `${what}: beyond the guest's access`).toBe(true);
    }
  }
}

/** Every byte of the guest's view. */
function compareWhole({ fn, reference, host }: Pair, when: string): void {
  const bytes = new Uint8Array(fn.size);
  fn.readInto(0, bytes);
  host.drain();
  for (const [at, byte] of bytes.entries()) {
    if (byte === reference.readByte(at)) continue;
    expect({ at: at.toString(16), byte }, when).toEqual({
      at: at.toString(16),
      byte: reference.readByte(at),
    });
  }
}

describe('a passed-through function and the naive reference', () => {
  test('agree on every access', () => {
    fc.assert(
      fc.property(
        arbitraryConfig,
        arbitraryOptions,
        fc.array(arbitraryAccess, { maxLength: 40 }),
        (bytes, options, accesses) => {
          const pair = create(bytes, options);
          if (pair === undefined) return;
          const { fn, reference } = pair;
          expect(fn.size).toBe(reference.plan.size);
          expect(fn.pasid?.offset).toBe(reference.plan.pasid?.offset);
          compareWhole(pair, 'at power-on');
          for (const access of accesses) step(pair, access);
          compareWhole(pair, 'at the end');
        },
      ),
      { numRuns },
    );
  });
});
