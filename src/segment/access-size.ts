import { VpciError } from '../pci/vpci-error.ts';

/** What nobody answers: `size` (1, 2, 4) bytes of ones. @throws VpciError `VPCI_ACCESS_SIZE`. */
export function allOnes(size: number): number {
  checkSize(size);
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}

/** Refuses what no bus carries in one access. @throws VpciError `VPCI_ACCESS_SIZE` unless `size` is 1, 2 or 4. */
export function checkSize(size: number): void {
  if (size === 1 || size === 2 || size === 4) return;
  throw new VpciError(
    'VPCI_ACCESS_SIZE',
    `an access of ${size} bytes: use 1, 2 or 4, and more of them for any length`,
  );
}
