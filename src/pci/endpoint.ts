/**
 * What the trap layer tells a vIOMMU about a function, and the door it tells it through. The function and the
 * vIOMMU know only these types, never each other; the segment connects them.
 *
 * @module
 */

/** The requester ID of a function that no bus number leads to: a guest can take it away at any time. */
export const NO_RID = -1;

/**
 * What reset a function: Function Level Reset (PCIe 6.6.2), a reset of the bus above (6.6.1), or the way back from
 * D3hot of a function that does not keep its state there (5.3.1.4).
 */
export type ResetKind = 'flr' | 'bus' | 'd3hot';

/**
 * The facts about one function that a vIOMMU may use. One object per function, changed in place: a vIOMMU
 * keeps the reference and reads it, it never writes it.
 *
 * The latches (`pasidEnable` ...) are what the *guest* wrote. They are forwarded for display and for device
 * models; no verdict of a vIOMMU may depend on them.
 */
export interface EndpointState {
  /** Requester ID as the vIOMMU sees it: bus[15:8] device[7:3] function[2:0], 16 bits; up to 24 for a bare endpoint. */
  rid: number;
  /** Max PASID Width shown to the guest, in bits, 1..20; 0 when no PASID capability is shown. */
  pasidWidth: number;
  /** Execute Permission Supported as shown (PCIe 7.8.9.2). */
  execute: boolean;
  /** Privileged Mode Supported as shown (PCIe 7.8.9.2). */
  privileged: boolean;
  /** PASID Enable as latched (PCIe 7.8.9.3). */
  pasidEnable: boolean;
  /** Execute Permission Enable as latched. */
  executeEnable: boolean;
  /** Privileged Mode Enable as latched. */
  privilegedEnable: boolean;
  /**
   * A virtual ATS capability is shown (PCIe 10.5.1): translation requests of the function are the vIOMMU's to answer.
   * False where the guest sees a physical one, read-only: what it enables is between the device and the host.
   */
  ats: boolean;
  /** ATS Enable of the virtual capability, as latched. */
  atsEnable: boolean;
  /** The same for a virtual Page Request capability (PCIe 10.5.2). */
  pri: boolean;
  /** Page Request Enable of the virtual capability, as latched. */
  priEnable: boolean;
}

/** Anything that stands behind a requester ID: a guest-visible function, or a bare endpoint in a trace. */
export interface Endpoint {
  readonly endpointState: EndpointState;
}

/** What changed in an {@link EndpointState}. */
export type EndpointChange = 'pasid-control' | 'ats-control' | 'pri-control' | 'restored';

/**
 * The side of a vIOMMU that a segment and its functions see. Calls arrive after the state has changed.
 */
export interface EndpointSink {
  /** PASID width of the unit, in bits, 0..20. 0: the unit knows no PASID and no function behind it shows one. */
  readonly pasidWidth: number;
  /** A function was placed behind the unit. A second call for the same RID replaces the first. */
  attachEndpoint(state: EndpointState): void;
  /** A latch of the function changed. */
  endpointChanged(state: EndpointState, change: EndpointChange): void;
  /** The function was reset; its latches are already clear. */
  endpointReset(state: EndpointState, kind: ResetKind): void;
  /** The function got another requester ID; `state.rid` is the new one. */
  endpointMoved(state: EndpointState, previousRid: number): void;
  /** The function is gone. */
  detachEndpoint(state: EndpointState): void;
}

/** An {@link EndpointState} with everything off, for `rid`. */
export function createEndpointState(rid: number): EndpointState {
  return {
    rid,
    pasidWidth: 0,
    execute: false,
    privileged: false,
    pasidEnable: false,
    executeEnable: false,
    privilegedEnable: false,
    ats: false,
    atsEnable: false,
    pri: false,
    priEnable: false,
  };
}
