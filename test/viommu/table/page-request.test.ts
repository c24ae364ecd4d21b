import { describe, expect, it } from 'vitest';
import type { PageRequest } from '../../../src/viommu/page-request.ts';
import { TableIommu } from '../../../src/viommu/table/table-iommu.ts';
import { endpointOf, withCode } from '../support.ts';

const RID = 0x0100;
const request: PageRequest = {
  rid: RID,
  pasid: 5,
  read: true,
  write: true,
  last: true,
  prgi: 511,
  address: 0x4000_0abcn,
};

function unit(): { iommu: TableIommu; heard: unknown[] } {
  const iommu = new TableIommu({ pasidWidth: 12 });
  const heard: unknown[] = [];
  endpointOf(iommu, RID, { pasidWidth: 16, pri: true });
  endpointOf(iommu, 0x0200, { pri: false });
  for (const rid of [RID, 0x0200]) iommu.attach(rid, 5);
  iommu.on('page-request', (event) => heard.push(event));
  return { iommu, heard };
}

describe('a page request', () => {
  it('is handed on', () => {
    const { iommu, heard } = unit();
    expect(iommu.pageRequest(request)).toEqual({ queued: true });
    expect(heard).toEqual([
      {
        rid: RID,
        pasid: 5,
        read: true,
        write: true,
        execute: false,
        privileged: false,
        last: true,
        prgi: 511,
        address: 0x4000_0000n,
      },
    ]);
    expect(iommu.counters()).toMatchObject({ pageRequests: 1, pageRequestsRefused: 0 });
  });

  it.each<[string, Partial<PageRequest>, unknown]>([
    ['PASID not attached', { pasid: 6 }, { response: 1, pasid: 6 }],
    ['PASID beyond the width', { pasid: 0x10005 }, { response: 1, pasid: 0x10005 }],
    ['traffic without PASID not attached', { pasid: null }, { response: 1 }],
    ['no PRI', { rid: 0x0200 }, { response: 1, pasid: 5 }],
    ['unknown requester', { rid: 0x0300 }, { response: 15, pasid: 5 }],
    ['not the last of its group', { pasid: 6, last: false }, {}],
    ['a stop marker', { pasid: 6, read: false, write: false }, {}],
  ])('is refused: %s', (_what, fields, response) => {
    const { iommu, heard } = unit();
    expect(iommu.pageRequest({ ...request, ...fields })).toEqual({ queued: false, ...(response as object) });
    expect(heard).toEqual([]);
    expect(iommu.counters()).toMatchObject({ pageRequests: 0, pageRequestsRefused: 1 });
  });

  it('fails when nobody listens', () => {
    const iommu = new TableIommu();
    endpointOf(iommu, RID, { pri: true });
    iommu.attach(RID, 5);
    expect(iommu.pageRequest(request)).toEqual({ queued: false, response: 15, pasid: 5 });
  });

  it.each<[Partial<PageRequest>, string]>([
    [{ prgi: 512 }, 'VPCI_REQUEST'],
    [{ prgi: -1 }, 'VPCI_REQUEST'],
    [{ prgi: 0.5 }, 'VPCI_REQUEST'],
    [{ pasid: 0x100000 }, 'VPCI_PASID'],
    [{ address: -1n }, 'VPCI_REQUEST'],
    [{ rid: -1 }, 'VPCI_REQUEST'],
  ])('is possible: not %o', (fields, code) => {
    expect(() => unit().iommu.pageRequest({ ...request, ...fields })).toThrow(withCode(code));
  });
});

describe('a response', () => {
  it('reaches the device', () => {
    const { iommu } = unit();
    const heard: unknown[] = [];
    iommu.connectDevice(RID, { onPrgResponse: (response) => heard.push(response) });
    iommu.on('page-request', ({ rid, pasid, prgi }) => iommu.respond(rid, { pasid, prgi, response: 0 }));
    iommu.pageRequest(request);
    expect(heard).toEqual([{ pasid: 5, prgi: 511, response: 0 }]);
  });

  it('reaches nobody when nobody is there', () => {
    const { iommu } = unit();
    const answer = { pasid: null, prgi: 0, response: 0 } as const;
    expect(iommu.respond(RID, answer)).toBe(false);
    expect(iommu.respond(0x0300, answer)).toBe(false);
  });

  it('is not undone by a device that throws', () => {
    const { iommu } = unit();
    const errors: unknown[] = [];
    iommu.onListenerError = (error) => errors.push(error);
    const onPrgResponse = (): never => {
      throw new Error('device');
    };
    iommu.connectDevice(RID, { onPrgResponse });
    expect(iommu.respond(RID, { pasid: 5, prgi: 0, response: 15 })).toBe(true);
    expect(errors).toEqual([new Error('device')]);
  });

  it.each([
    { pasid: 5, prgi: 512, response: 0 },
    { pasid: 5, prgi: 0, response: 2 },
  ])('is possible: not %o', (answer) => {
    expect(() => unit().iommu.respond(RID, answer as never)).toThrow(withCode('VPCI_REQUEST'));
  });
});
