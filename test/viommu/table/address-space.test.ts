import { describe, expect, it } from 'vitest';
import {
  addressOf,
  OUT_PAGE_SIZE,
  OUT_WORDS,
  PERMISSION_EXECUTE,
  PERMISSION_PRIVILEGED,
  PERMISSION_READ,
  PERMISSION_WRITE,
  word,
} from '../../../src/viommu/result.ts';
import { AddressSpace } from '../../../src/viommu/table/address-space.ts';

const PAGES_1G = 0x40000;

function lookUp(space: AddressSpace, page: number): [target: bigint, sizeLog2: number] | undefined {
  const high = Math.floor(page / 0x100000) | 0;
  const low = ((page % 0x100000) << 12) | 0;
  const index = space.find(high, low);
  if (index < 0) return undefined;
  const out = new Uint32Array(OUT_WORDS);
  space.translate(index, high, low, space.grant(index) & 0xff, out);
  return [addressOf(out) >> 12n, word(out, OUT_PAGE_SIZE)];
}

describe('an address space', () => {
  it('reaches all of 64 bits', () => {
    const space = new AddressSpace();
    const last = 2 ** 52 - 1;
    expect(space.insert({ first: last, end: last + 1, target: last, permissions: 1 })).toBe(true);
    expect(space.insert({ first: 0, end: 1, target: last, permissions: 1 })).toBe(true);
    expect(lookUp(space, last)).toEqual([2n ** 52n - 1n, 12]);
    expect(lookUp(space, 0)).toEqual([2n ** 52n - 1n, 12]);
    expect(lookUp(space, last - 1)).toBeUndefined();
  });

  it('finds 2 MiB and 1 GiB pages, when IOVA and GPA are congruent and the block is whole', () => {
    const space = new AddressSpace();
    space.insert({ first: 5, end: 5 * PAGES_1G, target: 5 + 7 * PAGES_1G, permissions: 1 });
    expect(lookUp(space, 5)?.[1]).toBe(12);
    expect(lookUp(space, 511)?.[1]).toBe(12);
    expect(lookUp(space, 512)?.[1]).toBe(21);
    expect(lookUp(space, PAGES_1G - 1)?.[1]).toBe(21);
    expect(lookUp(space, PAGES_1G)?.[1]).toBe(30);
    expect(lookUp(space, 5 * PAGES_1G - 1)).toEqual([BigInt(12 * PAGES_1G - 1), 30]);
    space.remove(2 * PAGES_1G + 1000, 2 * PAGES_1G + 1001);
    expect(lookUp(space, 2 * PAGES_1G)?.[1]).toBe(21);
    expect(lookUp(space, 2 * PAGES_1G + 513)?.[1]).toBe(12);
    expect(lookUp(space, 3 * PAGES_1G)?.[1]).toBe(30);
  });

  it('has one 2 MiB page in a mapping of just that', () => {
    const space = new AddressSpace();
    space.insert({ first: 512, end: 1024, target: 0, permissions: 1 });
    expect(lookUp(space, 1023)).toEqual([511n, 21]);
  });

  it('has 2 MiB pages where the GPA is congruent to 2 MiB only, and 4 KiB where to nothing', () => {
    const space = new AddressSpace();
    space.insert({ first: 0, end: PAGES_1G, target: 512, permissions: 1 });
    space.insert({ first: PAGES_1G, end: 2 * PAGES_1G, target: 1, permissions: 1 });
    expect(lookUp(space, 0)?.[1]).toBe(21);
    expect(lookUp(space, PAGES_1G)?.[1]).toBe(12);
  });

  it.each([
    ['rw', PERMISSION_READ | PERMISSION_WRITE, 0x33],
    ['x', PERMISSION_EXECUTE, 0],
    ['rx', PERMISSION_READ | PERMISSION_EXECUTE, 0x55],
    ['rwp', PERMISSION_READ | PERMISSION_WRITE | PERMISSION_PRIVILEGED, 0x30],
  ])('grants what follows from %s', (_letters, permissions, rights) => {
    const space = new AddressSpace();
    space.insert({ first: 0, end: 1, target: 0, permissions });
    expect(space.grant(0)).toBe((rights << 8) | permissions);
    expect(space.at(0).permissions).toBe(permissions);
  });

  it('says what a removal touched', () => {
    const space = new AddressSpace();
    space.insert({ first: 10, end: 20, target: 0, permissions: 1 });
    space.insert({ first: 20, end: 30, target: 100, permissions: 1 });
    expect(space.remove(0, 10)).toBeUndefined();
    expect(space.remove(15, 25)).toEqual({ first: 10, end: 30 });
    expect([...space.mappings()]).toEqual([
      { first: 10, end: 15, target: 0, permissions: 1 },
      { first: 25, end: 30, target: 105, permissions: 1 },
    ]);
    expect(space.remove(12, 13)).toEqual({ first: 10, end: 15 });
    expect(space.count).toBe(3);
  });

  it('gives its memory back', () => {
    const space = new AddressSpace();
    for (let page = 0; page < 10_000; page++) {
      space.insert({ first: 2 * page, end: 2 * page + 1, target: page, permissions: 1 });
    }
    expect(space.capacity).toBeLessThanOrEqual(2 * 10_000);
    for (let page = 0; page < 10_000; page++) space.remove(2 * page, 2 * page + 1);
    expect([space.count, space.capacity]).toEqual([0, 4]);
  });
});
