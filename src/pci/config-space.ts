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

/** A {@link ConfigSpace} over bytes in memory: a dump, or an emulated device's registers. */
export class ByteConfigSpace implements ConfigSpace {
  readonly size: number;
  /** The bytes themselves; changed by {@link ByteConfigSpace.write}. */
  readonly bytes: Uint8Array;

  /** Keeps `bytes` (it does not copy them). */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.size = bytes.length;
  }

  read(offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | (this.bytes[offset + i] ?? 0xff);
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      if (offset + i < this.size) this.bytes[offset + i] = value >>> (8 * i);
    }
  }
}
