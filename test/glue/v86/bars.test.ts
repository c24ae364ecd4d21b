// BARs that a real guest programs, moves and switches off.
import { describe, expect, it } from 'vitest';
import { type BarOptions, createFunction, type PciFunction, PciSegment } from 'vpci';
import { type Op, play } from './guest.ts';

const RID = 0x100;
const COMMAND = 0x04;
const BAR_0 = 0x10;
const ON: Op = { via: 'cam', rid: RID, offset: COMMAND, size: 2, value: 0x0003 };
const OFF: Op = { via: 'cam', rid: RID, offset: COMMAND, size: 2, value: 0 };
const BASE = 0xe1000000;

const setBar = (value: number, index = 0): Op => ({
  via: 'cam',
  rid: RID,
  offset: BAR_0 + 4 * index,
  size: 4,
  value,
});
const getBar = (index = 0): Op => ({ via: 'cam', rid: RID, offset: BAR_0 + 4 * index, size: 4 });
const read = (address: number, size = 4): Op => ({ via: 'memory', address, size });
const write = (address: number, value: number, size = 4): Op => ({ via: 'memory', address, size, value });

/** A device whose registers are plain memory. */
function ram(index: number, size: number, options: Partial<BarOptions> = {}): BarOptions {
  const bytes = new Uint8Array(size);
  return {
    index,
    size,
    ...options,
    read: (offset, length) => {
      let value = 0;
      for (let i = length - 1; i >= 0; i--) value = value * 0x100 + (bytes[offset + i] ?? 0);
      return value;
    },
    write: (offset, length, value) => {
      for (let i = 0; i < length; i++) bytes[offset + i] = value >>> (8 * i);
    },
  };
}

function withBars(...bars: BarOptions[]): { segment: PciSegment; fn: PciFunction } {
  const segment = new PciSegment();
  const fn = createFunction({ vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000, bars });
  return { segment, fn: segment.add('01:00.0', fn) };
}

describe('memory BARs', () => {
  it('size, decode and answer accesses of every width', async () => {
    const { segment } = withBars(ram(0, 0x1000));
    const got = await play(segment, [
      setBar(0xffffffff),
      getBar(),
      setBar(BASE),
      read(BASE),
      ON,
      write(BASE, 0x44332211),
      write(BASE + 4, 0x6655, 2),
      write(BASE + 6, 0x77, 1),
      read(BASE),
      read(BASE + 4),
      read(BASE + 1, 2),
      read(BASE + 3, 1),
      read(BASE + 2, 4),
    ]);
    expect(got).toEqual([0xfffff000, 0xffffffff, 0x44332211, 0x00776655, 0x3322, 0x44, 0x66554433]);
  });

  it('move, stop and start again with what they hold', async () => {
    const { segment } = withBars(ram(0, 0x1000));
    const other = 0xf0040000;
    const got = await play(segment, [
      ON,
      setBar(BASE),
      write(BASE, 1),
      setBar(other),
      read(BASE),
      read(other),
      OFF,
      read(other),
      ON,
      read(other),
      setBar(BASE),
      read(BASE),
      read(other),
    ]);
    expect(got).toEqual([0xffffffff, 1, 0xffffffff, 1, 1, 0xffffffff]);
  });

  it('share a block of 128 KiB, and leave the rest of it alone', async () => {
    const { segment } = withBars(ram(0, 0x1000), ram(1, 0x10), ram(2, 0x40000));
    const got = await play(segment, [
      ON,
      setBar(BASE),
      setBar(BASE + 0x2000, 1),
      setBar(BASE + 0x40000, 2),
      write(BASE + 0xffc, 0xa),
      write(BASE + 0x200c, 0xb),
      write(BASE + 0x7fffc, 0xc),
      read(BASE + 0xffc),
      read(BASE + 0x1000),
      read(BASE + 0x1000, 2),
      read(BASE + 0x200c),
      read(BASE + 0x2010, 1),
      read(BASE + 0x7fffc),
      read(BASE + 0x80000),
    ]);
    expect(got).toEqual([0xa, 0xffffffff, 0xffff, 0xb, 0xff, 0xc, 0xffffffff]);
  });

  it('of 64 bits decode below 4 GiB, and are out of reach above', async () => {
    const { segment } = withBars(ram(0, 0x1000, { kind: 'memory64' }));
    const got = await play(segment, [ON, setBar(BASE), write(BASE, 7), read(BASE), setBar(1, 1), read(BASE)]);
    expect(got).toEqual([7, 0xffffffff]);
  });

  it("on v86's own memory give it back when they leave", async () => {
    const { segment } = withBars(ram(0, 0x20000));
    const vga = 0xa0000;
    const got = await play(segment, [
      read(vga),
      ON,
      setBar(vga),
      write(vga + 8, 0x1234),
      read(vga + 8),
      setBar(BASE),
      read(BASE + 8),
      read(vga),
    ]);
    expect(got[1]).toBe(0x1234);
    expect(got[2]).toBe(0x1234);
    expect(got[3]).toBe(got[0]);
  });

  it('on guest RAM or on the ECAM window stay silent', async () => {
    const { segment } = withBars(ram(0, 0x1000));
    const got = await play(segment, [
      ON,
      setBar(0x300000),
      write(0x300000, 0x5a5a),
      setBar(BASE),
      read(BASE),
      read(0x300000),
      setBar(0xb0000000),
      read(0xb0000000, 4),
      read(0xb0000000 + RID * 0x1000, 2),
    ]);
    expect(got).toEqual([0, 0x5a5a, 0x12378086, 0x1234]);
  });
});

describe('I/O BARs', () => {
  it('size, decode, answer every width, move and stop', async () => {
    const { segment } = withBars(ram(0, 0x10, { kind: 'io' }));
    const inPort = (port: number, size = 4): Op => ({ via: 'port', port, size });
    const outPort = (port: number, value: number, size = 4): Op => ({ via: 'port', port, size, value });
    const got = await play(segment, [
      setBar(0xffffffff),
      getBar(),
      ON,
      setBar(0xc000),
      outPort(0xc000, 0x44332211),
      outPort(0xc004, 0x6655, 2),
      outPort(0xc006, 0x77, 1),
      inPort(0xc000),
      inPort(0xc004, 2),
      inPort(0xc006, 1),
      inPort(0xc010, 1),
      setBar(0xd000),
      inPort(0xc000),
      inPort(0xd000),
      OFF,
      inPort(0xd000, 2),
    ]);
    expect(got).toEqual([0xfffffff1, 0x44332211, 0x6655, 0x77, 0xff, 0xffffffff, 0x44332211, 0xffff]);
  });

  it('on the configuration ports stay silent', async () => {
    const { segment } = withBars(ram(0, 0x10, { kind: 'io' }));
    const got = await play(segment, [
      ON,
      setBar(0xcf1),
      getBar(),
      { via: 'cam', rid: RID, offset: 0, size: 4 },
    ]);
    expect(got).toEqual([0xcf1, 0x56781234]);
  });
});
