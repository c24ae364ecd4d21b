/**
 * A PCI segment: routing by requester ID, CAM and ECAM.
 *
 * @module
 */
export { DEFAULT_ECAM_BASE, PciSegment, type SegmentOptions } from './pci-segment.ts';
export type { SegmentState } from './segment-state.ts';
