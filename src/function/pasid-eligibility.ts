import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import type { FunctionImage } from './function-image.ts';

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [exp.DEVICE_TYPE_ROOT_PORT, 'a root port'],
  [exp.DEVICE_TYPE_UPSTREAM_PORT, 'an upstream port of a switch'],
  [exp.DEVICE_TYPE_DOWNSTREAM_PORT, 'a downstream port of a switch'],
  [exp.DEVICE_TYPE_PCIE_TO_PCI_BRIDGE, 'a PCI Express to PCI bridge'],
  [exp.DEVICE_TYPE_PCI_TO_PCIE_BRIDGE, 'a PCI to PCI Express bridge'],
  [exp.DEVICE_TYPE_RC_EVENT_COLLECTOR, 'a root complex event collector'],
]);

/** Device/Port Types of endpoints. */
export const ENDPOINT_TYPES: ReadonlySet<number> = new Set([
  exp.DEVICE_TYPE_ENDPOINT,
  exp.DEVICE_TYPE_LEGACY_ENDPOINT,
  exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT,
]);

/** Why the function cannot show a PASID capability (PCIe 7.8.9); undefined when it can. */
export function reasonAgainstPasid(image: FunctionImage): string | undefined {
  if (image.headerLayout === 1) return 'it is a bridge (type 1 header), and PASID is for endpoints';
  if (image.headerLayout !== 0)
    return `its header has layout ${image.headerLayout}, and PASID is for endpoints (type 0)`;
  if (image.space.size < EXTENDED_CONFIG_SPACE_SIZE) {
    return `it has ${image.space.size} bytes of configuration space, and the PASID capability needs the extended space (4096 bytes)`;
  }
  if (image.express === undefined)
    return 'it has no PCI Express Capability, and PASID needs one of version 2';
  const { deviceType, version, length } = image.express;
  if (!ENDPOINT_TYPES.has(deviceType)) {
    return `it is ${TYPE_NAMES.get(deviceType) ?? `of device/port type ${deviceType}`}, and PASID is for endpoints`;
  }
  if (version < 2) {
    return `its PCI Express Capability has version ${version}, and PASID needs Device Capabilities 2, which came with version 2`;
  }
  if (length < exp.EXP_DEVICE_CAPABILITIES_2 + 4) {
    return 'its PCI Express Capability is cut off before Device Capabilities 2';
  }
  return undefined;
}
