import type { Iotlb } from '../iotlb.ts';
import { SPACE_FIRST, SPACE_PASID, SPACE_SECOND } from './walk.ts';
import type { Walk } from './walk-state.ts';

const EVERYWHERE = Number.POSITIVE_INFINITY;

/**
 * Searches of a cache in one go; what follows drops everything, which no search precedes: a queue orders thousands,
 * and a unit may always drop more than it was told to (6.5).
 */
const SEARCH_LIMIT = 256;

/** Granularities of context-cache and IOTLB invalidation (6.5.2.1, 6.5.2.3): G of a descriptor, CIRG and IIRG. */
export const GRANULARITY_GLOBAL = 1;
export const GRANULARITY_DOMAIN = 2;
/** Of the context-cache: one device. Of the IOTLB: pages. */
export const GRANULARITY_SELECTIVE = 3;

/**
 * The caches of a unit: context-cache, PASID-cache and IOTLB. An entry of one is good only on top of those it
 * was found through, so that dropping a context or PASID entry drops what hangs on it.
 */
export class Caches {
  readonly #walk: Walk;
  readonly #iotlb: Iotlb;
  #searches = 0;

  constructor(walk: Walk, iotlb: Iotlb) {
    this.#walk = walk;
    this.#iotlb = iotlb;
  }

  /** The guest is told that all is done: searches count anew. */
  settle(): void {
    this.#searches = 0;
  }

  /** Drops everything. */
  clear(): void {
    this.#walk.contexts.clear();
    this.#walk.pasids.clear();
    this.#iotlb.invalidateAll();
  }

  /** Drops the context entries of a domain: in scalable mode they belong to none, and all go. */
  contextDomain(domain: number, legacy: boolean): void {
    if (!legacy) return this.clear();
    if (this.#isTooMuch(2)) return;
    this.#walk.contexts.clearDomain(domain, -1);
    this.#iotlb.invalidateTagged(domain, SPACE_SECOND, SPACE_SECOND, 0, EVERYWHERE);
  }

  /** Drops the context entry of a device, or those of its neighbours too that FM (0..3) masks in. */
  contextDevice(source: number, functionMask: number): void {
    const rids = maskedRids(source, functionMask);
    if (this.#isTooMuch(2 + rids.length)) return;
    const ignored = FUNCTION_MASKS[functionMask & 3] ?? 0;
    this.#walk.contexts.clearRids(source, ~ignored);
    this.#walk.pasids.clearRids(source, ~ignored);
    for (const rid of rids) this.#iotlb.invalidateRid(rid);
  }

  /** Drops the PASID table entries of a domain, of one PASID in it or with -1 of all. */
  pasidEntries(domain: number, pasid: number): void {
    if (this.#isTooMuch(2)) return;
    this.#walk.pasids.clearDomain(domain, pasid);
    const mask = pasid === -1 ? 0 : SPACE_PASID;
    this.#iotlb.invalidateTagged(domain, mask, pasid, 0, EVERYWHERE);
  }

  /** Drops all PASID table entries. */
  allPasidEntries(): void {
    this.#walk.pasids.clear();
    this.#iotlb.invalidateAll();
  }

  /** Drops all translations. */
  allTranslations(): void {
    this.#iotlb.invalidateAll();
  }

  /** Drops second-stage and nested translations of a domain. */
  domain(domain: number): void {
    if (this.#isTooMuch(1)) return;
    this.#iotlb.invalidateTagged(domain, SPACE_SECOND, SPACE_SECOND, 0, EVERYWHERE);
  }

  /** Drops second-stage translations of pages in a domain. Nested ones go all: their pages are other ones. */
  domainPages(domain: number, first: number, last: number): void {
    if (this.#isTooMuch(2)) return;
    const both = SPACE_FIRST | SPACE_SECOND;
    this.#iotlb.invalidateTagged(domain, both, SPACE_SECOND, first, last);
    this.#iotlb.invalidateTagged(domain, both, both, 0, EVERYWHERE);
  }

  /** Drops first-stage, pass-through and nested translations of pages of a PASID in a domain. */
  pasidPages(domain: number, pasid: number, first: number, last: number): void {
    if (this.#isTooMuch(1)) return;
    this.#iotlb.invalidateTagged(domain, SPACE_FIRST | SPACE_PASID, SPACE_FIRST | pasid, first, last);
  }

  /** True when `searches` more are too many: then everything was dropped. */
  #isTooMuch(searches: number): boolean {
    this.#searches += searches;
    if (this.#searches <= SEARCH_LIMIT) return false;
    this.clear();
    return true;
  }
}

/** Requester IDs that a source ID and a function mask name. */
export function maskedRids(source: number, functionMask: number): number[] {
  const ignored = FUNCTION_MASKS[functionMask & 3] ?? 0;
  const functions = [0, 1, 2, 3, 4, 5, 6, 7].filter((fn) => (fn & ~ignored) === 0);
  return functions.map((fn) => (source & ~ignored) | fn);
}

/** Function bits that FM leaves out: none, bit 2, bits 2:1, bits 2:0. */
const FUNCTION_MASKS: readonly number[] = [0, 4, 6, 7];
