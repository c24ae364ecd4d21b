import { ERRNO } from '../linux/index.ts';
import type { GuestFile } from './guest-file.ts';
import { MAX_DMA_MAPS } from './protocol.ts';

/** A range of guest memory that the client opened to the device (DMA_MAP). */
export interface DmaRegion {
  /** First address, as the device sends it. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Where the memory is; undefined: it is reached by messages to the client. */
  readonly file: GuestFile | undefined;
  /** Offset of the range in the file. */
  readonly offset: number;
}

/** Addresses are exact numbers below this. */
const ADDRESS_LIMIT = 2n ** 53n;
/** First address that does not exist. */
const ADDRESS_SPACE = 2n ** 64n;

/** What a client has mapped: ranges that do not overlap, sorted by address. */
export class DmaTable {
  readonly #regions: DmaRegion[] = [];

  /** Why the range cannot be mapped (an errno); 0 when it can. */
  refusal(address: bigint, size: bigint): number {
    if (size === 0n || address + size > ADDRESS_LIMIT) return ERRNO.EINVAL;
    if (this.#regions.length >= MAX_DMA_MAPS) return ERRNO.ENOSPC;
    return this.#overlaps(Number(address), Number(size)) ? ERRNO.EEXIST : 0;
  }

  /** Adds a range that {@link DmaTable.refusal} has nothing against. */
  add(region: DmaRegion): void {
    this.#regions.splice(this.#firstAfter(region.address), 0, region);
  }

  /**
   * Takes out every range inside [`address`, `address + size`) and returns them; undefined, and nothing happens,
   * when the borders cut a range in two, or there are no such addresses.
   */
  remove(address: bigint, size: bigint): DmaRegion[] | undefined {
    if (address + size > ADDRESS_SPACE) return undefined;
    const from = exact(address);
    const to = exact(address + size);
    const first = this.#firstAfter(from - 1);
    const end = this.#firstAfter(to - 1);
    if (endOf(this.#regions[first - 1]) > from || endOf(this.#regions[end - 1]) > to) return undefined;
    return this.#regions.splice(first, end - first);
  }

  /** Takes everything out and returns it. */
  clear(): DmaRegion[] {
    return this.#regions.splice(0);
  }

  /** The range that `address` is in. */
  find(address: number): DmaRegion | undefined {
    const region = this.#regions[this.#firstAfter(address) - 1];
    return region !== undefined && address < region.address + region.size ? region : undefined;
  }

  /** Index of the first range that begins after `address`. */
  #firstAfter(address: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#regions[middle]?.address ?? Infinity) <= address) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #overlaps(address: number, size: number): boolean {
    return endOf(this.#regions[this.#firstAfter(address + size - 1) - 1]) > address;
  }
}

function endOf(region: DmaRegion | undefined): number {
  return region === undefined ? 0 : region.address + region.size;
}

/** A border as a number: nothing is mapped from the limit on. */
function exact(address: bigint): number {
  return Number(address < ADDRESS_LIMIT ? address : ADDRESS_LIMIT);
}
