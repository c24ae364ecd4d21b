/**
 * `vpci`: the PCI configuration space that a guest sees, PASID above all.
 *
 * @packageDocumentation
 */
export {
  type AtsControlEvent,
  acsCapability,
  aerCapability,
  type BarKind,
  type BarOptions,
  type AddressRange,
  type BridgePort,
  type ByteRange,
  type CapabilityBlock,
  type CommandEvent,
  type CommonOptions,
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  type DecodedBar,
  type EmulatedOptions,
  type ExpressOptions,
  expressCapability,
  type FunctionEvents,
  type FunctionHost,
  type FunctionOptions,
  type FunctionState,
  type HostWriteEvent,
  type IntxEvent,
  type MsiEvent,
  type MsiRouteEvent,
  type MsiXLocation,
  msiCapability,
  msiXCapability,
  type PasidCapability,
  type PasidControlEvent,
  type PassthroughOptions,
  PciFunction,
  type Placement,
  type PlannedCapability,
  type PortOptions,
  type PowerStateEvent,
  type Present,
  type PriControlEvent,
  powerManagementCapability,
  type ResetEvent,
  type RidEvent,
  ROM_BAR,
  type SlotControlEvent,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
} from './function/index.ts';
export { GuestMemory, type GuestMemoryRegion, type RemoteMemoryRegion } from './memory/index.ts';
export { formatBdf, parseBdf } from './pci/bdf.ts';
export type { Capability } from './pci/capability-chain.ts';
export { ByteConfigSpace, type ConfigSpace } from './pci/config-space.ts';
export {
  createEndpointState,
  type Endpoint,
  type EndpointChange,
  type EndpointSink,
  type EndpointState,
  type ResetKind,
} from './pci/endpoint.ts';
export { FINDING_CODES, type Finding, type FindingCode } from './pci/finding.ts';
export type { PasidFeature } from './pci/pasid.ts';
export { TypedEmitter } from './pci/typed-emitter.ts';
export { VPCI_ERROR_CODES, VpciError, type VpciErrorCode } from './pci/vpci-error.ts';
export {
  type DecodedWindow,
  PciSegment,
  type PlugOptions,
  type RootInterrupt,
  type SegmentEvents,
  type SegmentIntxEvent,
  type SegmentOptions,
  type SegmentState,
} from './segment/index.ts';
