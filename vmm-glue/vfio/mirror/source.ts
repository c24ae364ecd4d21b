import type { VpciError } from '../../../src/index.ts';
import type { HwptOptions } from '../iommufd-objects.ts';

/** Why the host does not have what the model has. */
export type MirrorFailureReason = 'host' | 'unsupported' | 'pasid-0' | 'too-many';

/** What the host is to have for one PASID, or for the requests without one. */
export type Wanted =
  | { readonly kind: 'nothing' }
  /** It cannot have it. */
  | { readonly kind: 'refused'; readonly reason: MirrorFailureReason; readonly error: VpciError }
  /** A page table that is there, and shared. */
  | { readonly kind: 'shared'; readonly hwpt: number }
  /** A page table of its own, that of before while `key` stays. */
  | { readonly kind: 'own'; readonly key: string; readonly hwpt: HwptOptions };

/** What the mirror of each model does: tells what the host is to have, and follows translations. */
export interface MirrorSource {
  /** PASIDs that may have to be attached; undefined when they are too many. */
  pasids(): readonly number[] | undefined;
  /** What the host is to have now. @throws VpciError when the host refuses what that needs. */
  wanted(pasid: number | null): Wanted;
  /** It is detached: what was made for it goes. */
  forget(pasid: number | null): void;
  /** All is detached, and stays so. */
  close(): void;
}

export const NOTHING: Wanted = { kind: 'nothing' };
