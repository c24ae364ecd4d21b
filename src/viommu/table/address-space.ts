import { answer } from '../result.ts';
import type { PageMapping } from './mapping.ts';

// A record is four doubles: first page, end page, target page, permission bits. Pages are below 2^52.
const RECORD_BYTES = 32;
const END = 8;
const TARGET = 16;
const PERMISSIONS = 24;
const SMALLEST = 4;

const PAGES_2M = 0x200;
const PAGES_1G = 0x4_0000;

/**
 * The mappings of one (requester ID, PASID): intervals of 4 KiB pages, sorted, none overlapping, in one
 * buffer that grows and shrinks with them. Neighbours are kept apart as they were mapped. Looking up is a
 * binary search; mapping in ascending order appends.
 */
export class AddressSpace {
  #view: DataView = new DataView(new ArrayBuffer(SMALLEST * RECORD_BYTES));
  #count = 0;

  /** Number of mappings. */
  get count(): number {
    return this.#count;
  }

  /** Mappings there is room for before the buffer grows. */
  get capacity(): number {
    return this.#view.byteLength / RECORD_BYTES;
  }

  /** Index of the mapping that covers an address of two 32-bit halves; -1 when none does. */
  find(iovaHigh: number, iovaLow: number): number {
    const page = pageOf(iovaHigh, iovaLow);
    const index = this.#firstEndingAfter(page);
    return index < this.#count && this.#view.getFloat64(index * RECORD_BYTES, true) <= page ? index : -1;
  }

  /** `PERMISSION_*` bits of mapping `index`. */
  permissions(index: number): number {
    return this.#view.getFloat64(index * RECORD_BYTES + PERMISSIONS, true);
  }

  /** Mapping `index`. */
  at(index: number): PageMapping {
    const at = index * RECORD_BYTES;
    return {
      first: this.#view.getFloat64(at, true),
      end: this.#view.getFloat64(at + END, true),
      target: this.#view.getFloat64(at + TARGET, true),
      permissions: this.#view.getFloat64(at + PERMISSIONS, true),
    };
  }

  /**
   * Fills `out` for an address in mapping `index`. The page size is the largest of 4 KiB, 2 MiB and 1 GiB
   * whose naturally aligned block around the address lies in the mapping and lands on an aligned block.
   */
  translate(index: number, iovaHigh: number, iovaLow: number, permissions: number, out: Uint32Array): void {
    const at = index * RECORD_BYTES;
    const first = this.#view.getFloat64(at, true);
    const end = this.#view.getFloat64(at + END, true);
    const page = pageOf(iovaHigh, iovaLow);
    const target = this.#view.getFloat64(at + TARGET, true) + (page - first);
    let size = 12;
    if (isBlock(PAGES_2M, page, target, first, end))
      size = isBlock(PAGES_1G, page, target, first, end) ? 30 : 21;
    const low = target & 0xf_ffff;
    answer(out, (target - low) / 0x10_0000, (low << 12) | (iovaLow & 0xfff), size, permissions);
  }

  /** Adds a mapping; false, and no change, when it overlaps one that is there. */
  insert(mapping: PageMapping): boolean {
    const index = this.#firstEndingAfter(mapping.first);
    if (index < this.#count && this.#view.getFloat64(index * RECORD_BYTES, true) < mapping.end) return false;
    this.#splice(index, 0, 1);
    this.#put(index, mapping);
    return true;
  }

  /**
   * Takes the pages `first`..`end` (exclusive) out, splitting the mappings at both ends.
   *
   * @returns the extent of the mappings that were touched, as they were; undefined when there were none.
   */
  remove(first: number, end: number): Pick<PageMapping, 'first' | 'end'> | undefined {
    const from = this.#firstEndingAfter(first);
    let to = from;
    while (to < this.#count && this.#view.getFloat64(to * RECORD_BYTES, true) < end) to++;
    if (to === from) return undefined;
    const left = this.at(from);
    const right = this.at(to - 1);
    const keepLeft = left.first < first;
    const keepRight = right.end > end;
    this.#splice(from, to - from, (keepLeft ? 1 : 0) + (keepRight ? 1 : 0));
    if (keepLeft) this.#put(from, { ...left, end: first });
    if (keepRight) {
      this.#put(keepLeft ? from + 1 : from, {
        ...right,
        first: end,
        target: right.target + (end - right.first),
      });
    }
    return { first: left.first, end: right.end };
  }

  /** All mappings, ascending. */
  *mappings(): Generator<PageMapping> {
    for (let index = 0; index < this.#count; index++) yield this.at(index);
  }

  #firstEndingAfter(page: number): number {
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#view.getFloat64(middle * RECORD_BYTES + END, true) > page) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #put(index: number, { first, end, target, permissions }: PageMapping): void {
    const at = index * RECORD_BYTES;
    this.#view.setFloat64(at, first, true);
    this.#view.setFloat64(at + END, end, true);
    this.#view.setFloat64(at + TARGET, target, true);
    this.#view.setFloat64(at + PERMISSIONS, permissions, true);
  }

  /** Replaces `removed` records at `index` by `added` ones of undefined content, and fits the buffer. */
  #splice(index: number, removed: number, added: number): void {
    const count = this.#count - removed + added;
    const old = new Uint8Array(this.#view.buffer);
    const capacity = fit(old.length / RECORD_BYTES, count);
    let bytes = old;
    if (capacity * RECORD_BYTES !== old.length) {
      bytes = new Uint8Array(capacity * RECORD_BYTES);
      bytes.set(old.subarray(0, index * RECORD_BYTES));
      this.#view = new DataView(bytes.buffer);
    }
    const rest = old.subarray((index + removed) * RECORD_BYTES, this.#count * RECORD_BYTES);
    bytes.set(rest, (index + added) * RECORD_BYTES);
    this.#count = count;
  }
}

/** Capacity for `count` records: doubles when full, halves when a quarter is used. */
function fit(capacity: number, count: number): number {
  let fitting = capacity;
  while (fitting < count) fitting *= 2;
  while (fitting > SMALLEST && count <= fitting / 4) fitting /= 2;
  return fitting;
}

function pageOf(iovaHigh: number, iovaLow: number): number {
  return (iovaHigh >>> 0) * 0x10_0000 + (iovaLow >>> 12);
}

function isBlock(pages: number, page: number, target: number, first: number, end: number): boolean {
  const offset = page & (pages - 1);
  return (target & (pages - 1)) === offset && page - offset >= first && page - offset + pages <= end;
}
