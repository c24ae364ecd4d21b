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
  /** What a VT-d unit can do; undefined for other ones, and when the kernel did not say. */
  readonly vtd: VtdHardware | undefined;
}

/** Capabilities of a VT-d unit of the host, as far as they matter to a guest's PASIDs. */
export interface VtdHardware {
  /** CAP and ECAP, 64 bits in hexadecimal. */
  readonly capability: string;
  readonly extendedCapability: string;
  /** ECAP.NEST: a guest's own first-stage tables can be given to it. */
  readonly nesting: boolean;
  /** ECAP.SMTS and ECAP.FSTS: scalable mode, first-stage translation. */
  readonly scalableMode: boolean;
  readonly firstStage: boolean;
  /** ECAP.PSS: bits of PASID that it takes; 0 without ECAP.PASID. */
  readonly pasidBits: number;
  /** Erratum 772415: with nesting, read-only mappings of the second stage do not hold. */
  readonly erratum772415: boolean;
}

const ECAP_NEST = 1n << 26n;
const ECAP_PSS_SHIFT = 35n;
const ECAP_PSS = 0x1fn;
const ECAP_PASID = 1n << 40n;
const ECAP_SMTS = 1n << 43n;
const ECAP_FSTS = 1n << 47n;

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
    if (answer.ok) {
      const understood = understand(info, size, steps);
      if (understood?.iommu !== 'intel-vtd') return understood;
      return { ...understood, vtd: askVtd(native, iommufd, deviceId, size, steps) };
    }
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
  return { iommu, width, execute, privileged, atsNotSupported, vtd: undefined };
}

/** Asks again, now that the type of the data is known. */
function askVtd(
  native: Native,
  iommufd: number,
  deviceId: number,
  size: number,
  steps: QueryStep[],
): VtdHardware | undefined {
  const call = `${uapi.IOMMU_GET_HW_INFO.name} with data`;
  const data = new uapi.StructBuffer(uapi.iommuHwInfoVtd);
  const info = new uapi.StructBuffer(uapi.iommuHwInfo)
    .set('size', size)
    .set('dev_id', deviceId)
    .set('data_len', data.bytes.length)
    .set('data_uptr', native.address(data.bytes));
  const answer = ask(native, iommufd, uapi.IOMMU_GET_HW_INFO, info);
  if (!answer.ok) {
    steps.push(failed(call, answer.errno, ioctlAdvice(uapi.IOMMU_GET_HW_INFO.name, answer.errno)));
    return undefined;
  }
  if (info.get('data_len') < data.bytes.length) {
    steps.push(no(call, 'this kernel has other data than was expected: not looked at'));
    return undefined;
  }
  const ecap = data.getBig('ecap_reg');
  const vtd: VtdHardware = {
    capability: hexOf(data.getBig('cap_reg')),
    extendedCapability: hexOf(ecap),
    nesting: (ecap & ECAP_NEST) !== 0n,
    scalableMode: (ecap & ECAP_SMTS) !== 0n,
    firstStage: (ecap & ECAP_FSTS) !== 0n,
    pasidBits: (ecap & ECAP_PASID) === 0n ? 0 : Number((ecap >> ECAP_PSS_SHIFT) & ECAP_PSS) + 1,
    erratum772415: (data.get('flags') & uapi.IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17) !== 0,
  };
  steps.push(done(call, vtdText(vtd)));
  return vtd;
}

function vtdText({ nesting, scalableMode, pasidBits, erratum772415 }: VtdHardware): string {
  const parts = [
    scalableMode ? 'scalable mode' : 'no scalable mode',
    pasidBits === 0 ? 'no PASID' : `${pasidBits} bits of PASID`,
    nesting
      ? 'nested translation: the tables of a guest with VT-d can be given to it'
      : 'no nested translation',
    ...(nesting && erratum772415
      ? ['erratum 772415: read-only memory is not safe under nested translation']
      : []),
  ];
  return `VT-d with ${parts.join(', ')}`;
}

function hexOf(register: bigint): string {
  return `0x${register.toString(16).padStart(16, '0')}`;
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
