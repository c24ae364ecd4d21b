import { SHARED_REASONS } from '../reason.ts';

/**
 * The reasons of the table model, by number for the hot door; they follow those that all models share.
 *
 * @module
 */

/** Execute Requested without a PASID, which no TLP can carry (PCIe 6.20.2). */
export const REASON_EXECUTE_WITHOUT_PASID = 5;
/** Privileged Mode Requested without a PASID, which no TLP can carry (PCIe 6.20.2). */
export const REASON_PRIVILEGED_WITHOUT_PASID = 6;
/** A translation request or a translated address of an endpoint that shows no ATS capability (PCIe 10.5.1). */
export const REASON_ATS_NOT_SUPPORTED = 7;
/** A translated address with a PASID, under the `reject` policy (PCIe 6.20.2). */
export const REASON_TRANSLATED_WITH_PASID = 8;
/** No address space for the endpoint's requests without PASID. */
export const REASON_NOT_ATTACHED = 9;
/** No address space for the PASID. */
export const REASON_PASID_NOT_ATTACHED = 10;
/** The address is 2^addressWidth or more. */
export const REASON_ADDRESS_BEYOND_WIDTH = 11;
/** No mapping at the address. */
export const REASON_NOT_MAPPED = 12;
/** The mapping is for privileged requests only. */
export const REASON_PRIVILEGED_ONLY = 13;
export const REASON_NO_READ_PERMISSION = 14;
export const REASON_NO_WRITE_PERMISSION = 15;
export const REASON_NO_EXECUTE_PERMISSION = 16;

/** Names of all reasons of the table model, by number. */
export const TABLE_REASONS: readonly string[] = [
  ...SHARED_REASONS,
  'execute-without-pasid',
  'privileged-without-pasid',
  'ats-not-supported',
  'translated-with-pasid',
  'not-attached',
  'pasid-not-attached',
  'address-beyond-width',
  'not-mapped',
  'privileged-only',
  'no-read-permission',
  'no-write-permission',
  'no-execute-permission',
];
