import { type GuestMemory, SPAN_MISS, SPAN_OK } from '../../memory/index.ts';
import { FS_D, SS_A, SS_D } from './structures.ts';

/** {@link Trail.settle}: all flags are set. Other results are fault codes, and those of {@link GuestMemory}. */
export const SETTLED = 0;
/** An entry has changed since it was read: walk again. */
export const SETTLE_AGAIN = -2;

const RECORD = 8;
const HIGH = 0;
const LOW = 1;
const VALUE_HIGH = 2;
const VALUE_LOW = 3;
const BITS = 4;
// Not exported, and so folded into the code that uses them (see result.ts).
const SECOND_ACCESSED = SS_A;
const NOTHING = -1;
const DONE = SETTLED;
/** 1: a first-stage entry. */
const FIRST = 5;
/** First-stage entries in nested translation: index of the second-stage leaf they were read through, or -1. */
const THROUGH = 6;
/** First-stage entries in nested translation: 1 when the second stage lets the unit write them. */
const WRITABLE = 7;
/** 5 first-stage entries and the final address, each through 5 second-stage entries, and the 5 themselves. */
const LIMIT = 36;

/**
 * The paging entries that a walk went through, and the accessed and dirty flags that each has to have. They
 * are set at the end, when it is sure that the request will pass (3.6.3, 3.7.2).
 */
export class Trail {
  #count = 0;
  #leaf = NOTHING;
  readonly #records = new Int32Array(LIMIT * RECORD);

  /** Begins another walk. */
  begin(): void {
    this.#count = 0;
    this.#leaf = NOTHING;
  }

  /** Notes a second-stage entry; a leaf always, for it may have to be marked as written. Returns its index. */
  second(high: number, low: number, valueHigh: number, valueLow: number, leaf: boolean): number {
    if (!leaf && (valueLow & SECOND_ACCESSED) !== 0) return NOTHING;
    return this.#note(high, low, valueHigh, valueLow, SECOND_ACCESSED, 0, NOTHING, 1);
  }

  /**
   * Notes a first-stage entry that lacks one of `bits`, or a leaf that may have to be marked as written.
   * `through` is the index of the
   * second-stage leaf that it was read through, or -1.
   */
  first(
    high: number,
    low: number,
    valueHigh: number,
    valueLow: number,
    leaf: boolean,
    bits: number,
    through: number,
    writable: boolean,
  ): void {
    const index = this.#note(high, low, valueHigh, valueLow, bits, 1, through, writable ? 1 : 0);
    if (leaf) this.#leaf = index;
  }

  /** The first-stage leaf is written through. */
  firstIsWritten(): void {
    if (this.#leaf >= 0) this.#or(this.#leaf, FS_D);
  }

  /** The second-stage leaf of that index is written through. */
  secondIsWritten(index: number): void {
    if (index >= 0) this.#or(index, SS_D);
  }

  /**
   * Sets the flags that are missing.
   *
   * @param secondFlags the second stage has flags (SSADE)
   * @param coherent page walks are snooped (PWSNP): without it no flag can be set
   * @param dry only say how it would end
   */
  settle(memory: GuestMemory, secondFlags: boolean, coherent: boolean, dry: boolean): number {
    if (this.#count === 0) return DONE;
    for (let index = 0; index < this.#count; index++) {
      if (this.#get(index, FIRST) === 0 || this.#isSettled(index)) continue;
      if (this.#get(index, WRITABLE) === 0) return 0x77;
      if (secondFlags) this.secondIsWritten(this.#get(index, THROUGH));
    }
    // Nothing is set unless all can be.
    const blocked = this.#setAll(memory, secondFlags, coherent, true);
    return blocked !== DONE || dry ? blocked : this.#setAll(memory, secondFlags, coherent, false);
  }

  #setAll(memory: GuestMemory, secondFlags: boolean, coherent: boolean, dry: boolean): number {
    for (let index = 0; index < this.#count; index++) {
      const first = this.#get(index, FIRST) === 1;
      if (this.#isSettled(index) || !(first || secondFlags)) continue;
      if (!coherent) return first ? 0x90 : 0x7c;
      const done = this.#set(memory, index, dry);
      if (done < 0) return first ? 0x91 : 0x7d;
      if (done === 0) return SETTLE_AGAIN;
    }
    return DONE;
  }

  /** 1: set; 0: the entry has changed; -1: it cannot be written. */
  #set(memory: GuestMemory, index: number, dry: boolean): number {
    const status = memory.span(this.#get(index, HIGH), this.#get(index, LOW), 8);
    if (status === SPAN_MISS) return 0;
    if (status !== SPAN_OK || !memory.writable) return -1;
    if (dry) return 1;
    return memory.setBits64(
      this.#get(index, VALUE_HIGH),
      this.#get(index, VALUE_LOW),
      this.#get(index, BITS),
    );
  }

  #isSettled(index: number): boolean {
    const bits = this.#get(index, BITS);
    return (this.#get(index, VALUE_LOW) & bits) === bits;
  }

  #get(index: number, field: number): number {
    return this.#records[index * RECORD + field] ?? 0;
  }

  #or(index: number, bits: number): void {
    const at = index * RECORD + BITS;
    this.#records[at] = (this.#records[at] ?? 0) | bits;
  }

  /** One record per entry: a second-stage entry is met once for each level of the first. */
  #find(high: number, low: number, first: number): number {
    for (let index = 0; index < this.#count; index++) {
      const same = this.#get(index, LOW) === low && this.#get(index, HIGH) === high;
      if (same && this.#get(index, FIRST) === first) return index;
    }
    return NOTHING;
  }

  #note(
    high: number,
    low: number,
    valueHigh: number,
    valueLow: number,
    bits: number,
    first: number,
    through: number,
    writable: number,
  ): number {
    const known = this.#find(high, low, first);
    if (known >= 0) {
      this.#or(known, bits);
      return known;
    }
    const index = this.#count++;
    const at = index * RECORD;
    const records = this.#records;
    records[at + HIGH] = high;
    records[at + LOW] = low;
    records[at + VALUE_HIGH] = valueHigh;
    records[at + VALUE_LOW] = valueLow;
    records[at + BITS] = bits;
    records[at + FIRST] = first;
    records[at + THROUGH] = through;
    records[at + WRITABLE] = writable;
    return index;
  }
}
