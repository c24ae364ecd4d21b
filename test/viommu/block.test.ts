import { describe, expect, it } from 'vitest';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { VtdIommu } from '../../src/viommu/vtd/index.ts';
import { endpointOf } from './support.ts';

const FACTS = { pasidWidth: 20, pri: true };
const RID = 0x0100;
const MAPPING = { iova: 0, gpa: 0x1000, size: 0x1000, permissions: 'rw' };

function table(): TableIommu {
  const unit = new TableIommu();
  endpointOf(unit, RID, FACTS);
  for (const pasid of [null, 1, 2]) {
    unit.attach(RID, pasid);
    unit.map(RID, pasid, MAPPING);
  }
  return unit;
}

function answers(unit: TableIommu): string[] {
  return [null, 1, 2].map((pasid) => {
    const verdict = unit.request({ rid: RID, pasid, address: 0, access: 'read' });
    return 'reason' in verdict ? verdict.reason : verdict.status;
  });
}

describe('block', () => {
  it.each([
    [null, ['blocked', 'translated', 'translated']],
    [1, ['translated', 'blocked', 'translated']],
    ['all', ['blocked', 'blocked', 'blocked']],
  ] as const)('refuses %s, also what was cached', (pasid, expected) => {
    const unit = table();
    expect(answers(unit)).toEqual(['translated', 'translated', 'translated']);
    unit.block(RID, pasid);
    expect(answers(unit)).toEqual(expected);
    expect([null, 1, 2].map((one) => unit.isBlocked(RID, one))).toEqual(
      expected.map((reason) => reason === 'blocked'),
    );
    unit.unblock(RID, pasid);
    expect(answers(unit)).toEqual(['translated', 'translated', 'translated']);
  });

  it('of everything is one of its own: single ones outlast it', () => {
    const unit = table();
    unit.block(RID, 1);
    unit.block(RID, 'all');
    unit.block(0x200, 'all');
    unit.unblock(0x300, 'all');
    expect(answers(unit)).toEqual(['blocked', 'blocked', 'blocked']);
    unit.unblock(RID, 'all');
    expect(answers(unit)).toEqual(['translated', 'blocked', 'translated']);
    expect(unit.isBlocked(0x200, 1)).toBe(true);
    unit.block(RID, 'all');
    unit.unblock(RID, 1);
    expect(answers(unit)).toEqual(['blocked', 'blocked', 'blocked']);
  });

  it('stays with a reset and a restored state', () => {
    const unit = table();
    const state = unit.saveState();
    unit.block(RID, 1);
    unit.reset();
    unit.restoreState(state);
    expect(answers(unit)).toEqual(['translated', 'blocked', 'translated']);
  });

  it('refuses page requests with Invalid Request, and is explained', () => {
    const unit = table();
    unit.on('page-request', () => undefined);
    const request = { rid: RID, pasid: 1, read: true, last: true, prgi: 3, address: 0 };
    expect(unit.pageRequest(request)).toEqual({ queued: true });
    unit.block(RID, 1);
    expect(unit.pageRequest(request)).toEqual({ queued: false, response: 1, pasid: 1 });
    const { steps, verdict } = unit.explain({ rid: RID, pasid: 1, address: 0, access: 'read' });
    expect([steps.at(-1)?.structure, verdict]).toEqual([
      'block',
      { status: 'unsupported-request', reason: 'blocked' },
    ]);
  });

  it('of a VT-d unit records no fault', () => {
    const unit = new VtdIommu();
    endpointOf(unit, RID, FACTS);
    unit.block(RID, null);
    expect(unit.request({ rid: RID, address: 0, access: 'read' })).toMatchObject({ reason: 'blocked' });
    expect(unit.readRegister(0x34, 4)).toBe(0);
  });
});

describe('what a mirror hears of a TableIommu', () => {
  it('is each attach, detach and map, and nothing that changes nothing', () => {
    const unit = new TableIommu();
    const heard: unknown[] = [];
    unit.on('tables-invalidated', ({ rid, pasid }) => heard.push([rid, pasid]));
    unit.on('mapped', (event) => heard.push(event));
    unit.attach(RID, 1);
    unit.attach(RID, 1);
    unit.map(RID, 1, MAPPING);
    expect(() => unit.map(RID, 1, MAPPING)).toThrow('overlaps');
    unit.detach(RID, 2);
    unit.detach(RID, 1);
    unit.attach(RID);
    unit.detachAll(RID);
    unit.detachAll(RID);
    unit.reset();
    expect([unit.isAttached(RID, null), unit.isAttached(RID, 1)]).toEqual([false, false]);
    expect(heard).toEqual([
      [RID, 1],
      { rid: RID, pasid: 1, iova: 0n, gpa: 0x1000n, size: 0x1000n, permissions: 'rw' },
      [RID, 1],
      [RID, null],
      [RID, 'all'],
      ['all', 'all'],
    ]);
  });
});
