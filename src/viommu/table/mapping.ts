import { hex } from '../../pci/bdf.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import {
  PERMISSION_EXECUTE,
  PERMISSION_PRIVILEGED,
  PERMISSION_READ,
  PERMISSION_WRITE,
  permissionLetters,
} from '../result.ts';

/** A range of bus addresses and where it lands. All three numbers are multiples of 4096. */
export interface Mapping {
  /** First bus address. */
  readonly iova: number | bigint;
  /** Guest-physical address of it. */
  readonly gpa: number | bigint;
  /** Bytes, at least 4096. */
  readonly size: number | bigint;
  /** Letters out of `rwxp`, at least one of `rwx`; `p`: for privileged requests only. */
  readonly permissions: string;
}

/** A range of bus addresses; both numbers are multiples of 4096. */
export type MappingRange = Pick<Mapping, 'iova' | 'size'>;

/** A {@link Mapping} in units of 4 KiB pages, each number below 2^52 and so exact. */
export interface PageMapping {
  readonly first: number;
  /** One past the last page. */
  readonly end: number;
  /** Page of the guest-physical address of `first`. */
  readonly target: number;
  /** `PERMISSION_*` bits. */
  readonly permissions: number;
}

const LETTERS: Readonly<Record<string, number>> = {
  r: PERMISSION_READ,
  w: PERMISSION_WRITE,
  x: PERMISSION_EXECUTE,
  p: PERMISSION_PRIVILEGED,
};

/**
 * Checks a range against an address width of `widthPages` pages (a power of two), and gives it in pages.
 *
 * @throws VpciError `VPCI_IOMMU_MAP` when it is empty, unaligned, or ends beyond the width.
 */
export function parseRange(
  { iova, size }: MappingRange,
  widthPages: number,
): Pick<PageMapping, 'first' | 'end'> {
  const first = pages(iova, 'iova');
  const count = pages(size, 'size');
  if (count === 0) throw mapError('the size is 0: a range has at least one page of 4096 bytes');
  if (first + count > widthPages) {
    throw mapError(
      `0x${hex(BigInt(iova))} + 0x${hex(BigInt(size))} ends beyond the ${Math.log2(widthPages) + 12} bits of addressWidth`,
    );
  }
  return { first, end: first + count };
}

/**
 * Checks a mapping and gives it in pages.
 *
 * @throws VpciError `VPCI_IOMMU_MAP` for a bad range, an unaligned `gpa` or one that runs past 2^64, or letters
 *   that are none.
 */
export function parseMapping(mapping: Mapping, widthPages: number): PageMapping {
  const { first, end } = parseRange(mapping, widthPages);
  const target = pages(mapping.gpa, 'gpa');
  if (target + (end - first) > 2 ** 52) {
    throw mapError('gpa + size runs past 2^64: map less, or lower');
  }
  return { first, end, target, permissions: parsePermissions(mapping.permissions) };
}

/**
 * The `PERMISSION_*` bits of letters out of `rwxp`.
 *
 * @throws VpciError `VPCI_IOMMU_MAP` for other letters, or without one of `rwx`.
 */
export function parsePermissions(letters: string): number {
  let bits = 0;
  for (const letter of letters) {
    const bit = Object.hasOwn(LETTERS, letter) ? LETTERS[letter] : undefined;
    if (bit === undefined) throw mapError(`permissions "${letters}": use letters out of "rwxp"`);
    bits |= bit;
  }
  if ((bits & ~PERMISSION_PRIVILEGED) === 0) {
    throw mapError(`permissions "${letters}" grant nothing: give r, w or x, or leave the range unmapped`);
  }
  return bits;
}

/** A {@link PageMapping} in bytes and letters. */
export function toMapping(
  mapping: PageMapping,
): Mapping & { readonly iova: bigint; readonly gpa: bigint; readonly size: bigint } {
  return {
    iova: BigInt(mapping.first) << 12n,
    gpa: BigInt(mapping.target) << 12n,
    size: BigInt(mapping.end - mapping.first) << 12n,
    permissions: permissionLetters(mapping.permissions),
  };
}

function pages(bytes: number | bigint, what: string): number {
  const whole = typeof bytes === 'bigint' || Number.isSafeInteger(bytes) ? BigInt(bytes) : -1n;
  if (whole < 0n || whole > 1n << 64n || (whole & 0xfffn) !== 0n) {
    throw mapError(`${what} is ${bytes}: give a multiple of 4096 up to 2^64, as a bigint above 2^53`);
  }
  return Number(whole >> 12n);
}

function mapError(message: string): VpciError {
  return new VpciError('VPCI_IOMMU_MAP', message);
}
