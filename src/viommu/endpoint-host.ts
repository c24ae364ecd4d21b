import type { Endpoint, EndpointChange, EndpointSink, EndpointState, ResetKind } from '../pci/endpoint.ts';
import { TypedEmitter } from '../pci/typed-emitter.ts';
import type { AtcAnswer, AtcInvalidation, DevicePort, PrgResponse } from './device-port.ts';
import { EndpointRegistry } from './endpoint-registry.ts';
import type { EndpointEvent, ViommuEvents } from './events.ts';
import { type Tally, TALLY_ATC_INVALIDATIONS, TALLY_ATC_TIMEOUTS } from './tally.ts';

/** The side of a vIOMMU towards the endpoints behind it, and the devices that these stand for. */
export abstract class EndpointHost extends TypedEmitter<ViommuEvents> implements EndpointSink {
  readonly pasidWidth: number;

  protected readonly endpoints: EndpointRegistry = new EndpointRegistry();
  protected readonly tally: Tally;

  constructor(pasidWidth: number, tally: Tally) {
    super();
    this.pasidWidth = pasidWidth;
    this.tally = tally;
  }

  /**
   * Says how to reach the device of an endpoint that is attached, in place of what was said before. The
   * endpoint keeps it when it moves, until it is detached.
   *
   * @throws VpciError `VPCI_REQUEST` when no endpoint is behind that requester ID.
   */
  connectDevice(target: Endpoint | number, port: DevicePort): void {
    this.endpoints.connect(target, port);
  }

  /** @throws VpciError `VPCI_REQUEST` for a RID over 24 bits, `VPCI_PASID_WIDTH` for a width over 20. */
  attachEndpoint(state: EndpointState): void {
    this.endpoints.attach(state);
    this.#changed(state, 'attached');
  }

  endpointChanged(state: EndpointState, change: EndpointChange): void {
    this.#changed(state, change);
  }

  endpointReset(state: EndpointState, kind: ResetKind): void {
    this.#changed(state, kind);
  }

  /** @throws VpciError `VPCI_REQUEST` for a RID over 24 bits, `VPCI_PASID_WIDTH` for a width over 20. */
  endpointMoved(state: EndpointState, previousRid: number): void {
    this.endpoints.move(state, previousRid);
    this.endpointInvalidated(previousRid);
    this.#changed(state, 'moved', previousRid);
  }

  detachEndpoint(state: EndpointState): void {
    this.endpoints.detach(state);
    this.#changed(state, 'detached');
  }

  /** An endpoint at `rid` came, went or changed: drop what was cached under its old properties. */
  protected abstract endpointInvalidated(rid: number): void;

  /** Sends an ATS invalidation to the device at `rid`, when it has ATS and said how to reach it. */
  protected invalidateAtc(rid: number, invalidation: AtcInvalidation): AtcAnswer {
    const state = this.endpoints.get(rid);
    if (state === undefined || !state.ats) return 'complete';
    const invalidate = this.endpoints.portOf(state)?.onAtcInvalidate;
    if (invalidate === undefined) return 'complete';
    this.tally.add(TALLY_ATC_INVALIDATIONS);
    const answer = this.#guarded(() => invalidate(invalidation)) ?? 'timeout';
    if (answer === 'timeout') this.tally.add(TALLY_ATC_TIMEOUTS);
    return answer;
  }

  /** Sends a PRG Response to the device at `rid`; false when nobody there takes it. */
  protected sendPrgResponse(rid: number, response: PrgResponse): boolean {
    const state = this.endpoints.get(rid);
    const respond = state && this.endpoints.portOf(state)?.onPrgResponse;
    if (respond === undefined) return false;
    this.#guarded(() => respond(response));
    return true;
  }

  /** What `call` returns. Undefined when it threw: a device that throws is treated as one that is silent. */
  #guarded<Result>(call: () => Result): Result | undefined {
    try {
      return call();
    } catch (error) {
      this.onListenerError(error);
      return undefined;
    }
  }

  #changed(state: EndpointState, change: EndpointEvent['change'], previousRid?: number): void {
    this.endpointInvalidated(state.rid);
    if (!this.hears('endpoint')) return;
    this.emit('endpoint', { rid: state.rid, change, ...(previousRid === undefined ? {} : { previousRid }) });
  }
}
