const KEY_WORDS = 4;
const RID = 0;
const PASID = 1;
const GENERATION = 2;
const DOMAIN = 3;
const LAST_GENERATION = 0x3fff_ffff;

/**
 * A direct-mapped cache of structures that were read and found valid: the context-cache and the PASID-cache
 * (6.2). Tagged by requester ID, PASID and domain ID; an entry stays until it is invalidated or displaced,
 * whatever becomes of the structure in memory.
 */
export class EntryCache {
  /** Words of the entries, `words` each. */
  readonly data: Int32Array;
  readonly #mask: number;
  readonly #words: number;
  readonly #keys: Int32Array;
  #generation = 1;

  /** `entries` is a power of two. */
  constructor(entries: number, words: number) {
    this.#mask = entries - 1;
    this.#words = words;
    this.#keys = new Int32Array(entries * KEY_WORDS);
    this.data = new Int32Array(entries * words);
  }

  /** Index of the entry's words in {@link EntryCache.data}, or -1. */
  find(rid: number, pasid: number): number {
    const index = this.#indexOf(rid, pasid);
    const key = index * KEY_WORDS;
    const keys = this.#keys;
    const hit =
      keys[key + RID] === rid && keys[key + PASID] === pasid && keys[key + GENERATION] === this.#generation;
    return hit ? index * this.#words : -1;
  }

  /** Makes an entry, and returns the index of its words. */
  claim(rid: number, pasid: number, domain: number): number {
    const index = this.#indexOf(rid, pasid);
    const key = index * KEY_WORDS;
    this.#keys[key + RID] = rid;
    this.#keys[key + PASID] = pasid;
    this.#keys[key + GENERATION] = this.#generation;
    this.#keys[key + DOMAIN] = domain;
    return index * this.#words;
  }

  /** Forgets everything. */
  clear(): void {
    if (this.#generation === LAST_GENERATION) {
      this.#keys.fill(0);
      this.#generation = 0;
    }
    this.#generation++;
  }

  /** Forgets the entries of requester IDs that are `rid` in the bits of `mask`. */
  clearRids(rid: number, mask: number): void {
    for (let key = 0; key < this.#keys.length; key += KEY_WORDS) {
      if ((((this.#keys[key + RID] ?? 0) ^ rid) & mask) === 0) this.#keys[key + GENERATION] = 0;
    }
  }

  /** Forgets the entries of a domain, those of one PASID in it, or with -1 of all. */
  clearDomain(domain: number, pasid: number): void {
    for (let key = 0; key < this.#keys.length; key += KEY_WORDS) {
      if (this.#keys[key + DOMAIN] !== domain) continue;
      if (pasid === -1 || this.#keys[key + PASID] === pasid) this.#keys[key + GENERATION] = 0;
    }
  }

  /** PASIDs and functions that follow each other do not displace each other. */
  #indexOf(rid: number, pasid: number): number {
    return (pasid + rid + (rid << 5)) & this.#mask;
  }
}
