import type { ResetKind } from '../pci/endpoint.ts';
import type { Finding } from '../pci/finding.ts';

/** The guest changed PASID Control; these are the bits as they read back now. */
export interface PasidControlEvent {
  readonly enable: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** The function was reset; the embedder resets the physical one. */
export interface ResetEvent {
  readonly kind: ResetKind;
}

/** A write of the guest reached the physical function. */
export interface HostWriteEvent {
  /** Config-space offset in bytes, aligned to `size`. */
  readonly offset: number;
  /** 1, 2 or 4 bytes. */
  readonly size: number;
  /** What was stored there. */
  readonly value: number;
}

/** Events of a `PciFunction`. State has changed when they arrive. */
export interface FunctionEvents {
  'pasid-control': PasidControlEvent;
  reset: ResetEvent;
  /** A finding that is new since the function was made; the first ones are in `findings`. */
  finding: Finding;
  'host-write': HostWriteEvent;
}
