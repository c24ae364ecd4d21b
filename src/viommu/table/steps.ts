import { hex } from '../../pci/bdf.ts';
import { NO_PASID } from '../access.ts';
import type { ExplanationStep, StepField } from '../explanation.ts';
import { REASON_PASID_BEYOND_WIDTH } from '../reason.ts';
import { permissionLetters } from '../result.ts';
import type { AddressSpace } from './address-space.ts';
import { toMapping } from './mapping.ts';
import * as reasons from './reasons.ts';

/**
 * The steps of a walk of the table model, in words. Only `explain` gets here.
 *
 * @module
 */

const ATTACH = 'table model: attach';

/** A step about something that is not in guest memory. */
function step(
  structure: string,
  fields: Readonly<Record<string, StepField>>,
  ok: boolean,
  check: string,
  spec: string,
): ExplanationStep {
  return { structure, address: null, raw: [], fields, check, ok, spec };
}

/** What a request has to be before anything is looked up; `failed` is 0 or the reason. */
export function requestStep(
  rules: { readonly pasidWidth: number; readonly architectural: boolean },
  failed: number,
): ExplanationStep {
  const fields = { unitPasidWidth: rules.pasidWidth };
  const [check, spec] = REQUEST_CHECKS[failed] ?? [
    'the endpoint may send such a request',
    'PCIe 6.20.2, 10.2',
  ];
  return step('request', fields, failed === 0, check, spec);
}

const REQUEST_CHECKS: Readonly<Record<number, readonly [check: string, spec: string]>> = {
  [reasons.REASON_EXECUTE_WITHOUT_PASID]: ['Execute Requested comes with a PASID', 'PCIe 6.20.2'],
  [reasons.REASON_PRIVILEGED_WITHOUT_PASID]: ['Privileged Mode Requested comes with a PASID', 'PCIe 6.20.2'],
  [REASON_PASID_BEYOND_WIDTH]: ['PASID < 2^(PASID width of the unit)', 'PCIe 6.20.2'],
  [reasons.REASON_ATS_NOT_SUPPORTED]: ['the endpoint shows an ATS capability', 'PCIe 10.5.1'],
  [reasons.REASON_TRANSLATED_WITH_PASID]: ['a translated address comes without PASID', 'PCIe 6.20.2'],
};

/** The address space that was found for the PASID (-1: none), if any. */
export function attachmentStep(space: AddressSpace | undefined, pasid: number): ExplanationStep {
  const what = pasid === NO_PASID ? 'traffic without PASID' : `PASID 0x${hex(pasid)}`;
  const fields = space === undefined ? {} : { mappings: space.count };
  return step('attachment', fields, space !== undefined, `${what} is attached`, ATTACH);
}

/** Whether a request passes that no address space decides about. */
export function passStep(architectural: boolean, passes: boolean): ExplanationStep {
  const fields = { policy: architectural ? 'architectural' : 'reject' };
  return step('attachment', fields, passes, 'something is attached for the RID, or the unit is off', ATTACH);
}

/** The width of the address. */
export function addressStep(addressWidth: number, within: boolean): ExplanationStep {
  return step('address', {}, within, `address < 2^${addressWidth}`, 'table model: addressWidth');
}

/** The mapping that was found for the address; `index` is -1 when none was. */
export function mappingStep(space: AddressSpace, index: number): ExplanationStep {
  const fields: Readonly<Record<string, StepField>> = index < 0 ? {} : { ...toMapping(space.at(index)) };
  return step('mapping', fields, index >= 0, 'a mapping covers the address', 'table model: map');
}

/** The rights of the mapping; `failed` is 0 or the reason. */
export function rightsStep(permissions: number, failed: number): ExplanationStep {
  const check = RIGHTS_CHECKS[failed] ?? 'the mapping grants the access';
  const fields = { permissions: permissionLetters(permissions) };
  return step('permissions', fields, failed === 0, check, 'table model: permissions');
}

const RIGHTS_CHECKS: Readonly<Record<number, string>> = {
  [reasons.REASON_PRIVILEGED_ONLY]: 'a mapping with p serves privileged requests only',
  [reasons.REASON_NO_READ_PERMISSION]: 'the mapping has r',
  [reasons.REASON_NO_WRITE_PERMISSION]: 'the mapping has w',
  [reasons.REASON_NO_EXECUTE_PERMISSION]: 'the mapping has x',
};
