import type { AtcInvalidation } from '../../src/viommu/index.ts';

/** A translation that a device holds. */
export interface HeldTranslation {
  readonly pasid: number | null;
  /** It was asked for in Privileged Mode, and is for such requests only. */
  readonly privileged: boolean;
  /** Untranslated address of the page, a multiple of its size. */
  readonly page: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** Where the page is. */
  readonly address: bigint;
  /** Letters out of `rwxpgun`. */
  readonly permissions: string;
}

/** Translations that a device holds at most. */
const CAPACITY = 64;

/** The translation cache of a device with ATS (PCIe 10.1). */
export class TranslationCache {
  #held: readonly HeldTranslation[] = [];

  /** The translation of `address` with the right `permission`, one letter. */
  find(
    pasid: number | null,
    privileged: boolean,
    address: bigint,
    permission: string,
  ): HeldTranslation | undefined {
    return this.#held.find(
      (one) =>
        one.pasid === pasid &&
        one.privileged === privileged &&
        address >= one.page &&
        address < one.page + one.size &&
        one.permissions.includes(permission),
    );
  }

  /** Holds a translation in place of older ones of the same page, and of the oldest when there are too many. */
  add(translation: HeldTranslation): void {
    const { pasid, privileged, page } = translation;
    const others = this.#held.filter(
      (one) => one.pasid !== pasid || one.privileged !== privileged || one.page !== page,
    );
    this.#held = [...others, translation].slice(-CAPACITY);
  }

  /** Drops what an ATS invalidation names. */
  invalidate({ pasid, global = false, address, size }: AtcInvalidation): void {
    this.#held = this.#held.filter(
      (one) =>
        (!global && one.pasid !== pasid) || one.page + one.size <= address || one.page >= address + size,
    );
  }

  /** Drops everything. */
  clear(): void {
    this.#held = [];
  }
}
