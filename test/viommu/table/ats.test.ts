import { describe, expect, it } from 'vitest';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import { TableIommu, type TableIommuOptions } from '../../../src/viommu/table/table-iommu.ts';
import { endpointOf } from '../support.ts';

const RID = 0x0100;

function unit(options: TableIommuOptions = {}): TableIommu {
  const iommu = new TableIommu({ addressWidth: 40, ...options });
  endpointOf(iommu, RID, { ats: true });
  return iommu;
}

function configured(options: TableIommuOptions = {}): TableIommu {
  const iommu = unit(options);
  for (const pasid of [null, 5]) {
    iommu.attach(RID, pasid);
    for (const [page, permissions] of ['rwx', 'r', 'w', 'x', 'rwxp'].entries()) {
      iommu.map(RID, pasid, { iova: page * 4096, gpa: 0x10_0000 + page * 4096, size: 4096, permissions });
    }
  }
  return iommu;
}

const ask = (page: number, fields: Partial<MemoryRequest> = {}): MemoryRequest => ({
  rid: RID,
  pasid: 5,
  address: page * 4096,
  access: 'read',
  at: 'translation',
  ...fields,
});

describe('a translation request', () => {
  const iommu = configured();

  it.each<[string, MemoryRequest]>([
    ['rw', ask(0)],
    ['rw', ask(0, { pasid: null })],
    ['rw', ask(0, { access: 'write' })],
    ['r', ask(0, { noWrite: true })],
    ['rwx', ask(0, { access: 'execute' })],
    ['rx', ask(0, { access: 'execute', noWrite: true })],
    ['rwp', ask(0, { privileged: true })],
    ['r', ask(1, { access: 'write' })],
    ['w', ask(2)],
    ['w', ask(2, { access: 'execute' })],
    ['rwxp', ask(4, { privileged: true, access: 'execute' })],
  ])('gets %s', (permissions, asked) => {
    const address = 0x10_0000n + BigInt(asked.address);
    const expected = { status: 'ats', address, pageSize: 4096n, permissions };
    expect(iommu.request(asked)).toEqual(expected);
    expect(iommu.explain(asked).verdict).toEqual(expected);
  });

  it.each<[string, MemoryRequest]>([
    ['not-mapped', ask(9)],
    ['address-beyond-width', ask(2 ** 28)],
    ['no-read-permission', ask(2, { noWrite: true })],
    ['no-read-permission', ask(3, { access: 'execute' })],
    ['privileged-only', ask(4)],
  ])('gets no rights: %s', (reason, asked) => {
    const expected = { status: 'ats', permissions: '', reason };
    expect(iommu.request(asked)).toEqual(expected);
    expect(iommu.explain(asked).verdict).toEqual(expected);
  });

  it('without rights is no fault', () => {
    const heard: unknown[] = [];
    const fresh = configured();
    fresh.on('fault', (event) => heard.push(event));
    fresh.request(ask(9));
    expect(heard).toEqual([]);
    expect(fresh.counters()).toMatchObject({ accepted: 1, rejected: 0 });
  });

  it('never gets more than the unit has: none while it is off', () => {
    expect(iommu.request(ask(0, { pasid: 6 }))).toMatchObject({ reason: 'pasid-not-attached' });
    const off = unit({ pasidWhenUnconfigured: 'architectural' });
    expect(off.request(ask(0))).toEqual({ status: 'unsupported-request', reason: 'pasid-not-attached' });
    expect(off.request(ask(0, { pasid: null }))).toMatchObject({ reason: 'not-attached' });
  });

  it('is not answered from, or for, untranslated requests', () => {
    const fresh = configured();
    fresh.request(ask(1));
    expect(fresh.request({ ...ask(1), at: 'untranslated' })).toMatchObject({ status: 'translated' });
    expect(fresh.request(ask(1))).toMatchObject({ status: 'ats' });
    expect(fresh.counters()).toMatchObject({ iotlbHits: 0 });
  });
});

describe('a translated address', () => {
  const asked = ask(9, { at: 'translated', pasid: null, access: 'write' });

  it('passes once the function is configured', () => {
    expect(configured().request(asked)).toEqual({ status: 'bypass', address: 0x9000n });
    expect(unit().request(asked)).toEqual({ status: 'unsupported-request', reason: 'not-attached' });
    const off = unit({ pasidWhenUnconfigured: 'architectural' });
    expect(off.request(asked)).toEqual({ status: 'bypass', address: 0x9000n });
  });

  it('with a PASID passes under the architectural policy only', () => {
    const withPasid = { ...asked, pasid: 5 };
    expect(configured().request(withPasid)).toMatchObject({ reason: 'translated-with-pasid' });
    const iommu = configured({ pasidWhenUnconfigured: 'architectural' });
    expect(iommu.request(withPasid)).toEqual({ status: 'bypass', address: 0x9000n });
  });
});

it('needs the ATS capability, not its latch', () => {
  const iommu = new TableIommu();
  const { endpointState } = endpointOf(iommu, RID, { ats: false, atsEnable: true });
  iommu.attach(RID, 5);
  expect(iommu.request(ask(0))).toMatchObject({ reason: 'ats-not-supported' });
  Object.assign(endpointState, { ats: true, atsEnable: false });
  expect(iommu.request(ask(0))).toMatchObject({ status: 'ats' });
});
