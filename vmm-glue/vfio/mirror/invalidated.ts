/** Bus addresses `start`..`end`, the end not among them. */
export interface InvalidatedRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** All bus addresses. */
export const ALL_ADDRESSES: InvalidatedRange = { start: 0n, end: 1n << 64n };

/**
 * What a guest invalidated since the last barrier, each thing once: it orders invalidations by the thousand, and each of
 * everything costs as much as the guest has configured. Null: the requests without PASID.
 */
export class Invalidated {
  /** Whose table entries may be others now. */
  readonly tables: Set<number | null | 'all'> = new Set();
  /** Whose translations are void: of several ranges of a PASID, the one around them. */
  readonly translations: Map<number | null | 'all', InvalidatedRange> = new Map();

  addTranslations(pasid: number | null | 'all', start: bigint, end: bigint): void {
    const known = this.translations.get(pasid);
    if (known !== undefined && start >= known.start && end <= known.end) return;
    this.translations.set(pasid, {
      start: known !== undefined && known.start < start ? known.start : start,
      end: known !== undefined && known.end > end ? known.end : end,
    });
  }
}
