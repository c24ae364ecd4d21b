import type { PciFunction } from '../function/index.ts';
import { checkSize } from './access-size.ts';

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
  /** What of the BAR is at `address`: not 0 where a port above passes on only what comes later. */
  readonly offset: number;
}

/**
 * One address space: which BAR claims an address. Where two overlap, the one that begins last answers; of two that
 * begin together, the later one in order of requester ID and BAR.
 */
export class DecodeMap {
  #windows: readonly DecodedWindow[] = [];
  #starts = new Float64Array(0);
  // How far each window and all before it reach.
  #reach = new Float64Array(0);
  #overlap = false;
  #last: DecodedWindow | undefined;

  /** Puts `windows` in force. */
  replace(windows: readonly DecodedWindow[]): void {
    this.#windows = windows.toSorted((a, b) => a.address - b.address);
    this.#starts = Float64Array.from(this.#windows, ({ address }) => address);
    this.#reach = new Float64Array(windows.length);
    this.#overlap = false;
    this.#last = undefined;
    let reach = 0;
    for (const [i, { address, size }] of this.#windows.entries()) {
      if (address < reach) this.#overlap = true;
      reach = Math.max(reach, address + size);
      this.#reach[i] = reach;
    }
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
    // Windows that overlap are not sorted by their ends, so look on as long as one before reaches this far.
    for (let i = low - 1; i >= 0 && (this.#reach[i] ?? 0) > address; i--) {
      const window = this.#windows[i];
      if (window === undefined || address >= window.address + window.size) continue;
      if (!this.#overlap) this.#last = window;
      return window;
    }
    return undefined;
  }

  /** Reads `size` (1, 2, 4) bytes at `address` from the BARs that claim them; all-ones where nobody does. @throws VpciError `VPCI_ACCESS_SIZE`. */
  read(address: number, size: number): number {
    checkSize(size);
    const window = this.find(address);
    if (window !== undefined && address - window.address + size <= window.size)
      return window.fn.barRead(window.bar, window.offset + address - window.address, size);
    if (size === 1) return 0xff;
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.read(address + i, 1);
    return value >>> 0;
  }

  /** Writes the low `size` (1, 2, 4) bytes of `value` at `address` to the BARs that claim them. */
  write(address: number, size: number, value: number): void {
    checkSize(size);
    const window = this.find(address);
    if (window !== undefined && address - window.address + size <= window.size)
      window.fn.barWrite(window.bar, window.offset + address - window.address, size, value);
    else if (size > 1) for (let i = 0; i < size; i++) this.write(address + i, 1, (value >>> (8 * i)) & 0xff);
  }
}
