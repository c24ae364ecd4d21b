// What a mirror of the guest's tables reads: VtdIommu.viewTranslation and presentPasids.
import { describe, expect, it } from 'vitest';
import { DTE, FIRST, Guest, NESTED, P, PASIDE, PASS_THROUGH, pdts, RID, SECOND } from './guest.ts';

const CONTEXT = P | PASIDE | DTE | pdts(7);

function guest(): Guest {
  const made = new Guest();
  made.context(CONTEXT);
  return made;
}

describe('viewTranslation', () => {
  it('says how a PASID is translated, past the caches, and records nothing', () => {
    const made = guest();
    made.pasid(0, { pgtt: PASS_THROUGH });
    made.pasid(5, { pgtt: FIRST, first: 0x7000n, sre: true, wpe: true, fiveLevel: true });
    made.pasid(6, { pgtt: SECOND, second: 0x8000n });
    made.pasid(7, { pgtt: NESTED, first: 0x7000n, second: 0x8000n });
    expect(made.unit.viewTranslation(RID, 5)).toEqual({ kind: 'off' });
    made.enable();
    const kinds = [null, 5, 6, 7].map((pasid) => made.unit.viewTranslation(RID, pasid));
    expect(kinds).toEqual([
      { kind: 'pass-through', pasid: 0 },
      {
        kind: 'first-stage',
        pasid: 5,
        firstStage: {
          table: 0x7000n,
          levels: 5,
          supervisorRequests: true,
          writeProtect: true,
          extendedAccessed: false,
        },
      },
      { kind: 'second-stage', pasid: 6 },
      { kind: 'nested', pasid: 7 },
    ]);
    made.pasid(5, { present: false });
    expect(made.unit.viewTranslation(RID, 5)).toEqual({ kind: 'none', code: 0x59 });
    expect(made.unit.viewTranslation(RID, 0)).toEqual({ kind: 'none', code: 0x48 });
    expect(made.unit.viewTranslation(0x0200, null)).toMatchObject({ kind: 'none' });
    // No entry of the root table, which ends there.
    made.write64(0x2000n, made.read64(0x1010n));
    expect(made.unit.viewTranslation(0x1_0000, 5)).toEqual({ kind: 'none' });
    expect(made.unit.presentPasids(0x1_0000, 10)).toEqual([]);
    expect(made.faults()).toEqual([]);
  });
});

describe('presentPasids', () => {
  it('finds present entries, valid or not, without RID_PASID', () => {
    const made = guest();
    for (const pasid of [0, 1, 64, 0xf_ffff]) made.pasid(pasid, { pgtt: FIRST, first: 0x7000n });
    made.pasid(70, { pgtt: 7 });
    made.pasid(71, { present: false });
    expect(made.unit.presentPasids(RID, 10)).toEqual([]);
    made.enable();
    expect(made.unit.presentPasids(RID, 10)).toEqual([1, 64, 70, 0xf_ffff]);
    expect(made.unit.presentPasids(RID, 4)).toEqual([1, 64, 70, 0xf_ffff]);
    expect(made.unit.presentPasids(RID, 3)).toBeUndefined();
    expect(made.unit.presentPasids(0x0200, 10)).toEqual([]);
  });

  it('agrees with the entries that are viewed, and is bounded by its limit in hostile tables', () => {
    const made = guest();
    made.pasid(1, { pgtt: FIRST, first: 0x7000n });
    // Every directory entry names the table of PASID 1's.
    const first = made.read64(made.directoryAddress(1));
    for (let pasid = 0; pasid < 0x10_0000; pasid += 64) {
      const at = made.directoryAddress(pasid);
      if (at < 0x40_0000n) made.write64(at, first);
    }
    made.enable();
    expect(made.unit.presentPasids(RID, 100)).toBeUndefined();
  });
});

describe('tables-invalidated', () => {
  it('is told for context and PASID entries, the root table, enabling and reset, not for the IOTLB', () => {
    const made = guest();
    const heard: unknown[] = [];
    made.unit.on('tables-invalidated', ({ rid, pasid }) => heard.push([rid, pasid]));
    made.enable();
    expect(heard.splice(0)).toEqual([
      ['all', 'all'],
      ['all', 'all'],
    ]);
    made.enableQueue();
    made.invalidate([0x02n | (1n << 4n), 0n]);
    made.invalidate([0x06n | (2n << 4n) | (5n << 32n), 0n]);
    expect(heard.splice(0)).toEqual([]);
    made.invalidate([0x07n | (1n << 4n) | (5n << 32n), 0n]);
    made.invalidate([0x07n | (3n << 4n), 0n]);
    made.invalidate([0x01n | (3n << 4n) | (BigInt(RID) << 32n), 0n]);
    expect(heard.splice(0)).toEqual([
      ['all', 5],
      ['all', 'all'],
      [RID, 'all'],
    ]);
    made.unit.reset();
    expect(heard).toEqual([['all', 'all']]);
  });
});
