/**
 * What the hot door answers with: a status number, and six 32-bit words in an array that the caller owns.
 *
 * @module
 */

/** The address was translated. A status of 0 or more is an answer with an address; below 0 there is none. */
export const STATUS_TRANSLATED = 0;
/** The address passes unchanged. */
export const STATUS_BYPASS = 1;
/** A write into the interrupt range. */
export const STATUS_INTERRUPT = 2;
/** A Translation Completion with status Success. No permission bits: retry after a page request. */
export const STATUS_ATS = 3;
/** Unsupported Request (PCIe 2.3.1). A posted write ends here too, and the device hears nothing. */
export const STATUS_UNSUPPORTED_REQUEST = -1;
/** Completer Abort (PCIe 2.3.1). */
export const STATUS_COMPLETER_ABORT = -2;
/** The request ends without any completion. */
export const STATUS_DROPPED = -3;
/** Guest memory at the address in the result has to be fetched first; then ask again. Nothing was decided. */
export const STATUS_PENDING = -4;

/** Word 0: bits 31:0 of the address. */
export const OUT_ADDRESS_LOW = 0;
/** Word 1: bits 63:32 of the address. */
export const OUT_ADDRESS_HIGH = 1;
/** Word 2: the size of the page, as a power of two (12 = 4 KiB). 0 when there is none. */
export const OUT_PAGE_SIZE = 2;
/** Word 3: permission bits, `PERMISSION_*`. */
export const OUT_PERMISSIONS = 3;
/** Word 4: index into {@link Viommu.reasons}; 0 when there is nothing to explain. */
export const OUT_REASON = 4;
/** Word 5: the architecture's own number for the reason, or {@link NO_CODE}. */
export const OUT_CODE = 5;
/** Words that a result has. */
export const OUT_WORDS = 6;
/** Stands in word 5 when the architecture has no number for the result. */
export const NO_CODE = 0xffffffff;

/** `r`: readable. */
export const PERMISSION_READ = 0x01;
/** `w`: writable. */
export const PERMISSION_WRITE = 0x02;
/** `x`: executable. */
export const PERMISSION_EXECUTE = 0x04;
/** `p`: privileged only; in an ATS answer, that the rights hold for privileged requests (PCIe 10.2.3). */
export const PERMISSION_PRIVILEGED = 0x08;
/** `g`: global, good for every PASID of the function. */
export const PERMISSION_GLOBAL = 0x10;
/** `u`: may be reached by untranslated requests only. */
export const PERMISSION_UNTRANSLATED_ONLY = 0x20;
/** `n`: no snoop. */
export const PERMISSION_NO_SNOOP = 0x40;

const LETTERS = 'rwxpgun';

// V8 reads an exported constant from its cell on every use, and folds one that is not: twice as fast here.
const ADDRESS_LOW = OUT_ADDRESS_LOW;
const ADDRESS_HIGH = OUT_ADDRESS_HIGH;
const PAGE_SIZE = OUT_PAGE_SIZE;
const PERMISSIONS = OUT_PERMISSIONS;
const REASON = OUT_REASON;
const CODE = OUT_CODE;
const NONE = NO_CODE;

/** The letters of `bits` (`PERMISSION_*`), in the order `rwxpgun`. */
export function permissionLetters(bits: number): string {
  let letters = '';
  for (let bit = 0; bit < LETTERS.length; bit++) {
    if ((bits & (1 << bit)) !== 0) letters += LETTERS.charAt(bit);
  }
  return letters;
}

/** Word `index` of a result. */
export function word(out: Uint32Array, index: number): number {
  return out[index] ?? 0;
}

/** The address in a result, 64 bits. */
export function addressOf(out: Uint32Array): bigint {
  return (BigInt(word(out, OUT_ADDRESS_HIGH)) << 32n) | BigInt(word(out, OUT_ADDRESS_LOW));
}

/** Fills `out` with an answer that has an address, given as two halves of 32 bits. */
export function answer(
  out: Uint32Array,
  addressHigh: number,
  addressLow: number,
  pageSizeLog2: number,
  permissions: number,
): void {
  out[ADDRESS_LOW] = addressLow;
  out[ADDRESS_HIGH] = addressHigh;
  out[PAGE_SIZE] = pageSizeLog2;
  out[PERMISSIONS] = permissions;
  out[REASON] = 0;
  out[CODE] = NONE;
}

/** Fills `out` with an answer that has a reason in place of an address, and returns `status`. */
export function refuse(out: Uint32Array, status: number, reason: number, code: number = NONE): number {
  out[ADDRESS_LOW] = 0;
  out[ADDRESS_HIGH] = 0;
  out[PAGE_SIZE] = 0;
  out[PERMISSIONS] = 0;
  out[REASON] = reason;
  out[CODE] = code;
  return status;
}

/**
 * What a walk returns for an answer that the IOTLB may keep: the status with the rights that later requests
 * for the same page have without another walk (`RIGHT_*` of `iotlb.ts`).
 */
export function cacheable(status: number, rights: number): number {
  return (rights << 8) | status;
}
