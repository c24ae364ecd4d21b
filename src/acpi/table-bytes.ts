import { VpciError } from '../pci/vpci-error.ts';

/** Who made a table (ACPI 5.2.6): what the guest's firmware shows. */
export interface TableIdentity {
  /** OEMID, up to 6 ASCII characters. Default `VPCI`. */
  readonly oemId?: string;
  /** OEM Table ID, up to 8 ASCII characters. Default `VPCI`. */
  readonly oemTableId?: string;
  /** OEM Revision, 32 bits. Default 1. */
  readonly oemRevision?: number;
}

const HEADER_BYTES = 36;
const LENGTH = 4;
const CHECKSUM = 9;

/** Little-endian bytes, written one field after the other. */
export class TableBytes {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  /** A value of 1, 2, 4 or 8 bytes. */
  uint(value: number | bigint, size: 1 | 2 | 4 | 8): this {
    let rest = BigInt(value);
    for (let i = 0; i < size; i++) {
      this.#bytes.push(Number(rest & 0xffn));
      rest >>= 8n;
    }
    return this;
  }

  zeros(count: number): this {
    for (let i = 0; i < count; i++) this.#bytes.push(0);
    return this;
  }

  /** ASCII, filled up with `fill` to `size`. */
  text(text: string, size: number, fill = 0x20): this {
    for (let i = 0; i < size; i++) this.#bytes.push(i < text.length ? text.charCodeAt(i) : fill);
    return this;
  }

  append(other: TableBytes): this {
    for (const byte of other.#bytes) this.#bytes.push(byte);
    return this;
  }

  /** A whole table: the header of ACPI 5.2.6, then these bytes; length and checksum are filled in. */
  table(signature: string, revision: number, identity: TableIdentity): Uint8Array {
    const { oemId = 'VPCI', oemTableId = 'VPCI', oemRevision = 1 } = identity;
    checkAscii(oemId, 6, 'oemId');
    checkAscii(oemTableId, 8, 'oemTableId');
    checkInteger(oemRevision, 0, 0xffff_ffff, 'oemRevision');
    const whole = new TableBytes()
      .text(signature, 4)
      .uint(HEADER_BYTES + this.length, 4)
      .uint(revision, 1)
      .uint(0, 1)
      .text(oemId, 6)
      .text(oemTableId, 8)
      .uint(oemRevision, 4)
      .text('VPCI', 4)
      .uint(1, 4)
      .append(this);
    const bytes = Uint8Array.from(whole.#bytes);
    new DataView(bytes.buffer).setUint32(LENGTH, bytes.length, true);
    const sum = bytes.reduce((total, byte) => total + byte, 0);
    bytes[CHECKSUM] = -sum;
    return bytes;
  }
}

/** @throws VpciError `VPCI_BAD_ARGUMENT` unless `value` is a whole number of `min`..`max`. */
export function checkInteger(value: number, min: number, max: number, what: string): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw badArgument(`${what} is ${value}: give a whole number of ${min} to 0x${max.toString(16)}`);
}

/** @throws VpciError `VPCI_BAD_ARGUMENT` unless `address` is a 64-bit address and a multiple of `alignment`. */
export function checkAddress(address: number | bigint, alignment: bigint, what: string): void {
  const whole = typeof address === 'bigint' || Number.isSafeInteger(address) ? BigInt(address) : -1n;
  if (whole >= 0n && whole < 1n << 64n && whole % alignment === 0n) return;
  throw badArgument(`${what} is ${address}: give a multiple of 0x${alignment.toString(16)} below 2^64`);
}

function checkAscii(text: string, size: number, what: string): void {
  if (text.length > size || !/^[\x20-\x7e]*$/.test(text)) {
    throw badArgument(`${what} is "${text}": give up to ${size} ASCII characters`);
  }
}

export function badArgument(message: string): VpciError {
  return new VpciError('VPCI_BAD_ARGUMENT', message);
}
