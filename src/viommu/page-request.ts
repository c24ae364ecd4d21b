import type { Endpoint } from '../pci/endpoint.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { NO_PASID } from './access.ts';
import type { PrgResponseCode } from './device-port.ts';
import type { PageRequestEvent } from './events.ts';
import { busAddress, pasidArgument, requesterOf } from './request.ts';

/** A Page Request Message (PCIe 10.4.1). Exactly one of `endpoint` and `rid` says whose it is. */
export interface PageRequest {
  readonly endpoint?: Endpoint;
  /** Requester ID, up to 24 bits, in place of `endpoint`. */
  readonly rid?: number;
  /** PASID, 0..0xfffff; null or absent: the message carries none. */
  readonly pasid?: number | null;
  /** Access wanted. Neither, with `last` and a PASID: a stop marker (PCIe 10.4.1.2). Default false. */
  readonly read?: boolean;
  readonly write?: boolean;
  /** Execute and privileged access wanted; they exist only with a PASID. Default false. */
  readonly execute?: boolean;
  readonly privileged?: boolean;
  /** Last request of its group: the one that is answered. Default false. */
  readonly last?: boolean;
  /** Page Request Group index, 0..511. */
  readonly prgi: number;
  /** Untranslated address; the message carries bits 63:12 of it. */
  readonly address: number | bigint;
}

/** What the unit did with a page request at once. */
export interface PageRequestAnswer {
  /** It was handed on, and the answer comes by `onPrgResponse`; false: it was refused or dropped. */
  readonly queued: boolean;
  /** The PRG Response that the unit sent itself, when the request was refused and needed one. */
  readonly response?: PrgResponseCode;
  /** The PASID that this response carries, if any. */
  readonly pasid?: number;
  /**
   * Guest-physical address of the 4 KiB page of tables that has to be fetched to decide it: give the page and ask
   * again, in place of sending `response`, which holds where it cannot be had.
   */
  readonly missing?: bigint;
}

/**
 * Checks a page request and completes it.
 *
 * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for what no message can carry.
 */
export function parsePageRequest(request: PageRequest): PageRequestEvent {
  const { read = false, write = false, execute = false, privileged = false, last = false } = request;
  const rid = requesterOf(request);
  const pasid = pasidArgument(request.pasid);
  if (!Number.isInteger(request.prgi) || request.prgi < 0 || request.prgi > 511) {
    throw new VpciError('VPCI_REQUEST', `PRG index ${request.prgi}: give a whole number of 0..511`);
  }
  return {
    rid,
    pasid: pasid === NO_PASID ? null : pasid,
    read,
    write,
    execute,
    privileged,
    last,
    prgi: request.prgi,
    address: busAddress(request.address) & ~0xfffn,
  };
}

/** True for the message that ends the use of a PASID and is never answered. */
export function isStopMarker(request: PageRequestEvent): boolean {
  return request.pasid !== null && request.last && !request.read && !request.write;
}
