import { hex } from '../pci/bdf.ts';
import { type Endpoint, NO_RID } from '../pci/endpoint.ts';
import { PASID_LIMIT } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';
import {
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
  VALID_ACCESS,
} from './access.ts';
import { OUT_WORDS } from './result.ts';

/** One memory request as it arrives from the bus. Exactly one of `endpoint` and `rid` says whose it is. */
export interface MemoryRequest {
  /** Who asks; its requester ID is taken from its state. While it has none, it is an unknown requester. */
  readonly endpoint?: Endpoint;
  /** Requester ID, up to 24 bits, in place of `endpoint`. */
  readonly rid?: number;
  /** PASID, 0..0xfffff; null or absent: the request carries none. */
  readonly pasid?: number | null;
  /** Bus address, 64 bits; a number must be a safe integer. */
  readonly address: number | bigint;
  readonly access: AccessKind;
  /** Bytes, 0..4096 (0: a zero-length read), default 1. A request never crosses 4 KiB (PCIe 2.2.7). */
  readonly size?: number;
  /** Privileged Mode Requested; needs a PASID. Default false. */
  readonly privileged?: boolean;
  /** No Write of a Translation Request; ignored otherwise. Default false. */
  readonly noWrite?: boolean;
  /** The AT field. Default `untranslated`. */
  readonly at?: AddressType;
}

/** A {@link MemoryRequest} as the arguments of the hot door. */
export interface HotRequest {
  readonly rid: number;
  readonly pasid: number;
  readonly iovaHigh: number;
  readonly iovaLow: number;
  readonly access: number;
}

/** Largest requester ID: 24 bits, of which PCIe uses 16 and a bare endpoint may use all. */
export const RID_LIMIT = 0xffffff;

// Not exported, and so folded into the code that uses them (see result.ts).
const RID_MASK = RID_LIMIT;
const UNREACHABLE = NO_RID;
const PASID_MASK = PASID_LIMIT;
const NONE = NO_PASID;
const WORDS = OUT_WORDS;
const VALID = VALID_ACCESS;

const ACCESS_BITS: Readonly<Record<AccessKind, number>> = {
  read: ACCESS_READ,
  write: ACCESS_WRITE,
  execute: ACCESS_EXECUTE,
  atomic: ACCESS_ATOMIC,
};
const ADDRESS_TYPE_BITS: Readonly<Record<AddressType, number>> = {
  untranslated: 0,
  translation: ACCESS_TRANSLATION,
  translated: ACCESS_TRANSLATED,
};

/**
 * The requester ID of an endpoint, or of a number that already is one.
 *
 * @throws VpciError `VPCI_REQUEST` when it is not a whole number of 0..0xffffff.
 */
export function ridOf(target: Endpoint | number): number {
  const rid = typeof target === 'number' ? target : target.endpointState.rid;
  if (Number.isInteger(rid) && rid >= 0 && rid <= RID_LIMIT) return rid;
  throw new VpciError(
    'VPCI_REQUEST',
    typeof target !== 'number' && rid === NO_RID
      ? 'the function has no requester ID: add it to a segment; behind a port, it has one once the guest gave that a bus number'
      : `${rid} is no requester ID: give a whole number of 0..0xffffff, or an endpoint`,
  );
}

/**
 * The requester ID of something that names exactly one of `endpoint` and `rid`; {@link NO_RID} for an endpoint that
 * has none now.
 *
 * @throws VpciError `VPCI_REQUEST` when it names none or two, or the number is not 0..0xffffff.
 */
export function requesterOf(request: { readonly endpoint?: Endpoint; readonly rid?: number }): number {
  const { endpoint, rid } = request;
  if ((endpoint === undefined) === (rid === undefined)) {
    throw new VpciError('VPCI_REQUEST', 'say who asks: give exactly one of `endpoint` and `rid`');
  }
  if (endpoint?.endpointState.rid === NO_RID) return NO_RID;
  return ridOf(endpoint ?? rid ?? Number.NaN);
}

/**
 * The `pasid` argument of the hot door for a PASID, or for null or undefined (no PASID).
 *
 * @throws VpciError `VPCI_PASID` unless it is a whole number of 0..0xfffff.
 */
export function pasidArgument(pasid: number | null | undefined): number {
  if (pasid === null || pasid === undefined) return NO_PASID;
  if (Number.isInteger(pasid) && pasid >= 0 && pasid <= PASID_LIMIT) return pasid;
  throw new VpciError(
    'VPCI_PASID',
    `${pasid} is no PASID: give a whole number of 0..0xfffff (20 bits), or null for a request without one`,
  );
}

/**
 * A bus address as a bigint of 64 bits.
 *
 * @throws VpciError `VPCI_REQUEST` when it is negative, has a fraction, or does not fit.
 */
export function busAddress(address: number | bigint): bigint {
  const whole = typeof address === 'bigint' || Number.isSafeInteger(address) ? BigInt(address) : -1n;
  if (whole >= 0n && whole < 1n << 64n) return whole;
  throw new VpciError(
    'VPCI_REQUEST',
    `${address} is no bus address: give a bigint of 0..2^64-1, or a number of 0..2^53-1`,
  );
}

/**
 * Checks a request and turns it into the arguments of the hot door.
 *
 * @throws VpciError `VPCI_REQUEST` for what no request can be, `VPCI_PASID` for a number that is no PASID.
 */
export function parseRequest(request: MemoryRequest): HotRequest {
  const { access: kind, size = 1, at = 'untranslated', privileged = false, noWrite = false } = request;
  const rid = requesterOf(request);
  const pasid = pasidArgument(request.pasid);
  const address = busAddress(request.address);
  if (!Object.hasOwn(ACCESS_BITS, kind)) {
    throw new VpciError('VPCI_REQUEST', `unknown access "${kind}": use read, write, execute or atomic`);
  }
  if (!Object.hasOwn(ADDRESS_TYPE_BITS, at)) {
    throw new VpciError('VPCI_REQUEST', `unknown at "${at}": use untranslated, translation or translated`);
  }
  if (!Number.isInteger(size) || size < 0 || Number(address & 0xfffn) + size > 4096) {
    throw new VpciError(
      'VPCI_REQUEST',
      `a request of ${size} bytes at 0x${hex(address)} crosses 4 KiB: split it at the page (PCIe 2.2.7)`,
    );
  }
  return {
    rid,
    pasid,
    iovaHigh: Number(address >> 32n),
    iovaLow: Number(address & 0xffff_ffffn),
    access:
      ACCESS_BITS[kind] |
      ADDRESS_TYPE_BITS[at] |
      (privileged ? ACCESS_PRIVILEGED : 0) |
      (noWrite ? ACCESS_NO_WRITE : 0),
  };
}

/**
 * Checks what the hot door was called with. Only the slow path does it: what the IOTLB holds was checked.
 *
 * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID`.
 */
export function checkHotRequest(
  rid: number,
  pasid: number,
  iovaHigh: number,
  iovaLow: number,
  access: number,
  out: Uint32Array,
): void {
  if ((rid & RID_MASK) !== rid && rid !== UNREACHABLE) ridOf(rid);
  if ((pasid & PASID_MASK) !== pasid && pasid !== NONE) pasidArgument(pasid);
  if (!isHalf(iovaHigh) || !isHalf(iovaLow)) {
    throw new VpciError('VPCI_REQUEST', 'give the address as two halves of 32 bits, signed or unsigned');
  }
  if (VALID[access] !== 1) {
    throw new VpciError('VPCI_REQUEST', `${access} is no set of ACCESS_* bits that a request can have`);
  }
  if (out.length < WORDS) {
    throw new VpciError('VPCI_REQUEST', `the result needs a Uint32Array of at least ${OUT_WORDS} words`);
  }
}

function isHalf(half: number): boolean {
  return (half | 0) === half || half >>> 0 === half;
}
