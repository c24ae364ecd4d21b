// Configuration space through real guest instructions: both mechanisms, every width.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFunction, type PciFunction, PciSegment } from 'vpci';
import type { GuestAccess } from 'vpci/v86';
import { type Op, play } from './guest.ts';

const BUS_1 = 0x100;
const HOST_BRIDGE = 0;
const ISA_BRIDGE = 8;
const allOnes = (size: number): number => 2 ** (8 * size) - 1;

function emulated(): PciFunction {
  return createFunction({
    vendorId: 0x10de,
    deviceId: 0x2941,
    classCode: 0x030200,
    pasid: { width: 16, execute: true },
    ats: true,
  });
}

function oneFunction(): { segment: PciSegment; fn: PciFunction } {
  const segment = new PciSegment();
  return { segment, fn: segment.add('01:00.0', emulated()) };
}

const widths = [1, 2, 4] as const;

describe('reads', () => {
  const places = [0x00, 0x04, 0x08, 0x0c, 0x2c, 0x34, 0x3c, 0x40];
  const extended = [0x100, 0x104, 0x108, 0xff8, 0xffc];

  it.each(widths)('%i bytes at every lane, by CAM', async (size) => {
    const { segment } = oneFunction();
    const twin = emulated();
    const offsets = places.flatMap((at) =>
      [0, 1, 2, 3].filter((lane) => lane + size <= 4).map((lane) => at + lane),
    );
    const got = await play(
      segment,
      offsets.map((offset): Op => ({ via: 'cam', rid: BUS_1, offset, size })),
    );
    expect(got).toEqual(offsets.map((offset) => twin.read(offset, size)));
  });

  it.each(widths)('%i bytes at every alignment, by ECAM', async (size) => {
    const { segment } = oneFunction();
    const twin = emulated();
    const offsets = [...places, ...extended].flatMap((at) => [0, 1, 2, 3].map((lane) => at + lane));
    const inside = offsets.filter((offset) => offset + size <= 0x1000);
    const got = await play(
      segment,
      inside.map((offset): Op => ({ via: 'ecam', rid: BUS_1, offset, size })),
    );
    expect(got).toEqual(inside.map((offset) => twin.read(offset, size)));
  });

  it('a CAM access that runs out of CONFIG_DATA reads all-ones there', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'cam', rid: BUS_1, offset: 1, size: 4 },
      { via: 'cam', rid: BUS_1, offset: 3, size: 2 },
    ]);
    expect(got).toEqual([0xff294110, 0xff29]);
  });

  it('an ECAM access across two functions is a part of each', async () => {
    const { segment } = oneFunction();
    segment.add('01:00.1', emulated());
    const [got] = await play(segment, [{ via: 'ecam', rid: BUS_1, offset: 0xffe, size: 4 }]);
    expect(got).toBe(0x10de0000);
  });
});

describe('writes', () => {
  it('any mix of accesses does what it does to the function directly', async () => {
    const twin = emulated();
    const size = fc.constantFrom(...widths);
    const op = fc
      .record({
        via: fc.constantFrom('cam' as const, 'ecam' as const),
        // Registers that a guest can change, where no write initiates a reset.
        offset: fc.oneof(
          fc.integer({ min: 0, max: 0x3f }),
          fc.integer({ min: 0x100, max: 0x11f }),
          fc.integer({ min: 0xff8, max: 0xfff }),
        ),
        size,
        value: fc.option(fc.integer({ min: 0, max: 0xffffffff }), { nil: undefined }),
      })
      .map(({ via, offset, size: bytes, value }): Op => {
        const place = via === 'cam' ? offset & 0xff & -bytes : Math.min(offset, 0x1000 - bytes);
        return { via, rid: BUS_1, offset: place, size: bytes, ...(value === undefined ? {} : { value }) };
      });
    await fc.assert(
      fc.asyncProperty(fc.array(op, { minLength: 200, maxLength: 400, size: 'max' }), async (ops) => {
        const { segment, fn } = oneFunction();
        const got = await play(segment, ops);
        twin.reset('bus');
        const expected: number[] = [];
        for (const one of ops) {
          if (one.via !== 'cam' && one.via !== 'ecam') continue;
          if (one.value === undefined) expected.push(twin.read(one.offset, one.size));
          else twin.write(one.offset, one.size, one.value);
        }
        expect(got).toEqual(expected);
        expect(fn.saveState()).toEqual(twin.saveState());
      }),
      { numRuns: 6 },
    );
  });

  it('a read after a write needs no new CONFIG_ADDRESS', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'port', port: 0xcf8, size: 4, value: 0x8001003c },
      { via: 'port', port: 0xcfc, size: 1, value: 0x5a },
      { via: 'port', port: 0xcfc, size: 1 },
    ]);
    expect(got).toEqual([0x5a]);
  });

  it('16 bits to ECAM stay one write', async () => {
    const { segment, fn } = oneFunction();
    const offset = (fn.pasid?.offset ?? 0) + 6;
    const seen: GuestAccess[] = [];
    const got = await play(
      segment,
      [
        { via: 'ecam', rid: BUS_1, offset, size: 2, value: 0xffff },
        { via: 'ecam', rid: BUS_1, offset, size: 2 },
      ],
      { onAccess: (access) => seen.push(access) },
    );
    expect(got).toEqual([3]);
    expect(fn.endpointState).toMatchObject({
      pasidEnable: true,
      executeEnable: true,
      privilegedEnable: false,
    });
    const ecam = { via: 'ecam', rid: BUS_1 };
    expect(seen).toEqual([
      { ...ecam, offset, write: true, size: 2, value: 0xffff },
      { ...ecam, offset, write: false, size: 1, value: 3 },
      { ...ecam, offset: offset + 1, write: false, size: 1, value: 0 },
    ]);
  });
});

describe('absent functions', () => {
  const rids = [0x10, 0xff, 0x101, 0x108, 0xffff];

  it('read all-ones and take writes of every width, by both mechanisms', async () => {
    const { segment } = oneFunction();
    const ops = rids.flatMap((rid) =>
      (['cam', 'ecam'] as const).flatMap((via) =>
        widths.flatMap((size): Op[] => [
          { via, rid, offset: 4, size, value: 0 },
          { via, rid, offset: 4, size },
        ]),
      ),
    );
    const got = await play(segment, ops);
    expect(got).toEqual(ops.filter(({ value }) => value === undefined).map(({ size }) => allOnes(size)));
  });

  it('a probe from function 2 to function 6 resets no machine', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'cam', rid: 0x102, offset: 0, size: 4 },
      { via: 'cam', rid: 0x106, offset: 0, size: 4 },
      { via: 'cam', rid: BUS_1, offset: 0, size: 2 },
    ]);
    expect(got).toEqual([0xffffffff, 0xffffffff, 0x10de]);
  });
});

describe('CONFIG_ADDRESS', () => {
  it('reads back what is implemented of it', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'port', port: 0xcf8, size: 4, value: 0xffffffff },
      { via: 'port', port: 0xcf8, size: 4 },
    ]);
    expect(got).toEqual([0x80fffffc]);
  });

  it('latches dwords only', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'port', port: 0xcf8, size: 4, value: 0x80010000 },
      { via: 'port', port: 0xcf8, size: 1, value: 0x3c },
      { via: 'port', port: 0xcfa, size: 1, value: 0 },
      { via: 'port', port: 0xcf8, size: 2, value: 0x3c },
      { via: 'port', port: 0xcf8, size: 4 },
      { via: 'port', port: 0xcfc, size: 2 },
    ]);
    expect(got).toEqual([0x80010000, 0x10de]);
  });

  it('without Enable nobody answers', async () => {
    const { segment, fn } = oneFunction();
    const got = await play(segment, [
      { via: 'port', port: 0xcf8, size: 4, value: 0x0001003c },
      { via: 'port', port: 0xcfc, size: 1, value: 0x5a },
      { via: 'port', port: 0xcfc, size: 4 },
      // v86's own host bridge.
      { via: 'port', port: 0xcf8, size: 4, value: 0 },
      { via: 'port', port: 0xcfc, size: 4 },
    ]);
    expect(got).toEqual([0xffffffff, 0xffffffff]);
    expect(fn.read(0x3c, 1)).toBe(0);
  });
});

describe("v86's own functions", () => {
  it.each(['cam', 'ecam'] as const)('stay where they are, by %s', async (via) => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via, rid: HOST_BRIDGE, offset: 0, size: 4 },
      { via, rid: ISA_BRIDGE, offset: 0, size: 4 },
      { via, rid: ISA_BRIDGE, offset: 2, size: 2 },
      { via, rid: ISA_BRIDGE, offset: 3, size: 1 },
      { via, rid: ISA_BRIDGE, offset: 0x60, size: 1, value: 0x0b },
      { via, rid: ISA_BRIDGE, offset: 0x62, size: 2, value: 0x0a09 },
      { via, rid: ISA_BRIDGE, offset: 0x60, size: 4 },
      { via, rid: ISA_BRIDGE, offset: 0x70, size: 4, value: 0x12345678 },
      { via, rid: ISA_BRIDGE, offset: 0x70, size: 4 },
    ]);
    expect(got).toEqual([0x12378086, 0x70008086, 0x7000, 0x70, 0x0a09000b, 0x12345678]);
  });

  it('answer live: no new CONFIG_ADDRESS is needed', async () => {
    const { segment } = oneFunction();
    const got = await play(segment, [
      { via: 'port', port: 0xcf8, size: 4, value: 0x80000870 },
      { via: 'port', port: 0xcfc, size: 4, value: 0x1111 },
      { via: 'port', port: 0xcfc, size: 4 },
      { via: 'port', port: 0xcfd, size: 1, value: 0x22 },
      { via: 'port', port: 0xcfc, size: 4 },
    ]);
    expect(got).toEqual([0x1111, 0x2211]);
  });

  it('have no extended configuration space', async () => {
    const { segment } = oneFunction();
    const ops = widths.flatMap((size): Op[] => [
      { via: 'ecam', rid: HOST_BRIDGE, offset: 0x100, size, value: 0 },
      { via: 'ecam', rid: HOST_BRIDGE, offset: 0x100, size },
    ]);
    expect(await play(segment, ops)).toEqual(widths.map(allOnes));
  });
});
