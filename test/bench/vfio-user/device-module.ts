// The function that the benchmark reads, as the module that a worker builds it from.
import { createFunction, type PciFunction } from '../../../src/index.ts';
import type { ServedDevice } from '../../../vmm-glue/vfio-user/index.ts';

export function device(): PciFunction {
  return createFunction({
    vendorId: 0x1b36,
    deviceId: 0x00f5,
    classCode: 0x120000,
    pasid: { width: 16, execute: true, privileged: true },
    ats: true,
    pri: true,
  });
}

export default (socket: unknown): ServedDevice => ({ socket: String(socket), device: device() });
