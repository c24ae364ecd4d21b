import type { ConfigSpace } from '../../src/index.ts';
import type { Native } from '../linux/index.ts';

/** A part of a device behind `pread` and `pwrite`. */
export interface RegionIo {
  /** Little-endian value of `size` (1, 2 or 4) bytes at `offset`; all-ones when the kernel refuses. */
  readonly read: (offset: number, size: number) => number;
  /** Stores `size` (1, 2 or 4) bytes at `offset`; dropped when the kernel refuses. */
  readonly write: (offset: number, size: number, value: number) => void;
}

/**
 * The bytes of a device's descriptor from `start` on, `length` of them. `fd` gives the descriptor, or undefined once
 * it is closed.
 */
export function regionIo(
  native: Native,
  fd: () => number | undefined,
  start: number,
  length: number,
): RegionIo {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  return {
    read: (offset, size) => {
      const open = fd();
      const inside = offset >= 0 && offset + size <= length;
      if (open === undefined || !inside || native.pread(open, bytes, size, start + offset) !== size) {
        bytes.fill(0xff);
      }
      if (size === 4) return view.getUint32(0, true);
      return size === 2 ? view.getUint16(0, true) : view.getUint8(0);
    },
    write: (offset, size, value) => {
      const open = fd();
      if (open === undefined || offset < 0 || offset + size > length) return;
      view.setUint32(0, value, true);
      native.pwrite(open, bytes, size, start + offset);
    },
  };
}

/** The configuration space of a device as its kernel driver shows it. */
export class VfioConfigSpace implements ConfigSpace {
  readonly size: number;
  readonly #io: RegionIo;

  /** `io` reaches `size` bytes: 256 or 4096. */
  constructor(io: RegionIo, size: number) {
    this.#io = io;
    this.size = size;
  }

  read(offset: number, size: number): number {
    return this.#io.read(offset, size);
  }

  write(offset: number, size: number, value: number): void {
    this.#io.write(offset, size, value);
  }
}
