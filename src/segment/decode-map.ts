import type { PciFunction } from '../function/index.ts';

/** A stretch of memory or I/O space that a BAR claims. */
export interface DecodedWindow {
  readonly kind: 'memory' | 'io';
  /** First guest-physical address, or first port. */
  readonly address: number;
  /** Bytes. */
  readonly size: number;
  readonly fn: PciFunction;
  /** 0..5, or 6 for the expansion ROM. */
  readonly bar: number;
}

/** One address space: which BAR claims an address. Where two overlap, the one found first answers. */
export class DecodeMap {
  #windows: readonly DecodedWindow[] = [];
  #starts = new Float64Array(0);
  #last: DecodedWindow | undefined;

  /** Puts `windows` in force. */
  replace(windows: readonly DecodedWindow[]): void {
    this.#windows = windows.toSorted((a, b) => a.address - b.address);
    this.#starts = Float64Array.from(this.#windows, ({ address }) => address);
    this.#last = undefined;
  }

  /** The windows, by address. */
  get windows(): readonly DecodedWindow[] {
    return this.#windows;
  }

  /** The window that holds `address`; undefined when nobody claims it. */
  find(address: number): DecodedWindow | undefined {
    // Accesses come in runs to the same BAR.
    const last = this.#last;
    if (last !== undefined && address >= last.address && address < last.address + last.size) return last;
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle] ?? 0) <= address) low = middle + 1;
      else high = middle;
    }
    // Windows that overlap are not sorted by their ends, so look at all that begin before.
    for (let i = low - 1; i >= 0; i--) {
      const window = this.#windows[i];
      if (window === undefined || address >= window.address + window.size) continue;
      this.#last = window;
      return window;
    }
    return undefined;
  }

  /** Reads `size` (1, 2, 4) bytes at `address` from the BARs that claim them; all-ones where nobody does. */
  read(address: number, size: number): number {
    const window = this.find(address);
    if (window === undefined) return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    const offset = address - window.address;
    if (offset + size <= window.size) return window.fn.barRead(window.bar, offset, size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.read(address + i, 1);
    return value >>> 0;
  }

  /** Writes the low `size` (1, 2, 4) bytes of `value` at `address` to the BARs that claim them. */
  write(address: number, size: number, value: number): void {
    const window = this.find(address);
    if (window === undefined) return;
    const offset = address - window.address;
    if (offset + size <= window.size) window.fn.barWrite(window.bar, offset, size, value);
    else for (let i = 0; i < size; i++) this.write(address + i, 1, value >>> (8 * i));
  }
}
