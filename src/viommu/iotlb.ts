import { VpciError } from '../pci/vpci-error.ts';
import {
  NO_CODE,
  OUT_ADDRESS_HIGH,
  OUT_ADDRESS_LOW,
  OUT_PAGE_SIZE,
  OUT_PERMISSIONS,
  word,
} from './result.ts';

/**
 * Rights that an IOTLB entry grants without another walk. A model leaves a bit out to be asked again: the
 * write bit, for instance, until the dirty bit of the page is set.
 */
export const RIGHT_READ = 0x01;
export const RIGHT_WRITE = 0x02;
/** The whole check of an execute request passes, whatever other rights the architecture asks for. */
export const RIGHT_EXECUTE = 0x04;
/** Shift from the rights of ordinary requests to those of privileged ones. */
export const RIGHT_PRIVILEGED_SHIFT = 4;

/** What {@link Iotlb.lookup} returns when a walk has to answer. No status has this value. */
export const IOTLB_MISS = -128;

// Not exported, and so folded into the code that uses them (see result.ts).
const MISS = IOTLB_MISS;
const NONE = NO_CODE;
const { imul } = Math;

const WAYS = 4;
// An entry is 8 words; those of a set follow each other.
const ENTRY = 8;
const ENTRY_SHIFT = 3;
const SET = 32;
/** Words 0 to 3 are the tag: bits 31:0 of the page, then its bits 51:32 under the generation, RID, PASID. */
const PAGE_HIGH = 1;
const RID = 2;
const PASID = 3;
/** The answer: address of the 4 KiB page, and the rest. Word 7 is unused. */
const TARGET_LOW = 4;
const TARGET_HIGH = 5;
const INFO = 6;

const GENERATION = 20;
const LAST_GENERATION = 0xfff;

// The rest: rights 7:0, permissions 15:8, page size as a power of two 22:16, status 25:24.
const INFO_PERMISSIONS = 8;
const INFO_SIZE = 16;
const INFO_STATUS = 24;

// Multiplicative hashing: the high bits of the product are the well mixed ones.
const HASH = 0x9e37_79b1;
const HASH_WHO = 0x85eb_ca6b;

/**
 * The translation cache that all models share: 4-way set-associative over one fixed buffer, tagged by
 * requester ID (24 bits), PASID (20 bits, or none) and 4 KiB page (52 bits). Allocates nothing after
 * construction, and can be thrown away at any time: it holds only what a walk just answered.
 */
export class Iotlb {
  /** Entries there is room for, a power of two. */
  readonly entries: number;

  readonly #words: Int32Array;
  readonly #setShift: number;
  // What invalidations by tag look at, per entry; lookups never do.
  readonly #domains: Int32Array;
  readonly #spaces: Int32Array;
  readonly #spans: Uint8Array;
  /** In its place in the tag; 0 is that of entries that hold nothing. */
  #generation = 1 << GENERATION;
  #victim = 0;
  #hits = 0;
  #nextDomain = 0;
  #nextSpace = 0;
  #nextSpan = 0;

  /** @throws VpciError `VPCI_BAD_ARGUMENT` unless `entries` is a power of two of 8..65536. */
  constructor(entries: number) {
    if (!Number.isInteger(entries) || entries < 8 || entries > 65_536 || (entries & (entries - 1)) !== 0) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `an IOTLB of ${entries} entries: give a power of two of 8..65536`,
      );
    }
    this.entries = entries;
    this.#words = new Int32Array(entries * ENTRY);
    this.#domains = new Int32Array(entries);
    this.#spaces = new Int32Array(entries);
    this.#spans = new Uint8Array(entries);
    this.#setShift = Math.clz32(entries / WAYS) + 1;
  }

  /** Requests that {@link Iotlb.lookup} answered since the last {@link Iotlb.clearHits}. */
  get hits(): number {
    return this.#hits;
  }

  /** Sets {@link Iotlb.hits} to 0. */
  clearHits(): void {
    this.#hits = 0;
  }

  /**
   * Fills `out` and returns the status when an entry grants the whole request, else {@link IOTLB_MISS}.
   *
   * All in one function and with its numbers written out, so that it stays short of the 460 bytes of bytecode
   * up to which V8 inlines: that is half of what a hit costs. The numbers are those of the constants above, of
   * `ACCESS_*` and `OUT_*`; the AT bits go where no entry has any, as only untranslated requests are answered.
   */
  lookup(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
  ): number {
    const needed = ((access & 7) << ((access & 8) >>> 1)) | ((access & 0x60) << 24);
    const words = this.#words;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const pageHigh = (iovaHigh >>> 12) | this.#generation;
    const set = (imul(page ^ imul(pasid ^ (rid << 12), HASH_WHO), HASH) >>> this.#setShift) << 5;
    for (let at = set; at < set + 32; at += 8) {
      if (words[at] !== page || words[at + 3] !== pasid) continue;
      if (words[at + 2] !== rid || words[at + 1] !== pageHigh) continue;
      const info = words[at + 6] ?? 0;
      if ((info & needed) !== needed) break;
      out[0] = (words[at + 4] ?? 0) | (iovaLow & 0xfff);
      out[1] = words[at + 5] ?? 0;
      out[2] = (info >>> 16) & 0x7f;
      out[3] = (info >>> 8) & 0xff;
      out[4] = 0;
      out[5] = NONE;
      this.#hits++;
      return info >>> 24;
    }
    return MISS;
  }

  /** Keeps the answer in `out` for its 4 KiB page, with `rights` (8 bits, `RIGHT_*`) and a status of 0..3. */
  fill(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    rights: number,
    status: number,
    out: Uint32Array,
  ): void {
    const words = this.#words;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const pageHigh = (iovaHigh >>> 12) | this.#generation;
    const at = this.#placeFor(rid, pasid, page, pageHigh);
    words[at] = page;
    words[at + PAGE_HIGH] = pageHigh;
    words[at + RID] = rid;
    words[at + PASID] = pasid;
    words[at + TARGET_LOW] = word(out, OUT_ADDRESS_LOW) & ~0xfff;
    words[at + TARGET_HIGH] = word(out, OUT_ADDRESS_HIGH);
    const pageSize = word(out, OUT_PAGE_SIZE);
    const index = at >>> ENTRY_SHIFT;
    this.#domains[index] = this.#nextDomain;
    this.#spaces[index] = this.#nextSpace;
    this.#spans[index] = Math.max(this.#nextSpan, pageSize);
    this.tagNext(0, 0, 0);
    const size = pageSize << INFO_SIZE;
    const permissions = word(out, OUT_PERMISSIONS) << INFO_PERMISSIONS;
    words[at + INFO] = (status << INFO_STATUS) | size | permissions | rights;
  }

  /**
   * Tags the next fill for {@link Iotlb.invalidateTagged}; without it the tags are 0.
   *
   * @param domain 32 bits, such as a domain ID
   * @param space 32 bits, such as an address space ID and flags
   * @param span size of the largest block that the translation used, as a power of two; 0: its page size
   */
  tagNext(domain: number, space: number, span: number): void {
    this.#nextDomain = domain;
    this.#nextSpace = space;
    this.#nextSpan = span;
  }

  /** Forgets everything. */
  invalidateAll(): void {
    const generation = (this.#generation >>> GENERATION) + 1;
    if (generation <= LAST_GENERATION) {
      this.#generation = generation << GENERATION;
      return;
    }
    this.#words.fill(0);
    this.#generation = 1 << GENERATION;
  }

  /** Forgets what is held for a requester ID, with and without PASID. */
  invalidateRid(rid: number): void {
    const words = this.#words;
    for (let at = 0; at < words.length; at += ENTRY) {
      if (words[at + RID] === rid) words[at + PAGE_HIGH] = 0;
    }
  }

  /** Forgets what is held for a requester ID and PASID; -1: for its requests without one. */
  invalidatePasid(rid: number, pasid: number): void {
    this.invalidateRange(rid, pasid, 0, Number.POSITIVE_INFINITY);
  }

  /** Forgets the 4 KiB pages `first`..`last` (IOVA / 4096, both included) of a requester ID and PASID. */
  invalidateRange(rid: number, pasid: number, first: number, last: number): void {
    const words = this.#words;
    for (let at = 0; at < words.length; at += ENTRY) {
      if (words[at + RID] !== rid || words[at + PASID] !== pasid) continue;
      const page = ((words[at + PAGE_HIGH] ?? 0) & 0xf_ffff) * 2 ** 32 + ((words[at] ?? 0) >>> 0);
      if (page >= first && page <= last) words[at + PAGE_HIGH] = 0;
    }
  }

  /**
   * Forgets the entries whose domain is `domain` and whose space is `space` in the bits of `spaceMask`, of
   * which any block touches the 4 KiB pages `first`..`last` (IOVA / 4096, both included).
   */
  invalidateTagged(domain: number, spaceMask: number, space: number, first: number, last: number): void {
    const words = this.#words;
    for (let index = 0; index < this.entries; index++) {
      if (this.#domains[index] !== domain) continue;
      if ((((this.#spaces[index] ?? 0) ^ space) & spaceMask) !== 0) continue;
      const at = index * ENTRY;
      const page = ((words[at + PAGE_HIGH] ?? 0) & 0xf_ffff) * 2 ** 32 + ((words[at] ?? 0) >>> 0);
      const pages = 2 ** Math.max((this.#spans[index] ?? 0) - 12, 0);
      const start = page - (page % pages);
      if (start <= last && start + pages > first) words[at + PAGE_HIGH] = 0;
    }
  }

  /** The entry to overwrite: the one for the same page (two would disagree), a free one, or the next victim. */
  #placeFor(rid: number, pasid: number, page: number, pageHigh: number): number {
    const words = this.#words;
    const set = (imul(page ^ imul(pasid ^ (rid << 12), HASH_WHO), HASH) >>> this.#setShift) * SET;
    let free = -1;
    // Backwards, so that the first free way wins, which lookups find soonest.
    for (let at = set + SET - ENTRY; at >= set; at -= ENTRY) {
      const tag = words[at + PAGE_HIGH] ?? 0;
      if ((tag ^ pageHigh) >>> GENERATION !== 0) free = at;
      else if (
        words[at] === page &&
        tag === pageHigh &&
        words[at + RID] === rid &&
        words[at + PASID] === pasid
      ) {
        return at;
      }
    }
    if (free >= 0) return free;
    this.#victim = (this.#victim + 1) & (WAYS - 1);
    return set + this.#victim * ENTRY;
  }
}
