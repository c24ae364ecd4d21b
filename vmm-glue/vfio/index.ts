/**
 * `vpci/vfio`: devices of a Linux host through VFIO and iommufd, and what the host says about their PASIDs.
 *
 * @packageDocumentation
 */
export { GuestDma } from './guest-dma.ts';
export type { HostIommu, VtdHardware } from './hardware-info.ts';
export {
  type VfioInterruptKind,
  VfioInterrupts,
  type VfioInterruptsEvents,
  type VfioInterruptsOptions,
  type VfioVectorEvent,
} from './interrupts.ts';
export type {
  MirrorAttachedEvent,
  MirrorDetachedEvent,
  MirrorEvents,
  MirrorFailure,
} from './mirror/events.ts';
export { IommufdMirror, type IommufdMirrorOptions } from './mirror/iommufd-mirror.ts';
export type { MirrorFailureReason } from './mirror/source.ts';
export type { OpenVfioOptions } from './open.ts';
export { type PasidQuery, type PasidQueryOptions, queryPasidFeature } from './pasid-query.ts';
export {
  type PassthroughFunction,
  type PassthroughFunctionOptions,
  passthroughFunction,
} from './passthrough-function.ts';
export type { QueryStep } from './query-step.ts';
export { type HostDevice, isVfioBound, vfioDevices } from './sysfs.ts';
export { openVfioDevice, VfioDevice, type VfioIrq, type VfioRegion } from './vfio-device.ts';
