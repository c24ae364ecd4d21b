import { VpciError } from '../../pci/vpci-error.ts';
import { REGISTER_BYTES } from './registers.ts';

/** The register block as 32-bit words, over a buffer that other threads may look at. */
export class RegisterFile {
  readonly #words: Int32Array;

  /** @throws VpciError `VPCI_BAD_ARGUMENT` when the buffer has less than 4096 bytes. */
  constructor(buffer: ArrayBuffer | SharedArrayBuffer) {
    if (buffer.byteLength < REGISTER_BYTES) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `registerBuffer has ${buffer.byteLength} bytes: the registers need ${REGISTER_BYTES}`,
      );
    }
    this.#words = new Int32Array(buffer, 0, REGISTER_BYTES / 4);
  }

  /** The word at a byte offset that is a multiple of 4, signed. */
  get(offset: number): number {
    return this.#words[offset >>> 2] ?? 0;
  }

  /** Stores the word at a byte offset that is a multiple of 4. */
  set(offset: number, value: number): void {
    this.#words[offset >>> 2] = value;
  }

  /** Sets bits of a word. */
  or(offset: number, bits: number): void {
    this.set(offset, this.get(offset) | bits);
  }

  /** Clears bits of a word. */
  clear(offset: number, bits: number): void {
    this.set(offset, this.get(offset) & ~bits);
  }

  /** True when one of the bits is set. */
  has(offset: number, bits: number): boolean {
    return (this.get(offset) & bits) !== 0;
  }

  /** `size` bytes at any offset, unsigned; 0 where there is no register. */
  read(offset: number, size: number): number {
    if (size === 4 && (offset & 3) === 0 && offset >= 0 && offset < REGISTER_BYTES) {
      return this.get(offset) >>> 0;
    }
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#byte(offset + i);
    return value >>> 0;
  }

  /** All words from a byte offset on are 0. */
  zero(from: number): void {
    this.#words.fill(0, from >>> 2);
  }

  #byte(offset: number): number {
    if (!(offset >= 0 && offset < REGISTER_BYTES)) return 0;
    return (this.get(offset & ~3) >>> ((offset & 3) * 8)) & 0xff;
  }
}
