/**
 * `vpci/inspect`: dump text in and out, the guest's view of a dump, and why Linux will or won't enable PASID.
 *
 * @packageDocumentation
 */
export type {
  ByteRangeOwner,
  Gap,
  HiddenCapability,
  ShownCapability,
} from './byte-map.ts';
export { type DumpedFunction, formatDump, parseDump } from './dump.ts';
export {
  type DumpedFunctionExplanation,
  explainFunction,
  explainTopology,
  type FunctionExplanation,
  type PasidAnswer,
  type TopologyExplanation,
  type TopologyOptions,
} from './explanation.ts';
export type { ExpressIdentity, FunctionIdentity } from './guest-subject.ts';
export { type GuestView, type GuestViewOptions, guestView } from './guest-view.ts';
export { type CheckedRegister, type LinuxCheck, type LinuxCheckId, LINUX_CHECKS } from './linux-check.ts';
export type { Advice } from './viommu-advice.ts';
