import { VpciError } from '../pci/vpci-error.ts';

/** A stretch of guest memory that this thread can reach. */
export interface GuestMemoryRegion {
  /** Guest-physical address of its first byte, a multiple of 8 below 2^52. */
  readonly base: number;
  /** Where the bytes are: plain, shared with other threads, or mapped from a file or another process. */
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  /** First byte of the region in `buffer`, a multiple of 8. Default 0. */
  readonly offset?: number;
  /** Bytes, a multiple of 8. Default: the rest of `buffer`. */
  readonly size?: number;
  /** True: the unit cannot write it, as ROM. Default false. */
  readonly readOnly?: boolean;
  /**
   * Others write it while the unit reads: another thread, or another process that has mapped it too. Default:
   * true for a `SharedArrayBuffer`.
   */
  readonly shared?: boolean;
}

/**
 * A stretch of guest memory that can be reached by messages only. Reading it answers *miss* until the glue has
 * fetched the page; `write` sends bytes away, and is not waited for.
 */
export interface RemoteMemoryRegion {
  /** Guest-physical address of its first byte, a multiple of 4096 below 2^52. */
  readonly base: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Stores `bytes` at guest-physical address `gpa`. */
  readonly write: (gpa: number, bytes: Uint8Array) => void;
}

/** First address that no region may contain: all addresses are exact numbers, with room to add sizes. */
export const GPA_LIMIT = 0x10_0000_0000_0000;

/**
 * One piece of memory as the walkers see it. It does not cross a multiple of 2 GiB, so that finding a word in it
 * takes small integers only.
 */
export interface Piece {
  readonly base: number;
  readonly end: number;
  /** Halves of {@link Piece.base}, signed. */
  readonly high: number;
  readonly low: number;
  /** Offset of the last byte. */
  readonly last: number;
  readonly words: Int32Array;
  readonly longs: BigUint64Array;
  readonly readOnly: boolean;
  readonly shared: boolean;
  /** The region it is a piece of; undefined for a page that was fetched. */
  readonly region: GuestMemoryRegion | undefined;
}

const PIECE_BYTES = 0x8000_0000;

/**
 * Cuts a region into pieces.
 *
 * @throws VpciError `VPCI_MEMORY` when a number is not aligned or the buffer is too small.
 */
export function piecesOf(region: GuestMemoryRegion): Piece[] {
  const { base, buffer, offset = 0, readOnly = false } = region;
  const size = region.size ?? buffer.byteLength - offset;
  checkRange(base, size, 8);
  if (!Number.isInteger(offset) || offset < 0 || offset % 8 !== 0 || offset + size > buffer.byteLength) {
    throw memoryError(
      `the buffer of ${buffer.byteLength} bytes has no ${size} bytes at offset ${offset}: give a multiple of 8 inside`,
    );
  }
  const pieces: Piece[] = [];
  for (let at = 0; at < size; ) {
    const bytes = Math.min(size - at, PIECE_BYTES - ((base + at) % PIECE_BYTES));
    const shared = region.shared ?? isShared(buffer);
    pieces.push(makePiece(base + at, bytes, buffer, offset + at, readOnly, shared, region));
    at += bytes;
  }
  return pieces;
}

/** A piece of `bytes` (up to 2 GiB) at `base`, which is `offset` in `buffer`. */
export function makePiece(
  base: number,
  bytes: number,
  buffer: ArrayBuffer | SharedArrayBuffer,
  offset: number,
  readOnly: boolean,
  shared: boolean,
  region: GuestMemoryRegion | undefined,
): Piece {
  return {
    base,
    end: base + bytes,
    high: Math.floor(base / 2 ** 32) | 0,
    low: base | 0,
    last: bytes - 1,
    words: new Int32Array(buffer, offset, bytes / 4),
    longs: new BigUint64Array(buffer, offset, bytes / 8),
    readOnly,
    shared,
    region,
  };
}

/** @throws VpciError `VPCI_MEMORY` unless `base` and `size` are aligned and end at 2^52 or below. */
export function checkRange(base: number, size: number, alignment: number): void {
  const whole = Number.isSafeInteger(base) && Number.isSafeInteger(size);
  if (whole && base >= 0 && size > 0 && base % alignment === 0 && size % alignment === 0) {
    if (base + size <= GPA_LIMIT) return;
  }
  throw memoryError(
    `no guest memory of ${size} bytes can be at ${base}: give multiples of ${alignment}, ending at 2^52 or below`,
  );
}

export function memoryError(message: string): VpciError {
  return new VpciError('VPCI_MEMORY', message);
}

/** Not every browser page has the class. */
function isShared(buffer: ArrayBuffer | SharedArrayBuffer): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer;
}
