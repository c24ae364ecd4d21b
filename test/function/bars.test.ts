import { describe, expect, it } from 'vitest';
import {
  type BarKind,
  type BarOptions,
  createFunction,
  type DecodedBar,
  type PciFunction,
  ROM_BAR,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';
import { recordEvents } from '../support/recorded-events.ts';

// Base Address Registers (PCIe 7.5.1.2.1) and the Expansion ROM (7.5.1.2.4) of one function.

const COMMAND = 0x04;
const IO = 1;
const MEMORY = 2;
const ROM = 0x30;

function make(bars: readonly BarOptions[], rom?: number): PciFunction {
  return createFunction({ vendorId: 0x1234, deviceId: 1, classCode: 0x020000, bars, rom });
}

const register = (index: number): number => (index === ROM_BAR ? ROM : 0x10 + 4 * index);

/** The sizing protocol of implementation note "Sizing a 32-bit Base Address Register", as software does it. */
function sized(fn: PciFunction, index: number, kind: BarKind | 'rom'): number {
  const at = register(index);
  const sizeOf = (offset: number): number => {
    const before = fn.read(offset, 4);
    fn.write(offset, 4, 0xffffffff);
    const mask = fn.read(offset, 4);
    fn.write(offset, 4, before);
    expect(fn.read(offset, 4), 'the old address comes back').toBe(before);
    return mask;
  };
  const fixed = kind === 'io' ? 0x3 : kind === 'rom' ? 0x7ff : 0xf;
  const low = (sizeOf(at) & ~fixed) >>> 0;
  if (kind !== 'memory64') return 2 ** 32 - low;
  const high = sizeOf(at + 4);
  return Number(2n ** 64n - (BigInt(high) * 2n ** 32n + BigInt(low)));
}

function powers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => 2 ** (from + i));
}

const KINDS: readonly (readonly [BarKind, readonly number[], index: number, type: number])[] = [
  ['memory32', powers(4, 31), 0, 0x0],
  ['memory32', powers(4, 31), 5, 0x0],
  // A size above 2^52 has no exact addresses.
  ['memory64', powers(4, 52), 0, 0x4],
  ['memory64', powers(4, 52), 4, 0x4],
  ['io', powers(2, 8), 0, 0x1],
  ['io', powers(2, 8), 5, 0x1],
];

describe('the sizing protocol', () => {
  it.each(KINDS)('%s of every size', (kind, sizes, index, type) => {
    for (const size of sizes) {
      for (const prefetchable of [false, true]) {
        const fn = make([{ index, size, kind, prefetchable }]);
        const bits = type | (prefetchable && kind !== 'io' ? 0x8 : 0);
        expect(fn.read(register(index), 4), 'power-on value').toBe(bits);
        expect(sized(fn, index, kind), `size of ${size}`).toBe(size);
      }
    }
  });

  it('an expansion ROM of every size, with its enable', () => {
    for (const size of powers(11, 24)) {
      const fn = make([], size);
      expect(sized(fn, ROM_BAR, 'rom')).toBe(size);
      fn.write(ROM, 4, 0xfffff800);
      expect(fn.read(ROM, 4) & 0x7ff).toBe(0);
      fn.write(ROM, 4, 0xffffffff);
      expect(fn.read(ROM, 4) & 0x7ff, 'only Enable is writable below the address').toBe(1);
    }
  });

  it('byte and word writes reach their own bits only', () => {
    const fn = make([{ index: 0, size: 0x1000 }]);
    fn.write(0x13, 1, 0xfe);
    fn.write(0x11, 1, 0xff);
    fn.write(0x10, 1, 0xff);
    expect(fn.read(0x10, 4)).toBe(0xfe00f000);
    fn.write(0x12, 2, 0x1234);
    expect(fn.read(0x10, 4)).toBe(0x1234f000);
  });

  it('registers of BARs that were not described read 0 and drop writes', () => {
    const fn = make([{ index: 2, size: 64, kind: 'memory64' }]);
    for (const index of [0, 1, 4, 5, ROM_BAR]) {
      fn.write(register(index), 4, 0xffffffff);
      expect(fn.read(register(index), 4)).toBe(0);
    }
  });
});

describe('decoding', () => {
  const all: readonly BarOptions[] = [
    { index: 0, size: 0x1000 },
    { index: 1, size: 0x40, kind: 'io' },
    { index: 2, size: 2 ** 34, kind: 'memory64', prefetchable: true },
  ];

  function programmed(): PciFunction {
    const fn = make(all, 0x10000);
    fn.write(0x10, 4, 0xe0001000);
    fn.write(0x14, 4, 0xc040);
    fn.write(0x18, 4, 0);
    fn.write(0x1c, 4, 0x14);
    fn.write(ROM, 4, 0xfff00001);
    return fn;
  }

  const places = (fn: PciFunction): (readonly [number, number, boolean])[] =>
    fn.bars.map(({ index, address, enabled }) => [index, address, enabled] as const);

  it('is off at power-on and follows the two enables of Command', () => {
    const fn = programmed();
    const address = { 0: 0xe0001000, 1: 0xc040, 2: 0x14_0000_0000, 6: 0xfff00000 };
    const expected = (memory: boolean, io: boolean): unknown => [
      [0, address[0], memory],
      [1, address[1], io],
      [2, address[2], memory],
      [6, address[6], memory],
    ];
    expect(places(fn)).toEqual(expected(false, false));
    for (const command of [IO, MEMORY, IO | MEMORY, 0, MEMORY]) {
      fn.write(COMMAND, 2, command);
      expect(places(fn)).toEqual(expected((command & MEMORY) !== 0, (command & IO) !== 0));
    }
  });

  it('says what each BAR is', () => {
    const fn = programmed();
    expect(fn.bars).toEqual([
      { index: 0, kind: 'memory32', prefetchable: false, size: 0x1000, address: 0xe0001000, enabled: false },
      { index: 1, kind: 'io', prefetchable: false, size: 0x40, address: 0xc040, enabled: false },
      {
        index: 2,
        kind: 'memory64',
        prefetchable: true,
        size: 2 ** 34,
        address: 0x14_0000_0000,
        enabled: false,
      },
      { index: 6, kind: 'memory32', prefetchable: false, size: 0x10000, address: 0xfff00000, enabled: false },
    ] satisfies DecodedBar[]);
  });

  it('of the ROM needs Memory Space Enable and its own enable', () => {
    const fn = programmed();
    const rom = (): boolean | undefined => fn.bars.find(({ index }) => index === ROM_BAR)?.enabled;
    fn.write(COMMAND, 2, MEMORY);
    expect(rom()).toBe(true);
    fn.write(ROM, 1, 0);
    expect(rom()).toBe(false);
    fn.write(ROM, 1, 1);
    fn.write(COMMAND, 2, IO);
    expect(rom()).toBe(false);
  });

  it('is announced once for each BAR that starts, moves or stops, after the fact', () => {
    const fn = programmed();
    const events: (readonly [number, number, boolean])[] = [];
    fn.on('bar', ({ index, address, enabled }) => {
      events.push([index, address, enabled]);
      expect(fn.bars).toContainEqual(expect.objectContaining({ index, address, enabled }));
    });
    fn.write(COMMAND, 2, MEMORY);
    expect(events.splice(0)).toEqual([
      [0, 0xe0001000, true],
      [2, 0x14_0000_0000, true],
      [6, 0xfff00000, true],
    ]);
    fn.write(COMMAND, 2, MEMORY | 4);
    expect(events, 'bus master is no matter of decoding').toEqual([]);
    fn.write(0x10, 4, 0xe0001000);
    expect(events, 'the same address').toEqual([]);
    fn.write(0x10, 4, 0xe0002000);
    expect(events.splice(0)).toEqual([[0, 0xe0002000, true]]);
    fn.write(0x1c, 4, 0x18);
    expect(events.splice(0)).toEqual([[2, 0x18_0000_0000, true]]);
    fn.write(COMMAND, 2, 0);
    expect(events.splice(0)).toEqual([
      [0, 0xe0002000, false],
      [2, 0x18_0000_0000, false],
      [6, 0xfff00000, false],
    ]);
    fn.write(0x10, 4, 0xe0003000);
    expect(events, 'a move while decoding is off').toEqual([]);
  });

  it('shows a listener the state of all BARs as it is, not as it is about to be', () => {
    const fn = programmed();
    const seen: boolean[][] = [];
    fn.on('bar', () => seen.push(fn.bars.map(({ enabled }) => enabled)));
    fn.write(COMMAND, 2, MEMORY | IO);
    expect(seen).toEqual(Array.from({ length: 4 }, () => [true, true, true, true]));
  });

  it('survives a listener that switches it off again', () => {
    const fn = programmed();
    const last = new Map<number, boolean>();
    fn.on('bar', ({ index, enabled }) => {
      last.set(index, enabled);
      if (enabled) fn.write(COMMAND, 2, 0);
    });
    fn.write(COMMAND, 2, MEMORY);
    expect(fn.bars.map(({ enabled }) => enabled)).toEqual([false, false, false, false]);
    expect([...last.values()], 'the last word on each BAR is that it is off').not.toContain(true);
  });

  it('claims nothing at 0 nor at the all-ones of the sizing protocol, though decoding is left on', () => {
    const fn = make([{ index: 0, size: 0x1000 }]);
    const events = recordEvents(fn, 'bar');
    fn.write(COMMAND, 2, MEMORY);
    expect(fn.bars[0]?.enabled).toBe(false);
    fn.write(0x10, 4, 0xe0000000);
    fn.write(0x10, 4, 0xffffffff);
    expect(fn.bars[0]).toMatchObject({ address: 0xfffff000, enabled: false });
    fn.write(0x10, 4, 0xe0000000);
    expect(events.map(([, { enabled }]) => enabled)).toEqual([true, false, true]);
  });

  it('decodes at the last place there is, where that is not the answer of the sizing protocol', () => {
    const fn = make([
      { index: 0, size: 2 ** 52, kind: 'memory64' },
      { index: 2, size: 0x100, kind: 'io' },
      { index: 3, size: 0x1000, kind: 'memory64' },
    ]);
    fn.write(0x14, 4, 0x00100000);
    fn.write(0x18, 4, 0xff00);
    fn.write(0x1c, 4, 0xfffff000);
    fn.write(COMMAND, 2, MEMORY | IO);
    expect(fn.bars.map(({ address, enabled }) => [address, enabled])).toEqual([
      [2 ** 52, true],
      [0xff00, true],
      [0xfffff000, true],
    ]);
  });

  it('of 2 GiB decodes in the upper half of 4 GiB, the only place it has', () => {
    const fn = make([{ index: 0, size: 2 ** 31 }]);
    fn.write(0x10, 4, 0x80000000);
    fn.write(COMMAND, 2, MEMORY);
    expect(fn.bars[0]).toMatchObject({ address: 0x80000000, enabled: true });
  });

  it.each([-10, 6, 0.5, Number.NaN])('refuses index %d', (index) => {
    refusal('VPCI_BAR', () => make([{ index, size: 0x1000 }]));
  });

  it('claims nothing beyond 2^53, nor I/O beyond 64 KiB', () => {
    const fn = make([
      { index: 0, size: 0x1000, kind: 'memory64' },
      { index: 2, size: 4, kind: 'io' },
    ]);
    fn.write(0x14, 4, 0x00200000);
    fn.write(0x18, 4, 0x10000);
    fn.write(COMMAND, 2, MEMORY | IO);
    expect(fn.bars.map(({ enabled }) => enabled)).toEqual([false, false]);
    fn.write(0x14, 4, 0x001fffff);
    fn.write(0x18, 4, 0xfff0);
    expect(fn.bars.map(({ enabled }) => enabled)).toEqual([true, true]);
  });

  it('is on from the start where Command bits are hardwired to 1', () => {
    const fn = createFunction({
      vendorId: 1,
      deviceId: 1,
      classCode: 0,
      commandOnes: MEMORY,
      bars: [{ index: 0, size: 16 }],
    });
    fn.write(0x10, 4, 0x1000);
    expect(fn.bars[0]?.enabled).toBe(true);
    fn.write(COMMAND, 2, 0);
    expect(fn.bars[0]?.enabled).toBe(true);
  });

  it.each(['flr', 'bus'] as const)('stops with a reset (%s)', (kind) => {
    const fn = programmed();
    fn.write(COMMAND, 2, MEMORY | IO);
    const events = recordEvents(fn, 'bar');
    fn.reset(kind);
    expect(events.map(([, { index, enabled, address }]) => [index, enabled, address])).toEqual([
      [0, false, 0],
      [1, false, 0],
      [2, false, 0],
      [6, false, 0],
    ]);
    expect([0x10, 0x14, 0x18, 0x1c, ROM].map((at) => fn.read(at, 4))).toEqual([0, 1, 0xc, 0, 0]);
  });
});

describe('the accesses behind a BAR', () => {
  it('go to its handlers with the offset, the size and the value', () => {
    const log: unknown[] = [];
    const fn = make([
      {
        index: 3,
        size: 0x100,
        read: (offset, size) => {
          log.push(['read', offset, size]);
          return 0xa1b2c3d4;
        },
        write: (offset, size, value) => log.push(['write', offset, size, value]),
      },
    ]);
    expect([fn.barRead(3, 0xfc, 4), fn.barRead(3, 1, 2), fn.barRead(3, 3, 1)]).toEqual([
      0xa1b2c3d4, 0xc3d4, 0xd4,
    ]);
    fn.barWrite(3, 8, 4, 0xffffffff);
    expect(log).toEqual([
      ['read', 0xfc, 4],
      ['read', 1, 2],
      ['read', 3, 1],
      ['write', 8, 4, 0xffffffff],
    ]);
  });

  it('are all-ones, and vanish, where there is no handler or no BAR', () => {
    const fn = make([{ index: 0, size: 0x100 }]);
    for (const bar of [0, 1, 7]) {
      expect([1, 2, 4].map((size) => fn.barRead(bar, 0, size))).toEqual([0xff, 0xffff, 0xffffffff]);
      expect(() => fn.barWrite(bar, 0, 4, 1)).not.toThrow();
    }
  });
});

describe('a passed-through function', () => {
  const physical = (): Uint8Array =>
    buildConfig({
      bytes: [
        [0x10, [0x0c, 0, 0, 0xe0, 1, 0, 0, 0]],
        [0x18, [0x01, 0xe0, 0, 0]],
        [0x1c, [0x00, 0x10, 0xf0, 0xfe]],
        [0x30, [0x01, 0, 0xf0, 0xfe]],
      ],
    });

  it('without `bars` shows the physical registers, read-only, and decodes nothing', () => {
    const fn = createFunction({ physical: physical() });
    for (let at = 0x10; at < 0x34; at += 4) {
      const before = fn.read(at, 4);
      fn.write(at, 4, 0xffffffff);
      expect(fn.read(at, 4)).toBe(before);
    }
    expect(fn.read(0x10, 4)).toBe(0xe000000c);
    expect(fn.bars).toEqual([]);
  });

  it('with `bars` takes kind and prefetchable from the physical registers, and the address at power-on', () => {
    const fn = createFunction({
      physical: physical(),
      bars: [
        { index: 0, size: 0x10000 },
        { index: 2, size: 32 },
        { index: 3, size: 0x1000 },
      ],
      rom: 0x800,
    });
    expect(fn.bars.map(({ kind, prefetchable, address }) => [kind, prefetchable, address])).toEqual([
      ['memory64', true, 0x1_e000_0000],
      ['io', false, 0xe000],
      ['memory32', false, 0xfef01000],
      ['memory32', false, 0xfef00000],
    ]);
    expect([0, 2, 3].map((index) => fn.read(register(index), 4))).toEqual([0xe000000c, 0xe001, 0xfef01000]);
    expect(sized(fn, 0, 'memory64')).toBe(0x10000);
    expect(sized(fn, 2, 'io')).toBe(32);
  });

  it('with `bars` hides the registers of the others, the ROM among them', () => {
    const fn = createFunction({ physical: physical(), bars: [{ index: 2, size: 32 }] });
    expect([0, 1, 3, ROM_BAR].map((index) => fn.read(register(index), 4))).toEqual([0, 0, 0, 0]);
  });

  it('with `rom` alone keeps the physical BARs, read-only', () => {
    const fn = createFunction({ physical: physical(), rom: 0x800 });
    expect([0, 1, 2, 3].map((index) => fn.read(register(index), 4))).toEqual([
      0xe000000c, 0x1, 0xe001, 0xfef01000,
    ]);
    fn.write(0x10, 4, 0xffffffff);
    expect(fn.read(0x10, 4)).toBe(0xe000000c);
    expect(sized(fn, ROM_BAR, 'rom')).toBe(0x800);
  });

  it('never writes a BAR to the host', () => {
    const fn = createFunction({ physical: physical(), bars: [{ index: 0, size: 0x10000 }], rom: 0x800 });
    const events = recordEvents(fn, 'host-write');
    for (let at = 0x10; at < 0x34; at += 4) fn.write(at, 4, 0xffffffff);
    fn.write(COMMAND, 2, 0xffff);
    expect(events).toEqual([]);
  });
});

describe('a virtual function', () => {
  const physical = buildConfig({
    bytes: [
      [0, [0xff, 0xff, 0xff, 0xff]],
      [0x3c, [0, 1]],
    ],
  });

  it('has virtual BARs and memory decode, and no interrupt pin (PCIe 9.3.4.1)', () => {
    const fn = createFunction({
      physical,
      vendorId: 0x8086,
      deviceId: 0x10ed,
      bars: [{ index: 0, size: 0x4000, kind: 'memory64' }],
    });
    expect(fn.read(0, 4)).toBe(0x10ed8086);
    expect(sized(fn, 0, 'memory64')).toBe(0x4000);
    fn.write(0x10, 4, 0xfe000000);
    fn.write(COMMAND, 2, MEMORY);
    expect(fn.read(COMMAND, 2)).toBe(MEMORY);
    expect(fn.bars).toMatchObject([{ address: 0xfe000000, enabled: true }]);
    expect([fn.read(0x3d, 1), fn.interruptPin]).toEqual([0, 0]);
    const events = recordEvents(fn, 'intx');
    fn.setInterrupt(true);
    expect(events).toEqual([]);
  });

  it('has BARs that read 0 when none are described', () => {
    const fn = createFunction({ physical, vendorId: 0x8086, deviceId: 0x10ed });
    for (let at = 0x10; at < 0x28; at += 4) {
      fn.write(at, 4, 0xffffffff);
      expect(fn.read(at, 4)).toBe(0);
    }
  });
});

describe('refusals', () => {
  const bar = (options: BarOptions, ...more: BarOptions[]): string =>
    refusal('VPCI_BAR', () => make([options, ...more]));

  it.each([
    [{ index: 6, size: 16 }, ['6', '0 to 5']],
    [{ index: -1, size: 16 }, ['-1', '0 to 5']],
    [{ index: 1.5, size: 16 }, ['1.5', '0 to 5']],
    [{ index: Number.NaN, size: 16 }, ['NaN']],
    [{ index: 5, size: 16, kind: 'memory64' }, ['5', '0 to 4']],
    [{ index: 0, size: 8 }, ['8 bytes', 'power of two', '16 to 2^31']],
    [{ index: 0, size: 2 ** 32 }, ['2^31']],
    [{ index: 0, size: 0x1800 }, ['6144', 'power of two']],
    [{ index: 0, size: 0 }, ['0 bytes']],
    [{ index: 0, size: -16 }, ['-16 bytes']],
    [{ index: 0, size: Number.NaN }, ['NaN bytes']],
    [{ index: 0, size: Number.POSITIVE_INFINITY }, ['Infinity']],
    [{ index: 0, size: 2 ** 53, kind: 'memory64' }, ['2^52']],
    [{ index: 0, size: 8, kind: 'memory64' }, ['16 to 2^52']],
    [{ index: 0, size: 512, kind: 'io' }, ['4 to 2^8']],
    [{ index: 0, size: 2, kind: 'io' }, ['2 bytes']],
  ] satisfies [BarOptions, string[]][])('%o', (options, words) => {
    const message = bar(options);
    for (const word of words) expect(message).toContain(word);
  });

  it('two BARs in one register', () => {
    expect(bar({ index: 1, size: 16 }, { index: 1, size: 32 })).toContain('BAR 1');
    expect(bar({ index: 1, size: 16, kind: 'memory64' }, { index: 2, size: 32 })).toContain('BAR 2');
    expect(bar({ index: 2, size: 16 }, { index: 1, size: 32, kind: 'memory64' })).toContain('takes two');
  });

  it.each([1024, 2 ** 25, 3000, 0, Number.NaN])('a ROM of %d bytes', (rom) => {
    expect(refusal('VPCI_BAR', () => make([], rom))).toContain('expansion ROM');
  });
});
