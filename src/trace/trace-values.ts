/** An address, a size or an 8-byte value as traces print it: lower case, without leading zeros. */
export function hexOf(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

const HEX_OF_BYTE: readonly string[] = Array.from({ length: 0x100 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
);

/** Bytes in hexadecimal. A page at a time: one string for each byte would take far more memory than the bytes. */
export function hexBytes(bytes: Uint8Array): string {
  const pages: string[] = [];
  for (let at = 0; at < bytes.length; at += 0x1000)
    pages.push(Array.from(bytes.subarray(at, at + 0x1000), (byte) => HEX_OF_BYTE[byte]).join(''));
  return pages.join('');
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
