import { describe, expect, it } from 'vitest';
import { capabilityName, extendedCapabilityName } from '../../src/pci/capability-ids.ts';
import { capabilityLength, extendedCapabilityLength } from '../../src/pci/capability-length.ts';
import { ByteConfigSpace } from '../../src/pci/config-space.ts';

// One row per ID and per case of those whose length is in their own fields: [ID, length, bytes after the ID byte(s)].

type Put = Readonly<Record<number, number>>;
type Row = [id: number, length: number, put?: Put];

const AT = 0x40;
const EXT = 0x200;

function space(base: number, put: Put): ByteConfigSpace {
  const bytes = new Uint8Array(0x1000);
  for (const [at, value] of Object.entries(put)) bytes[base + Number(at)] = value;
  return new ByteConfigSpace(bytes);
}

const STANDARD: Row[] = [
  [0x00, 2],
  [0x01, 8],
  [0x02, 12],
  [0x03, 8],
  [0x04, 4],
  [0x05, 10],
  [0x05, 14, { 2: 0x80 }],
  [0x05, 20, { 3: 0x01 }],
  [0x05, 24, { 2: 0x80, 3: 0x01 }],
  [0x05, 12, { 3: 0x02 }],
  [0x05, 16, { 2: 0x80, 3: 0x02 }],
  [0x05, 20, { 3: 0x03 }],
  [0x06, 3],
  [0x07, 8],
  [0x07, 24, { 3: 0x10 }],
  [0x07, 24, { 3: 0x20 }],
  [0x08, 28],
  [0x08, 24, { 3: 0x20 }],
  [0x08, 8, { 3: 0x80 }],
  [0x08, 12, { 3: 0xa8 }],
  [0x08, 4, { 2: 0x02, 3: 0xa8 }],
  [0x08, 4, { 3: 0xf8 }],
  [0x09, 3],
  [0x09, 3, { 2: 1 }],
  [0x09, 0x14, { 2: 0x14 }],
  [0x09, 0xff, { 2: 0xff }],
  [0x0a, 4],
  [0x0b, 4],
  [0x0c, 8],
  [0x0d, 8],
  [0x0e, 12],
  [0x0f, 24],
  [0x10, 0x3c, { 2: 0x02 }],
  [0x10, 0x3c, { 2: 0x93 }],
  [0x10, 0x14, { 2: 0x01 }],
  [0x10, 0x14, { 2: 0x11 }],
  [0x10, 0x24, { 2: 0x41 }],
  [0x10, 0x1c, { 2: 0x61 }],
  [0x10, 0x0c, { 2: 0x91 }],
  [0x10, 0x24, { 2: 0xa1 }],
  [0x11, 12],
  [0x12, 8],
  [0x12, 8, { 4: 0x0e }],
  [0x12, 16, { 4: 0x0f }],
  [0x13, 6],
  [0x14, 4],
  [0x14, 8, { 2: 1 }],
  [0x14, 4 + 12, { 2: 1, 4: 2 }],
  [0x14, 4 + 12 + 20, { 2: 2, 4: 2, 16: 4 }],
  [0x15, 0x24],
];

const EXTENDED: Row[] = [
  [0x00, 4],
  [0x01, 0x2c],
  [0x01, 0x60, { 2: 0x03 }],
  [0x02, 28],
  [0x02, 28 + 12, { 4: 1 }],
  [0x02, 28 + 84, { 4: 7 }],
  [0x02, 0x30 + 16, { 8: 0x02, 11: 0x03 }],
  [0x02, 0x30 + 64, { 8: 0x0e, 11: 0x03 }],
  [0x02, 0x40 + 4, { 16: 0x02, 19: 0x04 }],
  [0x02, 0x40 + 64, { 5: 0x08, 16: 0x12, 19: 0x04 }],
  [0x03, 12],
  [0x04, 16],
  [0x04, 20, { 12: 2 }],
  [0x05, 16],
  [0x05, 16 + 16 * 3, { 5: 3 }],
  [0x06, 12],
  [0x07, 8, { 2: 1 }],
  [0x07, 12, { 2: 2 }],
  [0x08, 28],
  [0x09, 28],
  [0x0a, 20],
  [0x0b, 8],
  [0x0b, 0x1c, { 6: 0xc0, 7: 0x01 }],
  [0x0b, 0xfff, { 6: 0xf0, 7: 0xff }],
  [0x0c, 8],
  [0x0d, 8],
  [0x0d, 12, { 4: 0x20, 5: 1 }],
  [0x0d, 12, { 4: 0x20, 5: 32 }],
  [0x0d, 16, { 4: 0x20, 5: 33 }],
  [0x0d, 40, { 4: 0x20 }],
  [0x0e, 8],
  [0x0f, 8],
  [0x10, 0x40],
  [0x11, 0x40],
  [0x12, 0x30],
  [0x13, 16],
  [0x15, 12],
  [0x15, 12, { 8: 0x20 }],
  [0x15, 4 + 48, { 8: 0xc0 }],
  [0x15, 4 + 48, { 8: 0xe0 }],
  [0x16, 17],
  [0x16, 48, { 4: 31 }],
  [0x17, 12],
  [0x17, 14, { 5: 0x02 }],
  [0x17, 12 + 2 * 0x800, { 5: 0x02, 6: 0xff, 7: 0x07 }],
  [0x17, 12, { 5: 0x04, 6: 9 }],
  [0x18, 8],
  [0x19, 12],
  [0x1a, 16],
  [0x1a, 16 + 4 * 5, { 4: 5 }],
  [0x1b, 8],
  [0x1c, 8],
  [0x1d, 12],
  [0x1d, 0x20, { 4: 0x20 }],
  [0x1d, 0x20 + 16, { 4: 0x20, 5: 4 }],
  [0x1e, 16, { 2: 1 }],
  [0x1e, 20, { 2: 2 }],
  [0x1f, 12],
  [0x20, 28],
  [0x21, 16],
  [0x22, 12],
  [0x23, 10],
  [0x23, 0x38, { 6: 0x80, 7: 0x03 }],
  [0x24, 12],
  [0x24, 4 + 24, { 8: 0x60 }],
  [0x25, 12],
  [0x26, 0x20],
  [0x27, 8],
  [0x28, 0x20],
  [0x29, 16],
  [0x2a, 0x20],
  [0x2b, 0x14],
  [0x2b, 0x18, { 5: 1 }],
  [0x2c, 20],
  [0x2d, 12],
  [0x2d, 12 + 4 * 15, { 4: 15 }],
  [0x2e, 24],
  [0x2f, 16],
  [0x30, 12],
  [0x30, 20, { 4: 1 }],
  [0x30, 12 + 64, { 4: 1, 5: 0xe0 }],
  [0x30, 12 + 20 + 24, { 4: 2, 12: 2 }],
  [0x31, 0x20],
  [0x32, 0x40],
  [0x33, 0x24],
  [0x34, 0x24],
  [0x35, 0x14 + 12],
  [0x35, 0x14 + 12 * 8, { 4: 7 }],
  [0x36, 8],
  [0x36, 0x120, { 4: 0x20, 5: 0x01 }],
];

describe('length of a standard capability', () => {
  it.each(STANDARD)('ID %i: %i bytes %o', (...[id, length, put = {}]: Row) => {
    expect(capabilityLength(space(AT, put), id, AT)).toBe(length);
  });

  it('is known for every assigned ID, and for no other', () => {
    for (let id = 0; id <= 0xff; id++) {
      const known = STANDARD.some((row) => row[0] === id);
      expect(capabilityLength(space(AT, {}), id, AT) !== undefined, `ID ${id}`).toBe(known);
      expect(capabilityName(id) !== undefined, `ID ${id}`).toBe(known);
    }
  });

  it('of Enhanced Allocation has two more dwords in a bridge', () => {
    const bridge = space(AT, {});
    bridge.bytes[0x0e] = 0x81;
    expect(capabilityLength(bridge, 0x14, AT)).toBe(8);
  });
});

describe('length of an extended capability', () => {
  it.each(EXTENDED)('ID %i: %i bytes %o', (...[id, length, put = {}]: Row) => {
    expect(extendedCapabilityLength(space(EXT, put), id, EXT, { expressOffset: 0 })).toBe(length);
  });

  it('is known for every assigned ID, and for no other', () => {
    for (const id of [...Array(0x100).keys(), 0x1000, 0xffff]) {
      const known = EXTENDED.some((row) => row[0] === id);
      const length = extendedCapabilityLength(space(EXT, {}), id, EXT, { expressOffset: 0 });
      expect(length !== undefined, `ID ${id}`).toBe(known);
      expect(extendedCapabilityName(id) !== undefined, `ID ${id}`).toBe(known);
    }
  });

  it.each([
    ['an endpoint', 0x02, 0, 0x2c],
    ['a root port', 0x42, 0, 0x38],
    ['an event collector', 0xa2, 0, 0x38],
    ['End-End prefixes', 0x02, 0x20, 0x48],
    ['a version 1 capability', 0x01, 0x20, 0x2c],
  ])('of AER with %s', (_name, capabilities, prefix, length) => {
    const bytes = space(AT, { 2: capabilities, 0x26: prefix });
    expect(extendedCapabilityLength(bytes, 0x01, EXT, { expressOffset: AT })).toBe(length);
  });

  it.each([
    [0x19, 12 + 2 * 16],
    [0x26, 0x20 + 16],
    [0x27, 8 + 4 * 16],
    [0x2a, 0x20 + 16],
    [0x31, 0x20 + 16],
  ])('of ID %i has a part per lane', (id, length) => {
    const bytes = space(AT, { 0x0d: 0x01 });
    expect(extendedCapabilityLength(bytes, id, EXT, { expressOffset: AT })).toBe(length);
  });

  it('is bounded where fields lie', () => {
    const ones = new ByteConfigSpace(new Uint8Array(0x1000).fill(0xff));
    for (let id = 0; id <= 0x36; id++) {
      const length = extendedCapabilityLength(ones, id, EXT, { expressOffset: AT }) ?? 4;
      expect(length).toBeLessThanOrEqual(0x2000);
      expect(length).toBeGreaterThanOrEqual(4);
    }
  });
});
