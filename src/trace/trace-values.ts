/** An address, a size or an 8-byte value as traces print it: lower case, without leading zeros. */
export function hexOf(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Bytes in hexadecimal. */
export function hexBytes(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The value of 1, 2 or 4 bytes as a number, of 8 as a hex string: how traces print what was read. */
export function valueOf(bytes: Uint8Array): number | string {
  let value = 0n;
  for (const byte of bytes.toReversed()) value = (value << 8n) | BigInt(byte);
  return bytes.length === 8 ? hexOf(value) : Number(value);
}

/** The low `size` bytes of `value`, lowest first. */
export function bytesOf(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
