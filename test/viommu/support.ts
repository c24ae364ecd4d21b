import { createEndpointState, type Endpoint, type EndpointState } from '../../src/pci/endpoint.ts';
import { OUT_WORDS } from '../../src/viommu/result.ts';
import { parseRequest, type MemoryRequest } from '../../src/viommu/request.ts';
import { type Verdict, verdictOf } from '../../src/viommu/verdict.ts';
import type { Viommu } from '../../src/viommu/viommu.ts';

/** A bare endpoint behind `unit`, 20 bits wide unless told otherwise. */
export function endpointOf(unit: Viommu, rid: number, facts: Partial<EndpointState> = {}): Endpoint {
  const endpointState = Object.assign(createEndpointState(rid), { pasidWidth: 20 }, facts);
  unit.attachEndpoint(endpointState);
  return { endpointState };
}

/** What the hot door says, as a verdict. */
export function translated(unit: Viommu, request: MemoryRequest): Verdict {
  const { rid, pasid, iovaHigh, iovaLow, access } = parseRequest(request);
  const out = new Uint32Array(OUT_WORDS).fill(0xdeadbeef);
  const status = unit.translate(rid, pasid, iovaHigh | 0, iovaLow | 0, access, out);
  return verdictOf(status, out, unit.reasons);
}

/** For `toThrow`: a VpciError of that code. */
export function withCode(code: string): { asymmetricMatch(other: unknown): boolean } {
  return {
    asymmetricMatch: (other) => other instanceof Error && 'code' in other && other.code === code,
  };
}
