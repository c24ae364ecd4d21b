import { type Endpoint, type EndpointState } from '../pci/endpoint.ts';
import { checkPasidWidth } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { DevicePort } from './device-port.ts';
import { ridOf } from './request.ts';
import { RidTable } from './rid-table.ts';

/** The endpoints behind a unit: which state stands behind a requester ID, and the way back to the device. */
export class EndpointRegistry {
  readonly #byRid = new RidTable<EndpointState>();
  /** Until an endpoint comes or goes: a search of the table is long, and invalidations come by the thousand. */
  #rids: readonly number[] | undefined;
  // By state, not by RID: when two functions swap their RIDs, one of them is without any for a while.
  readonly #ports = new WeakMap<EndpointState, DevicePort>();

  /** The endpoint behind `rid` (0..0xffffff), or undefined. */
  get(rid: number): EndpointState | undefined {
    return this.#byRid.get(rid);
  }

  /** Requester IDs that have an endpoint, ascending. */
  rids(): readonly number[] {
    this.#rids ??= [...this.#byRid.entries()].map(([rid]) => rid);
    return this.#rids;
  }

  /**
   * Puts `state` behind its requester ID, in place of what was there.
   *
   * @throws VpciError `VPCI_REQUEST` for a RID over 24 bits, `VPCI_PASID_WIDTH` for a width over 20.
   */
  attach(state: EndpointState): void {
    checkPasidWidth(state.pasidWidth, `the PASID width of endpoint 0x${state.rid.toString(16)}`);
    this.#byRid.set(ridOf(state.rid), state);
    this.#rids = undefined;
  }

  /** Takes `state` away from `previousRid`, unless another one stands there by now, and attaches it again. */
  move(state: EndpointState, previousRid: number): void {
    this.#leave(state, previousRid);
    this.attach(state);
  }

  /** Takes `state` away; its device is forgotten. */
  detach(state: EndpointState): void {
    this.#leave(state, state.rid);
    this.#ports.delete(state);
  }

  /** The device behind `state`, if it said how to reach it. */
  portOf(state: EndpointState): DevicePort | undefined {
    return this.#ports.get(state);
  }

  /** @throws VpciError `VPCI_REQUEST` when nothing stands behind the requester ID. */
  connect(target: Endpoint | number, port: DevicePort): void {
    const rid = ridOf(target);
    const state = this.get(rid);
    if (state === undefined) {
      throw new VpciError(
        'VPCI_REQUEST',
        `no endpoint behind RID 0x${rid.toString(16)}: attach it to this unit, then connect its device`,
      );
    }
    this.#ports.set(state, port);
  }

  #leave(state: EndpointState, rid: number): void {
    if (this.#byRid.get(rid) !== state) return;
    this.#byRid.delete(rid);
    this.#rids = undefined;
  }
}
