/**
 * Guest-visible PCI functions: passed through or emulated, with the capabilities that are ours to show.
 *
 * @module
 */
export type { DecodedBar } from './bar-decoder.ts';
export { type BarKind, type BarOptions, ROM_BAR } from './bars.ts';
export {
  acsCapability,
  aerCapability,
  type CapabilityBlock,
  type ExpressOptions,
  expressCapability,
  type MsiXLocation,
  msiCapability,
  msiXCapability,
  powerManagementCapability,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
} from './blocks/index.ts';
export type { PasidCapability } from './capabilities/index.ts';
export { createFunction } from './create-function.ts';
export type {
  AtsControlEvent,
  CommandEvent,
  FunctionEvents,
  HostWriteEvent,
  IntxEvent,
  MsiEvent,
  MsiRouteEvent,
  PasidControlEvent,
  PowerStateEvent,
  PriControlEvent,
  ResetEvent,
  RidEvent,
  SlotControlEvent,
} from './function-events.ts';
export type { FunctionHost, Placement } from './function-host.ts';
export type {
  CommonOptions,
  EmulatedOptions,
  FunctionOptions,
  PassthroughOptions,
} from './function-options.ts';
export type { FunctionState } from './function-state.ts';
export type { Present } from './guest-layout.ts';
export type { ByteRange, PlannedCapability } from './guest-plan.ts';
export { type GuestConfigSpace, PciFunction } from './pci-function.ts';
export { type AddressRange, type BridgePort, isRange } from './port/bridge-port.ts';
export {
  createDownstreamPort,
  createRootPort,
  createUpstreamPort,
  type PortOptions,
} from './port/create-port.ts';
