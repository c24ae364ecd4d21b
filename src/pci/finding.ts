/** Every {@link Finding.code}; `docs/trace.md` says what each means. */
export const FINDING_CODES = [
  'capability-clipped',
  'capability-hidden',
  'capability-replaced',
  'chain-all-ones',
  'chain-cycle',
  'chain-misaligned',
  'chain-out-of-range',
  'chain-too-long',
  'device-capabilities-2',
  'device-type',
  'interrupt-state',
  'pasid-exceeds-physical',
  'pasid-omitted',
  'pasid-width-limited',
  'physical-pasid-hidden',
  'unclaimed-bytes',
  'vf-header',
  'vf-without-ids',
] as const;

/** One of {@link FINDING_CODES}. */
export type FindingCode = (typeof FINDING_CODES)[number];

/**
 * Something in a function's configuration space that the trap layer met and dealt with. Not an error: the
 * function works, and the guest's view differs from the physical one exactly as the findings say.
 */
export interface Finding {
  readonly code: FindingCode;
  /** Config-space offset in bytes of what it is about. */
  readonly offset: number;
  /** Bytes from `offset` that it is about. */
  readonly length: number;
  /** One sentence for people. */
  readonly message: string;
}
