import { checkPasidWidth } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';

/**
 * What becomes of a request in a state that the guest has not configured: `reject` always refuses it;
 * `architectural` does what the architecture says, which is often to let it pass, PASID and all.
 */
export type UnconfiguredPolicy = 'reject' | 'architectural';

/** Options of every model. */
export interface ViommuOptions {
  /** PASID width of the unit, in bits, 0 (no PASID) to 20. Default 20. */
  readonly pasidWidth?: number;
  /** Default `reject`. */
  readonly pasidWhenUnconfigured?: UnconfiguredPolicy;
  /** Entries of the IOTLB, a power of two of 8..65536. Default 1024. */
  readonly iotlbEntries?: number;
}

/** State of a unit as plain data, good for JSON. */
export interface ViommuState {
  readonly version: 1;
  /** {@link Viommu.model} of the unit that saved it. */
  readonly model: string;
}

/**
 * Completes the options that all models share.
 *
 * @throws VpciError `VPCI_PASID_WIDTH` or `VPCI_BAD_ARGUMENT` for one out of range.
 */
export function completeOptions(options: ViommuOptions): Required<ViommuOptions> {
  const { pasidWidth = 20, pasidWhenUnconfigured = 'reject', iotlbEntries = 1024 } = options;
  checkPasidWidth(pasidWidth, 'the PASID width of the vIOMMU');
  const policy: string = pasidWhenUnconfigured;
  if (policy !== 'reject' && policy !== 'architectural') {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      `pasidWhenUnconfigured is "${policy}": use "reject" or "architectural"`,
    );
  }
  return { pasidWidth, pasidWhenUnconfigured, iotlbEntries };
}
