/** A field of a struct: byte offset, and bytes it has. */
export type FieldLayout = readonly [offset: number, size: 1 | 2 | 4 | 8];

/** A struct of the kernel's UAPI as 64-bit Linux lays it out, little-endian. */
export interface StructLayout<F extends string = string> {
  /** Its tag in C, such as `vfio_region_info`. */
  readonly name: string;
  /** The header it comes from, such as `linux/vfio.h`. */
  readonly header: string;
  /** Bytes, as the newest header known here has it. */
  readonly size: number;
  /** By the names that the header has. */
  readonly fields: Readonly<Record<F, FieldLayout>>;
}

/** An ioctl of VFIO or iommufd. */
export interface Ioctl {
  /** As the header calls it, such as `VFIO_DEVICE_RESET`. */
  readonly name: string;
  readonly header: string;
  /** The request as x86-64, AArch64 and RISC-V have it (`_IOC_NONE` is 0). */
  readonly request: number;
}

/** A layout with its names checked and kept. */
export function defineStruct<F extends string>(layout: StructLayout<F>): StructLayout<F> {
  return layout;
}

/** The bytes of one struct, with its fields by name. Begins as zeroes. */
export class StructBuffer<F extends string> {
  readonly layout: StructLayout<F>;
  /** What the kernel gets. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  /** `extra` bytes follow the struct: its flexible array. */
  constructor(layout: StructLayout<F>, extra = 0) {
    this.layout = layout;
    this.bytes = new Uint8Array(layout.size + extra);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** The field as an unsigned number; of 64-bit fields 53 bits are exact. */
  get(field: F): number {
    const [offset, size] = this.layout.fields[field];
    if (size === 1) return this.#view.getUint8(offset);
    if (size === 2) return this.#view.getUint16(offset, true);
    const low = this.#view.getUint32(offset, true);
    return size === 4 ? low : this.#view.getUint32(offset + 4, true) * 2 ** 32 + low;
  }

  /** Stores an unsigned number of up to 53 bits in the field. */
  set(field: F, value: number): this {
    const [offset, size] = this.layout.fields[field];
    if (size === 1) this.#view.setUint8(offset, value);
    else if (size === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint32(offset, value % 2 ** 32, true);
    if (size === 8) this.#view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
    return this;
  }

  /** Stores 64 bits in the field of that size. */
  setBig(field: F, value: bigint): this {
    this.#view.setBigUint64(this.layout.fields[field][0], value, true);
    return this;
  }

  /** The field of 64 bits. */
  getBig(field: F): bigint {
    return this.#view.getBigUint64(this.layout.fields[field][0], true);
  }

  /** All bytes 0, as before the first use. */
  clear(): this {
    this.bytes.fill(0);
    return this;
  }
}
