import { describe, expect, it } from 'vitest';
import type { TableIommuState } from '../../../src/viommu/table/table-state.ts';
import { TableIommu } from '../../../src/viommu/table/table-iommu.ts';
import { endpointOf, withCode } from '../support.ts';

const RID = 0x0100;
const request = { rid: RID, pasid: 5, address: 0x4000_0000n, access: 'read' } as const;

function configured(): TableIommu {
  const iommu = new TableIommu();
  endpointOf(iommu, RID, { ats: true });
  iommu.attach(RID);
  iommu.attach(RID, 5);
  iommu.attach(0xabcdef, 0xfffff);
  iommu.map(RID, 5, { iova: 0x4000_0000, gpa: 0xffff_ffff_f000_0000n, size: 0x2000, permissions: 'rwp' });
  iommu.map(RID, 5, { iova: 0, gpa: 0x1000, size: 0x1000, permissions: 'xr' });
  return iommu;
}

describe('the state of a table', () => {
  it('is plain data', () => {
    const state = configured().saveState();
    expect(JSON.parse(JSON.stringify(state))).toEqual(state);
    expect(state).toEqual({
      version: 1,
      model: 'table',
      pasidWidth: 20,
      addressWidth: 48,
      pasidWhenUnconfigured: 'reject',
      attachments: [
        { rid: RID, pasid: null, mappings: [] },
        {
          rid: RID,
          pasid: 5,
          mappings: [
            { iovaPage: 0, gpaPage: 1, pages: 1, permissions: 'rx' },
            { iovaPage: 0x40000, gpaPage: 0xfffffffff0000, pages: 2, permissions: 'rwp' },
          ],
        },
        { rid: 0xabcdef, pasid: 0xfffff, mappings: [] },
      ],
    });
  });

  it('comes back', () => {
    const state = configured().saveState();
    const iommu = new TableIommu();
    iommu.restoreState(state);
    expect(iommu.saveState()).toEqual(state);
  });

  it('replaces what was there, caches and all', () => {
    const iommu = configured();
    const empty = new TableIommu().saveState();
    const ask = { ...request, privileged: true };
    expect(iommu.request(ask)).toMatchObject({ status: 'translated' });
    const heard: unknown[] = [];
    iommu.on('pasid-invalidated', (event) => heard.push(event));
    iommu.connectDevice(RID, { onAtcInvalidate: ({ pasid }) => (heard.push(pasid), 'complete') });
    iommu.restoreState(empty);
    expect(iommu.request(ask)).toMatchObject({ reason: 'pasid-not-attached' });
    expect(heard).toEqual([null, 5, { rid: RID, pasid: 'all' }, { rid: 0xabcdef, pasid: 'all' }]);
  });

  it('is empty after a reset, and the endpoints stay', () => {
    const iommu = configured();
    iommu.request({ ...request, privileged: true });
    iommu.reset();
    expect(iommu.saveState().attachments).toEqual([]);
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-attached' });
    expect(iommu.counters()).toMatchObject({ accepted: 0, rejected: 1 });
  });
});

it('of a unit without PASID has none', () => {
  const iommu = new TableIommu({ pasidWidth: 0 });
  const attachments = [{ rid: RID, pasid: 0, mappings: [] }];
  expect(() => iommu.restoreState({ ...iommu.saveState(), attachments })).toThrow(withCode('VPCI_STATE'));
  iommu.restoreState({ ...iommu.saveState(), attachments: [{ rid: RID, pasid: null, mappings: [] }] });
  expect(iommu.saveState().attachments).toHaveLength(1);
});

describe('a state that is none', () => {
  const good = configured().saveState();
  const attachment = good.attachments[1];
  const mapping = attachment?.mappings[0];
  const withAttachment = (fields: object): unknown => ({
    ...good,
    attachments: [{ ...attachment, ...fields }],
  });
  const withMapping = (fields: object): unknown => withAttachment({ mappings: [{ ...mapping, ...fields }] });

  it.each<[string, unknown]>([
    ['the root of the saved state is object', null],
    ['the root of the saved state is "state"', 'state'],
    ['the root', []],
    ['version of the saved state is 2, not 1', { ...good, version: 2 }],
    ['model', { ...good, model: 'vtd' }],
    ['pasidWidth', { ...good, pasidWidth: 16 }],
    ['addressWidth', { ...good, addressWidth: 39 }],
    ['pasidWhenUnconfigured', { ...good, pasidWhenUnconfigured: 'architectural' }],
    ['attachments', { ...good, attachments: {} }],
    ['attachments\\[0\\]', { ...good, attachments: [1] }],
    ['attachments\\[1\\].*a repetition', { ...good, attachments: [attachment, attachment] }],
    ['attachments\\[0\\].rid', withAttachment({ rid: 0x1000000 })],
    ['attachments\\[0\\].pasid', withAttachment({ pasid: 0x100000 })],
    ['attachments\\[0\\].pasid', withAttachment({ pasid: undefined })],
    ['attachments\\[0\\].mappings', withAttachment({ mappings: null })],
    ['attachments\\[0\\].mappings\\[0\\]', withAttachment({ mappings: [null] })],
    ['iovaPage', withMapping({ iovaPage: 2 ** 36 })],
    ['iovaPage', withMapping({ iovaPage: -1 })],
    ['gpaPage', withMapping({ gpaPage: 2 ** 52 })],
    ['gpaPage', withMapping({ gpaPage: 0.5 })],
    ['pages', withMapping({ pages: 0 })],
    ['pages', withMapping({ pages: '1' })],
    ['permissions', withMapping({ permissions: 'p' })],
    ['permissions', withMapping({ permissions: 7 })],
    ['mappings\\[1\\].*an overlap', withAttachment({ mappings: [mapping, mapping] })],
  ])('%s', (where, state) => {
    const iommu = configured();
    const before = iommu.saveState();
    expect(() => iommu.restoreState(state)).toThrow(withCode('VPCI_STATE'));
    expect(() => iommu.restoreState(state)).toThrow(new RegExp(where));
    expect(iommu.saveState()).toEqual(before);
  });

  it('is told apart from a good one', () => {
    const state: TableIommuState = good;
    expect(() => configured().restoreState(state)).not.toThrow();
  });
});
