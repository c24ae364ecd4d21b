import type { PciFunction } from '../../src/index.ts';
import { element, hex } from './dom.ts';

const LINE = 16;
const HEADER_END = 0x40;

/** The lines of configuration space that hold something, as lspci prints them; what the guest wrote is marked. */
export class RegisterView {
  readonly #fn: PciFunction;
  readonly #pre: HTMLPreElement = element('registers', HTMLPreElement);
  readonly #bytes: Uint8Array;
  /** Bytes that the guest wrote. */
  readonly #written = new Set<number>();

  constructor(fn: PciFunction) {
    this.#fn = fn;
    this.#bytes = new Uint8Array(fn.size);
    this.#pre.replaceChildren('the guest has not looked yet');
  }

  /** The guest wrote `size` bytes at `offset`. */
  written(offset: number, size: number): void {
    for (let i = 0; i < size; i++) this.#written.add(offset + i);
  }

  update(): void {
    // A look from here would count as the guest's first access, which freezes the width.
    if (!this.#fn.touched) return;
    this.#fn.readInto(0, this.#bytes);
    const lines: (string | Node)[] = [];
    let skipped = false;
    for (let start = 0; start < this.#bytes.length; start += LINE) {
      const line = this.#bytes.subarray(start, start + LINE);
      if (start >= HEADER_END && line.every((byte) => byte === 0)) {
        skipped = true;
        continue;
      }
      if (skipped) lines.push('...\n');
      skipped = false;
      lines.push(`${hex(start, 3)}:`);
      for (const [i, byte] of line.entries()) lines.push(' ', this.#byte(start + i, byte));
      lines.push('\n');
    }
    this.#pre.replaceChildren(...lines);
  }

  #byte(offset: number, byte: number): string | Node {
    if (!this.#written.has(offset)) return hex(byte, 2);
    const mark = document.createElement('mark');
    mark.textContent = hex(byte, 2);
    return mark;
  }
}
