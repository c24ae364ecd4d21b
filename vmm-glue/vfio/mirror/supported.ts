import { VpciError } from '../../../src/index.ts';
import type { VtdIommu } from '../../../src/viommu/vtd/index.ts';
import { CAP, CAP_CM } from '../../../src/viommu/vtd/registers.ts';
import { askHardwareInfo, type VtdHardware } from '../hardware-info.ts';
import type { VfioDevice } from '../vfio-device.ts';

/** Of a unit whose guest says what becomes valid. @throws VpciError `VPCI_UNSUPPORTED`. */
export function checkCachingMode(iommu: VtdIommu): void {
  if ((iommu.readRegister(CAP, 4) & CAP_CM) !== 0) return;
  throw new VpciError(
    'VPCI_UNSUPPORTED',
    'a VtdIommu without caching mode cannot be mirrored: entries become valid without an invalidation, so that nothing tells when to attach; leave cachingMode on',
  );
}

/** What the host's unit says, which has nested translation. @throws VpciError `VPCI_UNSUPPORTED`. */
export function nestingHost({ iommufd, deviceId, native, subject }: VfioDevice): VtdHardware {
  const known = iommufd !== undefined && deviceId !== undefined;
  const info = known ? askHardwareInfo(native, iommufd, deviceId, []) : undefined;
  if (info?.vtd?.nesting === true) return info.vtd;
  const what =
    info === undefined
      ? 'does not say what it is'
      : info.iommu === 'intel-vtd'
        ? 'has no nested translation (ECAP.NEST)'
        : info.iommu === 'amd'
          ? 'is an AMD one, and Linux nests guest tables there only for devices without PASID'
          : info.iommu === 'unknown'
            ? 'is of a type that is newer than this software'
            : `is ${info.iommu}, whose tables are not those of VT-d`;
  throw new VpciError(
    'VPCI_UNSUPPORTED',
    `the guest's VT-d tables cannot be given to the IOMMU of ${subject}: it ${what}; use a TableIommu`,
  );
}

export function unsupportedModel(model: string): VpciError {
  const why = model.startsWith('riscv')
    ? 'entries of a RISC-V IOMMU become valid without an invalidation, so that nothing tells when to attach'
    : model.startsWith('amd')
      ? 'Linux nests the tables of an AMD IOMMU only for devices without PASID'
      : 'Linux, or this mirror, has no way to give the hardware its tables';
  return new VpciError(
    'VPCI_UNSUPPORTED',
    `a vIOMMU of model ${model} cannot be mirrored: ${why}; use a TableIommu, or a VtdIommu on a VT-d host`,
  );
}
