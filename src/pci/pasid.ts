import { VpciError } from './vpci-error.ts';

/**
 * The PASID Extended Capability (PCIe 7.8.9) and the facts about a device that fill it.
 *
 * @module
 */

/** PASID Capability register, 16 bits (7.8.9.2). */
export const PASID_CAPABILITY = 0x04;
export const PASID_EXECUTE_PERMISSION_SUPPORTED = 0x0002;
export const PASID_PRIVILEGED_MODE_SUPPORTED = 0x0004;
export const PASID_MAX_WIDTH = 0x1f00;
/** Shift of {@link PASID_MAX_WIDTH}. */
export const PASID_MAX_WIDTH_SHIFT = 8;
/** PASID Control register, 16 bits (7.8.9.3). */
export const PASID_CONTROL = 0x06;
export const PASID_ENABLE = 0x0001;
export const PASID_EXECUTE_PERMISSION_ENABLE = 0x0002;
export const PASID_PRIVILEGED_MODE_ENABLE = 0x0004;
/** Bytes of the structure. */
export const PASID_LENGTH = 8;
/** Version that PCIe 6 gives the structure. */
export const PASID_VERSION = 1;

/** Widest PASID there is, in bits (6.20). */
export const PASID_WIDTH_LIMIT = 20;
/** Largest PASID there is. */
export const PASID_LIMIT = 0xfffff;

/** What the host says about a device's PASID support: its answer, or the embedder's own. */
export interface PasidFeature {
  /** Bits of PASID that the device *and* its IOMMU carry, 1..20; 0 for none. */
  readonly width: number;
  /** Execute permission is enabled on the host. Ignored when `width` is 0. */
  readonly execute?: boolean;
  /** Privileged mode is enabled on the host. Ignored when `width` is 0. */
  readonly privileged?: boolean;
}

/**
 * Refuses a width that PCIe does not know, instead of cutting it to size.
 *
 * @throws VpciError `VPCI_PASID_WIDTH` unless `width` is a whole number from 0 to 20.
 */
export function checkPasidWidth(width: number, what: string): void {
  if (Number.isInteger(width) && width >= 0 && width <= PASID_WIDTH_LIMIT) return;
  throw new VpciError(
    'VPCI_PASID_WIDTH',
    `${what} is ${width}: a PASID width is 0 (none) to ${PASID_WIDTH_LIMIT} bits (PCIe 7.8.9.2); pass on what the host reported, unchanged`,
  );
}
