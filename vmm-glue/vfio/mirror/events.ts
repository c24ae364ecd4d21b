import type { VpciError } from '../../../src/index.ts';
import type { MirrorFailureReason } from './source.ts';

/** The device was attached to a page table of the host. */
export interface MirrorAttachedEvent {
  /** The PASID; null: requests without one. */
  readonly pasid: number | null;
  /** ID of the page table in the iommufd. */
  readonly hwpt: number;
  /** Another one was there, which this replaced. */
  readonly replaced: boolean;
}

/** The device was detached. */
export interface MirrorDetachedEvent {
  readonly pasid: number | null;
}

/** The host does not have what the model has; the model refuses the requests meanwhile. */
export interface MirrorFailure {
  /** The PASID; null: requests without one; `all`: everything of the device. */
  readonly pasid: number | null | 'all';
  /**
   * `host`: the kernel refused a call. `unsupported`: it has nothing like it. `pasid-0`: PASID 0 apart from the
   * requests without one. `too-many`: more PASIDs than `maxPasids`, or in memory that cannot be reached.
   */
  readonly reason: MirrorFailureReason;
  /** The call, its errno, the cause and what to do. */
  readonly error: VpciError;
}

/** Events of an `IommufdMirror`. */
export interface MirrorEvents {
  attached: MirrorAttachedEvent;
  detached: MirrorDetachedEvent;
  failure: MirrorFailure;
}
