import type { PciFunction } from '../../src/index.ts';

// Registers as the specification's tables have them, and a sweep of accesses over them, in the manner of Xen's
// vPCI harness: every size at every offset, so that every overlap of two registers occurs.

/** One register. Bits in no mask are RO, RsvdP or RsvdZ: they read `value`, and writes to them vanish. */
export interface Register {
  readonly name: string;
  readonly at: number;
  readonly size: 1 | 2 | 4;
  /** At power-on; writable bits take it again at a reset. */
  readonly value?: number;
  readonly rw?: number;
  readonly rw1c?: number;
  /** RWS and RW1CS: bits that no reset touches. */
  readonly sticky?: number;
  /** Bits that the device drives, which a table cannot foretell. */
  readonly device?: number;
}

interface Cell {
  readonly name: string;
  readonly value: number;
  readonly rw: number;
  readonly rw1c: number;
  readonly sticky: number;
  readonly device: number;
}

const NOBODY: Cell = { name: 'nobody', value: 0, rw: 0, rw1c: 0, sticky: 0, device: 0 };
const SIZE = 0x1000;

/** What follows from a write or a reset by the specification's words, and not by a mask. */
export type Settle = (table: RegisterTable, before: readonly number[]) => void;

/** The whole configuration space of an emulated function, byte by byte, by a table. What is in no row reads 0. */
export class RegisterTable {
  readonly bytes: number[] = [];
  readonly #cells: Cell[] = Array.from({ length: SIZE }, () => NOBODY);
  readonly #settle: Settle;

  constructor(rows: readonly Register[], settle: Settle = () => undefined) {
    this.#settle = settle;
    for (const row of rows) {
      const { name, at, size, value = 0, rw = 0, rw1c = 0, sticky = 0, device = 0 } = row;
      for (let i = 0; i < size; i++) {
        if (this.#cells[at + i] !== NOBODY) throw new Error(`${name} overlaps ${this.nameOf(at + i)}`);
        const lane = (mask: number): number => (mask >>> (8 * i)) & 0xff;
        this.#cells[at + i] = {
          name,
          value: lane(value),
          rw: lane(rw),
          rw1c: lane(rw1c),
          sticky: lane(sticky),
          device: lane(device),
        };
      }
    }
    this.bytes = this.#cells.map(({ value }) => value);
  }

  nameOf(at: number): string {
    return `${this.#cells[at]?.name ?? 'past the end'} (0x${at.toString(16)})`;
  }

  read(at: number): number {
    return this.bytes[at] ?? 0xff;
  }

  /** True when the guest may read `byte` at `at`. */
  allows(at: number, byte: number): boolean {
    return ((byte ^ this.read(at)) & ~(this.#cells[at]?.device ?? 0)) === 0;
  }

  write(at: number, bytes: readonly number[]): void {
    const before = this.bytes.slice();
    for (const [i, byte] of bytes.entries()) {
      const cell = this.#cells[at + i];
      if (cell === undefined) continue;
      const kept = this.read(at + i) & ~cell.rw;
      this.bytes[at + i] = (kept | (byte & cell.rw)) & ~(byte & cell.rw1c);
    }
    this.#settle(this, before);
  }

  reset(): void {
    for (const [at, { value, rw, rw1c, sticky }] of this.#cells.entries()) {
      const resets = (rw | rw1c) & ~sticky;
      this.bytes[at] = (this.read(at) & ~resets) | (value & rw & resets);
    }
    this.#settle(this, this.bytes);
  }

  /** Every bit that a guest can change becomes 1, or 0, as after a restored state. */
  fill(ones: boolean): void {
    for (const [at, { rw, rw1c }] of this.#cells.entries()) {
      this.bytes[at] = (this.read(at) & ~(rw | rw1c)) | (ones ? rw | rw1c : 0);
    }
    this.#settle(this, this.bytes);
  }

  /** Every bit that a guest can change, as a saved state has them. */
  changeable(): [offset: number, mask: number, value: number][] {
    const words: [number, number, number][] = [];
    const dword = (byte: (i: number) => number): number =>
      [0, 1, 2, 3].reduce((word, i) => word + byte(i) * 2 ** (8 * i), 0);
    for (let at = 0; at < SIZE; at += 4) {
      const mask = (i: number): number => (this.#cells[at + i]?.rw ?? 0) | (this.#cells[at + i]?.rw1c ?? 0);
      if (dword(mask) === 0) continue;
      words.push([at, dword(mask), dword((i) => this.read(at + i) & mask(i))]);
    }
    return words;
  }
}

/** Bytes [`from`, `to`) that the guest reads otherwise than the table says; the first few, in words. */
export function differences(fn: PciFunction, table: RegisterTable, from = 0, to = SIZE): string[] {
  const bytes = new Uint8Array(to - from);
  fn.readInto(from, bytes);
  const found: string[] = [];
  for (const [i, byte] of bytes.entries()) {
    if (table.allows(from + i, byte) || found.length > 4) continue;
    found.push(
      `${table.nameOf(from + i)} reads ${byte.toString(16)}, not ${table.read(from + i).toString(16)}`,
    );
  }
  return found;
}

/** Gives both sides all ones, or all zeros, in every bit that a guest can change. */
export function fill(fn: PciFunction, table: RegisterTable, ones: boolean): void {
  table.fill(ones);
  fn.restoreState({ ...fn.saveState(), registers: table.changeable() });
}

const SIZES = [1, 2, 4, 8] as const;
const PATTERNS = [0x00, 0xff, 0xa5, 0x5a] as const;

function readBytes(fn: PciFunction, at: number, size: number): number[] {
  if (size === 8) {
    const bytes = new Uint8Array(8);
    fn.readInto(at, bytes);
    return [...bytes];
  }
  const value = fn.read(at, size);
  return Array.from({ length: size }, (_, i) => (value >>> (8 * i)) & 0xff);
}

function writeBytes(fn: PciFunction, at: number, bytes: readonly number[]): void {
  if (bytes.length === 8) fn.writeFrom(at, Uint8Array.from(bytes));
  else
    fn.write(
      at,
      bytes.length,
      bytes.reduceRight((value, byte) => (value << 8) | byte, 0),
    );
}

/** Every size at every offset that touches [`start`, `end`), read and written. Gives what went wrong first. */
export function sweep(fn: PciFunction, table: RegisterTable, start: number, end: number): string[] {
  const wrong = differences(fn, table);
  if (wrong.length > 0) return ['at power-on', ...wrong];
  for (const size of SIZES) {
    for (let at = Math.max(0, start - size + 1); at < end; at++) {
      const seen = readBytes(fn, at, size);
      if (seen.some((byte, i) => !table.allows(at + i, byte)))
        return [`read of ${size} at 0x${at.toString(16)}: ${seen.join()}`, table.nameOf(at)];
      for (const [i, pattern] of PATTERNS.entries()) {
        fill(fn, table, i % 2 === 0);
        const bytes = Array.from({ length: size }, (_, lane) => (pattern ^ (lane * 0x11)) & 0xff);
        writeBytes(fn, at, bytes);
        table.write(at, bytes);
        const found = differences(fn, table, Math.max(0, start - 8), end + 8);
        if (found.length > 0) return [`write of ${size} at 0x${at.toString(16)}: ${bytes.join()}`, ...found];
      }
    }
  }
  const outside = differences(fn, table);
  return outside.length > 0 ? ['in the end, elsewhere', ...outside] : [];
}
