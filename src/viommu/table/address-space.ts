import { RIGHT_PRIVILEGED_SHIFT } from '../iotlb.ts';
import { answer, PERMISSION_EXECUTE, PERMISSION_PRIVILEGED, PERMISSION_READ } from '../result.ts';
import type { PageMapping } from './mapping.ts';

// A record is four doubles: first page, end page, target page, grant. Pages are below 2^52.
const RECORD = 4;
const END = 1;
const TARGET = 2;
const GRANT = 3;
const SMALLEST = 4;

const PAGES_2M = 0x200;
const PAGES_1G = 0x4_0000;

/** Turns a page number's high part into bits 63:32 of an address. */
const PER_HIGH_HALF = 2 ** -20;

const RWX = 0x07;
const PERMISSIONS = 0xff;
/** Shift of the rights in a grant. */
const RIGHTS = 8;

/**
 * The mappings of one (requester ID, PASID): intervals of 4 KiB pages, sorted, none overlapping, in one
 * buffer that grows and shrinks with them. Neighbours are kept apart as they were mapped. Looking up is a
 * binary search; mapping in ascending order appends.
 */
export class AddressSpace {
  #records: Float64Array = new Float64Array(SMALLEST * RECORD);
  #count = 0;

  /** Number of mappings. */
  get count(): number {
    return this.#count;
  }

  /** Mappings there is room for before the buffer grows. */
  get capacity(): number {
    return this.#records.length / RECORD;
  }

  /** Index of the mapping that covers an address of two 32-bit halves; -1 when none does. */
  find(iovaHigh: number, iovaLow: number): number {
    const records = this.#records;
    const page = (iovaHigh >>> 0) * 0x10_0000 + (iovaLow >>> 12);
    let low = 0;
    let high = this.#count;
    // As #firstEndingAfter, which a page number would be boxed for.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (load(records, middle * RECORD + END) > page) high = middle;
      else low = middle + 1;
    }
    return low < this.#count && load(records, low * RECORD) <= page ? low : -1;
  }

  /**
   * What mapping `index` grants: its `PERMISSION_*` bits in 7:0, and in 15:8 the rights that follow from them for
   * a request with PASID, as `RIGHT_*` of the IOTLB.
   */
  grant(index: number): number {
    return load(this.#records, index * RECORD + GRANT);
  }

  /** Mapping `index`. */
  at(index: number): PageMapping {
    const at = index * RECORD;
    return {
      first: load(this.#records, at),
      end: load(this.#records, at + END),
      target: load(this.#records, at + TARGET),
      permissions: load(this.#records, at + GRANT) & PERMISSIONS,
    };
  }

  /**
   * Fills `out` for an address in mapping `index`. The page size is the largest of 4 KiB, 2 MiB and 1 GiB
   * whose naturally aligned block around the address lies in the mapping and lands on an aligned block.
   */
  translate(index: number, iovaHigh: number, iovaLow: number, permissions: number, out: Uint32Array): void {
    const records = this.#records;
    const at = index * RECORD;
    const first = load(records, at);
    const end = load(records, at + END);
    const page = (iovaHigh >>> 0) * 0x10_0000 + (iovaLow >>> 12);
    const target = load(records, at + TARGET) + (page - first);
    const size = end - first < PAGES_2M ? 12 : blockSize(page, target, first, end);
    const low = target & 0xf_ffff;
    answer(out, (target - low) * PER_HIGH_HALF, (low << 12) | (iovaLow & 0xfff), size, permissions);
  }

  /** Adds a mapping; false, and no change, when it overlaps one that is there. */
  insert(mapping: PageMapping): boolean {
    const index = this.#firstEndingAfter(mapping.first);
    if (index < this.#count && load(this.#records, index * RECORD) < mapping.end) return false;
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
    while (to < this.#count && load(this.#records, to * RECORD) < end) to++;
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
      if (load(this.#records, middle * RECORD + END) > page) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #put(index: number, { first, end, target, permissions }: PageMapping): void {
    const at = index * RECORD;
    this.#records[at] = first;
    this.#records[at + END] = end;
    this.#records[at + TARGET] = target;
    this.#records[at + GRANT] = permissions | (rightsOf(permissions) << RIGHTS);
  }

  /** Replaces `removed` records at `index` by `added` ones of undefined content, and fits the buffer. */
  #splice(index: number, removed: number, added: number): void {
    const count = this.#count - removed + added;
    const old = this.#records;
    const capacity = fit(this.capacity, count);
    if (capacity !== this.capacity) {
      this.#records = new Float64Array(capacity * RECORD);
      this.#records.set(old.subarray(0, index * RECORD));
    }
    const rest = old.subarray((index + removed) * RECORD, this.#count * RECORD);
    this.#records.set(rest, (index + added) * RECORD);
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

/** Size of the largest page, as a power of two, of which `page` is part. */
function blockSize(page: number, target: number, first: number, end: number): number {
  if (!isBlock(PAGES_2M, page, target, first, end)) return 12;
  return isBlock(PAGES_1G, page, target, first, end) ? 30 : 21;
}

function isBlock(pages: number, page: number, target: number, first: number, end: number): boolean {
  const offset = page & (pages - 1);
  return (target & (pages - 1)) === offset && page - offset >= first && page - offset + pages <= end;
}

/** Executing takes the right to read as well. */
function rightsOf(permissions: number): number {
  const reads = (permissions & PERMISSION_READ) !== 0;
  const rights = permissions & (reads ? RWX : RWX & ~PERMISSION_EXECUTE);
  const ordinary = (permissions & PERMISSION_PRIVILEGED) === 0 ? rights : 0;
  return (rights << RIGHT_PRIVILEGED_SHIFT) | ordinary;
}

function load(records: Float64Array, index: number): number {
  return records[index] ?? 0;
}
