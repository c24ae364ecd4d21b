/**
 * A PCI segment: routing by requester ID, CAM and ECAM.
 *
 * @module
 */
export type { DecodedWindow } from './decode-map.ts';
export type { RootInterrupt } from './interrupt-routing.ts';
export {
  DEFAULT_ECAM_BASE,
  PciSegment,
  type PlugOptions,
  type SegmentEvents,
  type SegmentIntxEvent,
  type SegmentOptions,
} from './pci-segment.ts';
export type { SegmentState } from './segment-state.ts';
