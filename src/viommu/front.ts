import { hex } from '../pci/bdf.ts';
import type { EndpointState } from '../pci/endpoint.ts';
import { NO_PASID } from './access.ts';
import type { ExplanationStep, Probe } from './explanation.ts';
import { REASON_PASID_BEYOND_WIDTH, REASON_PASID_NOT_SUPPORTED, REASON_UNKNOWN_REQUESTER } from './reason.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const NONE = NO_PASID;

/**
 * The checks that every model makes before it reads any table, in both policies: an upper bit of a PASID is
 * never masked away.
 *
 * @param endpoint what stands behind the requester ID, if anything
 * @param pasid 0..0xfffff, or -1 for none
 * @param unitWidth PASID width of the unit, 0..20
 * @returns 0 when all passed, else the `REASON_*` of the one that failed
 */
export function checkFront(
  endpoint: EndpointState | undefined,
  pasid: number,
  unitWidth: number,
  probe: Probe,
): number {
  if (probe !== undefined) noteFront(endpoint, pasid, unitWidth, probe);
  if (endpoint === undefined) return REASON_UNKNOWN_REQUESTER;
  if (pasid === NONE) return 0;
  const width = endpoint.pasidWidth;
  if (width === 0 || unitWidth === 0) return REASON_PASID_NOT_SUPPORTED;
  return pasid >>> width === 0 ? 0 : REASON_PASID_BEYOND_WIDTH;
}

/** The steps of {@link checkFront}, to the first that fails. */
function noteFront(
  endpoint: EndpointState | undefined,
  pasid: number,
  unitWidth: number,
  steps: ExplanationStep[],
): void {
  steps.push(endpointStep(endpoint));
  if (endpoint === undefined || pasid === NONE) return;
  const width = endpoint.pasidWidth;
  const supported = width !== 0 && unitWidth !== 0;
  steps.push(supportStep(width, unitWidth, supported));
  if (supported) steps.push(widthStep(pasid, width, pasid >>> width === 0));
}

function endpointStep(endpoint: EndpointState | undefined): ExplanationStep {
  const fields = endpoint && { pasidWidth: endpoint.pasidWidth, ats: endpoint.ats, pri: endpoint.pri };
  return {
    structure: 'endpoint',
    address: null,
    raw: [],
    fields: fields ?? {},
    check: 'an endpoint is behind the requester ID',
    ok: endpoint !== undefined,
    spec: 'PCIe 2.2.6.2',
  };
}

function supportStep(endpointWidth: number, unitWidth: number, ok: boolean): ExplanationStep {
  const fields = { endpointWidth, unitWidth };
  const check = 'endpoint and unit support PASID';
  return { structure: 'pasid', address: null, raw: [], fields, check, ok, spec: 'PCIe 6.20.2' };
}

function widthStep(pasid: number, endpointWidth: number, ok: boolean): ExplanationStep {
  const fields = { pasid, endpointWidth };
  const check = `PASID 0x${hex(pasid)} < 2^${endpointWidth}`;
  return { structure: 'pasid', address: null, raw: [], fields, check, ok, spec: 'PCIe 7.8.9.2' };
}
