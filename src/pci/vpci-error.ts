/**
 * Every code a {@link VpciError} can carry. Each has an entry in `docs/errors.md` that says what to do.
 */
export const VPCI_ERROR_CODES = [
  'VPCI_ACCESS_SIZE',
  'VPCI_BAD_ARGUMENT',
  'VPCI_BAR',
  'VPCI_BDF',
  'VPCI_BDF_TAKEN',
  'VPCI_CAPABILITY_COLLISION',
  'VPCI_CONFIG_SIZE',
  'VPCI_DUMP',
  'VPCI_DUMP_TRUNCATED',
  'VPCI_ECAM',
  'VPCI_FUNCTION_ATTACHED',
  'VPCI_HOST_CALL',
  'VPCI_IOMMU_MAP',
  'VPCI_MEMORY',
  'VPCI_NO_EXTENDED_SPACE',
  'VPCI_NO_FUNCTION',
  'VPCI_NO_KOFFI',
  'VPCI_NO_SPACE',
  'VPCI_PASID',
  'VPCI_PASID_OFFSET',
  'VPCI_PASID_REFUSED',
  'VPCI_PASID_WIDTH',
  'VPCI_PASSTHROUGH_RANGE',
  'VPCI_PLUG',
  'VPCI_REQUEST',
  'VPCI_SOCKET',
  'VPCI_STATE',
  'VPCI_TLP',
  'VPCI_UNSUPPORTED',
  'VPCI_VF_ID',
  'VPCI_VIOMMU_TOO_NARROW',
] as const;

/** One of {@link VPCI_ERROR_CODES}. */
export type VpciErrorCode = (typeof VPCI_ERROR_CODES)[number];

/**
 * A mistake of the embedding program (never of the guest: guest input has a defined result instead).
 * `code` is stable and listed in `docs/errors.md`; `message` says what to do.
 */
export class VpciError extends Error {
  /** Stable, machine readable. */
  readonly code: VpciErrorCode;

  constructor(code: VpciErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'VpciError';
    this.code = code;
  }
}
