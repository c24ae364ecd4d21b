import { describe, expect, it } from 'vitest';
import {
  type BarOptions,
  createFunction,
  type MsiXLocation,
  msiXCapability,
  type PciFunction,
  ROM_BAR,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { recordEvents } from '../support/recorded-events.ts';

// MSI-X (PCIe 6.1.4, 7.7.2): the table and the pending bits behind a BAR, masking, and delivery.

const AT = 0x40;
const CONTROL = AT + 2;
const ENABLE = 0x8000;
const FUNCTION_MASK = 0x4000;
const TABLE = { bar: 2, offset: 0x1000 };
const PBA = { bar: 4, offset: 0x40 };
const MASKED = 1;
const VECTOR_CONTROL = 12;

interface Device {
  readonly fn: PciFunction;
  /** Accesses that reached the device model's own handlers. */
  readonly log: string[];
}

function make(vectors = 3, table = TABLE, pba = PBA): Device {
  const log: string[] = [];
  const handlers = (index: number) => ({
    index,
    size: 0x10000,
    read: (offset: number, size: number): number => {
      log.push(`read ${index}:${offset.toString(16)}+${size}`);
      return 0x5a5a5a5a;
    },
    write: (offset: number, size: number, value: number): void => {
      log.push(`write ${index}:${offset.toString(16)}+${size}=${value.toString(16)}`);
    },
  });
  const fn = createFunction({
    vendorId: 1,
    deviceId: 1,
    classCode: 0,
    interruptPin: 1,
    capabilities: [msiXCapability(vectors, table, pba)],
    bars: [handlers(2), handlers(4)],
  });
  fn.write(0x04, 2, 0x0004);
  return { fn, log };
}

const entry = (vector: number): number => TABLE.offset + 16 * vector;

function program(fn: PciFunction, vector: number, address: number, data: number, control = 0): void {
  fn.barWrite(2, entry(vector), 4, address % 2 ** 32);
  fn.barWrite(2, entry(vector) + 4, 4, Math.floor(address / 2 ** 32));
  fn.barWrite(2, entry(vector) + 8, 4, data);
  fn.barWrite(2, entry(vector) + VECTOR_CONTROL, 4, control);
}

function pendingBits(fn: PciFunction): number {
  return fn.barRead(4, PBA.offset, 4);
}

describe('the table', () => {
  it('at power-on: every vector masked, everything else 0', () => {
    const { fn } = make();
    for (let vector = 0; vector < 3; vector++) {
      expect([0, 4, 8, 12].map((field) => fn.barRead(2, entry(vector) + field, 4))).toEqual([
        0,
        0,
        0,
        MASKED,
      ]);
    }
    expect(fn.read(CONTROL, 2), 'Table Size is the number less one').toBe(2);
    expect([fn.read(AT + 4, 4), fn.read(AT + 8, 4)]).toEqual([0x1002, 0x44]);
  });

  it('can be read and written by any width at any place, and like bytes', () => {
    const { fn } = make();
    const model: number[] = Array.from({ length: 48 }, (_, i) => (i % 16 === VECTOR_CONTROL ? MASKED : 0));
    let seed = 1;
    for (const size of [1, 2, 4]) {
      for (let at = 0; at + size <= 48; at++) {
        seed = (seed * 1103515245 + 12345) >>> 0;
        fn.barWrite(2, TABLE.offset + at, size, seed);
        for (let i = 0; i < size; i++) model[at + i] = (seed >>> (8 * i)) & 0xff;
        for (const width of [1, 2, 4]) {
          for (let from = 0; from + width <= 48; from++) {
            const expected = model
              .slice(from, from + width)
              .reduceRight((value, byte) => value * 256 + byte, 0);
            expect(fn.barRead(2, TABLE.offset + from, width)).toBe(expected);
          }
        }
      }
    }
  });

  it('begins and ends where the registers say; around it the device answers', () => {
    const { fn, log } = make();
    expect(fn.barRead(2, TABLE.offset - 4, 4)).toBe(0x5a5a5a5a);
    expect(fn.barRead(2, TABLE.offset + 48, 4)).toBe(0x5a5a5a5a);
    fn.barWrite(2, TABLE.offset - 1, 1, 1);
    fn.barWrite(2, TABLE.offset + 48, 2, 2);
    fn.barWrite(4, TABLE.offset, 4, 3);
    fn.barRead(2, PBA.offset, 4);
    expect(log).toEqual([
      'read 2:ffc+4',
      'read 2:1030+4',
      'write 2:fff+1=1',
      'write 2:1030+2=2',
      'write 4:1000+4=3',
      'read 2:40+4',
    ]);
    expect(fn.barRead(2, TABLE.offset, 4)).toBe(0);
  });

  it('keeps to itself an access that only half touches it', () => {
    const { fn, log } = make();
    fn.barWrite(2, TABLE.offset - 2, 4, 0xaabb0000);
    fn.barWrite(2, TABLE.offset + 46, 4, 0x0000ccdd);
    expect(fn.barRead(2, TABLE.offset, 2)).toBe(0xaabb);
    expect(fn.barRead(2, TABLE.offset + 46, 2)).toBe(0xccdd);
    fn.barRead(2, TABLE.offset + 46, 4);
    expect(log).toEqual([]);
  });

  it('and the pending bits of 2048 vectors are that long', () => {
    const { fn, log } = make(2048);
    fn.barRead(2, entry(2047) + 12, 4);
    fn.barRead(4, PBA.offset + 252, 4);
    expect(log).toEqual([]);
    fn.barRead(2, entry(2048), 4);
    fn.barRead(4, PBA.offset + 256, 4);
    expect(log).toHaveLength(2);
  });
});

describe('a message', () => {
  it('carries the address and data of its entry', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    program(fn, 2, 0xfffe_fee0_1000 % 2 ** 53, 0xdeadbeef);
    expect(fn.triggerMessage(2)).toBe(true);
    expect(events).toEqual([
      ['msi', { kind: 'msi-x', vector: 2, address: 0xfffe_fee0_1000, data: 0xdeadbeef }],
    ]);
  });

  it.each([3, 4, 2048, -1, 0.5, Number.NaN])('of vector %d does not exist', (vector) => {
    const { fn } = make();
    fn.write(CONTROL, 2, ENABLE);
    expect(fn.triggerMessage(vector)).toBe(false);
  });

  it('is not sent while MSI-X is off', () => {
    const { fn } = make();
    program(fn, 0, 0xfee00000, 1);
    const events = recordEvents(fn, 'msi');
    expect(fn.triggerMessage(0)).toBe(false);
    fn.write(CONTROL, 2, ENABLE);
    expect([events.length, pendingBits(fn)]).toEqual([0, 0]);
  });

  it('is a memory write, and not sent while Bus Master Enable is clear (PCIe 7.5.1.1.3)', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    program(fn, 0, 0xfee00000, 1);
    fn.write(0x04, 2, 0);
    fn.triggerMessage(0);
    expect(events).toEqual([]);
  });

  it('to an address that no memory has goes nowhere', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    fn.barWrite(2, entry(0) + 4, 4, 0xffffffff);
    fn.barWrite(2, entry(0) + VECTOR_CONTROL, 4, 0);
    fn.triggerMessage(0);
    expect(events).toEqual([]);
  });
});

describe('masking', () => {
  it('of a vector makes its message pending, and unmasking sends it once', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    program(fn, 1, 0xfee00000, 0x41, MASKED);
    expect([fn.triggerMessage(1), fn.triggerMessage(1)]).toEqual([true, true]);
    expect([events.length, pendingBits(fn)]).toEqual([0, 0b010]);
    fn.barWrite(2, entry(1) + 8, 4, 0x42);
    expect(events).toEqual([]);
    fn.barWrite(2, entry(1) + VECTOR_CONTROL, 4, 0);
    expect(events.splice(0).map(([, { vector, data }]) => [vector, data])).toEqual([[1, 0x42]]);
    expect(pendingBits(fn)).toBe(0);
    fn.barWrite(2, entry(1) + VECTOR_CONTROL, 4, MASKED);
    fn.barWrite(2, entry(1) + VECTOR_CONTROL, 4, 0);
    expect(events).toEqual([]);
  });

  it('is unmasked by a byte write too', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    fn.triggerMessage(0);
    fn.barWrite(2, entry(0) + VECTOR_CONTROL, 1, 0);
    expect(events).toHaveLength(1);
  });

  it('of the function holds everything back, and its end sends what may go', () => {
    const { fn } = make(70);
    const events = recordEvents(fn, 'msi');
    for (const vector of [0, 1, 65]) program(fn, vector, 0xfee00000, vector);
    fn.write(CONTROL, 2, ENABLE | FUNCTION_MASK);
    for (const vector of [0, 2, 65]) expect(fn.triggerMessage(vector)).toBe(true);
    expect(events).toEqual([]);
    expect([0, 4, 8, 12].map((at) => fn.barRead(4, PBA.offset + at, 4))).toEqual([0b101, 0, 0b10, 0]);
    fn.write(CONTROL, 2, ENABLE);
    expect(events.map(([, { vector }]) => vector)).toEqual([0, 65]);
    expect([0, 4, 8, 12].map((at) => fn.barRead(4, PBA.offset + at, 4))).toEqual([0b100, 0, 0, 0]);
  });

  it('holds what waits while MSI-X is switched off and on', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi');
    fn.write(CONTROL, 2, ENABLE);
    fn.triggerMessage(0);
    fn.write(CONTROL, 2, 0);
    program(fn, 0, 0xfee00000, 7);
    expect([events.length, pendingBits(fn)]).toEqual([0, 1]);
    fn.write(CONTROL, 2, ENABLE);
    expect([events.length, pendingBits(fn)]).toEqual([1, 0]);
  });

  it('has pending bits that the guest cannot write', () => {
    const { fn, log } = make();
    fn.write(CONTROL, 2, ENABLE);
    fn.triggerMessage(0);
    for (const size of [1, 2, 4]) fn.barWrite(4, PBA.offset, size, 0);
    fn.barWrite(4, PBA.offset + 4, 4, 0xffffffff);
    expect([fn.barRead(4, PBA.offset, 4), fn.barRead(4, PBA.offset + 4, 4)]).toEqual([1, 0]);
    expect(log).toEqual([]);
  });

  it.each(['flr', 'bus'] as const)('a reset (%s) masks everything again and forgets what waits', (kind) => {
    const { fn } = make();
    program(fn, 0, 0xfee00000, 7);
    fn.write(CONTROL, 2, ENABLE);
    fn.triggerMessage(1);
    fn.reset(kind);
    expect([0, 4, 8, 12].map((field) => fn.barRead(2, entry(0) + field, 4))).toEqual([0, 0, 0, MASKED]);
    expect([pendingBits(fn), fn.read(CONTROL, 2)]).toEqual([0, 2]);
  });
});

describe('table and pending bits in one BAR', () => {
  it('do not get into each other', () => {
    const { fn, log } = make(3, TABLE, { bar: 2, offset: 0x1030 });
    fn.write(CONTROL, 2, ENABLE);
    fn.triggerMessage(2);
    expect([fn.barRead(2, 0x102c, 4), fn.barRead(2, 0x1030, 4), fn.barRead(2, 0x1034, 4)]).toEqual([1, 4, 0]);
    fn.barWrite(2, 0x102e, 4, 0xffffffff);
    expect([fn.barRead(2, 0x102c, 4), fn.barRead(2, 0x1030, 4)]).toEqual([0xffff0001, 4]);
    fn.barRead(2, 0x1038, 4);
    expect(log).toEqual(['read 2:1038+4']);
  });
});

describe('routes', () => {
  it('follow the entry, its mask, Function Mask and Enable', () => {
    const { fn } = make();
    const events = recordEvents(fn, 'msi-route');
    const last = (vector: number): unknown => events.findLast(([, route]) => route.vector === vector)?.[1];
    program(fn, 1, 0x2_fee0_0000, 0x99);
    const route = { kind: 'msi-x', vector: 1, address: 0x2_fee0_0000, data: 0x99 };
    expect(last(1)).toEqual({ ...route, enabled: false });
    fn.write(CONTROL, 2, ENABLE);
    expect(last(1)).toEqual({ ...route, enabled: true });
    expect(last(0)).toMatchObject({ vector: 0, enabled: false });
    fn.write(CONTROL, 2, ENABLE | FUNCTION_MASK);
    expect(last(1)).toEqual({ ...route, enabled: false });
    fn.write(CONTROL, 2, ENABLE);
    fn.barWrite(2, entry(1) + VECTOR_CONTROL, 4, MASKED);
    expect(last(1)).toEqual({ ...route, enabled: false });
  });
});

describe('a structure that is not to be trusted', () => {
  it('is cut off by the end of the space: no table, no messages', () => {
    const physical = buildConfig({ standard: [{ offset: 0xf8, id: 0x11, body: [0, 0x80, 0, 0, 0, 0] }] });
    const fn = createFunction({ physical, bars: [{ index: 0, size: 0x1000, read: () => 0x77 }] });
    expect([fn.triggerMessage(0), fn.barRead(0, 0, 1)]).toEqual([false, 0x77]);
  });

  it.each([6, 7])('BAR Indicator %i is reserved, and no table is in the ROM', (bir) => {
    const body = [0, 0, bir, 0, 0, 0, bir, 0x08, 0, 0];
    const fn = createFunction({
      physical: buildConfig({ standard: [{ offset: 0x80, id: 0x11, body }] }),
      rom: 0x800,
    });
    expect(fn.barRead(ROM_BAR, VECTOR_CONTROL, 4)).toBe(0xffffffff);
    expect(fn.barRead(7, VECTOR_CONTROL, 4)).toBe(0xffffffff);
  });
});

describe('an emulated function', () => {
  const refused = (
    vectors: number,
    table: MsiXLocation,
    pba: MsiXLocation,
    bars: readonly BarOptions[],
  ): void => {
    expect(() =>
      createFunction({
        vendorId: 1,
        deviceId: 1,
        classCode: 0,
        capabilities: [msiXCapability(vectors, table, pba)],
        bars,
      }),
    ).toThrow(expect.objectContaining({ code: 'VPCI_BAR', message: expect.stringContaining('MSI-X') }));
  };
  const bars = [{ index: 0, size: 0x1000 }] as const;

  it('has its table and pending bits inside BARs that it has, apart', () => {
    refused(1, { bar: 0, offset: 0 }, { bar: 0, offset: 0x800 }, []);
    refused(1, { bar: 1, offset: 0 }, { bar: 0, offset: 0x800 }, bars);
    refused(1, { bar: 0, offset: 0 }, { bar: 1, offset: 0x800 }, bars);
    refused(2048, { bar: 0, offset: 0 }, { bar: 0, offset: 0 }, [{ index: 0, size: 16 }]);
    refused(256, { bar: 0, offset: 8 }, { bar: 2, offset: 0 }, [...bars, { index: 2, size: 0x1000 }]);
    refused(65, { bar: 0, offset: 0 }, { bar: 0, offset: 0xff8 }, bars);
    refused(2, { bar: 0, offset: 0 }, { bar: 0, offset: 0x18 }, bars);
    refused(1, { bar: 0, offset: 8 }, { bar: 0, offset: 0 }, [{ index: 0, size: 0x40, kind: 'io' }]);
    expect(make(2, { bar: 2, offset: 0 }, { bar: 2, offset: 0x20 }).fn.barRead(2, 0x20, 4)).toBe(0);
    expect(make(1, { bar: 2, offset: 8 }, { bar: 2, offset: 0 }).fn.barRead(2, 0, 4)).toBe(0);
  });
});

describe('msiXCapability', () => {
  it.each([0, 2049, 1.5, -1, Number.NaN])('refuses %d vectors', (vectors) => {
    expect(() => msiXCapability(vectors, TABLE, PBA)).toThrow(
      expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }),
    );
  });

  it.each([
    { bar: 6, offset: 0 },
    { bar: -1, offset: 0 },
    { bar: 0.5, offset: 0 },
    { bar: 0, offset: 4 },
    { bar: 0, offset: -8 },
    { bar: 0, offset: 2 ** 32 },
    { bar: 0, offset: Number.NaN },
  ])('refuses a structure at %o', (location) => {
    const refused = expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' });
    expect(() => msiXCapability(1, location, PBA)).toThrow(refused);
    expect(() => msiXCapability(1, TABLE, location)).toThrow(refused);
  });
});
