import type { DecodedBar, PciFunction } from '../../src/index.ts';
import { VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS } from './protocol.ts';

/**
 * A region as vfio has them: a BAR, the expansion ROM or the configuration space. Whoever calls has checked that the
 * access lies inside.
 */
export interface Region {
  /** Bytes; 0 stands for a region that the function does not have. */
  readonly size: number;
  /** Little-endian value of `size` (1, 2 or 4) bytes at `offset`, at any alignment. */
  read(offset: number, size: number): number;
  /** Stores the low `size` (1, 2 or 4) bytes of `value` at `offset`, at any alignment. */
  write(offset: number, size: number, value: number): void;
  /** Fills `bytes` from `offset` on. */
  readInto(offset: number, bytes: Uint8Array): void;
  /** Stores `bytes` from `offset` on. */
  writeFrom(offset: number, bytes: Uint8Array): void;
}

const NO_REGION: Region = {
  size: 0,
  read: () => 0,
  write: () => undefined,
  readInto: () => undefined,
  writeFrom: () => undefined,
};

/** The regions of `fn` by index, with `config` as its configuration space; `onError` gets what a BAR's code throws. */
export function regionsOf(fn: PciFunction, config: Region, onError: (error: unknown) => void): Region[] {
  const regions = Array.from({ length: VFIO_PCI_NUM_REGIONS }, () => NO_REGION);
  // The ROM has the index after the BARs here as there.
  for (const bar of fn.bars) regions[bar.index] = new BarRegion(fn, bar, onError);
  regions[VFIO_PCI_CONFIG_REGION_INDEX] = config;
  return regions;
}

/** A BAR: the function sees aligned pieces of 1, 2 and 4 bytes, lowest first, and can throw without harm. */
class BarRegion implements Region {
  readonly size: number;
  readonly #function: PciFunction;
  readonly #index: number;
  readonly #onError: (error: unknown) => void;

  constructor(fn: PciFunction, bar: DecodedBar, onError: (error: unknown) => void) {
    this.size = bar.size;
    this.#function = fn;
    this.#index = bar.index;
    this.#onError = onError;
  }

  read(offset: number, size: number): number {
    if (offset % size === 0) return this.#read(offset, size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | (this.#read(offset + i, 1) & 0xff);
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset % size === 0) return this.#write(offset, size, value);
    for (let i = 0; i < size; i++) this.#write(offset + i, 1, (value >>> (8 * i)) & 0xff);
  }

  readInto(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const size = pieceSize(offset + at, bytes.length - at);
      const value = this.#read(offset + at, size);
      for (let i = 0; i < size; i++) bytes[at + i] = value >>> (8 * i);
      at += size;
    }
  }

  writeFrom(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const size = pieceSize(offset + at, bytes.length - at);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = (value << 8) | (bytes[at + i] ?? 0);
      this.#write(offset + at, size, value >>> 0);
      at += size;
    }
  }

  #read(offset: number, size: number): number {
    try {
      return this.#function.barRead(this.#index, offset, size);
    } catch (error) {
      this.#onError(error);
      return 0xffffffff;
    }
  }

  #write(offset: number, size: number, value: number): void {
    try {
      this.#function.barWrite(this.#index, offset, size, value);
    } catch (error) {
      this.#onError(error);
    }
  }
}

function pieceSize(offset: number, left: number): number {
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
