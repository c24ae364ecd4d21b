// The mock device behind a vIOMMU, mirrored.
import { createFunction, expressCapability, PciSegment } from 'vpci';
import { TableIommu } from 'vpci/table';
import { IommufdMirror } from 'vpci/vfio';
import { lands, memory, PAGE } from './mock-device-in-guest.mjs';

const EXT_CAP_PRI = 0x13;

export function print(check, result) {
  console.log(JSON.stringify({ check, result }));
}

/** A function that stands for the mock behind a vIOMMU. */
export function behind(iommu) {
  const fn = createFunction({
    vendorId: 0x8086,
    deviceId: 0x1234,
    classCode: 0x120000,
    pasid: { width: 20, execute: true, privileged: true },
    ats: true,
    pri: true,
    capabilities: [expressCapability()],
  });
  new PciSegment({ iommu }).add('01:00.0', fn);
  // Memory Space, Bus Master.
  fn.write(4, 2, 6);
  return fn;
}

/** The mock behind a neutral vIOMMU, mirrored. */
export function world(device, prepare = () => {}) {
  const iommu = new TableIommu({ pasidWidth: 20 });
  const fn = behind(iommu);
  prepare(iommu, fn);
  const mirror = new IommufdMirror({ device, iommu, endpoint: fn, memory });
  const events = [];
  const tables = new Map();
  mirror.on('attached', ({ pasid, hwpt, replaced }) => {
    tables.set(pasid, hwpt);
    events.push([replaced ? 'replaced' : 'attached', pasid]);
  });
  mirror.on('detached', ({ pasid }) => events.push(['detached', pasid]));
  mirror.on('failure', ({ pasid, reason, error }) => events.push(['failure', pasid, reason, error.message]));
  const control = (fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_PRI)?.offset ?? 0) + 4;
  return {
    iommu,
    fn,
    mirror,
    events,
    pri: (on) => fn.write(control, 2, on ? 1 : 0),
    map: (pasid, iova, gpa, size = PAGE, permissions = 'rw') =>
      iommu.map(fn, pasid, { iova, gpa, size, permissions }),
    lands: (pasid, iova, gpa, bytes) => lands(tables.get(pasid) ?? 0, iova, gpa, bytes),
    goesBy: (pasid) => device.goesBy(pasid, tables.get(pasid) ?? 0),
  };
}
