import { ByteConfigSpace, type PasidFeature } from '../../src/index.ts';
import { walkCapabilities, walkExtendedCapabilities } from '../../src/pci/capability-chain.ts';
import { EXT_CAP_PASID } from '../../src/pci/capability-ids.ts';
import {
  PASID_CAPABILITY,
  PASID_CONTROL,
  PASID_ENABLE,
  PASID_MAX_WIDTH,
  PASID_MAX_WIDTH_SHIFT,
} from '../../src/pci/pasid.ts';
import { probeAttach } from './attach-probe.ts';
import { askHardwareInfo, type HostIommu, type VtdHardware } from './hardware-info.ts';
import { note, type QueryStep, skipped } from './query-step.ts';
import { askUnmergedFeature } from './unmerged-feature.ts';
import type { VfioDevice } from './vfio-device.ts';

/** What to ask, and what not. */
export interface PasidQueryOptions {
  /**
   * Try to attach a PASID, with a page table that maps nothing. Whatever was attached to the device by other means
   * is replaced, so ask before that. Default true.
   */
  readonly probeAttach?: boolean | undefined;
  /**
   * When nothing else answers, ask `VFIO_DEVICE_FEATURE` index 11, which only kernels with the patches of 2023 and
   * 2024 have. Default false: in Linux the index belongs to DMA_BUF.
   */
  readonly unmergedFeature?: boolean | undefined;
}

/** The answer of the host, and how it came about. */
export interface PasidQuery {
  /** What to give to `createFunction({ pasid })`; undefined when there is none, and `steps` says why. */
  readonly feature: PasidFeature | undefined;
  /** Where it is from. */
  readonly source: 'iommufd' | 'vfio-feature' | 'none';
  /** The IOMMU of the host; undefined when it did not say. */
  readonly iommu: HostIommu | undefined;
  /** Capabilities of a VT-d host; undefined for other ones, and when the kernel did not say. */
  readonly vtd: VtdHardware | undefined;
  /** PASIDs can be attached to page tables of the host; undefined when that was not tried. */
  readonly attach: boolean | undefined;
  /** False: the host said that ATS is not supported, so neither ATS nor PRI is to be shown. */
  readonly ats: boolean | undefined;
  /** PASID Enable of the physical capability as sysfs shows it; undefined when this user cannot read it. */
  readonly enabled: boolean | undefined;
  /** Each call tried, in order, with its outcome in words. */
  readonly steps: readonly QueryStep[];
}

/** Asks the host what PASIDs `device` and its IOMMU carry. A host that says no is an answer: never throws for it. */
export function queryPasidFeature(device: VfioDevice, options: PasidQueryOptions = {}): PasidQuery {
  const steps: QueryStep[] = [...device.openSteps];
  const { iommufd, deviceId, native, fd } = device;
  if (iommufd === undefined || deviceId === undefined) {
    steps.push(
      skipped(
        'IOMMU_GET_HW_INFO',
        'a device that was opened by its group has no ID in an iommufd, so PASID cannot be asked about: open it by cdev',
      ),
    );
    return {
      ...unmerged(device, options, steps),
      iommu: undefined,
      vtd: undefined,
      attach: undefined,
      ats: undefined,
      steps,
    };
  }
  const info = askHardwareInfo(native, iommufd, deviceId, steps);
  const ats = info === undefined ? undefined : !info.atsNotSupported;
  const iommu = info?.iommu;
  const vtd = info?.vtd;
  if (info === undefined || info.width === 0) {
    const answer = unmerged(device, options, steps);
    // Another reason than the device's own is in the IOMMU, or on the path.
    const enabled = answer.enabled ?? (info === undefined ? undefined : physicalEnable(device, 0, steps));
    return { ...answer, iommu, vtd, attach: undefined, ats, enabled, steps };
  }
  const { width, execute, privileged } = info;
  const enabled = physicalEnable(device, width, steps);
  return {
    feature: { width, execute, privileged },
    source: 'iommufd',
    iommu,
    vtd,
    attach: attachWorks({ native, iommufd, fd, deviceId }, width, options, steps),
    ats,
    enabled,
    steps,
  };
}

function attachWorks(
  target: Parameters<typeof probeAttach>[0],
  width: number,
  options: PasidQueryOptions,
  steps: QueryStep[],
): boolean | undefined {
  if (options.probeAttach ?? true) return probeAttach(target, 2 ** width - 1, steps);
  steps.push(skipped('VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'not asked for'));
  return undefined;
}

function unmerged(
  device: VfioDevice,
  { unmergedFeature = false }: PasidQueryOptions,
  steps: QueryStep[],
): Pick<PasidQuery, 'feature' | 'source' | 'enabled'> {
  if (!unmergedFeature) {
    steps.push(
      skipped('VFIO_DEVICE_FEATURE index 11', 'not asked for: only patched kernels have PASID there'),
    );
    return { feature: undefined, source: 'none', enabled: undefined };
  }
  const feature = askUnmergedFeature(device.native, device.fd, steps);
  if (feature === undefined) return { feature, source: 'none', enabled: undefined };
  return { feature, source: 'vfio-feature', enabled: physicalEnable(device, feature.width, steps) };
}

/**
 * What the physical capability says next to the `reported` width, 0 for none: sysfs shows it to those who may read it.
 * PASID Enable may be clear although a width is reported.
 */
function physicalEnable(device: VfioDevice, reported: number, steps: QueryStep[]): boolean | undefined {
  const { physicalFunction } = device.host;
  if (physicalFunction !== undefined) {
    steps.push(
      note(
        'virtual function',
        `it has no PASID capability of its own: the answer is that of its physical function ${physicalFunction}`,
      ),
    );
  }
  const raw = device.rawConfigOfPhysicalFunction();
  if (raw === undefined || raw.length < 0x1000) {
    steps.push(
      skipped(
        'PASID Control of the hardware',
        reported === 0
          ? 'only root sees in sysfs whether the device has the capability'
          : 'a reported width does not prove that PASID is on, and only root reads the register in sysfs',
      ),
    );
    return undefined;
  }
  const space = new ByteConfigSpace(raw);
  const { capabilities } = walkExtendedCapabilities(space, walkCapabilities(space));
  const capability = capabilities.find(({ id }) => id === EXT_CAP_PASID);
  if (capability === undefined) {
    steps.push(note('PASID Control of the hardware', 'sysfs shows no PASID capability'));
    return undefined;
  }
  const enabled = (space.read(capability.offset + PASID_CONTROL, 2) & PASID_ENABLE) !== 0;
  const own =
    (space.read(capability.offset + PASID_CAPABILITY, 2) & PASID_MAX_WIDTH) >>> PASID_MAX_WIDTH_SHIFT;
  steps.push(
    note('PASID Control of the hardware', reported === 0 ? notReported(own, enabled) : seen(enabled)),
  );
  return enabled;
}

function seen(enabled: boolean): string {
  if (enabled) return 'PASID Enable is set';
  return 'PASID Enable is clear although a width is reported: the host could not switch PASID on (no ACS or no End-End TLP prefix on the path), or does so later (AMD)';
}

function notReported(width: number, enabled: boolean): string {
  const state = `PASID Enable is ${enabled ? 'set' : 'clear'}`;
  if (width === 0) return `the physical capability has a width of 0 bits: PASID 0 is all there is; ${state}`;
  return `the physical capability has ${width} bits, and ${state}: it is the IOMMU, its driver or the kernel that has no PASIDs`;
}
