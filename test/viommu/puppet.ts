import type { EndpointState } from '../../src/pci/endpoint.ts';
import type { ViommuOptions, ViommuState } from '../../src/viommu/options.ts';
import type { PageRequestAnswer } from '../../src/viommu/page-request.ts';
import { SHARED_REASONS } from '../../src/viommu/reason.ts';
import { answer, refuse, STATUS_UNSUPPORTED_REQUEST } from '../../src/viommu/result.ts';
import { Viommu } from '../../src/viommu/viommu.ts';
import { endpointOf } from './support.ts';

/** A model that answers whatever the test sets. */
export class Puppet extends Viommu {
  readonly model = 'puppet';
  verdict: (out: Uint32Array) => number = (out) => refuse(out, STATUS_UNSUPPORTED_REQUEST, 5);
  walks = 0;
  readonly written: [number, number, number][] = [];

  constructor(options: ViommuOptions = {}) {
    super(options, [...SHARED_REASONS, 'puppet-says-no']);
  }

  override pageRequest(): PageRequestAnswer {
    return { queued: false };
  }

  override saveState(): ViommuState {
    return { version: 1, model: this.model };
  }

  override restoreState(): void {}

  protected override walk(
    _rid: number,
    _pasid: number,
    _iovaHigh: number,
    _iovaLow: number,
    _access: number,
    out: Uint32Array,
  ): number {
    this.walks++;
    return this.verdict(out);
  }
}

/** A puppet with an endpoint at 0x0100. */
export function puppet(facts: Partial<EndpointState> = {}, options: ViommuOptions = {}): Puppet {
  const unit = new Puppet(options);
  endpointOf(unit, 0x0100, facts);
  return unit;
}

/** Answers with the address 0x5_0000_0000 of a 4 KiB page. */
export function given(out: Uint32Array, status: number, permissions: number): number {
  answer(out, 5, 0, 12, permissions);
  return status;
}
