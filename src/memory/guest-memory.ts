import {
  checkRange,
  type GuestMemoryRegion,
  makePiece,
  memoryError,
  type Piece,
  piecesOf,
  type RemoteMemoryRegion,
} from './region.ts';
import { RemotePages } from './remote-pages.ts';

/** The span is there to be read. */
export const SPAN_OK = 0;
/** No memory there, or poisoned with `access`: the bus answers with an error. */
export const SPAN_ABSENT = 1;
/** Poisoned with `corruption`: the memory answers, with data that it knows to be wrong. */
export const SPAN_CORRUPT = 2;
/** Memory that has to be fetched first: {@link GuestMemory.missHigh}, {@link GuestMemory.missLow}. */
export const SPAN_MISS = 3;

// Not exported, and so folded into the code that uses it (see viommu/result.ts).
const FOUND = SPAN_OK;

/** How poisoned memory fails. */
export type PoisonKind = 'access' | 'corruption';

interface Poison {
  readonly base: number;
  readonly end: number;
  readonly status: number;
}

const NOWHERE: Piece = makePiece(0, 0, new ArrayBuffer(0), 0, true, false, undefined);

/** Attempts to read the two halves of an entry that somebody else keeps changing, before one load of both. */
const TORN_LIMIT = 8;

/**
 * Guest memory, as regions over buffers. A unit's walkers ask for a span and then read words; the embedder
 * reads and writes bytes. No guest-physical address makes anything throw.
 *
 * A span is `length` bytes in one region that do not cross a 4 KiB boundary, at a multiple of 8. Addresses come as two
 * halves of 32 bits, so that none is ever boxed.
 */
export class GuestMemory {
  /** Halves that {@link GuestMemory.load64} read, signed. */
  low = 0;
  high = 0;
  /** Halves of the guest-physical address of the 4 KiB page that a {@link SPAN_MISS} is about, signed. */
  missHigh = 0;
  missLow = 0;

  #pieces: readonly Piece[] = [];
  // Where the span is: a piece, and the index of its first word there.
  #piece: Piece = NOWHERE;
  #at = 0;
  readonly #remote = new RemotePages();
  #generation = 0;
  #poison: readonly Poison[] = [];

  /** @throws VpciError `VPCI_MEMORY` as {@link GuestMemory.addRegion}. */
  constructor(regions: readonly GuestMemoryRegion[] = []) {
    if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1) {
      throw memoryError('guest memory is read as little-endian words: this host is big-endian');
    }
    for (const region of regions) this.addRegion(region);
  }

  /**
   * Adds memory.
   *
   * @throws VpciError `VPCI_MEMORY` when it is not aligned, does not fit its buffer, or overlaps a region.
   */
  addRegion(region: GuestMemoryRegion): void {
    const pieces = piecesOf(region);
    for (const { base, end } of pieces) this.#checkFree(base, end);
    this.#pieces = [...this.#pieces, ...pieces].toSorted((left, right) => left.base - right.base);
  }

  /**
   * Adds memory that is reached by messages.
   *
   * @throws VpciError `VPCI_MEMORY` when it is not aligned to 4 KiB, or overlaps a region.
   */
  addRemote(region: RemoteMemoryRegion): void {
    checkRange(region.base, region.size, 4096);
    this.#checkFree(region.base, region.base + region.size);
    this.#remote.add(region);
  }

  /** Takes the region that begins at `base` away, with the poison in it; false when none does. */
  removeRegion(base: number): boolean {
    const region = this.#pieces.find((piece) => piece.region?.base === base)?.region;
    const gone = this.#pieces.filter((piece) => piece.region === region);
    const end = gone.at(-1)?.end ?? this.#remote.remove(base);
    if (end === 0) return false;
    this.#pieces = this.#pieces.filter((piece) => !gone.includes(piece));
    this.#poison = this.#poison.filter((poison) => poison.end <= base || poison.base >= end);
    this.#piece = NOWHERE;
    return true;
  }

  /**
   * Makes later accesses of units to a range fail; the embedder still reads and writes it.
   *
   * @throws VpciError `VPCI_MEMORY` unless the range is one of whole bytes below 2^52, for another kind too.
   */
  poison(base: number, size: number, kind: PoisonKind): void {
    checkRange(base, size, 1);
    if (kind !== 'access' && kind !== 'corruption') {
      throw memoryError(`poison of kind "${String(kind)}": use access or corruption`);
    }
    const status = kind === 'access' ? SPAN_ABSENT : SPAN_CORRUPT;
    this.#poison = [...this.#poison, { base, end: base + size, status }];
  }

  /** Finds the span of `length` bytes at a guest-physical address, given as signed halves; returns `SPAN_*`. */
  span(high: number, low: number, length: number): number {
    let piece = this.#piece;
    let offset = (low - piece.low) | 0;
    if (high !== piece.high || offset < 0 || piece.last - offset < length - 1) {
      const status = this.#seek(high, low, length);
      if (status !== FOUND) return status;
      piece = this.#piece;
      offset = (low - piece.low) | 0;
    }
    this.#at = offset >> 2;
    return this.#poison.length === 0 ? FOUND : this.#poisonAt(high, low, length);
  }

  /**
   * Reads the 8 bytes at word `offset` of the span into {@link GuestMemory.low} and `high`: as one value even
   * while another thread stores it with one 64-bit write.
   */
  load64(offset: number): void {
    const { words, shared } = this.#piece;
    const at = this.#at + offset;
    this.low = words[at] ?? 0;
    this.high = words[at + 1] ?? 0;
    if (shared) this.#untear(at);
  }

  /** Word `offset` of the span, signed. */
  load32(offset: number): number {
    return this.#piece.words[this.#at + offset] ?? 0;
  }

  /** Words `from` to `to` (not included) of the span, or'ed together. */
  or32(from: number, to: number): number {
    const { words } = this.#piece;
    const end = this.#at + to;
    let bits = 0;
    for (let at = this.#at + from; at < end; at++) bits |= words[at] ?? 0;
    return bits;
  }

  /** Word `offset` of the span as it is now, where an earlier {@link GuestMemory.load32} may have been moved. */
  reload32(offset: number): number {
    const { words, shared } = this.#piece;
    const at = this.#at + offset;
    return shared ? Atomics.load(words, at) : (words[at] ?? 0);
  }

  /** True when units can write the span. */
  get writable(): boolean {
    return !this.#piece.readOnly;
  }

  /**
   * Sets `bits` in the lower half of the 8 bytes at the span, if they still are what was read there: one
   * atomic step as other threads see it. In memory reached by messages it is a plain write.
   *
   * @returns 1 when done, 0 when the bytes have changed, -1 when they cannot be written.
   */
  setBits64(high: number, low: number, bits: number): number {
    const piece = this.#piece;
    if (piece.readOnly) return -1;
    const before = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const after = before | BigInt(bits >>> 0);
    const index = this.#at >>> 1;
    if (Atomics.compareExchange(piece.longs, index, before, after) !== before) return 0;
    this.#sendAway(this.#at, 2);
    return 1;
  }

  /** Stores the first `count` of `values` at a guest-physical address; returns `SPAN_*`, nothing stored but with 0. */
  store(high: number, low: number, values: Int32Array, count: number): number {
    const remote = this.#remote.blank(high, low);
    if (remote === undefined) return this.#storeAt(high, low, values, count);
    this.#piece = remote;
    const status = this.#storeAt(high, low, values, count);
    // A page that was made for this only must not be found again.
    this.#piece = NOWHERE;
    return status;
  }

  #storeAt(high: number, low: number, values: Int32Array, count: number): number {
    const status = this.span(high, low, count * 4);
    if (status !== SPAN_OK) return status;
    if (this.#piece.readOnly) return SPAN_ABSENT;
    for (let i = 0; i < count; i++) Atomics.store(this.#piece.words, this.#at + i, values[i] ?? 0);
    this.#sendAway(this.#at, count);
    return SPAN_OK;
  }

  /** Counts how often fetched pages were dropped: see {@link GuestMemory.provide}. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * Gives the 4 KiB page that was missing.
   *
   * @param gpa guest-physical address, a multiple of 4096
   * @param page 4096 bytes
   * @param generation {@link GuestMemory.generation} of when it was asked for: a page that was on its way when the
   *   fetched ones were dropped may be as old as these, and is not taken. Default: now.
   * @returns false when it was not taken
   * @throws VpciError `VPCI_MEMORY` for another address or size.
   */
  provide(gpa: number, page: Uint8Array, generation: number = this.#generation): boolean {
    checkRange(gpa, 4096, 4096);
    if (page.length !== 4096) throw memoryError(`a page of ${page.length} bytes: give all 4096`);
    if (generation !== this.#generation) return false;
    this.#remote.provide(gpa, page);
    this.#piece = NOWHERE;
    return true;
  }

  /** Drops all fetched pages: the next request sees the memory as it is then. */
  forget(): void {
    this.#generation++;
    this.#remote.forget();
    this.#piece = NOWHERE;
  }

  /** Copies bytes at `gpa` into `bytes`, for the embedder; false when some are in no region of this thread. */
  read(gpa: number, bytes: Uint8Array): boolean {
    return this.#copy(gpa, bytes.length, (memory, at, from, count) =>
      bytes.set(memory.subarray(at, at + count), from),
    );
  }

  /** Copies `bytes` to `gpa`, for the embedder; false when some are in no region of this thread. */
  write(gpa: number, bytes: Uint8Array): boolean {
    return this.#copy(gpa, bytes.length, (memory, at, from, count) =>
      memory.set(bytes.subarray(from, from + count), at),
    );
  }

  #copy(
    gpa: number,
    length: number,
    move: (memory: Uint8Array, at: number, from: number, count: number) => void,
  ): boolean {
    let done = 0;
    while (done < length) {
      const at = gpa + done;
      const piece = this.#pieces.find(({ base, end }) => at >= base && at < end);
      if (piece === undefined) return false;
      const { buffer, byteOffset, byteLength } = piece.words;
      const count = Math.min(length - done, piece.end - at);
      move(new Uint8Array(buffer, byteOffset, byteLength), at - piece.base, done, count);
      done += count;
    }
    return true;
  }

  /** Makes the piece around the span the current one. */
  #seek(high: number, low: number, length: number): number {
    const pieces = this.#pieces;
    for (let index = 0; index < pieces.length; index++) {
      const piece = pieces[index];
      if (piece === undefined || piece.high !== high) continue;
      const offset = (low - piece.low) | 0;
      if (offset < 0 || piece.last - offset < length - 1) continue;
      this.#piece = piece;
      return FOUND;
    }
    return this.#seekRemote(high, low, length);
  }

  #seekRemote(high: number, low: number, length: number): number {
    const gpa = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
    if (!this.#remote.covers(gpa, length)) return SPAN_ABSENT;
    const page = this.#remote.page(gpa);
    if (page !== undefined) {
      this.#piece = page;
      return SPAN_OK;
    }
    this.missHigh = high;
    this.missLow = low & ~0xfff;
    return SPAN_MISS;
  }

  /**
   * Reads the halves again until the lower one stays: a call that no compiler leaves out. Where somebody writes
   * all the time, one load of 64 bits ends it; that one allocates.
   */
  #untear(at: number): void {
    const { words, longs } = this.#piece;
    for (let attempt = 0; attempt < TORN_LIMIT; attempt++) {
      const low = Atomics.load(words, at);
      if (low === this.low) return;
      this.low = low;
      this.high = Atomics.load(words, at + 1);
    }
    const both = Atomics.load(longs, at >>> 1);
    this.low = Number(BigInt.asIntN(32, both));
    this.high = Number(BigInt.asIntN(32, both >> 32n));
  }

  #poisonAt(high: number, low: number, length: number): number {
    const gpa = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
    return this.#poison.find(({ base, end }) => gpa < end && gpa + length > base)?.status ?? SPAN_OK;
  }

  /** Sends words of the current piece to where its memory really is, if that is elsewhere. */
  #sendAway(at: number, count: number): void {
    const { base, words } = this.#piece;
    this.#remote.write(base, words, at, count);
  }

  #checkFree(base: number, end: number): void {
    const taken = this.#pieces.some((piece) => base < piece.end && end > piece.base);
    if (!taken && !this.#remote.overlaps(base, end)) return;
    throw memoryError(
      `there is guest memory at 0x${base.toString(16)} already: remove that region first, or place this one elsewhere`,
    );
  }
}
