import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RidTable } from '../../src/viommu/rid-table.ts';

describe('a RID table', () => {
  it('is a map', () => {
    const rids = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 0xffffff }));
    const steps = fc.array(fc.tuple(fc.boolean(), rids, fc.nat()), { maxLength: 60 });
    fc.assert(
      fc.property(steps, (actions) => {
        const table = new RidTable<number>();
        const map = new Map<number, number>();
        for (const [sets, rid, value] of actions) {
          if (sets) {
            table.set(rid, value);
            map.set(rid, value);
          } else {
            table.delete(rid);
            map.delete(rid);
          }
          expect(table.get(rid)).toBe(map.get(rid));
        }
        expect([...table.entries()]).toEqual([...map].toSorted(([left], [right]) => left - right));
      }),
    );
  });
});
