import type { ConfigSpace } from '../pci/config-space.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { type ConfigLayout, READ_VIRTUAL, WRITE_KIND, WRITE_NOTHING, WRITE_PLAIN } from './config-layout.ts';

/**
 * Registers of a space as {@link VirtualConfigSpace.saveRegisters} gives them, in order: offset of a dword in bytes, the
 * bits of it that a guest can change, and their value; 32 bits each.
 */
export type SavedRegisters = readonly (readonly [offset: number, mask: number, value: number])[];

/** Hears about every write that reached the physical function. */
export type HostWriteListener = (offset: number, size: number, value: number) => void;

/**
 * A configuration space as a guest sees it: a {@link ConfigLayout} says where each bit is read and what a write
 * does, a shadow holds the virtual bits, a {@link ConfigSpace} the physical ones.
 *
 * Accesses may have any alignment. They are split at dwords and at the borders between virtual and physical
 * bytes, so that the physical side sees only aligned accesses to bytes that it owns. Nothing here throws for a
 * guest's value or offset: past the end reads all-ones, writes vanish.
 */
export class VirtualConfigSpace<Target> {
  /** Set by the first access; what the guest may have seen must not change any more. */
  touched = false;

  readonly #target: Target;
  readonly #physical: ConfigSpace | undefined;
  // Dwords in the order of the host, which is little-endian.
  readonly #shadow: Int32Array;
  readonly #onHostWrite: HostWriteListener | undefined;
  #layout: ConfigLayout<Target>;
  #virtual: Int32Array;
  #fast: Uint8Array;
  #rw: Int32Array;

  /**
   * `buffer` (at least `layout.size` bytes) becomes the shadow and may be shared with other threads;
   * `initial` is what it holds at power-on.
   */
  constructor(
    target: Target,
    layout: ConfigLayout<Target>,
    initial: Int32Array,
    physical: ConfigSpace | undefined,
    buffer: ArrayBufferLike,
    onHostWrite?: HostWriteListener,
  ) {
    this.#target = target;
    this.#physical = physical;
    this.#onHostWrite = onHostWrite;
    this.#shadow = new Int32Array(buffer, 0, layout.size / 4);
    this.#layout = layout;
    this.#virtual = layout.virtual;
    this.#fast = layout.fast;
    this.#rw = layout.rw;
    this.install(layout, initial);
  }

  /** The layout in force. */
  get layout(): ConfigLayout<Target> {
    return this.#layout;
  }

  /** Puts another layout and its initial values in force; only before the guest's first access. */
  install(layout: ConfigLayout<Target>, initial: Int32Array): void {
    this.#layout = layout;
    this.#virtual = layout.virtual;
    this.#fast = layout.fast;
    this.#rw = layout.rw;
    this.#shadow.set(initial);
  }

  /** Little-endian value of `size` (1, 2 or 4) bytes at `offset`, as the guest reads it. */
  read(offset: number, size: number): number {
    this.touched = true;
    const index = offset >>> 2;
    const lane = offset & 3;
    if (lane + size <= 4 && offset < LIMIT) {
      const fast = this.#fast[index];
      const dword = this.#shadow[index];
      if (fast !== undefined && dword !== undefined && (fast & VIRTUAL) !== 0) {
        const word = dword >>> (8 * lane);
        return size === 4 ? word >>> 0 : size === 2 ? word & 0xffff : word & 0xff;
      }
    }
    return this.#readSplit(offset, size);
  }

  /** The guest writes the low `size` (1, 2 or 4) bytes of `value` at `offset`. */
  write(offset: number, size: number, value: number): void {
    this.touched = true;
    if (!(offset >= 0 && offset < LIMIT)) return;
    const index = offset >>> 2;
    const lane = offset & 3;
    if (lane + size > 4) {
      this.#writeSplit(offset, size, value);
      return;
    }
    const kind = (this.#fast[index] ?? 0) & KIND;
    if (kind === NOTHING) return;
    const lanes = (SIZE_MASKS[size] ?? 0) << (8 * lane);
    if (kind !== PLAIN) {
      this.#writeWord(index, lanes, value << (8 * lane));
      return;
    }
    const taken = (this.#rw[index] ?? 0) & lanes;
    this.#shadow[index] = ((this.#shadow[index] ?? 0) & ~taken) | ((value << (8 * lane)) & taken);
  }

  /** Fills `bytes` from `offset` on, a dword at a time. */
  readInto(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const size = pieceSize(offset + done, bytes.length - done);
      const value = this.read(offset + done, size);
      for (let i = 0; i < size; i++) bytes[done + i] = value >>> (8 * i);
      done += size;
    }
  }

  /** The same, for somebody who is not the guest: {@link VirtualConfigSpace.touched} stays as it is. */
  inspectInto(offset: number, bytes: Uint8Array): void {
    const { touched } = this;
    this.readInto(offset, bytes);
    this.touched = touched;
  }

  /** The guest writes `bytes` from `offset` on, a dword at a time. */
  writeFrom(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const size = pieceSize(offset + done, bytes.length - done);
      let value = 0;
      for (let i = size - 1; i >= 0; i--) value = (value << 8) | (bytes[done + i] ?? 0);
      this.write(offset + done, size, value);
      done += size;
    }
  }

  /** Shadow of the dword at `offset`, without touching the physical side: for the function's own use. */
  peek(offset: number): number {
    return this.#shadow[offset >>> 2] ?? 0;
  }

  /** Sets the bits in `mask` of the shadow dword at `offset`: the device's side of a register. */
  poke(offset: number, mask: number, value: number): void {
    const index = offset >>> 2;
    this.#shadow[index] = ((this.#shadow[index] ?? 0) & ~mask) | (value & mask);
  }

  /** Every writable virtual bit takes its reset value, except sticky ones, and those that `flr` leaves alone. */
  reset(flr: boolean): void {
    const { resetMask, resetValue, keptByFlr } = this.#layout;
    for (const [index, all] of resetMask.entries()) {
      const mask = flr ? all & ~(keptByFlr[index] ?? 0) : all;
      if (mask !== 0) this.poke(4 * index, mask, resetValue[index] ?? 0);
    }
  }

  /**
   * Every bit that a guest can change: virtual ones, and those of known registers that its writes reach on the physical
   * side. What the embedder passed through raw is device-specific, and not among them.
   */
  saveRegisters(): SavedRegisters {
    const saved: [number, number, number][] = [];
    for (let offset = 0; offset < this.#layout.size; offset += 4) {
      const mask = this.#changeable(offset);
      if (mask !== 0) saved.push([offset, mask >>> 0, (this.#valueOf(offset) & mask) >>> 0]);
    }
    return saved;
  }

  /** True when `saved` is of a space in which a guest can change the same bits. */
  fits(saved: SavedRegisters): boolean {
    let next = 0;
    for (let offset = 0; offset < this.#layout.size; offset += 4) {
      const mask = this.#changeable(offset) >>> 0;
      if (mask === 0) continue;
      const [savedOffset, savedMask] = saved[next++] ?? [];
      if (savedOffset !== offset || savedMask !== mask) return false;
    }
    return next === saved.length;
  }

  /**
   * Takes back what {@link VirtualConfigSpace.saveRegisters} gave, if it {@link VirtualConfigSpace.fits}. Bits on the
   * physical side that are otherwise are written there, as the guest's own write would.
   */
  restoreRegisters(saved: SavedRegisters): void {
    const { rw, rw1c, savedForward } = this.#layout;
    for (const [offset, , value] of saved) {
      const index = offset >>> 2;
      this.poke(offset, (rw[index] ?? 0) | (rw1c[index] ?? 0), value);
      const forward = savedForward[index] ?? 0;
      if (((this.#valueOf(offset) ^ value) & forward) !== 0) this.#writePhysical(offset, forward, value);
    }
  }

  #changeable(offset: number): number {
    const { rw, rw1c, savedForward } = this.#layout;
    const index = offset >>> 2;
    return (rw[index] ?? 0) | (rw1c[index] ?? 0) | (savedForward[index] ?? 0);
  }

  /** What a guest would read of a dword, as far as a state has it. */
  #valueOf(offset: number): number {
    return (this.#layout.savedForward[offset >>> 2] ?? 0) === 0
      ? this.peek(offset)
      : this.#readSplit(offset, 4);
  }

  /**
   * Any access, a dword at a time, physical bytes in as few and as wide aligned accesses as touch only them. One
   * function on purpose: V8 would inline smaller ones into {@link VirtualConfigSpace.read} and slow the fast path.
   */
  #readSplit(offset: number, size: number): number {
    if (!(offset >= 0 && offset < LIMIT)) return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    checkSize(size);
    const physical = this.#physical;
    let value = 0;
    for (let done = 0; done < size; ) {
      const lane = (offset + done) & 3;
      const index = (offset + done) >>> 2;
      const piece = Math.min(size - done, 4 - lane);
      const lanes = (SIZE_MASKS[piece] ?? 0) << (8 * lane);
      const virtual = this.#virtual[index];
      let word = -1;
      if (virtual !== undefined) {
        const at = 4 * index;
        const wanted = ~virtual & lanes;
        const byte0 = (wanted & 0xff) !== 0;
        const byte1 = (wanted & 0xff00) !== 0;
        const byte2 = (wanted & 0xff0000) !== 0;
        const byte3 = wanted >>> 24 !== 0;
        let real = 0;
        if (wanted !== 0 && physical === undefined) real = -1;
        else if (physical !== undefined && byte0 && byte1 && byte2 && byte3) real = physical.read(at, 4);
        else if (physical !== undefined) {
          if (byte0 && byte1) real = physical.read(at, 2) & 0xffff;
          else if (byte0) real = physical.read(at, 1) & 0xff;
          else if (byte1) real = (physical.read(at + 1, 1) & 0xff) << 8;
          if (byte2 && byte3) real |= physical.read(at + 2, 2) << 16;
          else if (byte2) real |= (physical.read(at + 2, 1) & 0xff) << 16;
          else if (byte3) real |= physical.read(at + 3, 1) << 24;
        }
        word = ((this.#shadow[index] ?? 0) & virtual) | (real & wanted);
      }
      value |= ((word & lanes) >>> (8 * lane)) << (8 * done);
      done += piece;
    }
    return size === 4 ? value >>> 0 : size === 2 ? value & 0xffff : value & 0xff;
  }

  #writeSplit(offset: number, size: number, value: number): void {
    checkSize(size);
    const lane = offset & 3;
    const low = 4 - lane;
    this.#writeWord(offset >>> 2, laneMask(lane, low), value << (8 * lane));
    this.#writeWord((offset >>> 2) + 1, laneMask(0, size - low), value >>> (8 * low));
  }

  #writeWord(index: number, lanes: number, bits: number): void {
    const layout = this.#layout;
    const rw = layout.rw[index];
    if (rw === undefined) return;
    const offset = 4 * index;
    const before = this.#shadow[index] ?? 0;
    const taken = rw & lanes;
    const cleared = (layout.rw1c[index] ?? 0) & lanes & bits;
    const after = ((before & ~taken) | (bits & taken)) & ~cleared;
    this.#shadow[index] = after;
    const forward = (layout.forward[index] ?? 0) & lanes;
    if (forward !== 0) this.#writePhysical(offset, forward, bits);
    const hook = layout.hooks[layout.hook[index] ?? 0];
    if (hook !== undefined) hook(this.#target, offset, before, after, bits & lanes, lanes);
  }

  /** Writes the bits in `forward`, with as few and as wide aligned accesses as cover exactly their bytes. */
  #writePhysical(offset: number, forward: number, bits: number): void {
    if ((forward & 0xffff) !== 0 && forward >>> 16 !== 0 && everyByte(forward)) {
      this.#writePiece(offset, 4, forward, bits);
      return;
    }
    for (let half = 0; half < 2; half++) {
      const mask = (forward >>> (16 * half)) & 0xffff;
      const value = (bits >>> (16 * half)) & 0xffff;
      const at = offset + 2 * half;
      if ((mask & 0xff) !== 0 && mask >>> 8 !== 0) {
        this.#writePiece(at, 2, mask, value);
      } else if ((mask & 0xff) !== 0) {
        this.#writePiece(at, 1, mask, value & 0xff);
      } else if (mask !== 0) {
        this.#writePiece(at + 1, 1, mask >>> 8, value >>> 8);
      }
    }
  }

  #writePiece(offset: number, size: number, mask: number, value: number): void {
    const physical = this.#physical;
    if (physical === undefined) return;
    const all = laneMask(0, size);
    // Bits of the same bytes that the guest does not own keep what the hardware holds.
    const kept = mask === all ? 0 : physical.read(offset, size) & all & ~mask;
    const merged = ((value & mask) | kept) >>> 0;
    physical.write(offset, size, merged);
    this.#onHostWrite?.(offset, size, merged);
  }
}

// What V8 folds into the fast paths: constants of this module, not imported ones.
const VIRTUAL = READ_VIRTUAL;
const KIND = WRITE_KIND;
const NOTHING = WRITE_NOTHING;
const PLAIN = WRITE_PLAIN;

/** Mask of the low `size` bytes, by size: a look-up, because no processor predicts a guest's access sizes. */
const SIZE_MASKS = Int32Array.of(0, 0xff, 0xffff, 0xffffff, -1);

/** No configuration space is longer; beyond it, 32-bit shifts would make an offset wrap. */
const LIMIT = 0x1000;

/** Mask of `size` bytes from byte `lane` of a dword on. */
function laneMask(lane: number, size: number): number {
  return size >= 4 ? -1 : ((1 << (8 * size)) - 1) << (8 * lane);
}

/** True when each of the four bytes of `mask` has a bit set. */
function everyByte(mask: number): boolean {
  return (mask & 0xff) !== 0 && (mask & 0xff00) !== 0 && (mask & 0xff0000) !== 0 && mask >>> 24 !== 0;
}

/** Largest naturally aligned piece at `offset` that is no longer than `left` bytes. */
function pieceSize(offset: number, left: number): number {
  if ((offset & 3) === 0 && left >= 4) return 4;
  return (offset & 1) === 0 && left >= 2 ? 2 : 1;
}

function checkSize(size: number): void {
  if (size === 1 || size === 2 || size === 4) return;
  throw new VpciError(
    'VPCI_ACCESS_SIZE',
    `an access of ${size} bytes: use 1, 2 or 4, or readInto and writeFrom for any length`,
  );
}
