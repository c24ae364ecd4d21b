/**
 * The physical side of a function: whatever holds its real configuration registers.
 *
 * Every access that reaches it is naturally aligned and 1, 2 or 4 bytes; the trap layer splits what a guest does.
 * Neither method may throw: an implementation whose device is gone answers all-ones and drops writes, as hardware does.
 */
export interface ConfigSpace {
  /** Bytes there are: 64, 128, 256 or 4096. */
  readonly size: number;
  /** Little-endian value of `size` (1, 2 or 4) bytes at `offset`. */
  read(offset: number, size: number): number;
  /** Stores the low `size` (1, 2 or 4) bytes of `value` at `offset`. */
  write(offset: number, size: number, value: number): void;
}

/** Bytes of the configuration space of a conventional function (PCI 3.0 6.1). */
export const CONFIG_SPACE_SIZE = 0x100;
/** Bytes of the configuration space of a PCI Express function (PCIe 7.2). */
export const EXTENDED_CONFIG_SPACE_SIZE = 0x1000;

/** A {@link ConfigSpace} over bytes in memory: a dump, or an emulated device's registers. Past the end reads all-ones. */
export class ByteConfigSpace implements ConfigSpace {
  readonly size: number;
  /** The bytes themselves; changed by {@link ByteConfigSpace.write}. */
  readonly bytes: Uint8Array;

  readonly #view: DataView;

  /** Keeps `bytes` (it does not copy them). */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.size = bytes.length;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(offset: number, size: number): number {
    if (offset + size > this.size) return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    if (size === 4) return this.#view.getUint32(offset, true);
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  write(offset: number, size: number, value: number): void {
    if (offset + size > this.size) return;
    if (size === 4) this.#view.setUint32(offset, value, true);
    else if (size === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint8(offset, value);
  }
}
