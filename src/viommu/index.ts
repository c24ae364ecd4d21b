/**
 * What all vIOMMU models share: requests and verdicts, the hot door's numbers, events, explanations.
 *
 * @module
 */

export {
  ACCESS_ATOMIC,
  ACCESS_EXECUTE,
  ACCESS_NO_WRITE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_TRANSLATED,
  ACCESS_TRANSLATION,
  ACCESS_WRITE,
  type AccessKind,
  type AddressType,
  NO_PASID,
} from './access.ts';
export {
  type AtcAnswer,
  type AtcInvalidation,
  type DevicePort,
  PRG_INVALID_REQUEST,
  PRG_RESPONSE_FAILURE,
  PRG_SUCCESS,
  type PrgResponse,
  type PrgResponseCode,
} from './device-port.ts';
export type {
  EndpointEvent,
  FaultEvent,
  InterruptEvent,
  MappedEvent,
  PageRequestEvent,
  PasidInvalidatedEvent,
  TablesInvalidatedEvent,
  TranslationInvalidatedEvent,
  ViommuEvents,
} from './events.ts';
export { Explanation, type ExplanationStep, type StepField } from './explanation.ts';
export type { UnconfiguredPolicy, ViommuOptions, ViommuState } from './options.ts';
export type { PageRequest, PageRequestAnswer } from './page-request.ts';
export type { MemoryRequest } from './request.ts';
export {
  NO_CODE,
  OUT_ADDRESS_HIGH,
  OUT_ADDRESS_LOW,
  OUT_CODE,
  OUT_PAGE_SIZE,
  OUT_PERMISSIONS,
  OUT_REASON,
  OUT_WORDS,
  PERMISSION_EXECUTE,
  PERMISSION_GLOBAL,
  PERMISSION_NO_SNOOP,
  PERMISSION_PRIVILEGED,
  PERMISSION_READ,
  PERMISSION_UNTRANSLATED_ONLY,
  PERMISSION_WRITE,
  STATUS_ATS,
  STATUS_BYPASS,
  STATUS_COMPLETER_ABORT,
  STATUS_DROPPED,
  STATUS_INTERRUPT,
  STATUS_PENDING,
  STATUS_TRANSLATED,
  STATUS_UNSUPPORTED_REQUEST,
} from './result.ts';
export type { ViommuCounters } from './tally.ts';
export type {
  AtsVerdict,
  PassingVerdict,
  PendingVerdict,
  RejectedVerdict,
  TranslatedVerdict,
  Verdict,
} from './verdict.ts';
export { Viommu } from './viommu.ts';
