import { SHARED_REASONS } from '../reason.ts';

/** What a translation request is answered with when a condition stops it (7.1.3, tables 29 and 30). */
export const ANSWER_UR = 0;
export const ANSWER_CA = 1;
/** Success without rights; not recorded. */
export const ANSWER_SUCCESS = 2;
/** Success without rights, and recorded all the same. */
export const ANSWER_SUCCESS_RECORDED = 3;

/** One fault condition. Untranslated and translated requests are answered with Unsupported Request always. */
interface FaultCondition {
  readonly code: number;
  readonly reason: string;
  /** Not recorded when FPD is set in the structures met so far. */
  readonly qualified: boolean;
  /** `ANSWER_*` for a translation request. */
  readonly answer: number;
}

const QUALIFIED = true;
const ALWAYS = false;

function fault(code: number, reason: string, qualified: boolean, answer: number): FaultCondition {
  return { code, reason, qualified, answer };
}

/** All conditions that a unit of this model can meet, by their codes in the fault recording register. */
export const FAULT_CONDITIONS: readonly FaultCondition[] = [
  // Legacy mode.
  fault(0x01, 'root-entry-not-present', ALWAYS, ANSWER_UR),
  fault(0x02, 'context-entry-not-present', QUALIFIED, ANSWER_UR),
  fault(0x03, 'context-entry-invalid', QUALIFIED, ANSWER_CA),
  fault(0x04, 'address-beyond-width', QUALIFIED, ANSWER_SUCCESS),
  fault(0x05, 'no-write-permission', QUALIFIED, ANSWER_SUCCESS),
  fault(0x06, 'no-read-permission', QUALIFIED, ANSWER_SUCCESS),
  fault(0x07, 'paging-entry-access-error', QUALIFIED, ANSWER_CA),
  fault(0x08, 'root-entry-access-error', ALWAYS, ANSWER_CA),
  fault(0x09, 'context-entry-access-error', ALWAYS, ANSWER_CA),
  fault(0x0a, 'root-entry-reserved-bits', ALWAYS, ANSWER_CA),
  fault(0x0b, 'context-entry-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x0c, 'paging-entry-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x0d, 'device-tlb-not-enabled', QUALIFIED, ANSWER_UR),
  fault(0x0e, 'interrupt-range-output', QUALIFIED, ANSWER_CA),
  // Modes.
  fault(0x30, 'bad-translation-mode', ALWAYS, ANSWER_CA),
  fault(0x31, 'pasid-in-legacy-mode', ALWAYS, ANSWER_UR),
  fault(0x32, 'page-request-in-legacy-mode', ALWAYS, ANSWER_UR),
  fault(0x33, 'abort-dma-mode', ALWAYS, ANSWER_UR),
  fault(0x34, 'execute-requested', ALWAYS, ANSWER_UR),
  // Root and context entries.
  fault(0x38, 'root-entry-access-error', ALWAYS, ANSWER_CA),
  fault(0x39, 'root-entry-not-present', ALWAYS, ANSWER_UR),
  fault(0x3a, 'root-entry-reserved-bits', ALWAYS, ANSWER_CA),
  fault(0x40, 'context-entry-access-error', ALWAYS, ANSWER_CA),
  fault(0x41, 'context-entry-not-present', QUALIFIED, ANSWER_UR),
  fault(0x42, 'context-entry-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x43, 'context-entry-invalid', QUALIFIED, ANSWER_CA),
  fault(0x44, 'device-tlb-not-enabled', QUALIFIED, ANSWER_UR),
  fault(0x45, 'pasid-not-enabled', QUALIFIED, ANSWER_UR),
  fault(0x46, 'pasid-beyond-directory', QUALIFIED, ANSWER_UR),
  fault(0x47, 'page-requests-not-enabled', QUALIFIED, ANSWER_UR),
  fault(0x48, 'pasid-is-rid-pasid', QUALIFIED, ANSWER_UR),
  fault(0x49, 'translated-with-pasid-not-enabled', QUALIFIED, ANSWER_UR),
  // PASID directory and table.
  fault(0x50, 'pasid-directory-access-error', ALWAYS, ANSWER_CA),
  fault(0x51, 'pasid-directory-not-present', QUALIFIED, ANSWER_SUCCESS),
  fault(0x52, 'pasid-directory-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x58, 'pasid-entry-access-error', ALWAYS, ANSWER_CA),
  fault(0x59, 'pasid-entry-not-present', QUALIFIED, ANSWER_SUCCESS),
  fault(0x5a, 'pasid-entry-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x5b, 'pasid-entry-invalid', QUALIFIED, ANSWER_CA),
  fault(0x5c, 'execute-not-supported', QUALIFIED, ANSWER_SUCCESS),
  fault(0x5d, 'privileged-not-enabled', QUALIFIED, ANSWER_SUCCESS),
  // First stage.
  fault(0x70, 'first-stage-access-error', QUALIFIED, ANSWER_SUCCESS),
  fault(0x71, 'first-stage-not-present', QUALIFIED, ANSWER_SUCCESS),
  fault(0x72, 'first-stage-reserved-bits', QUALIFIED, ANSWER_SUCCESS),
  fault(0x73, 'first-stage-root-access-error', QUALIFIED, ANSWER_SUCCESS),
  fault(0x74, 'nested-address-beyond-width', QUALIFIED, ANSWER_SUCCESS),
  fault(0x75, 'nested-no-read-of-root', QUALIFIED, ANSWER_SUCCESS),
  fault(0x76, 'nested-no-read-of-entry', QUALIFIED, ANSWER_SUCCESS),
  fault(0x77, 'nested-no-write-of-entry', QUALIFIED, ANSWER_SUCCESS),
  fault(0x90, 'accessed-dirty-not-coherent', QUALIFIED, ANSWER_SUCCESS),
  fault(0x91, 'accessed-dirty-failed', QUALIFIED, ANSWER_SUCCESS_RECORDED),
  // Second stage.
  fault(0x78, 'second-stage-access-error', QUALIFIED, ANSWER_CA),
  fault(0x79, 'second-stage-not-present', QUALIFIED, ANSWER_SUCCESS),
  fault(0x7a, 'second-stage-reserved-bits', QUALIFIED, ANSWER_CA),
  fault(0x7b, 'second-stage-root-access-error', QUALIFIED, ANSWER_CA),
  fault(0x7c, 'accessed-dirty-not-coherent', QUALIFIED, ANSWER_CA),
  fault(0x7d, 'accessed-dirty-failed', QUALIFIED, ANSWER_CA),
  // Addresses and rights.
  fault(0x80, 'address-not-canonical', QUALIFIED, ANSWER_SUCCESS),
  fault(0x81, 'privileged-only', QUALIFIED, ANSWER_SUCCESS),
  fault(0x83, 'host-address-beyond-width', QUALIFIED, ANSWER_SUCCESS),
  fault(0x84, 'address-beyond-width', QUALIFIED, ANSWER_SUCCESS),
  fault(0x85, 'no-write-permission', QUALIFIED, ANSWER_SUCCESS),
  fault(0x86, 'no-read-permission', QUALIFIED, ANSWER_SUCCESS),
  fault(0x87, 'interrupt-range-output', QUALIFIED, ANSWER_CA),
  fault(0x89, 'pasid-beyond-unit-width', QUALIFIED, ANSWER_UR),
];

/** Reasons that the architecture records nothing for, after those that all models share. */
const UNRECORDED: readonly string[] = [
  'translation-disabled',
  'execute-without-pasid',
  'privileged-without-pasid',
  'write-with-translation-request',
  'translated-with-pasid',
  'requester-id-beyond-16-bits',
  'interrupt-range',
  'no-interrupt',
];
export const REASON_TRANSLATION_DISABLED: number = SHARED_REASONS.length;
export const REASON_EXECUTE_WITHOUT_PASID: number = SHARED_REASONS.length + 1;
export const REASON_PRIVILEGED_WITHOUT_PASID: number = SHARED_REASONS.length + 2;
export const REASON_WRITE_TRANSLATION_REQUEST: number = SHARED_REASONS.length + 3;
export const REASON_TRANSLATED_WITH_PASID: number = SHARED_REASONS.length + 4;
export const REASON_RID_BEYOND_16_BITS: number = SHARED_REASONS.length + 5;
export const REASON_INTERRUPT_RANGE: number = SHARED_REASONS.length + 6;
export const REASON_NO_INTERRUPT: number = SHARED_REASONS.length + 7;

/** Names of all reasons of a VT-d unit, by number. */
export const VTD_REASONS: readonly string[] = [
  ...SHARED_REASONS,
  ...UNRECORDED,
  ...new Set(FAULT_CONDITIONS.map(({ reason }) => reason)),
];

const REASON_BY_CODE = new Uint8Array(0x100);
const ANSWER_BY_CODE = new Uint8Array(0x100);
const QUALIFIED_BY_CODE = new Uint8Array(0x100);
for (const { code, reason, qualified, answer } of FAULT_CONDITIONS) {
  REASON_BY_CODE[code] = VTD_REASONS.indexOf(reason);
  ANSWER_BY_CODE[code] = answer;
  QUALIFIED_BY_CODE[code] = qualified ? 1 : 0;
}

/** Index into {@link VTD_REASONS} of a fault code. */
export function reasonOfFault(code: number): number {
  return REASON_BY_CODE[code] ?? 0;
}

/** `ANSWER_*` for a translation request that a fault code stops. */
export function answerOfFault(code: number): number {
  return ANSWER_BY_CODE[code] ?? ANSWER_UR;
}

/** True when FPD keeps a fault code from being recorded. */
export function isQualifiedFault(code: number): boolean {
  return QUALIFIED_BY_CODE[code] === 1;
}
