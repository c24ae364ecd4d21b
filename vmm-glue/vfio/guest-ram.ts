import { VpciError } from '../../src/index.ts';
import type { GuestMemoryRegion } from '../../src/memory/index.ts';
import type { Native } from '../linux/index.ts';

const PAGE = 4096;

/** A stretch of guest memory at a fixed address of this process. */
export interface RamRange {
  /** Guest-physical address. */
  readonly gpa: number;
  /** Address in this process. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  readonly writable: boolean;
}

/** Guest memory by its addresses in this process, for a host IOMMU that reaches it there. */
export class GuestRam {
  readonly ranges: readonly RamRange[];
  // What the addresses point into must not be collected.
  readonly #regions: readonly GuestMemoryRegion[];

  /**
   * @throws VpciError `VPCI_MEMORY` when a region does not begin and end on pages of the guest and of this process:
   * use `mmap`, or a `WebAssembly.Memory`, whose buffers are aligned.
   */
  constructor(native: Native, regions: readonly GuestMemoryRegion[]) {
    this.#regions = regions;
    this.ranges = this.#regions
      .map((region) => ramRange(native, region))
      .toSorted((left, right) => left.gpa - right.gpa);
  }

  /**
   * Where `length` bytes at guest-physical address `gpa` are, in order; undefined when some are not there. Both are
   * multiples of 4096.
   */
  find(gpa: number, length: number): RamRange[] | undefined {
    const found: RamRange[] = [];
    for (let done = 0; done < length; ) {
      const at = gpa + done;
      const range = this.ranges.find((one) => at >= one.gpa && at < one.gpa + one.length);
      if (range === undefined) return undefined;
      const count = Math.min(length - done, range.gpa + range.length - at);
      found.push({ ...range, gpa: at, address: range.address + (at - range.gpa), length: count });
      done += count;
    }
    return found;
  }
}

function ramRange(native: Native, region: GuestMemoryRegion): RamRange {
  const { base, buffer, offset = 0, readOnly = false } = region;
  const bytes = new Uint8Array(buffer, offset, region.size ?? buffer.byteLength - offset);
  const address = native.address(bytes);
  const length = bytes.length;
  if (base % PAGE !== 0 || address % PAGE !== 0 || length % PAGE !== 0 || length === 0) {
    throw new VpciError(
      'VPCI_MEMORY',
      `guest memory at 0x${base.toString(16)} is not made of whole pages of this process: use mmap, or the buffer of a WebAssembly.Memory`,
    );
  }
  return { gpa: base, address, length, writable: !readOnly };
}
