import fc from 'fast-check';
import type { PassthroughOptions } from '../../src/index.ts';

// Arbitrary physical configuration spaces, options and guest accesses.

/** Bytes that a small seed decides: cheap to make, and shrinking the chains leaves them alone. */
function noise(size: number, seed: number, kind: 'zero' | 'sparse' | 'full' | 'ones'): Uint8Array {
  const bytes = new Uint8Array(size);
  if (kind === 'ones') return bytes.fill(0xff);
  if (kind === 'zero') return bytes;
  let state = seed | 1;
  for (let at = 0; at < size; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    if (kind === 'full' || (state & 0x700) === 0) bytes[at] = state >>> 16;
  }
  return bytes;
}

const background = fc.record({
  seed: fc.integer(),
  kind: fc.constantFrom('zero', 'sparse', 'sparse', 'full', 'full', 'ones' as const),
});

interface Entry {
  readonly offset: number;
  readonly id: number;
  readonly version: number;
}

const standardId = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0x01, 0x05, 0x11, 0x13) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 0x18 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xff }) },
);
const extendedId = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(0x01, 0x0d, 0x0b, 0x23, 0x03, 0x02, 0x00) },
  { weight: 3, arbitrary: fc.constantFrom(0x1b, 0x1b, 0x0f, 0x13, 0x10, 0x0e, 0x15, 0x2e) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 0x38 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffff }) },
);

const standardEntry = fc.record({
  offset: fc.integer({ min: 0x10, max: 0x3f }).map((dword) => 4 * dword),
  id: standardId,
  version: fc.constant(0),
});
const extendedEntry = fc.record({
  offset: fc.oneof(
    fc.integer({ min: 0x40, max: 0x3ff }).map((dword) => 4 * dword),
    fc.integer({ min: 0x41, max: 0x60 }).map((dword) => 4 * dword),
    fc.constantFrom(0xff0, 0xff4, 0xff8, 0xffc),
  ),
  id: extendedId,
  version: fc.integer({ min: 0, max: 15 }),
});

/** Mostly the end of the chain; else a cycle, a misaligned pointer, one outside the region, or anything. */
const tail = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.constantFrom(0x40, 0x44, 0x100, 0x104, 0x3f, 0x20, 0xff, 0xfff, 0xffc, 0x42) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xfff }) },
);

const express = fc.record({
  present: fc.boolean().map((no) => !no),
  likely: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
  offset: fc.integer({ min: 0x10, max: 0x3f }).map((dword) => 4 * dword),
  type: fc.constantFrom(0, 0, 0, 1, 9, 4, 5, 6, 7, 10, 15),
  version: fc.constantFrom(2, 2, 2, 2, 3, 1, 0),
  capabilities: fc.integer({ min: 0, max: 0xff }),
});

interface Shape {
  readonly size: number;
  readonly headerType: number;
  readonly express: { readonly offset: number; readonly type: number; readonly version: number };
  readonly standard: readonly Entry[];
}

/** An endpoint with a whole PCI Express Capability, at 0x40, and the others behind it. */
function eligible<Config extends Shape>(config: Config): Config {
  const type = config.express.type % 3;
  return {
    ...config,
    size: 0x1000,
    headerType: config.headerType & 0x80,
    express: { ...config.express, offset: 0x40, version: 2, type: type === 2 ? 9 : type },
    standard: config.standard.map((entry) =>
      entry.offset < 0x7c ? { ...entry, offset: entry.offset + 0x40 } : entry,
    ),
  };
}

const structured = fc
  .record({
    // Half of the functions may have a PASID capability, as far as the standard chain goes.
    eligible: fc.boolean(),
    size: fc.constantFrom(0x1000, 0x1000, 0x1000, 0x1000, 0x1000, 0x100, 0x100, 0x80, 0x40),
    background,
    headerType: fc.constantFrom(0, 0, 0, 0, 0, 0x80, 0x80, 1, 2, 3, 0x7f),
    ids: fc.constantFrom('as they are', 'as they are', 'a VF'),
    capabilitiesList: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
    express,
    standard: fc.array(standardEntry, { maxLength: 5 }),
    standardTail: tail,
    extended: fc.array(extendedEntry, { maxLength: 6 }),
    extendedTail: tail,
    head: fc.constantFrom('as it is', 'as it is', 'chain', 'chain', 'chain', 'chain', 'zero', 'ones'),
    headId: extendedId,
    holes: fc.array(
      fc.integer({ min: 0x40, max: 0x3ff }).map((dword) => 4 * dword),
      { maxLength: 2 },
    ),
    holeNext: fc.integer({ min: 0, max: 0xfff }),
  })
  .map((config) => (config.eligible ? eligible(config) : config))
  .map((config) => {
    const bytes = noise(config.size, config.background.seed, config.background.kind);
    const put = (offset: number, size: number, value: number): void => {
      for (let i = 0; i < size; i++) if (offset + i < bytes.length) bytes[offset + i] = value >>> (8 * i);
    };
    for (const at of config.holes) put(at, 4, 0x1001b | (config.holeNext << 20));
    put(0x0e, 1, config.headerType);
    if (config.ids === 'a VF') put(0, 4, 0xffffffff);
    put(0x06, 1, config.capabilitiesList ? 0x10 : 0);
    const standard: Entry[] = [...config.standard];
    const { present, likely, offset, type, version, capabilities } = config.express;
    if (present || likely) {
      standard.push({ offset, id: 0x10, version: 0 });
      put(offset + 2, 2, version | (type << 4));
      put(offset + 7, 1, capabilities);
    }
    const pointer = (config.headerType & 0x7f) === 2 ? 0x14 : 0x34;
    put(pointer, 1, standard[0]?.offset ?? config.standardTail);
    for (const [index, entry] of standard.entries()) {
      put(entry.offset, 1, entry.id);
      put(entry.offset + 1, 1, standard[index + 1]?.offset ?? config.standardTail);
    }
    if (config.head === 'zero') put(0x100, 4, 0);
    if (config.head === 'ones') put(0x100, 4, 0xffffffff);
    if (config.head === 'chain') {
      const extended: Entry[] = [{ offset: 0x100, id: config.headId, version: 1 }, ...config.extended];
      for (const [index, entry] of extended.entries()) {
        const next = extended[index + 1]?.offset ?? config.extendedTail;
        put(entry.offset, 4, entry.id | (entry.version << 16) | (next << 20));
      }
    }
    return bytes;
  });

/** Prints only what is not zero, when a counterexample is shown. */
function printable(bytes: Uint8Array): Uint8Array {
  const text = (): string => {
    const parts = [`${bytes.length} bytes`];
    for (let at = 0; at < bytes.length; at += 4) {
      const dword = Buffer.from(bytes.subarray(at, at + 4)).toString('hex');
      if (dword !== '00000000') parts.push(`${at.toString(16)}:${dword}`);
    }
    return parts.length > 60 ? `${parts.slice(0, 60).join(' ')} ...` : parts.join(' ');
  };
  return Object.assign(bytes, { [fc.toStringMethod]: text });
}

/** Anything that a host may hand over as a configuration space. */
export const arbitraryConfig: fc.Arbitrary<Uint8Array> = fc
  .oneof(
    { weight: 8, arbitrary: structured },
    {
      weight: 1,
      arbitrary: fc
        .record({ size: fc.constantFrom(0x100, 0x1000), background })
        .map(({ size, background: { seed, kind } }) => noise(size, seed, kind)),
    },
  )
  .map(printable);

export type ReferenceOptions = Omit<PassthroughOptions, 'physical'>;

const offset = fc.integer({ min: -8, max: 5000 });
const range = fc
  .record({
    // Most of them where capabilities are.
    start: fc.oneof(fc.integer({ min: 0, max: 0xfff }), fc.integer({ min: 0, max: 0x1a0 })),
    length: fc.integer({ min: 1, max: 0x40 }),
  })
  .map(({ start, length }): [number, number] => [start, Math.min(start + length, 0x1000)]);

/** Options of a passed-through function. */
export const arbitraryOptions: fc.Arbitrary<ReferenceOptions> = fc.record(
  {
    pasid: fc.record({
      width: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 20 })),
      execute: fc.boolean(),
      privileged: fc.boolean(),
    }),
    maxPasidWidth: fc.integer({ min: 1, max: 20 }),
    pasidOffset: fc.oneof(
      { weight: 4, arbitrary: fc.integer({ min: 0x40, max: 0x3fe }).map((dword) => 4 * dword) },
      { weight: 2, arbitrary: fc.constantFrom(0x100, 0x104, 0xff0, 0xff8) },
      { weight: 2, arbitrary: fc.integer({ min: 0x41, max: 0x60 }).map((dword) => 4 * dword) },
      { weight: 1, arbitrary: offset },
    ),
    control: fc.constantFrom('latch', 'drop' as const),
    onPasidRefused: fc.constantFrom('omit', 'omit', 'omit', 'throw' as const),
    ats: fc.boolean(),
    pri: fc.boolean(),
    present: fc.constantFrom('as-is', 'endpoint', 'rciep' as const),
    passthroughRanges: fc.array(range, { maxLength: 2 }),
    vendorId: fc.integer({ min: 0, max: 0xffff }),
    deviceId: fc.integer({ min: 0, max: 0xffff }),
  },
  { requiredKeys: [] },
);

/** Where a guest goes: anywhere, or near a capability (`index` counts those there are, around and around). */
export type Where = { readonly at: number } | { readonly index: number; readonly delta: number };

export type Access =
  | { readonly kind: 'read'; readonly where: Where; readonly size: number }
  | { readonly kind: 'write'; readonly where: Where; readonly size: number; readonly value: number }
  | { readonly kind: 'readInto'; readonly where: Where; readonly length: number }
  | { readonly kind: 'writeFrom'; readonly where: Where; readonly bytes: number[] }
  | { readonly kind: 'reset'; readonly reset: 'flr' | 'bus' };

const where: fc.Arbitrary<Where> = fc.oneof(
  { weight: 2, arbitrary: offset.map((at) => ({ at })) },
  { weight: 1, arbitrary: fc.integer({ min: -4, max: 0x48 }).map((at) => ({ at })) },
  {
    weight: 5,
    arbitrary: fc.record({
      index: fc.nat({ max: 20 }),
      delta: fc.oneof(
        fc.integer({ min: -4, max: 16 }),
        fc.integer({ min: 0x1c, max: 0x34 }),
        fc.constantFrom(0, 2, 4, 6, 8, 0x28),
      ),
    }),
  },
);
const size = fc.constantFrom(1, 2, 4);
const value = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.constantFrom(0, 1, 0xff, 0xffff, 0xffffffff, 0x8000, 0x7fffffff),
);

/** What a guest does. */
export const arbitraryAccess: fc.Arbitrary<Access> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('read' as const), where, size }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('write' as const), where, size, value }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('readInto' as const), where, length: fc.nat({ max: 16 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('writeFrom' as const),
      where,
      bytes: fc.array(fc.integer({ min: 0, max: 0xff }), { maxLength: 16 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reset' as const),
      reset: fc.constantFrom('flr', 'bus' as const),
    }),
  },
);
