import { describe, expect, it } from 'vitest';
import {
  type BarOptions,
  createFunction,
  createRootPort,
  type PciFunction,
  PciSegment,
  ROM_BAR,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { addSwitch, endpoint, number } from '../support/topologies.ts';

// Which BAR of which function claims an address, through the windows of the ports above it.

const COMMAND = 0x04;
const IO = 1;
const MEMORY = 2;

/** A BAR whose reads give `tag` in every byte, and which counts writes. */
function tagged(
  index: number,
  size: number,
  tag: number,
  options: Partial<BarOptions> = {},
  log: string[] = [],
) {
  return {
    index,
    size,
    read: (): number => (tag * 0x01010101) >>> 0,
    write: (offset: number, width: number, value: number): void => {
      log.push(`${tag.toString(16)}:${offset.toString(16)}+${width}=${value.toString(16)}`);
    },
    ...options,
  };
}

function at(
  bars: readonly [index: number, address: number][],
  fn: PciFunction,
  command = IO | MEMORY,
): PciFunction {
  for (const [index, address] of bars) {
    fn.write(index === ROM_BAR ? 0x30 : 0x10 + 4 * index, 4, address % 2 ** 32);
    if (address >= 2 ** 32) fn.write(0x14 + 4 * index, 4, Math.floor(address / 2 ** 32));
  }
  fn.write(COMMAND, 2, command);
  return fn;
}

/** Windows of a port: memory, prefetchable memory (whole megabytes) and I/O (4 KiB), each `[base, last]`. */
interface Windows {
  readonly memory?: readonly [number, number];
  readonly prefetchable?: readonly [number, number];
  readonly io?: readonly [number, number];
  readonly command?: number;
}

function open(port: PciFunction, { memory, prefetchable, io, command = IO | MEMORY }: Windows): void {
  // A base above the limit closes a window (PCIe 7.5.1.3.8).
  const [base, last] = memory ?? [0xfff00000, 0];
  port.write(0x20, 4, ((base >>> 16) | (last & 0xfff00000)) >>> 0);
  const [low, high] = prefetchable ?? [0xfff00000, 0];
  port.write(0x24, 4, (((low % 2 ** 32) >>> 16) | ((high % 2 ** 32) & 0xfff00000)) >>> 0);
  port.write(0x28, 4, Math.floor(low / 2 ** 32));
  port.write(0x2c, 4, Math.floor(high / 2 ** 32));
  const [first, end] = io ?? [0xf000, 0];
  port.write(0x1c, 2, (first >>> 8) | (end & 0xf000));
  port.write(COMMAND, 2, command);
}

describe('an address', () => {
  it('leads to the BAR that claims it, and back when it stops', () => {
    const log: string[] = [];
    const segment = new PciSegment();
    const fn = segment.add(
      '00:01.0',
      endpoint(1, {
        bars: [
          tagged(0, 0x1000, 0xa0, {}, log),
          tagged(1, 0x20, 0xb1, { kind: 'io' }, log),
          tagged(2, 2 ** 33, 0xc2, { kind: 'memory64' }, log),
        ],
        rom: 0x800,
      }),
    );
    at(
      [
        [0, 0xe0000000],
        [1, 0xc000],
        [2, 0x20_0000_0000],
        [ROM_BAR, 0xfff00001],
      ],
      fn,
    );
    expect(segment.windows()).toEqual([
      { kind: 'memory', address: 0xe0000000, size: 0x1000, fn, bar: 0, offset: 0 },
      { kind: 'memory', address: 0xfff00000, size: 0x800, fn, bar: ROM_BAR, offset: 0 },
      { kind: 'memory', address: 0x20_0000_0000, size: 2 ** 33, fn, bar: 2, offset: 0 },
      { kind: 'io', address: 0xc000, size: 0x20, fn, bar: 1, offset: 0 },
    ]);
    const bar = (address: number): number | undefined => segment.findWindow('memory', address)?.bar;
    expect([0xdfffffff, 0xe0000000, 0xe0000fff, 0xe0001000].map(bar)).toEqual([undefined, 0, 0, undefined]);
    expect([0x1f_ffff_ffff, 0x20_0000_0000, 0x21_ffff_ffff, 0x22_0000_0000].map(bar)).toEqual([
      undefined,
      2,
      2,
      undefined,
    ]);
    expect(segment.findWindow('io', 0xc01f)?.bar).toBe(1);
    expect([segment.findWindow('io', 0xe0000000), segment.findWindow('memory', 0xc000)]).toEqual([
      undefined,
      undefined,
    ]);
    expect([1, 2, 4].map((size) => segment.mmioRead(0xe0000008, size))).toEqual([0xa0, 0xa0a0, 0xa0a0a0a0]);
    expect(segment.mmioRead(0x21_ffff_fffc, 4)).toBe(0xc2c2c2c2);
    expect([1, 2, 4].map((size) => segment.pioRead(0xc004, size))).toEqual([0xb1, 0xb1b1, 0xb1b1b1b1]);
    expect(segment.mmioRead(0xfff00000, 4), 'a ROM without a reader').toBe(0xffffffff);
    segment.mmioWrite(0xe0000010, 4, 0xdeadbeef);
    segment.mmioWrite(0x21_0000_0001, 1, 0x12);
    segment.pioWrite(0xc01e, 2, 0x3456);
    segment.mmioWrite(0xe0001000, 4, 1);
    expect(log).toEqual(['a0:10+4=deadbeef', 'c2:100000001+1=12', 'b1:1e+2=3456']);
    fn.write(COMMAND, 2, IO);
    expect([segment.mmioRead(0xe0000000, 4), segment.pioRead(0xc000, 1)]).toEqual([0xffffffff, 0xb1]);
    segment.remove(fn);
    expect([segment.windows(), segment.pioRead(0xc000, 4)]).toEqual([[], 0xffffffff]);
  });

  it('follows a move at once', () => {
    const segment = new PciSegment();
    const fn = at(
      [[0, 0xe0000000]],
      segment.add('00:01.0', endpoint(1, { bars: [tagged(0, 0x1000, 0x11)] })),
    );
    expect(segment.mmioRead(0xe0000000, 1)).toBe(0x11);
    fn.write(0x10, 4, 0xe0002000);
    expect([segment.mmioRead(0xe0000000, 1), segment.mmioRead(0xe0002000, 1)]).toEqual([0xff, 0x11]);
  });

  it('of the ECAM window wins over a BAR', () => {
    const segment = new PciSegment({ ecamBase: 0xb0000000, buses: 1 });
    const fn = segment.add('00:01.0', endpoint(1, { bars: [tagged(0, 0x1000, 0x11)] }));
    at([[0, 0xb0008000]], fn);
    expect(segment.mmioRead(0xb0008000, 4)).toBe(0x00011234);
    fn.write(0x10, 4, 0xb0100000);
    expect(segment.mmioRead(0xb0100000, 1)).toBe(0x11);
  });
});

describe('a passed-through function', () => {
  const physical = buildConfig({
    standard: [{ offset: 0x80, id: 0x11, body: [1, 0, 0x00, 0x08, 0, 0, 0x00, 0x0c, 0, 0] }],
    bytes: [[0x10, [0, 0, 0, 0xe0]]],
  });

  it('claims what its BARs say when they were described, and nothing else', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:01.0', createFunction({ physical, bars: [tagged(0, 0x10000, 0x77)] }));
    fn.write(COMMAND, 2, MEMORY);
    expect(segment.windows()).toEqual([
      { kind: 'memory', address: 0xe0000000, size: 0x10000, fn, bar: 0, offset: 0 },
    ]);
    const blind = new PciSegment();
    blind.add('00:01.0', createFunction({ physical })).write(COMMAND, 2, MEMORY);
    expect([blind.windows(), blind.mmioRead(0xe0000000, 4)]).toEqual([[], 0xffffffff]);
  });

  it('has its MSI-X table where the guest put the BAR', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:01.0', createFunction({ physical, bars: [tagged(0, 0x10000, 0x77)] }));
    fn.write(0x10, 4, 0xf8000000);
    fn.write(COMMAND, 2, MEMORY | 4);
    fn.write(0x82, 2, 0x8000);
    const messages: unknown[] = [];
    fn.on('msi', ({ vector, address, data }) => messages.push([vector, address, data]));
    for (const [field, value] of [0xfee00000, 0, 0x55, 0].entries())
      segment.mmioWrite(0xf8000810 + 4 * field, 4, value);
    expect([1, 2, 4].map((size) => segment.mmioRead(0xf8000810, size))).toEqual([0, 0, 0xfee00000]);
    expect([segment.mmioRead(0xf80007fc, 4), segment.mmioRead(0xf8000820, 4)]).toEqual([
      0x77777777, 0x77777777,
    ]);
    fn.triggerMessage(0);
    expect(segment.mmioRead(0xf8000c00, 4), 'vector 0 is masked, and pending').toBe(1);
    fn.triggerMessage(1);
    expect(messages).toEqual([[1, 0xfee00000, 0x55]]);
  });
});

describe('an access that is only partly claimed', () => {
  const log: string[] = [];
  const segment = new PciSegment();
  at(
    [
      [0, 0xe0001000],
      [1, 0xe0002000],
      [2, 0xc010],
    ],
    segment.add(
      '00:01.0',
      endpoint(1, {
        bars: [
          tagged(0, 0x1000, 0xaa, {}, log),
          tagged(1, 0x1000, 0xbb, {}, log),
          tagged(2, 0x10, 0xcc, { kind: 'io' }, log),
        ],
      }),
    ),
  );

  it('reads each byte where it belongs, and all-ones where nobody claims it', () => {
    expect(segment.mmioRead(0xe0000ffe, 4)).toBe(0xaaaaffff);
    expect(segment.mmioRead(0xe0001fff, 4)).toBe(0xbbbbbbaa);
    expect(segment.mmioRead(0xe0001fff, 2)).toBe(0xbbaa);
    expect(segment.mmioRead(0xe0002ffd, 4)).toBe(0xffbbbbbb);
    expect(segment.pioRead(0xc00f, 2)).toBe(0xccff);
    expect(segment.pioRead(0xc01e, 4)).toBe(0xffffcccc);
  });

  it('writes each byte where it belongs', () => {
    segment.mmioWrite(0xe0000fff, 2, 0x1122);
    segment.mmioWrite(0xe0001ffe, 4, 0x44332211);
    segment.mmioWrite(0xe0002fff, 4, 0x44332211);
    segment.pioWrite(0xc00e, 4, 0x44332211);
    expect(log).toEqual([
      'aa:0+1=11',
      'aa:ffe+1=11',
      'aa:fff+1=22',
      'bb:0+1=33',
      'bb:1+1=44',
      'bb:fff+1=11',
      'cc:0+1=33',
      'cc:1+1=44',
    ]);
  });
});

describe('BARs that overlap', () => {
  it('answer the same whatever was accessed before', () => {
    const segment = new PciSegment();
    at([[0, 0xe0000000]], segment.add('00:01.0', endpoint(1, { bars: [tagged(0, 0x10000, 0x01)] })));
    at([[0, 0xe0008000]], segment.add('00:02.0', endpoint(2, { bars: [tagged(0, 0x1000, 0x02)] })));
    at([[0, 0xe0008000]], segment.add('00:03.0', endpoint(3, { bars: [tagged(0, 0x2000, 0x03)] })));
    const places = [
      0xe0000000, 0xe0007fff, 0xe0008000, 0xe0008fff, 0xe0009000, 0xe000a000, 0xe000ffff, 0xe0010000,
    ];
    const fresh = places.map((address) => segment.mmioRead(address, 1));
    for (const first of places) {
      for (const [i, address] of places.entries()) {
        segment.mmioRead(first, 1);
        expect(segment.mmioRead(address, 1)).toBe(fresh[i]);
      }
    }
    expect(fresh, 'whoever begins last').toEqual([1, 1, 3, 3, 3, 1, 1, 0xff]);
    expect(segment.windows()).toHaveLength(3);
  });
});

describe('behind a port', () => {
  const MEM = 0xe0000000;

  function behindPort(bars: readonly BarOptions[]): [PciSegment, PciFunction, PciFunction] {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(1, { bars }));
    number(port, 0, 1, 1);
    return [segment, port, fn];
  }

  it('memory passes through the memory window', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x1000, 0x11)]);
    at([[0, MEM]], fn);
    const reaches = (windows: Windows): boolean => {
      open(port, windows);
      return segment.mmioRead(MEM, 1) === 0x11;
    };
    expect(reaches({})).toBe(false);
    expect(reaches({ memory: [MEM, MEM + 0xfffff] })).toBe(true);
    expect(reaches({ memory: [MEM, MEM + 0xfffff], command: IO })).toBe(false);
    expect(reaches({ memory: [MEM - 0x100000, MEM - 1] })).toBe(false);
    expect(reaches({ memory: [MEM + 0x100000, MEM + 0x1fffff] })).toBe(false);
    expect(reaches({ memory: [MEM - 0x100000, MEM + 0x1fffff] })).toBe(true);
    expect(reaches({ prefetchable: [MEM, MEM + 0xfffff] })).toBe(true);
    expect(reaches({ io: [0, 0xffff] })).toBe(false);
  });

  it('memory above 4 GiB passes through the prefetchable window only', () => {
    const [segment, port, fn] = behindPort([
      tagged(0, 0x1000, 0x11, { kind: 'memory64', prefetchable: true }),
    ]);
    const address = 0x12_3456_7000;
    const window = 0x12_3450_0000;
    at([[0, address]], fn);
    const reaches = (windows: Windows): boolean => {
      open(port, windows);
      return segment.mmioRead(address, 1) === 0x11;
    };
    expect(reaches({ prefetchable: [window, window + 0xfffff] })).toBe(true);
    expect(reaches({ prefetchable: [window - 0x100000, window - 1] })).toBe(false);
    expect(reaches({ memory: [0x34500000, 0x345fffff] })).toBe(false);
    expect(reaches({ prefetchable: [0, window + 0xfffff] })).toBe(true);
    expect(reaches({ prefetchable: [window, 2 ** 53 - 1] })).toBe(true);
    port.write(0x2c, 4, 0xffffffff);
    expect(segment.mmioRead(address, 1), 'a limit of all-ones').toBe(0x11);
    port.write(0x28, 4, 0xffffffff);
    expect(segment.mmioRead(address, 1)).toBe(0xff);
  });

  it('I/O passes through the I/O window', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x10, 0x22, { kind: 'io' })]);
    at([[0, 0x3ff0]], fn);
    const reaches = (windows: Windows): boolean => {
      open(port, windows);
      return segment.pioRead(0x3ff0, 1) === 0x22;
    };
    expect(reaches({})).toBe(false);
    expect(reaches({ io: [0x3000, 0x3fff] })).toBe(true);
    expect(reaches({ io: [0x3000, 0x3fff], command: MEMORY })).toBe(false);
    expect(reaches({ io: [0x4000, 0xffff] })).toBe(false);
    expect(reaches({ io: [0, 0x2fff] })).toBe(false);
    expect(reaches({ memory: [0, 0xfffff000] })).toBe(false);
  });

  it('what a window does not cover of a BAR is out of reach', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x400000, 0x33)]);
    at([[0, MEM]], fn);
    open(port, { memory: [MEM, MEM + 0x1fffff] });
    for (const address of [MEM + 0x200000, MEM + 0x3fffff]) {
      expect([segment.mmioRead(address, 1), segment.findWindow('memory', address)]).toEqual([
        0xff,
        undefined,
      ]);
    }
    expect(segment.mmioRead(MEM + 0x1fffff, 1), 'what it covers').toBe(0x33);
    open(port, { memory: [MEM, MEM + 0x3fffff] });
    expect(segment.mmioRead(MEM + 0x3fffff, 1)).toBe(0x33);
  });

  it('what a window covers of a BAR keeps its offset in the BAR', () => {
    const seen: string[] = [];
    const read = (offset: number, size: number): number => {
      seen.push(`${offset.toString(16)}+${size}`);
      return 0x55;
    };
    const write = (offset: number): void => void seen.push(`write ${offset.toString(16)}`);
    const [segment, port, fn] = behindPort([{ index: 0, size: 0x400000, read, write }]);
    at([[0, MEM]], fn);
    open(port, { memory: [MEM + 0x100000, MEM + 0x1fffff], prefetchable: [MEM + 0x300000, MEM + 0x3fffff] });
    const part = { kind: 'memory', size: 0x100000, fn, bar: 0 };
    expect(segment.windows()).toEqual([
      { ...part, address: MEM + 0x100000, offset: 0x100000 },
      { ...part, address: MEM + 0x300000, offset: 0x300000 },
    ]);
    segment.mmioRead(MEM + 0x100004, 4);
    segment.mmioWrite(MEM + 0x300008, 4, 1);
    expect(segment.mmioRead(MEM + 0x1ffffe, 4), 'beyond the window: all-ones').toBe(0xffff5555);
    expect(seen).toEqual(['100004+4', 'write 300008', '1fffff+1', '1ffffe+1']);
    open(port, { memory: [MEM, MEM + 0x1fffff], prefetchable: [MEM + 0x200000, MEM + 0x3fffff] });
    expect(segment.windows(), 'windows side by side').toEqual([
      { ...part, address: MEM, size: 0x400000, offset: 0 },
    ]);
  });

  it('every port on the way must pass it on', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 1);
    const [port] = downstream;
    if (port === undefined) throw new Error('a port');
    const fn = segment.plug(port, endpoint(1, { bars: [tagged(0, 0x1000, 0x44)] }));
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    number(port, 2, 3, 3);
    at([[0, MEM]], fn);
    const ports = [root, upstream, port];
    const windows = { memory: [MEM, MEM + 0xfffff] } as const;
    for (const one of ports) open(one, windows);
    expect(segment.mmioRead(MEM, 1)).toBe(0x44);
    for (const one of ports) {
      open(one, {});
      expect(segment.mmioRead(MEM, 1)).toBe(0xff);
      open(one, { ...windows, command: 0 });
      expect(segment.mmioRead(MEM, 1)).toBe(0xff);
      open(one, windows);
      expect(segment.mmioRead(MEM, 1)).toBe(0x44);
    }
  });

  it('a function out of reach claims nothing', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x1000, 0x11)]);
    at([[0, MEM]], fn);
    open(port, { memory: [MEM, MEM + 0xfffff] });
    expect(segment.mmioRead(MEM, 1)).toBe(0x11);
    number(port, 0, 0, 0);
    expect([segment.windows(), segment.mmioRead(MEM, 1)]).toEqual([[], 0xff]);
  });

  it('a port that was reset passes nothing on', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x1000, 0x11)]);
    at([[0, MEM]], fn);
    open(port, { memory: [MEM, MEM + 0xfffff] });
    expect(segment.mmioRead(MEM, 1)).toBe(0x11);
    port.reset('bus');
    expect([segment.windows(), segment.mmioRead(MEM, 1)]).toEqual([[], 0xff]);
  });

  it('a port in D3hot takes configuration requests only (PCIe 5.3.1.4)', () => {
    const [segment, port, fn] = behindPort([tagged(0, 0x1000, 0x11)]);
    at([[0, MEM]], fn);
    open(port, { memory: [MEM, MEM + 0xfffff] });
    const pm = port.capabilities.find(({ id }) => id === 0x01)?.offset ?? 0;
    expect(segment.mmioRead(MEM, 1)).toBe(0x11);
    port.write(pm + 4, 1, 3);
    expect(segment.mmioRead(MEM, 1)).toBe(0xff);
    port.write(pm + 4, 1, 0);
    expect(segment.mmioRead(MEM, 1)).toBe(0x11);
  });
});

describe('the last place of an address space', () => {
  it.each([
    ['2 GiB of 32-bit memory', 'memory32', 2 ** 31, 2 ** 31],
    ['4 KiB before 2^53', 'memory64', 0x1000, 2 ** 53 - 0x1000],
    ['4 KiB below 4 GiB, of a 64-bit BAR', 'memory64', 0x1000, 2 ** 32 - 0x1000],
    ['half of all addresses', 'memory64', 2 ** 52, 2 ** 52],
    ['256 ports', 'io', 256, 0xff00],
  ] as const)('can be claimed: %s', (_, kind, size, address) => {
    const log: string[] = [];
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(1, { bars: [tagged(0, size, 0x33, { kind }, log)] }));
    number(port, 0, 1, 1);
    at([[0, address]], fn);
    const last = address + size - 1;
    const name = kind === 'memory32' ? 'memory' : kind === 'memory64' ? 'prefetchable' : 'io';
    open(port, { [name]: [address, last] });
    const claimed = kind === 'io' ? 'io' : 'memory';
    expect(segment.windows()).toMatchObject([{ kind: claimed, address, size, offset: 0 }]);
    expect(segment.findWindow(claimed, last)?.fn).toBe(fn);
    expect([segment.findWindow(claimed, last + 1), segment.findWindow(claimed, address - 1)]).toEqual([
      undefined,
      undefined,
    ]);
    const [read, write] =
      kind === 'io'
        ? [segment.pioRead(last - 1, 4), (): void => segment.pioWrite(last - 1, 4, 0x44332211)]
        : [segment.mmioRead(last - 1, 4), (): void => segment.mmioWrite(last - 1, 4, 0x44332211)];
    expect(read).toBe(0xffff3333);
    write();
    const from = (size - 2).toString(16);
    expect(log).toEqual([`33:${from}+1=11`, `33:${(size - 1).toString(16)}+1=22`]);
  });
});

describe('the decode event', () => {
  it('comes with what is claimed now, when that changed', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:01.0', endpoint(1, { bars: [tagged(0, 0x1000, 0x11)] }));
    const seen: number[][] = [];
    segment.on('decode', ({ windows }) => seen.push(windows.map(({ address }) => address)));
    at([[0, 0xe0000000]], fn);
    fn.write(COMMAND, 2, MEMORY | 4);
    fn.write(0x10, 4, 0xe0004000);
    fn.write(COMMAND, 2, 0);
    expect(seen).toEqual([[0xe0000000], [0xe0004000], []]);
  });

  it('and a listener of `bar` finds the map as the event says', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:01.0', endpoint(1, { bars: [tagged(0, 0x1000, 0x11)] }));
    const seen: unknown[] = [];
    fn.on('bar', ({ address, enabled }) =>
      seen.push([enabled, segment.findWindow('memory', address)?.fn === fn]),
    );
    // The map is looked at before each change, so that it must be brought up to date.
    fn.write(0x10, 4, 0xe0000000);
    expect(segment.windows()).toHaveLength(0);
    fn.write(COMMAND, 2, MEMORY);
    expect(segment.windows()).toHaveLength(1);
    fn.write(COMMAND, 2, 0);
    expect(seen).toEqual([
      [true, true],
      [false, false],
    ]);
  });
});
