import { fstatSync, readSync, writeSync } from 'node:fs';
import { fileOrigin } from './file-origin.ts';
import {
  F_GET_SEALS,
  F_SEAL_SHRINK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  type Native,
  PROT_READ,
  PROT_WRITE,
} from '../linux/index.ts';

/** Bytes that one mapping has at most; a view of more than 4 GiB cannot be made. */
const PIECE = 2 ** 30;

/**
 * Pieces that one client has mapped at most. A sparse file costs the client nothing, and each piece costs this process a
 * mapping and some milliseconds; what is beyond is reached through the descriptor.
 */
const MAX_PIECES = 256;

/** Pieces that may still be mapped. */
interface Budget {
  left: number;
}

/** A mapped part of a file. */
export interface MappedPiece {
  /** Offset in the file of the first byte. */
  readonly start: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Unmaps what was mapped at an address once nobody has its bytes any more. */
const unusedPieces = new FinalizationRegistry<() => void>((unmap) => unmap());

/**
 * A file that holds guest memory: one that the client sent a descriptor of, or one that the user named.
 *
 * It is mapped when it is a memfd sealed against shrinking, as QEMU's memory-backend-memfd is. The end of any other
 * file the client could cut off, and touching what was there would end this process; such a file is read and written
 * through its descriptor: the same memory, slower.
 */
export class GuestFile {
  /** Bytes it had when it was opened. */
  readonly size: number;
  readonly #fd: number;
  readonly #native: Native | undefined;
  readonly #pieces = new Map<number, MappedPiece & { readonly address: number }>();
  readonly #onClose: () => void;
  readonly #budget: Budget;
  #users = 0;

  /** Uses `fd`, which `onClose` closes. Without `native` it is never mapped. Files of one client share a `budget`. */
  constructor(
    fd: number,
    size: number,
    native: Native | undefined,
    onClose: () => void,
    budget: Budget = { left: MAX_PIECES },
  ) {
    this.#budget = budget;
    this.#fd = fd;
    this.size = size;
    const seals = native?.fcntl(fd, F_GET_SEALS, 0) ?? -1;
    this.#native = seals !== -1 && (seals & F_SEAL_SHRINK) !== 0 ? native : undefined;
    this.#onClose = onClose;
  }

  /** One user more. */
  acquire(): this {
    this.#users++;
    return this;
  }

  /**
   * One user less; without any, the file is closed. Whoever still has bytes of it finds zeroes there: touching memory
   * that is not mapped would end this process.
   */
  release(): void {
    if (--this.#users > 0) return;
    for (const { address, bytes } of this.#pieces.values()) {
      const flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
      this.#native?.mmap(address, bytes.length, PROT_READ | PROT_WRITE, flags, -1, 0);
    }
    this.#budget.left += this.#pieces.size;
    this.#pieces.clear();
    this.#onClose();
  }

  /** The mapped part that `offset` is in; undefined when the file is not mapped there. */
  mapped(offset: number): MappedPiece | undefined {
    const native = this.#native;
    if (native === undefined || offset >= this.size) return undefined;
    const start = offset - (offset % PIECE);
    const known = this.#pieces.get(start);
    if (known !== undefined) return known;
    if (this.#budget.left === 0) return undefined;
    const length = Math.min(PIECE, this.size - start);
    const address = native.mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, this.#fd, start);
    if (address === undefined) return undefined;
    const piece = { start, bytes: native.view(address, length), address };
    unusedPieces.register(piece.bytes.buffer, () => native.munmap(address, length));
    this.#pieces.set(start, piece);
    this.#budget.left--;
    return piece;
  }

  /** Fills `bytes` from `offset` on; false when some are beyond the end or cannot be read. */
  read(offset: number, bytes: Uint8Array): boolean {
    return this.#access(offset, bytes, false);
  }

  /** Stores `bytes` from `offset` on; false when some are beyond the end or cannot be written. */
  write(offset: number, bytes: Uint8Array): boolean {
    return this.#access(offset, bytes, true);
  }

  #access(offset: number, bytes: Uint8Array, write: boolean): boolean {
    if (offset + bytes.length > this.size) return false;
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const piece = this.mapped(at);
      const length = Math.min(bytes.length - done, PIECE - (at % PIECE));
      const part = bytes.subarray(done, done + length);
      if (piece === undefined) {
        if (!this.#transfer(at, part, write)) return false;
      } else if (write) {
        piece.bytes.set(part, at - piece.start);
      } else {
        part.set(piece.bytes.subarray(at - piece.start, at - piece.start + length));
      }
      done += length;
    }
    return true;
  }

  #transfer(offset: number, bytes: Uint8Array, write: boolean): boolean {
    try {
      const count = write
        ? writeSync(this.#fd, bytes, 0, bytes.length, offset)
        : readSync(this.#fd, bytes, 0, bytes.length, offset);
      return count === bytes.length;
    } catch {
      return false;
    }
  }
}

/**
 * The files of one client: however many descriptors of a file come, it is open and mapped once. One that grew is
 * another.
 */
export class GuestFiles {
  readonly #native: Native;
  readonly #files = new Map<string, GuestFile>();
  readonly #budget: Budget = { left: MAX_PIECES };

  constructor(native: Native) {
    this.#native = native;
  }

  /**
   * The file of `fd`, acquired; undefined when it is no regular file, `unsafe` when a thread that reads it may wait for
   * ever. `fd` is taken over in any case.
   */
  open(fd: number): GuestFile | 'unsafe' | undefined {
    const origin = fileOrigin(this.#native, fd);
    if (origin !== 'kernel') {
      this.#native.close(fd);
      return origin === 'other' ? 'unsafe' : undefined;
    }
    const stat = fstatSync(fd);
    const key = `${stat.dev}:${stat.ino}:${stat.size}`;
    const known = this.#files.get(key);
    if (known !== undefined || !stat.isFile()) {
      this.#native.close(fd);
      return known?.acquire();
    }
    const close = (): void => {
      this.#native.close(fd);
      this.#files.delete(key);
    };
    const file = new GuestFile(fd, stat.size, this.#native, close, this.#budget);
    this.#files.set(key, file);
    return file.acquire();
  }
}
