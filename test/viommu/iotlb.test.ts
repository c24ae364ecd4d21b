import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ACCESS_ATOMIC,
  ACCESS_EXECUTE,
  ACCESS_NO_WRITE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_TRANSLATED,
  ACCESS_TRANSLATION,
  ACCESS_WRITE,
} from '../../src/viommu/access.ts';
import { Iotlb, IOTLB_MISS, RIGHT_EXECUTE, RIGHT_READ, RIGHT_WRITE } from '../../src/viommu/iotlb.ts';
import {
  addressOf,
  answer,
  NO_CODE,
  OUT_CODE,
  OUT_PAGE_SIZE,
  OUT_PERMISSIONS,
  OUT_REASON,
  OUT_WORDS,
  PERMISSION_READ,
  STATUS_BYPASS,
  STATUS_TRANSLATED,
} from '../../src/viommu/result.ts';
import { withCode } from './support.ts';

interface Key {
  readonly rid: number;
  readonly pasid: number;
  readonly iova: bigint;
}

const high = (address: bigint): number => Number(address >> 32n) | 0;
const low = (address: bigint): number => Number(address & 0xffff_ffffn) | 0;

function fill(
  iotlb: Iotlb,
  { rid, pasid, iova }: Key,
  target: bigint,
  rights: number,
  status = STATUS_TRANSLATED,
) {
  const out = new Uint32Array(OUT_WORDS);
  answer(out, high(target), low(target), 21, PERMISSION_READ);
  iotlb.fill(rid, pasid, high(iova), low(iova), rights, status, out);
}

function lookup(iotlb: Iotlb, { rid, pasid, iova }: Key, access = ACCESS_READ): bigint | undefined {
  const out = new Uint32Array(OUT_WORDS);
  const status = iotlb.lookup(rid, pasid, high(iova), low(iova), access, out);
  return status === IOTLB_MISS ? undefined : addressOf(out);
}

const key: Key = { rid: 0x0100, pasid: 5, iova: 0xfedc_ba98_7654_3210n };

describe('an IOTLB', () => {
  it('answers what was filled in, for any address of the page', () => {
    const iotlb = new Iotlb(8);
    const out = new Uint32Array(OUT_WORDS).fill(1);
    fill(iotlb, key, 0xffff_ffff_ffff_f123n, RIGHT_READ, STATUS_BYPASS);
    expect(iotlb.lookup(0x0100, 5, 0xfedcba98, 0x76543abc, ACCESS_READ, out)).toBe(STATUS_BYPASS);
    expect(addressOf(out)).toBe(0xffff_ffff_ffff_fabcn);
    expect([out[OUT_PAGE_SIZE], out[OUT_PERMISSIONS], out[OUT_REASON], out[OUT_CODE]]).toEqual([
      21,
      PERMISSION_READ,
      0,
      NO_CODE,
    ]);
  });

  it('tells apart RID, PASID and every bit of the page', () => {
    const iotlb = new Iotlb(64);
    fill(iotlb, key, 0x1000n, RIGHT_READ);
    expect(lookup(iotlb, { ...key, rid: 0x0101 })).toBeUndefined();
    expect(lookup(iotlb, { ...key, pasid: -1 })).toBeUndefined();
    expect(lookup(iotlb, { ...key, pasid: 0x100005 })).toBeUndefined();
    for (let bit = 12n; bit < 64n; bit++) {
      expect(lookup(iotlb, { ...key, iova: key.iova ^ (1n << bit) })).toBeUndefined();
    }
    expect(lookup(iotlb, key)).toBe(0x1210n);
  });

  it.each([
    [RIGHT_READ, ACCESS_READ, true],
    [RIGHT_READ, ACCESS_READ | ACCESS_NO_WRITE, true],
    [RIGHT_READ, ACCESS_WRITE, false],
    [RIGHT_READ, ACCESS_ATOMIC, false],
    [RIGHT_READ | RIGHT_WRITE, ACCESS_ATOMIC, true],
    [RIGHT_READ | RIGHT_WRITE, ACCESS_EXECUTE, false],
    [RIGHT_EXECUTE, ACCESS_EXECUTE, true],
    [RIGHT_READ, ACCESS_READ | ACCESS_PRIVILEGED, false],
    [RIGHT_READ << 4, ACCESS_READ | ACCESS_PRIVILEGED, true],
    [RIGHT_READ << 4, ACCESS_READ, false],
    [RIGHT_EXECUTE << 4, ACCESS_EXECUTE | ACCESS_PRIVILEGED, true],
    [0xff, ACCESS_READ | ACCESS_TRANSLATION, false],
    [0xff, ACCESS_READ | ACCESS_TRANSLATED, false],
  ])('with rights %i answers access %i: %s', (rights, access, answers) => {
    const iotlb = new Iotlb(8);
    fill(iotlb, key, 0x1000n, rights);
    expect(lookup(iotlb, key, access) !== undefined).toBe(answers);
  });

  it('keeps one entry per page: new rights replace the old ones', () => {
    const iotlb = new Iotlb(8);
    fill(iotlb, key, 0x1000n, RIGHT_READ);
    fill(iotlb, key, 0x2000n, RIGHT_READ | RIGHT_WRITE);
    expect(lookup(iotlb, key, ACCESS_WRITE)).toBe(0x2210n);
    iotlb.invalidateRange(key.rid, key.pasid, 0, 0);
    expect(lookup(iotlb, key)).toBe(0x2210n);
  });

  it('forgets everything, time after time', () => {
    const iotlb = new Iotlb(8);
    fill(iotlb, key, 0x1000n, RIGHT_READ);
    for (let times = 0; times < 0x1_0002; times++) {
      iotlb.invalidateAll();
      if (lookup(iotlb, key) !== undefined) expect.fail(`back after ${times} invalidations`);
    }
    fill(iotlb, key, 0x1000n, RIGHT_READ);
    expect(lookup(iotlb, key)).toBe(0x1210n);
  });

  it('never answers anything but the last fill since the last invalidation', () => {
    const keys = fc.record({
      rid: fc.constantFrom(1, 0xffffff),
      pasid: fc.constantFrom(-1, 0, 0xfffff),
      iova: fc.constantFrom(0n, 0x1000n, 0x2000n, 1n << 44n, (1n << 64n) - 4096n),
    });
    const steps = fc.oneof(
      { weight: 4, arbitrary: fc.tuple(fc.constant('fill' as const), keys) },
      { weight: 4, arbitrary: fc.tuple(fc.constant('lookup' as const), keys) },
      fc.tuple(fc.constantFrom('rid' as const, 'pasid' as const, 'range' as const, 'all' as const), keys),
    );
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 80 }), (actions) => {
        const iotlb = new Iotlb(8);
        const filled = new Map<string, { key: Key; target: bigint }>();
        let fills = 0n;
        const forget = (matches: (other: Key) => boolean): void => {
          for (const [name, entry] of filled) if (matches(entry.key)) filled.delete(name);
        };
        for (const [op, at] of actions) {
          const name = `${at.rid}/${at.pasid}/${at.iova}`;
          if (op === 'fill') {
            const target = ++fills << 12n;
            fill(iotlb, at, target, RIGHT_READ);
            filled.set(name, { key: at, target });
            expect(lookup(iotlb, at)).toBe(target);
          } else if (op === 'lookup') {
            expect([undefined, filled.get(name)?.target]).toContain(lookup(iotlb, at));
          } else if (op === 'rid') {
            iotlb.invalidateRid(at.rid);
            forget(({ rid }) => rid === at.rid);
          } else if (op === 'pasid') {
            iotlb.invalidatePasid(at.rid, at.pasid);
            forget(({ rid, pasid }) => rid === at.rid && pasid === at.pasid);
          } else if (op === 'range') {
            const first = Number(at.iova >> 12n);
            iotlb.invalidateRange(at.rid, at.pasid, first, first + 1);
            forget(({ rid, pasid, iova }) => {
              const page = Number(iova >> 12n);
              return rid === at.rid && pasid === at.pasid && page >= first && page <= first + 1;
            });
          } else {
            iotlb.invalidateAll();
            filled.clear();
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  it('forgets by tag and by what the largest block touches', () => {
    const iotlb = new Iotlb(64);
    const all = Number.POSITIVE_INFINITY;
    const filled = (domain: number, space: number, span: number): boolean => {
      iotlb.tagNext(domain, space, span);
      fill(iotlb, key, 0x1000n, RIGHT_READ);
      return lookup(iotlb, key) !== undefined;
    };
    const page = Number(key.iova >> 12n);
    const stays = (...range: Parameters<Iotlb['invalidateTagged']>): boolean => {
      iotlb.invalidateTagged(...range);
      return lookup(iotlb, key) !== undefined;
    };
    expect(filled(7, 0x1f5, 0)).toBe(true);
    expect(stays(8, 0, 0, 0, all)).toBe(true);
    expect(stays(7, 0xf0, 0xe0, 0, all)).toBe(true);
    expect(stays(7, 0xff, 0xf5, 0, page - 513)).toBe(true);
    // The fill's own page is 2 MiB.
    expect(stays(7, 0xff, 0xf5, 0, page)).toBe(false);
    expect(filled(7, 0, 30)).toBe(true);
    expect(stays(7, 0, 0, page - (page % 0x40000), page - (page % 0x40000))).toBe(false);
    // Tags are for one fill.
    fill(iotlb, key, 0x1000n, RIGHT_READ);
    expect(stays(7, 0, 0, 0, all)).toBe(true);
    expect(stays(0, -1, 0, 0, all)).toBe(false);
  });

  it('holds four pages that fall into one set', () => {
    const iotlb = new Iotlb(8);
    const pages = Array.from({ length: 64 }, (_, index) => BigInt(index) << 12n);
    for (const iova of pages) fill(iotlb, { ...key, iova }, iova, RIGHT_READ);
    expect(pages.filter((iova) => lookup(iotlb, { ...key, iova }) !== undefined)).toHaveLength(8);
  });

  it.each([0, 4, 12, 131_072, 8.5])('has no %s entries', (entries) => {
    expect(() => new Iotlb(entries)).toThrow(withCode('VPCI_BAD_ARGUMENT'));
  });
});
