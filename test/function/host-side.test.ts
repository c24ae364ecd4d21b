import { describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions } from '../../src/index.ts';
import { AER_HEAD, buildConfig, EXPRESS } from '../support/config-builder.ts';
import { RecordingConfigSpace } from '../support/recording-config-space.ts';

// Design section 3: every synthesized byte is virtual, and no write to one ever reaches the physical function.

const VALUES = [0, 0xffffffff, 0x55555555, 0xaaaaaaaa, 0x80000001, 0x0001ffff];

function make(options: Omit<PassthroughOptions, 'physical'> = {}): {
  fn: ReturnType<typeof createFunction>;
  host: RecordingConfigSpace;
} {
  const physical = buildConfig({
    express: { deviceCapabilities: 0x1000_0000 },
    standard: [{ offset: 0x80, id: 0x05, body: [0x80, 0x01] }],
    extended: [AER_HEAD, { offset: 0x140, id: 0x0d, body: [0x7f, 0, 0, 0] }],
    bytes: [[0x300, [0x1b, 0, 1, 0, 6, 0x14, 7, 0]]],
  });
  const host = new RecordingConfigSpace(physical);
  return { fn: createFunction({ physical: host, pasid: { width: 16, execute: true }, ...options }), host };
}

describe('every possible write to a synthesized capability', () => {
  it.each([
    ['ATS', 0x0f],
    ['PRI', 0x13],
    ['PASID', 0x1b],
  ])('of %s stays in the function', (_name, id) => {
    const { fn, host } = make({ ats: true, pri: true });
    const shown = fn.extendedCapabilities.find((one) => one.id === id);
    if (shown === undefined) throw new Error('not shown');
    host.drain();
    for (let offset = shown.offset; offset < shown.offset + shown.length; offset++) {
      for (const size of [1, 2, 4]) {
        if (offset + size > shown.offset + shown.length) continue;
        for (const value of VALUES) {
          fn.write(offset, size, value);
          fn.read(offset, size);
        }
      }
      for (let length = 1; offset + length <= shown.offset + shown.length; length++) {
        fn.writeFrom(offset, new Uint8Array(length).fill(0xff));
        fn.readInto(offset, new Uint8Array(length));
      }
    }
    expect(host.drain()).toEqual([]);
  });

  it('of the physical PASID capability in a hole stays in the function', () => {
    const { fn, host } = make();
    const before = host.bytes.slice();
    host.drain();
    for (let offset = 0x2fd; offset < 0x30b; offset++) {
      for (const size of [1, 2, 4]) for (const value of VALUES) fn.write(offset, size, value);
      expect(fn.read(offset, 4)).toBe(0);
    }
    expect(host.drain()).toEqual([]);
    expect(host.bytes).toEqual(before);
  });
});

describe('every possible write to the whole space', () => {
  it('reaches only the three bits that are forwarded, each with the byte it is in', () => {
    const { fn, host } = make();
    const before = host.bytes.slice();
    const expected = new Map([
      [EXPRESS + 8, 0x10],
      [EXPRESS + 9, 0x08],
      [EXPRESS + 0x28, 0x40],
    ]);
    host.drain();
    for (let offset = -4; offset < 0x1004; offset++) {
      for (const size of [1, 2, 4]) for (const value of VALUES) fn.write(offset, size, value);
    }
    for (const access of host.drain()) {
      for (let at = access.offset; at < access.offset + access.size; at++) {
        expect(expected.has(at), `host ${access.kind} at 0x${at.toString(16)}`).toBe(true);
      }
    }
    for (const [at, byte] of host.bytes.entries()) {
      expect((byte ^ (before[at] ?? 0)) & ~(expected.get(at) ?? 0), `byte 0x${at.toString(16)}`).toBe(0);
    }
  });

  it('with a passed-through range reaches that range as well, in aligned pieces', () => {
    const { fn, host } = make({ passthroughRanges: [[0x201, 0x208]] });
    host.drain();
    fn.write(0x200, 4, 0x44332211);
    expect(host.writes.map(({ offset, size, value }) => [offset, size, value])).toEqual([
      [0x201, 1, 0x22],
      [0x202, 2, 0x4433],
    ]);
    fn.writeFrom(0x1fe, Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
    expect([...host.bytes.subarray(0x1fe, 0x20a)]).toEqual([0, 0, 0, 4, 5, 6, 7, 8, 9, 10, 0, 0]);
    expect(fn.read(0x1fe, 4)).toBe(0x04000000);
  });

  it('with a passed-through range never reaches Message Control of MSI and MSI-X', () => {
    const host = new RecordingConfigSpace(
      buildConfig({
        express: null,
        standard: [
          { offset: 0x40, id: 0x05 },
          { offset: 0x50, id: 0x11 },
        ],
      }),
    );
    const fn = createFunction({ physical: host, passthroughRanges: [[0x40, 0x5c]] });
    host.drain();
    for (const at of [0x42, 0x52]) fn.write(at, 2, 0xffff);
    expect(host.writes).toEqual([]);
    expect([fn.read(0x42, 2), fn.read(0x52, 2)]).toEqual([0x0071, 0xc000]);
  });

  it('is read back where registers latch', () => {
    const { fn, host } = make();
    const latches: [number, number, number][] = [
      [0x04, 2, 0x0547],
      [0x0c, 1, 0xff],
      [0x3c, 1, 0xff],
      [EXPRESS + 8, 2, 0x7dff],
      [0x82, 2, 0x01f1],
      [0x84, 4, 0xfffffffc],
      [0x88, 4, 0xffffffff],
      [0x8c, 2, 0xffff],
      [0x90, 4, 1],
      [0x146, 2, 0x7f],
    ];
    for (const [offset, size, value] of latches) {
      const all = size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
      fn.write(offset, size, offset === EXPRESS + 8 ? 0x7fff : all);
      expect(fn.read(offset, size), `0x${offset.toString(16)}`).toBe(value);
    }
    fn.reset('flr');
    expect(fn.read(0x04, 2)).toBe(0);
    expect(fn.read(0x82, 2)).toBe(0x0180);
    // Relaxed Ordering and No Snoop are the host's, and an FLR leaves Max Payload Size and Aux Power PM Enable alone.
    expect(fn.read(EXPRESS + 8, 2)).toBe(0x2cf0);
    expect(host.bytes[EXPRESS + 8]).toBe(0x10);
  });

  it('keeps AER masks and severities over a reset', () => {
    const { fn } = make();
    for (const at of [0x108, 0x10c, 0x114]) fn.write(at, 4, 0xffffffff);
    const before = [0x108, 0x10c, 0x114].map((at) => fn.read(at, 4));
    expect(before.every((value) => value !== 0)).toBe(true);
    fn.reset('bus');
    expect([0x108, 0x10c, 0x114].map((at) => fn.read(at, 4))).toEqual(before);
  });
});

describe('past the end', () => {
  it.each([256, 4096])('of %i bytes reads are all-ones and writes vanish', (size) => {
    const host = new RecordingConfigSpace(buildConfig({ size }));
    const fn = createFunction({ physical: host });
    host.drain();
    for (const offset of [
      size,
      size + 1,
      0x1000,
      0x7ffffffc,
      0xfffffffc,
      2 ** 33,
      2 ** 40 + 4,
      -4,
      -(2 ** 32),
    ]) {
      fn.write(offset, 4, 0xffffffff);
      expect([1, 2, 4].map((n) => fn.read(offset, n))).toEqual([0xff, 0xffff, 0xffffffff]);
    }
    const across = new Uint8Array(8);
    fn.readInto(size - 4, across);
    expect([...across]).toEqual([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    expect(fn.read(size - 2, 4)).toBe(0xffff0000);
    expect(host.writes).toEqual([]);
  });
});
