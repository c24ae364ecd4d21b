import { PASID_WIDTH_LIMIT } from '../../src/pci/pasid.ts';
import { ERRNO, type Native } from '../linux/index.ts';
import { ioctlAdvice } from './errno-advice.ts';
import { ask } from './host-calls.ts';
import { done, failed, no, note, type QueryStep } from './query-step.ts';
import * as uapi from './structs/index.ts';

/** The IOMMU in front of a device, as `IOMMU_GET_HW_INFO` names it; `unknown` is newer than this software. */
export type HostIommu = 'none' | 'intel-vtd' | 'arm-smmuv3' | 'tegra241-cmdqv' | 'amd' | 'unknown';

/** What the host said about a device and its IOMMU. */
export interface HardwareInfo {
  readonly iommu: HostIommu;
  /** Bits of PASID, 0 to 20. */
  readonly width: number;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly atsNotSupported: boolean;
}

const IOMMUS: ReadonlyMap<number, HostIommu> = new Map<number, HostIommu>([
  [0, 'none'],
  [uapi.IOMMU_HW_INFO_TYPE_INTEL_VTD, 'intel-vtd'],
  [uapi.IOMMU_HW_INFO_TYPE_ARM_SMMUV3, 'arm-smmuv3'],
  [uapi.IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV, 'tegra241-cmdqv'],
  [uapi.IOMMU_HW_INFO_TYPE_AMD, 'amd'],
]);

/** Sizes of `iommu_hw_info` that are tried: the newest known, and the first there was. */
const SIZES = [uapi.iommuHwInfo.size, 32] as const;

/**
 * Asks `IOMMU_GET_HW_INFO` about `deviceId` of `iommufd`. Undefined when the host did not answer, or with a width
 * that no PASID has; `steps` says what happened.
 */
export function askHardwareInfo(
  native: Native,
  iommufd: number,
  deviceId: number,
  steps: QueryStep[],
): HardwareInfo | undefined {
  const call = uapi.IOMMU_GET_HW_INFO.name;
  const info = new uapi.StructBuffer(uapi.iommuHwInfo);
  for (const size of SIZES) {
    // What an old kernel has as reserved must be 0, and a refused call may have left something.
    info.clear().set('size', size).set('dev_id', deviceId);
    const answer = ask(native, iommufd, uapi.IOMMU_GET_HW_INFO, info);
    if (answer.ok) return understand(info, size, steps);
    steps.push(failed(`${call} with ${size} bytes`, answer.errno, ioctlAdvice(call, answer.errno)));
    if (answer.errno !== ERRNO.E2BIG) return undefined;
  }
  return undefined;
}

function understand(
  info: uapi.StructBuffer<keyof typeof uapi.iommuHwInfo.fields>,
  size: number,
  steps: QueryStep[],
): HardwareInfo | undefined {
  const call = uapi.IOMMU_GET_HW_INFO.name;
  const width = info.get('out_max_pasid_log2');
  // 53 bits are enough: the flags known are the low ones.
  const capabilities = info.get('out_capabilities') % 2 ** 32;
  const type = info.get('out_data_type');
  const iommu = IOMMUS.get(type) ?? 'unknown';
  if (width > PASID_WIDTH_LIMIT) {
    steps.push(
      no(call, `the kernel reported ${width} bits, and a PASID has ${PASID_WIDTH_LIMIT} at most: refused`),
    );
    return undefined;
  }
  // Without a width the two bits mean nothing.
  const execute = width > 0 && (capabilities & uapi.IOMMU_HW_CAP_PCI_PASID_EXEC) !== 0;
  const privileged = width > 0 && (capabilities & uapi.IOMMU_HW_CAP_PCI_PASID_PRIV) !== 0;
  const atsNotSupported = (capabilities & uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED) !== 0;
  steps.push(
    width === 0
      ? no(call, NO_WIDTH)
      : done(
          call,
          `${width} bits of PASID, execute ${execute ? 'enabled' : 'not enabled'}, privileged ${privileged ? 'enabled' : 'not enabled'}`,
        ),
  );
  if (iommu === 'unknown') {
    steps.push(note(call, `the IOMMU is of type ${type}, which is newer than this software`));
  }
  if (width > 0 && size < uapi.iommuHwInfo.size) {
    steps.push(
      note(call, 'this old kernel cannot say whether execute and privileged are enabled: taken as not'),
    );
  }
  if (iommu === 'amd' && width > 0) steps.push(...amdNotes(width));
  if (atsNotSupported) {
    steps.push(note(call, 'the host does not support ATS for the device: ATS and PRI are not to be shown'));
  }
  return { iommu, width, execute, privileged, atsNotSupported };
}

const NO_WIDTH =
  'the kernel reported no PASID: the device or its IOMMU has none, or a width of 0 bits, or the IOMMU driver did not switch it on, or the kernel is older than the report (Linux 6.15)';

function amdNotes(width: number): QueryStep[] {
  const call = uapi.IOMMU_GET_HW_INFO.name;
  return [
    ...(width === 15
      ? [
          note(
            call,
            'an AMD IOMMU counts one PASID less than a power of two, so one of 16 bits is reported as 15: PASIDs from 0x8000 on are not usable',
          ),
        ]
      : []),
    note(
      call,
      'for an AMD IOMMU Linux never reports execute and privileged, and switches PASID on only when a domain that shares address spaces is attached: the width is no proof that it is on',
    ),
  ];
}
