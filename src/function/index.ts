/**
 * Guest-visible PCI functions: passed through or emulated, with the capabilities that are ours to show.
 *
 * @module
 */
export { createFunction } from './create-function.ts';
export type { FunctionEvents, HostWriteEvent, PasidControlEvent, ResetEvent } from './function-events.ts';
export type {
  CommonOptions,
  EmulatedOptions,
  FunctionOptions,
  PassthroughOptions,
} from './function-options.ts';
export type { FunctionState } from './function-state.ts';
export type { Present } from './guest-layout.ts';
export type { ByteRange, PlannedCapability } from './guest-plan.ts';
export { type PasidCapability, PciFunction } from './pci-function.ts';
