/**
 * `vpci`: the PCI configuration space that a guest sees, PASID above all.
 *
 * @packageDocumentation
 */
export {
  type ByteRange,
  type CommonOptions,
  createFunction,
  type EmulatedOptions,
  type FunctionEvents,
  type FunctionOptions,
  type FunctionState,
  type HostWriteEvent,
  type PasidCapability,
  type PasidControlEvent,
  type PassthroughOptions,
  PciFunction,
  type PlannedCapability,
  type Present,
  type ResetEvent,
} from './function/index.ts';
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
export { PciSegment, type SegmentOptions, type SegmentState } from './segment/index.ts';
