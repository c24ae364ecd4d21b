import { VpciError } from '../pci/vpci-error.ts';
import { ACCESS_PRIVILEGED } from './access.ts';
import { answer, OUT_ADDRESS_HIGH, OUT_ADDRESS_LOW, OUT_PAGE_SIZE, OUT_PERMISSIONS, word } from './result.ts';

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

const WAYS = 4;
// An entry is 8 words: page low, page high, RID, PASID, generation; target low, target high, and the rest.
const ENTRY_BYTES = 32;
const PAGE_HIGH = 4;
const RID = 8;
const PASID = 12;
const GENERATION = 16;
const TARGET_LOW = 20;
const TARGET_HIGH = 24;
const INFO = 28;
// The rest: rights 7:0, permissions 15:8, page size as a power of two 22:16, status 25:24.
const INFO_PERMISSIONS = 8;
const INFO_SIZE = 16;
const INFO_STATUS = 24;

/** Access bits of requests that an entry can answer: untranslated ones. */
const ANSWERABLE = 0x9f;
const LAST_GENERATION = 0xffff;

/**
 * The translation cache that all models share: 4-way set-associative over one fixed buffer, tagged by
 * requester ID (24 bits), PASID (20 bits, or none) and 4 KiB page (52 bits). Allocates nothing after
 * construction, and can be thrown away at any time: it holds only what a walk just answered.
 */
export class Iotlb {
  /** Entries there is room for, a power of two. */
  readonly entries: number;

  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #setShift: number;
  #generation = 1;
  #victim = 0;

  /** @throws VpciError `VPCI_BAD_ARGUMENT` unless `entries` is a power of two of 8..65536. */
  constructor(entries: number) {
    if (!Number.isInteger(entries) || entries < 8 || entries > 65_536 || (entries & (entries - 1)) !== 0) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `an IOTLB of ${entries} entries: give a power of two of 8..65536`,
      );
    }
    this.entries = entries;
    this.#bytes = new Uint8Array(entries * ENTRY_BYTES);
    this.#view = new DataView(this.#bytes.buffer);
    this.#setShift = Math.clz32(entries / WAYS) + 1;
  }

  /** Fills `out` and returns the status when an entry grants the whole request, else {@link IOTLB_MISS}. */
  lookup(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
  ): number {
    const needed = (access & 7) << ((access & ACCESS_PRIVILEGED) >>> 1);
    if (needed === 0 || (access & ~ANSWERABLE) !== 0) return IOTLB_MISS;
    const view = this.#view;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const pageHigh = iovaHigh >>> 12;
    const set = this.#setOf(rid, pasid, page);
    for (let at = set; at < set + WAYS * ENTRY_BYTES; at += ENTRY_BYTES) {
      if (view.getInt32(at, true) !== page || !this.#isFor(at, rid, pasid, pageHigh)) continue;
      const info = view.getInt32(at + INFO, true);
      if ((info & needed) !== needed) return IOTLB_MISS;
      answer(
        out,
        view.getInt32(at + TARGET_HIGH, true),
        view.getInt32(at + TARGET_LOW, true) | (iovaLow & 0xfff),
        (info >>> INFO_SIZE) & 0x7f,
        (info >>> INFO_PERMISSIONS) & 0xff,
      );
      return info >>> INFO_STATUS;
    }
    return IOTLB_MISS;
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
    const view = this.#view;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    const pageHigh = iovaHigh >>> 12;
    const at = this.#placeFor(rid, pasid, page, pageHigh);
    view.setInt32(at, page, true);
    view.setInt32(at + PAGE_HIGH, pageHigh, true);
    view.setInt32(at + RID, rid, true);
    view.setInt32(at + PASID, pasid, true);
    view.setInt32(at + GENERATION, this.#generation, true);
    view.setInt32(at + TARGET_LOW, word(out, OUT_ADDRESS_LOW) & ~0xfff, true);
    view.setInt32(at + TARGET_HIGH, word(out, OUT_ADDRESS_HIGH), true);
    const size = word(out, OUT_PAGE_SIZE) << INFO_SIZE;
    const permissions = word(out, OUT_PERMISSIONS) << INFO_PERMISSIONS;
    view.setInt32(at + INFO, (status << INFO_STATUS) | size | permissions | rights, true);
  }

  /** Forgets everything. */
  invalidateAll(): void {
    if (this.#generation === LAST_GENERATION) {
      this.#bytes.fill(0);
      this.#generation = 0;
    }
    this.#generation++;
  }

  /** Forgets what is held for a requester ID, with and without PASID. */
  invalidateRid(rid: number): void {
    const view = this.#view;
    for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
      if (view.getInt32(at + RID, true) === rid) view.setInt32(at + GENERATION, 0, true);
    }
  }

  /** Forgets what is held for a requester ID and PASID; -1: for its requests without one. */
  invalidatePasid(rid: number, pasid: number): void {
    this.invalidateRange(rid, pasid, 0, Number.POSITIVE_INFINITY);
  }

  /** Forgets the 4 KiB pages `first`..`last` (IOVA / 4096, both included) of a requester ID and PASID. */
  invalidateRange(rid: number, pasid: number, first: number, last: number): void {
    const view = this.#view;
    for (let at = 0; at < view.byteLength; at += ENTRY_BYTES) {
      if (view.getInt32(at + RID, true) !== rid || view.getInt32(at + PASID, true) !== pasid) continue;
      const page = view.getUint32(at + PAGE_HIGH, true) * 2 ** 32 + view.getUint32(at, true);
      if (page >= first && page <= last) view.setInt32(at + GENERATION, 0, true);
    }
  }

  /** Byte offset of the set: multiplicative hashing, whose high bits are the well mixed ones. */
  #setOf(rid: number, pasid: number, page: number): number {
    const who = Math.imul(rid, 0x85eb_ca6b) ^ Math.imul(pasid, 0xc2b2_ae35);
    return (Math.imul(page ^ who ^ (who >>> 15), 0x9e37_79b1) >>> this.#setShift) * (WAYS * ENTRY_BYTES);
  }

  #isFor(at: number, rid: number, pasid: number, pageHigh: number): boolean {
    const view = this.#view;
    return (
      view.getInt32(at + PASID, true) === pasid &&
      view.getInt32(at + RID, true) === rid &&
      view.getInt32(at + PAGE_HIGH, true) === pageHigh &&
      view.getInt32(at + GENERATION, true) === this.#generation
    );
  }

  /** The entry to overwrite: the one for the same page (two would disagree), a free one, or the next victim. */
  #placeFor(rid: number, pasid: number, page: number, pageHigh: number): number {
    const view = this.#view;
    const set = this.#setOf(rid, pasid, page);
    let free = -1;
    for (let at = set; at < set + WAYS * ENTRY_BYTES; at += ENTRY_BYTES) {
      if (view.getInt32(at, true) === page && this.#isFor(at, rid, pasid, pageHigh)) return at;
      if (view.getInt32(at + GENERATION, true) !== this.#generation) free = at;
    }
    if (free >= 0) return free;
    this.#victim = (this.#victim + 1) % WAYS;
    return set + this.#victim * ENTRY_BYTES;
  }
}
