import { hex } from '../pci/bdf.ts';
import { VpciError } from '../pci/vpci-error.ts';
import {
  type ConfigLayout,
  type Owner,
  READ_VIRTUAL,
  WRITE_FULL,
  WRITE_NOTHING,
  WRITE_PLAIN,
  type WriteHook,
} from './config-layout.ts';

/**
 * The rules of one register, as masks in the register's own width; the names are the specification's
 * (PCIe 7.4). The masks must not overlap. Bits in none of them are RO.
 */
export interface RegisterRules<Target> {
  /** Value at power-on of the guest's view. */
  readonly value?: number;
  /** Read-write bits. */
  readonly rw?: number;
  /** Bits that a written 1 clears. */
  readonly rw1c?: number;
  /** Read-only bits; naming them changes nothing and documents them. */
  readonly ro?: number;
  /** Reserved and preserved: read the value, ignore writes. */
  readonly rsvdP?: number;
  /** Reserved and zero: read 0, ignore writes. */
  readonly rsvdZ?: number;
  /** Bits of the register that are virtual at all; the others stay with their owner. Default: all. */
  readonly virtual?: number;
  /** What the writable bits read after a reset. Default 0. */
  readonly reset?: number;
  /** Writable bits that a reset leaves alone (RWS, RW1CS). */
  readonly sticky?: number;
  /** Writable bits that a Function Level Reset leaves alone, though another reset does not (PCIe 6.6.2). */
  readonly keptByFlr?: number;
  /** Called after a write that touches the register's dword. A module-level function: layouts are shared. */
  readonly onWrite?: WriteHook<Target>;
}

/**
 * Puts a {@link ConfigLayout} together. Starts with the strictest rule there is: every byte is virtual, reads 0
 * and drops writes. Later calls win over earlier ones, bit by bit.
 */
export class LayoutBuilder<Target> {
  /** Initial shadow, a dword each. */
  readonly shadow: Int32Array;

  readonly #layout;
  readonly #hooks: (WriteHook<Target> | undefined)[] = [undefined];
  readonly #owners: Owner[] = [];

  /** `size`: bytes of the space, 256 or 4096. */
  constructor(size: number) {
    const words = size / 4;
    this.shadow = new Int32Array(words);
    this.#layout = {
      size,
      virtual: new Int32Array(words).fill(-1),
      rw: new Int32Array(words),
      rw1c: new Int32Array(words),
      forward: new Int32Array(words),
      savedForward: new Int32Array(words),
      hook: new Uint8Array(words),
      resetMask: new Int32Array(words),
      resetValue: new Int32Array(words),
      keptByFlr: new Int32Array(words),
    };
  }

  /** Gives bytes [`start`, `end`) to the physical function: read there, writes dropped. */
  physical(start: number, end: number): void {
    for (let offset = start; offset < end; offset++) {
      this.#change(this.#layout.virtual, offset, 0xff, 0);
      this.#change(this.shadow, offset, 0xff, 0);
      this.#change(this.#layout.rw, offset, 0xff, 0);
      this.#change(this.#layout.rw1c, offset, 0xff, 0);
    }
  }

  /**
   * Opens bytes [`start`, `end`) to raw reads and writes: those without an owner, and the physical bits of those
   * with one. Virtual bits of an owner stay out of reach.
   */
  passThrough(start: number, end: number, name: string): void {
    for (let offset = start; offset < end; offset++) {
      if (!this.#owners.some((one) => offset >= one.start && offset < one.end)) {
        this.physical(offset, offset + 1);
        this.own(offset, offset + 1, name, 'passthrough');
      }
      const word = this.#layout.virtual[offset >>> 2] ?? -1;
      const bits = (~word >>> (8 * (offset & 3))) & 0xff;
      this.#change(this.#layout.forward, offset, bits, bits);
    }
  }

  /**
   * Makes the bits in `mask` of the `size`-byte register at `offset` physical and lets writes to them through. They
   * belong to a saved state, unlike what {@link LayoutBuilder.passThrough} opens.
   */
  forwardBits(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) {
      const bits = (mask >>> (8 * i)) & 0xff;
      this.#change(this.#layout.virtual, offset + i, bits, 0);
      this.#change(this.#layout.rw, offset + i, bits, 0);
      this.#change(this.#layout.rw1c, offset + i, bits, 0);
      this.#change(this.#layout.forward, offset + i, bits, bits);
      this.#change(this.#layout.savedForward, offset + i, bits, bits);
    }
  }

  /** Gives the `size` (1, 2 or 4) bytes at `offset` to the shadow, under `rules`. */
  register(offset: number, size: number, rules: RegisterRules<Target>): void {
    const all = size === 4 ? 0xffffffff : (1 << (8 * size)) - 1;
    const owned = rules.virtual ?? all;
    const { rw = 0, rw1c = 0, ro = 0, rsvdP = 0, rsvdZ = 0 } = rules;
    if (masksOverlap([rw, rw1c, ro, rsvdP, rsvdZ]) || ((rw | rw1c) & ~owned) !== 0) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `the bit masks of the register at 0x${hex(offset, 3)} contradict each other`,
      );
    }
    const value = (rules.value ?? 0) & ~rsvdZ;
    const resets = (rw | rw1c) & ~(rules.sticky ?? 0);
    for (let i = 0; i < size; i++) {
      const lane = (mask: number): number => (mask >>> (8 * i)) & 0xff;
      const bits = lane(owned);
      this.#change(this.#layout.virtual, offset + i, bits, 0xff);
      this.#change(this.shadow, offset + i, bits, lane(value));
      this.#change(this.#layout.rw, offset + i, bits, lane(rw));
      this.#change(this.#layout.rw1c, offset + i, bits, lane(rw1c));
      this.#change(this.#layout.forward, offset + i, bits, 0);
      this.#change(this.#layout.savedForward, offset + i, bits, 0);
      this.#change(this.#layout.resetMask, offset + i, bits, lane(resets));
      this.#change(this.#layout.resetValue, offset + i, bits, lane(rules.reset ?? 0));
      this.#change(this.#layout.keptByFlr, offset + i, bits, lane(rules.keptByFlr ?? 0));
    }
    if (rules.onWrite !== undefined) this.#hook(offset >>> 2, rules.onWrite);
  }

  /** Names the owner of bytes [`start`, `end`), for people and for `inspect`. */
  own(start: number, end: number, name: string, source: Owner['source']): void {
    const last = this.#owners.at(-1);
    if (last?.end === start && last.name === name) this.#owners.splice(-1, 1, { ...last, end });
    else this.#owners.push({ start, end, name, source });
  }

  /** The value that the shadow gives the bytes at `offset` now; what physical bits contribute is 0. */
  peek(offset: number, size: number): number {
    const word = (this.shadow[offset >>> 2] ?? 0) >>> (8 * (offset & 3));
    return size === 4 ? word >>> 0 : word & ((1 << (8 * size)) - 1);
  }

  /** The layout; the builder must not be used afterwards. */
  build(): ConfigLayout<Target> {
    const owners = this.#owners.toSorted((a, b) => a.start - b.start);
    return { ...this.#layout, fast: this.#fast(), hooks: this.#hooks, owners };
  }

  #fast(): Uint8Array {
    const { virtual, rw, rw1c, forward, hook } = this.#layout;
    return Uint8Array.from(virtual, (mask, index) => {
      const isFull = ((rw1c[index] ?? 0) | (forward[index] ?? 0) | (hook[index] ?? 0)) !== 0;
      const write = isFull ? WRITE_FULL : rw[index] === 0 ? WRITE_NOTHING : WRITE_PLAIN;
      return (mask === -1 ? READ_VIRTUAL : 0) | write;
    });
  }

  #hook(index: number, hook: WriteHook<Target>): void {
    const present = this.#hooks[this.#layout.hook[index] ?? 0];
    if (present !== undefined && present !== hook) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `the dword at 0x${hex(4 * index, 3)} has a write hook already`,
      );
    }
    const known = this.#hooks.indexOf(hook);
    this.#layout.hook[index] = known === -1 ? this.#hooks.push(hook) - 1 : known;
  }

  #change(words: Int32Array, offset: number, mask: number, value: number): void {
    const index = offset >>> 2;
    const shift = 8 * (offset & 3);
    words[index] = ((words[index] ?? 0) & ~(mask << shift)) | ((value & mask) << shift);
  }
}

function masksOverlap(masks: readonly number[]): boolean {
  let seen = 0;
  for (const mask of masks) {
    if ((seen & mask) !== 0) return true;
    seen |= mask;
  }
  return false;
}
