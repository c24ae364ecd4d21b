import { describe, expect, it } from 'vitest';
import type { AtcInvalidation } from '../../../src/viommu/device-port.ts';
import { TableIommu } from '../../../src/viommu/table/table-iommu.ts';
import { endpointOf } from '../support.ts';

const RID = 0x0100;
const rw = { iova: 0x4000_0000n, gpa: 0x7000_0000n, size: 0x1000n, permissions: 'rw' };
const EVERYTHING = 1n << 64n;

function world() {
  const iommu = new TableIommu();
  const gpu = endpointOf(iommu, RID, { pasidWidth: 16, ats: true, pri: true });
  const request = { endpoint: gpu, pasid: 5, address: 0x4000_0000n, access: 'read', size: 64 } as const;
  return { iommu, gpu, request };
}

describe('what others hear', () => {
  const heardBy = (iommu: TableIommu): unknown[] => {
    const heard: unknown[] = [];
    iommu.on('pasid-invalidated', (event) => heard.push(event));
    iommu.on('translation-invalidated', (event) => heard.push(event));
    return heard;
  };

  it('is said once, and after the devices dropped their translations', () => {
    const { iommu, gpu } = world();
    const heard = heardBy(iommu);
    const onAtcInvalidate = (atc: AtcInvalidation): 'complete' => {
      heard.push({ atc });
      return 'complete';
    };
    iommu.connectDevice(gpu, { onAtcInvalidate });
    iommu.attach(gpu, 5);
    iommu.attach(gpu);
    iommu.map(gpu, 5, { ...rw, size: 0x4000n });
    iommu.unmap(gpu, 5, { iova: 0x4000_1000, size: 0x1000 });
    iommu.unmap(gpu, 5, { iova: 0x4000_1000, size: 0x1000 });
    iommu.detach(gpu, 5);
    iommu.detach(gpu, 5);
    iommu.detach(gpu);
    expect(heard).toEqual([
      { atc: { pasid: 5, address: 0x4000_1000n, size: 0x1000n } },
      { rid: RID, pasid: 5, iova: 0x4000_1000n, size: 0x1000n },
      { atc: { pasid: 5, address: 0n, size: EVERYTHING } },
      { rid: RID, pasid: 5 },
      { atc: { pasid: null, address: 0n, size: EVERYTHING } },
      { rid: RID, pasid: null, iova: 0n, size: EVERYTHING },
    ]);
    expect(iommu.counters()).toMatchObject({ atcInvalidations: 3, atcTimeouts: 0 });
  });

  it('is said once for all of a function', () => {
    const { iommu, gpu } = world();
    const heard = heardBy(iommu);
    for (const pasid of [7, 5, null]) iommu.attach(gpu, pasid);
    iommu.detachAll(gpu);
    iommu.detachAll(gpu);
    iommu.attach(gpu, 1);
    iommu.attach(0x0300, 1);
    iommu.reset();
    expect(heard).toEqual([
      { rid: RID, pasid: 'all' },
      { rid: RID, pasid: 'all' },
      { rid: 0x0300, pasid: 'all' },
    ]);
  });

  it('does not reach a device without ATS, and a silent device times out', () => {
    const { iommu, gpu } = world();
    const errors: unknown[] = [];
    iommu.onListenerError = (error) => errors.push(error);
    let invalidations = 0;
    const onAtcInvalidate = (): 'timeout' => {
      invalidations++;
      if (invalidations === 2) throw new Error('device');
      return 'timeout';
    };
    iommu.connectDevice(gpu, { onAtcInvalidate });
    for (const ats of [true, true, false]) {
      gpu.endpointState.ats = ats;
      iommu.attach(gpu, 5);
      iommu.detach(gpu, 5);
    }
    expect(invalidations).toBe(2);
    expect(iommu.counters()).toMatchObject({ atcInvalidations: 2, atcTimeouts: 2 });
    expect(errors).toEqual([new Error('device')]);
  });

  it('finds the new state when it asks, and cannot disturb it by throwing', () => {
    const { iommu, gpu, request } = world();
    const seen: unknown[] = [];
    iommu.onListenerError = () => {};
    iommu.attach(gpu, 5);
    iommu.map(gpu, 5, rw);
    iommu.request(request);
    iommu.connectDevice(gpu, {
      onAtcInvalidate: () => {
        seen.push(iommu.request(request));
        return 'complete';
      },
    });
    iommu.on('pasid-invalidated', () => {
      iommu.attach(gpu, 5);
      throw new Error('listener');
    });
    iommu.detach(gpu, 5);
    expect(seen).toEqual([{ status: 'unsupported-request', reason: 'pasid-not-attached' }]);
    expect(iommu.request(request)).toMatchObject({ reason: 'not-mapped' });
  });
});
