import { describe, expect, it } from 'vitest';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import type { Mapping } from '../../../src/viommu/table/mapping.ts';
import { TABLE_REASONS } from '../../../src/viommu/table/reasons.ts';
import { TableIommu, type TableIommuOptions } from '../../../src/viommu/table/table-iommu.ts';
import { endpointOf, translated, withCode } from '../support.ts';

const RID = 0x0100;
const rw: Mapping = { iova: 0x4000_0000n, gpa: 0x7000_0000n, size: 0x1000n, permissions: 'rw' };
const EVERYTHING = 1n << 64n;

function world(options: TableIommuOptions = {}) {
  const iommu = new TableIommu(options);
  const gpu = endpointOf(iommu, RID, { pasidWidth: 16, ats: true, pri: true });
  const request = { endpoint: gpu, pasid: 5, address: 0x4000_0000n, access: 'read', size: 64 } as const;
  return { iommu, gpu, request };
}

describe('TableIommu', () => {
  it('rejects until it is configured, then translates', () => {
    const { iommu, gpu, request } = world();
    expect(iommu.request(request)).toEqual({ status: 'unsupported-request', reason: 'pasid-not-attached' });
    iommu.attach(gpu, 5);
    expect(iommu.request(request)).toEqual({ status: 'unsupported-request', reason: 'not-mapped' });
    iommu.map(gpu, 5, rw);
    expect(iommu.request(request)).toEqual({
      status: 'translated',
      address: 0x7000_0000n,
      pageSize: 0x1000n,
      permissions: 'rw',
    });
    expect(iommu.request({ ...request, pasid: null })).toMatchObject({ reason: 'not-attached' });
    iommu.detach(gpu, 5);
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-attached' });
  });

  it('takes endpoints or RIDs of 24 bits, numbers or bigints', () => {
    const { iommu } = world();
    endpointOf(iommu, 0xabcdef);
    iommu.attach(0xabcdef);
    iommu.map(0xabcdef, undefined, { iova: 0x2000, gpa: 0xf_ffff_f000, size: 0x1000, permissions: 'r' });
    const asked = { rid: 0xabcdef, address: 0x2abc, access: 'read' } as const;
    expect(iommu.request(asked)).toMatchObject({ address: 0xf_ffff_fabcn });
    iommu.detach(0xabcdef);
    expect(iommu.request(asked)).toMatchObject({ reason: 'not-attached' });
  });

  it('keeps what is attached twice, and detaches what is not', () => {
    const { iommu, gpu, request } = world();
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, rw);
    iommu.attach(gpu, 5);
    expect(iommu.request(request)).toMatchObject({ status: 'translated' });
    expect(() => iommu.detach(gpu, 6)).not.toThrow();
    iommu.detach(gpu, 5);
    iommu.attach(gpu, 5);
    expect(iommu.request(request)).toMatchObject({ reason: 'not-mapped' });
  });

  it('keeps address spaces with the requester ID', () => {
    const { iommu, gpu, request } = world();
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, rw);
    expect(iommu.request(request)).toMatchObject({ status: 'translated' });
    gpu.endpointState.rid = 0x0200;
    iommu.endpointMoved(gpu.endpointState, RID);
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-attached' });
    gpu.endpointState.rid = RID;
    iommu.endpointMoved(gpu.endpointState, 0x0200);
    expect(iommu.request(request)).toMatchObject({ status: 'translated' });
  });

  it('detaches all of a requester ID, and only that', () => {
    const { iommu, gpu, request } = world();
    endpointOf(iommu, 0x0101);
    for (const target of [RID, 0x0101]) {
      for (const pasid of [null, 5]) {
        iommu.attach(target, pasid);
        iommu.map(target, pasid, rw);
      }
    }
    iommu.request(request);
    iommu.detachAll(gpu);
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-attached' });
    expect(iommu.request({ ...request, pasid: null })).toMatchObject({ reason: 'not-attached' });
    const other: MemoryRequest = { rid: 0x0101, pasid: 5, address: 0x4000_0000, access: 'read' };
    expect(iommu.request(other)).toMatchObject({ status: 'translated' });
  });

  it('grants nothing to traffic without PASID that a PASID would have, from the IOTLB neither', () => {
    const { iommu, gpu, request } = world();
    iommu.attach(gpu);
    iommu.map(gpu, null, { ...rw, permissions: 'rwx' });
    const plain = { ...request, pasid: null };
    expect(iommu.request(plain)).toMatchObject({ status: 'translated' });
    expect(iommu.request({ ...plain, access: 'execute' })).toMatchObject({ reason: 'execute-without-pasid' });
    expect(iommu.request({ ...plain, privileged: true })).toMatchObject({
      reason: 'privileged-without-pasid',
    });
  });

  it('reports a smaller page once a mapping was cut, from the IOTLB too', () => {
    const { iommu, gpu, request } = world();
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, { iova: 0x4000_0000, gpa: 0x8000_0000, size: 0x4000_0000, permissions: 'rw' });
    expect(translated(iommu, request)).toMatchObject({ pageSize: 0x4000_0000n });
    iommu.unmap(gpu, 5, { iova: 0x7fff_f000, size: 0x1000 });
    expect(translated(iommu, request)).toMatchObject({ pageSize: 0x20_0000n });
  });

  it('under the architectural policy is off for a RID with nothing attached', () => {
    const { iommu, gpu, request } = world({ pasidWhenUnconfigured: 'architectural' });
    expect(iommu.request(request)).toEqual({ status: 'bypass', address: 0x4000_0000n });
    expect(iommu.request({ ...request, pasid: null })).toEqual({ status: 'bypass', address: 0x4000_0000n });
    expect(iommu.request({ ...request, pasid: 0x10000 })).toMatchObject({ reason: 'pasid-beyond-width' });
    iommu.attach(gpu, 6);
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-attached' });
    expect(iommu.request({ ...request, pasid: null })).toMatchObject({ reason: 'not-attached' });
  });

  it('has no PASID at all with width 0', () => {
    const { iommu, gpu, request } = world({ pasidWidth: 0 });
    expect(iommu.request(request)).toMatchObject({ reason: 'pasid-not-supported' });
    expect(() => iommu.attach(gpu, 0)).toThrow(withCode('VPCI_PASID'));
  });

  it('holds 100,000 PASIDs by what they map', () => {
    const { iommu } = world();
    endpointOf(iommu, 0x0200);
    for (let pasid = 0; pasid < 100_000; pasid++) iommu.attach(0x0200, pasid * 10);
    iommu.map(0x0200, 999_990, rw);
    const asked: MemoryRequest = { rid: 0x0200, pasid: 999_990, address: 0x4000_0000, access: 'read' };
    expect(iommu.request(asked)).toMatchObject({ status: 'translated' });
    expect(iommu.request({ ...asked, pasid: 999_991 })).toMatchObject({ reason: 'pasid-not-attached' });
    iommu.detachAll(0x0200);
    expect(iommu.saveState().attachments).toEqual([]);
  });
});

describe('every reason', () => {
  const { iommu, gpu, request } = world({ pasidWidth: 12, addressWidth: 40 });
  endpointOf(iommu, 0x0200, { pasidWidth: 0 });
  const map = (pasid: number | null, page: number, permissions: string): void =>
    iommu.map(gpu, pasid, { iova: page * 4096, gpa: 0, size: 4096, permissions });
  for (const pasid of [null, 5]) {
    iommu.attach(gpu, pasid);
    for (const [page, letters] of ['rw', 'r', 'w', 'rx', 'x', 'rwxp'].entries())
      map(pasid, page + 1, letters);
  }
  const at = (page: number, fields: Partial<MemoryRequest> = {}): MemoryRequest => ({
    ...request,
    address: page * 4096,
    ...fields,
  });

  it.each<[string, MemoryRequest]>([
    ['unknown-requester', { rid: 0x0300, address: 0, access: 'read' }],
    ['pasid-not-supported', { rid: 0x0200, pasid: 0, address: 0, access: 'read' }],
    ['pasid-beyond-width', at(1, { pasid: 0x10000 })],
    ['pasid-beyond-width', at(1, { pasid: 0x1000 })],
    ['execute-without-pasid', at(4, { pasid: null, access: 'execute' })],
    ['privileged-without-pasid', at(6, { pasid: null, privileged: true })],
    ['ats-not-supported', { rid: 0x0200, address: 0, access: 'read', at: 'translation' }],
    ['ats-not-supported', { rid: 0x0200, address: 0, access: 'read', at: 'translated' }],
    ['translated-with-pasid', at(1, { at: 'translated' })],
    ['not-attached', { rid: 0x0200, address: 0, access: 'read' }],
    ['pasid-not-attached', at(1, { pasid: 6 })],
    ['address-beyond-width', at(2 ** 28)],
    ['not-mapped', at(0)],
    ['privileged-only', at(6)],
    ['privileged-only', at(6, { pasid: null })],
    ['no-read-permission', at(3)],
    ['no-read-permission', at(3, { access: 'atomic' })],
    ['no-read-permission', at(5, { access: 'execute' })],
    ['no-write-permission', at(2, { access: 'write' })],
    ['no-write-permission', at(2, { access: 'atomic' })],
    ['no-execute-permission', at(1, { access: 'execute' })],
  ])('%s', (reason, asked) => {
    const expected = { status: 'unsupported-request', reason };
    expect(iommu.request(asked)).toEqual(expected);
    expect(iommu.explain(asked).verdict).toEqual(expected);
    expect(iommu.explain(asked).steps.at(-1)).toMatchObject({ ok: false });
    expect(TABLE_REASONS).toContain(reason);
  });

  it.each<[string, MemoryRequest]>([
    ['read', at(1)],
    ['write', at(3, { access: 'write' })],
    ['atomic', at(1, { access: 'atomic' })],
    ['execute', at(4, { access: 'execute' })],
    ['privileged', at(6, { privileged: true, access: 'execute' })],
    ['privileged, on what all may use', at(1, { privileged: true })],
    ['without PASID', at(1, { pasid: null, access: 'write' })],
    ['with noWrite, which is for translation requests', at(1, { access: 'write', noWrite: true })],
  ])('none: %s', (_what, asked) => {
    for (let times = 0; times < 2; times++)
      expect(iommu.request(asked)).toMatchObject({ status: 'translated' });
  });
});

describe('address widths', () => {
  it.each([12, 31, 32, 33, 48, 63])('%i bits end where they should', (addressWidth) => {
    const { iommu, gpu, request } = world({ addressWidth });
    iommu.attach(gpu, 5);
    const last = (1n << BigInt(addressWidth)) - 4096n;
    iommu.map(gpu, 5, { ...rw, iova: last });
    expect(iommu.request({ ...request, address: last })).toMatchObject({ status: 'translated' });
    expect(iommu.request({ ...request, address: last + 4096n })).toMatchObject({
      reason: 'address-beyond-width',
    });
    expect(() => iommu.map(gpu, 5, { ...rw, iova: last + 4096n })).toThrow(withCode('VPCI_IOMMU_MAP'));
  });

  it('64 bits have no end', () => {
    const { iommu, gpu, request } = world({ addressWidth: 64 });
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, { iova: 0n, gpa: 0n, size: EVERYTHING, permissions: 'r' });
    expect(iommu.request({ ...request, address: EVERYTHING - 64n })).toEqual({
      status: 'translated',
      address: EVERYTHING - 64n,
      pageSize: 0x4000_0000n,
      permissions: 'r',
    });
  });

  it.each([11, 65, 20.5])('%s bits are none', (addressWidth) => {
    expect(() => new TableIommu({ addressWidth })).toThrow(withCode('VPCI_BAD_ARGUMENT'));
  });
});

describe('mistakes of the embedder', () => {
  it.each<[string, Partial<Mapping>]>([
    ['IOVA is aligned', { iova: 0x4000_0800n }],
    ['GPA is aligned', { gpa: 1 }],
    ['size is aligned', { size: 0x800 }],
    ['size is not 0', { size: 0 }],
    ['IOVA is not negative', { iova: -4096 }],
    ['number is exact', { iova: 2 ** 60 }],
    ['IOVA range is within the address width', { iova: 0xffff_ffff_f000n, size: 0x2000n }],
    ['GPA range ends at 2^64', { gpa: EVERYTHING - 4096n, size: 0x2000n }],
    ['letters are known', { permissions: 'rwt' }],
    ['letters grant something', { permissions: 'p' }],
    ['letters are not empty', { permissions: '' }],
    ['letters are not names of members', { permissions: 'constructor' }],
    ['range is free', { iova: 0x5000_0000n }],
    ['range is free at its end', { iova: 0x4fff_f000n, size: 0x2000n }],
  ])('the %s', (_what, fields) => {
    const { iommu, gpu } = world();
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, { ...rw, iova: 0x5000_0000n });
    expect(() => iommu.map(gpu, 5, { ...rw, ...fields })).toThrow(withCode('VPCI_IOMMU_MAP'));
    expect(iommu.saveState().attachments[0]?.mappings).toHaveLength(1);
  });

  it('what is mapped is attached', () => {
    const { iommu, gpu } = world();
    expect(() => iommu.map(gpu, 5, rw)).toThrow(/PASID 0x5 of RID 0x100 is not attached: call attach/);
    expect(() => iommu.unmap(gpu, null, rw)).toThrow(/traffic without PASID of RID 0x100/);
  });

  it('a PASID is one of this unit', () => {
    const { iommu, gpu } = world({ pasidWidth: 8 });
    expect(() => iommu.attach(gpu, 0x100)).toThrow(withCode('VPCI_PASID'));
    expect(() => iommu.attach(gpu, 1.5)).toThrow(withCode('VPCI_PASID'));
    expect(() => iommu.attach(-1, 1)).toThrow(withCode('VPCI_REQUEST'));
  });
});
