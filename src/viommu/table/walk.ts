import type { EndpointState } from '../../pci/endpoint.ts';
import {
  ACCESS_EXECUTE,
  ACCESS_NO_WRITE,
  ACCESS_PRIVILEGED,
  ACCESS_READ,
  ACCESS_TRANSLATED,
  ACCESS_TRANSLATION,
  ACCESS_WRITE,
  NO_PASID,
} from '../access.ts';
import type { Probe } from '../explanation.ts';
import { REASON_PASID_BEYOND_WIDTH } from '../reason.ts';
import {
  answer,
  cacheable,
  PERMISSION_EXECUTE,
  PERMISSION_PRIVILEGED,
  PERMISSION_READ,
  PERMISSION_WRITE,
  refuse,
  STATUS_ATS,
  STATUS_BYPASS,
  STATUS_TRANSLATED,
  STATUS_UNSUPPORTED_REQUEST,
} from '../result.ts';
import type { AddressSpace } from './address-space.ts';
import {
  REASON_ADDRESS_BEYOND_WIDTH as ADDRESS_BEYOND_WIDTH,
  REASON_ATS_NOT_SUPPORTED as ATS_NOT_SUPPORTED,
  REASON_EXECUTE_WITHOUT_PASID as EXECUTE_WITHOUT_PASID,
  REASON_NO_EXECUTE_PERMISSION as NO_EXECUTE_PERMISSION,
  REASON_NO_READ_PERMISSION as NO_READ_PERMISSION,
  REASON_NO_WRITE_PERMISSION as NO_WRITE_PERMISSION,
  REASON_NOT_ATTACHED as NOT_ATTACHED,
  REASON_NOT_MAPPED as NOT_MAPPED,
  REASON_PASID_NOT_ATTACHED as PASID_NOT_ATTACHED,
  REASON_PRIVILEGED_ONLY as PRIVILEGED_ONLY,
  REASON_PRIVILEGED_WITHOUT_PASID as PRIVILEGED_WITHOUT_PASID,
  REASON_TRANSLATED_WITH_PASID as TRANSLATED_WITH_PASID,
} from './reasons.ts';
import { addressStep, attachmentStep, mappingStep, passStep, requestStep, rightsStep } from './steps.ts';
import type { Attachments } from './tables.ts';

/** Options of the unit as the walk uses them. */
export interface TableRules {
  readonly pasidWidth: number;
  /** Bits of a bus address, 12..64. */
  readonly addressWidth: number;
  /** Bits of the two halves of an address that lie beyond that width. */
  readonly beyondHigh: number;
  readonly beyondLow: number;
  readonly architectural: boolean;
}

// Not exported, and so folded into the code that uses them (see result.ts).
const EXECUTE = ACCESS_EXECUTE;
const NO_WRITE = ACCESS_NO_WRITE;
const PRIVILEGED = ACCESS_PRIVILEGED;
const TRANSLATED = ACCESS_TRANSLATED;
const TRANSLATION = ACCESS_TRANSLATION;
const NONE = NO_PASID;
const ATS = STATUS_ATS;
const SUCCESS = STATUS_TRANSLATED;
const UNSUPPORTED = STATUS_UNSUPPORTED_REQUEST;
const RWX = 0x07;
const PERMISSIONS = 0xff;
/** Rights that are left of a grant without a PASID: ordinary ones to read and write. */
const WITHOUT_PASID = 0x03;

/** The rules of a unit with these widths and this policy. */
export function tableRules(pasidWidth: number, addressWidth: number, architectural: boolean): TableRules {
  return {
    pasidWidth,
    addressWidth,
    architectural,
    beyondHigh: beyond(addressWidth - 32),
    beyondLow: beyond(addressWidth),
  };
}

/** The bits at `width` and above of a 32-bit half. */
function beyond(width: number): number {
  if (width <= 0) return -1;
  return width < 32 ? -1 << width : 0;
}

/**
 * The decision of the table model, after the checks that all models share: what a request may be at all, the
 * attachment, the mapping, the rights.
 *
 * @returns a status, or {@link cacheable}.
 */
export function walkTables(
  rules: TableRules,
  attachments: Attachments | undefined,
  endpoint: EndpointState,
  pasid: number,
  iovaHigh: number,
  iovaLow: number,
  access: number,
  out: Uint32Array,
  probe: Probe,
): number {
  const impossible = flawOf(rules, endpoint, pasid, access);
  probe?.push(requestStep(rules, impossible));
  if (impossible !== 0) return refuse(out, UNSUPPORTED, impossible);
  if (attachments === undefined || (access & TRANSLATED) !== 0) {
    return passOrRefuse(rules, attachments, pasid, iovaHigh, iovaLow, access, out, probe);
  }
  const space = attachments.get(pasid);
  probe?.push(attachmentStep(space, pasid));
  if (space === undefined) return refuseUnattached(pasid, out);
  const within = ((iovaHigh & rules.beyondHigh) | (iovaLow & rules.beyondLow)) === 0;
  probe?.push(addressStep(rules.addressWidth, within));
  if (!within) return refuse(out, failureOf(access), ADDRESS_BEYOND_WIDTH);
  const index = space.find(iovaHigh, iovaLow);
  probe?.push(mappingStep(space, index));
  if (index < 0) return refuse(out, failureOf(access), NOT_MAPPED);
  const grant = space.grant(index);
  if ((access & TRANSLATION) !== 0) {
    return completeTranslation(space, index, grant, iovaHigh, iovaLow, access, out, probe);
  }
  const rights = grant >>> 8;
  const needed = (access & RWX) << ((access & PRIVILEGED) >>> 1);
  if ((rights & needed) !== needed) return refuseRights(grant, access, out, probe);
  probe?.push(rightsStep(grant & PERMISSIONS, 0));
  space.translate(index, iovaHigh, iovaLow, grant & PERMISSIONS, out);
  return cacheable(SUCCESS, pasid === NONE ? rights & WITHOUT_PASID : rights);
}

/** What no attachment could make right: 0, or the reason. */
function flawOf(rules: TableRules, endpoint: EndpointState, pasid: number, access: number): number {
  if (pasid === NONE) {
    if ((access & EXECUTE) !== 0) return EXECUTE_WITHOUT_PASID;
    if ((access & PRIVILEGED) !== 0) return PRIVILEGED_WITHOUT_PASID;
  } else if (pasid >>> rules.pasidWidth !== 0) return REASON_PASID_BEYOND_WIDTH;
  if ((access & (TRANSLATION | TRANSLATED)) === 0) return 0;
  if (!endpoint.ats) return ATS_NOT_SUPPORTED;
  const withPasid = pasid !== NONE && (access & TRANSLATED) !== 0;
  return withPasid && !rules.architectural ? TRANSLATED_WITH_PASID : 0;
}

/** A translated address, or any request of a requester ID that has nothing attached. */
function passOrRefuse(
  rules: TableRules,
  attachments: Attachments | undefined,
  pasid: number,
  iovaHigh: number,
  iovaLow: number,
  access: number,
  out: Uint32Array,
  probe: Probe,
): number {
  const translated = (access & TRANSLATED) !== 0;
  // A unit that is off passes requests, but has no translation to give away.
  const off = attachments === undefined && rules.architectural && (access & TRANSLATION) === 0;
  const passes = off || (translated && attachments !== undefined);
  if (passes || translated) probe?.push(passStep(rules.architectural, passes));
  else probe?.push(attachmentStep(undefined, pasid));
  if (passes) {
    answer(out, iovaHigh, iovaLow, 0, 0);
    return STATUS_BYPASS;
  }
  return translated ? refuse(out, UNSUPPORTED, NOT_ATTACHED) : refuseUnattached(pasid, out);
}

function refuseUnattached(pasid: number, out: Uint32Array): number {
  return refuse(out, UNSUPPORTED, pasid === NONE ? NOT_ATTACHED : PASID_NOT_ATTACHED);
}

/** A completion without rights is what makes a device send a page request (PCIe 10.2.3). */
function failureOf(access: number): number {
  return (access & TRANSLATION) === 0 ? UNSUPPORTED : ATS;
}

/** Finds the reason that comes first. */
function refuseRights(grant: number, access: number, out: Uint32Array, probe: Probe): number {
  let reason = NO_EXECUTE_PERMISSION;
  const reads = (access & (ACCESS_READ | EXECUTE)) !== 0;
  const writes = (access & ACCESS_WRITE) !== 0;
  if ((grant & PERMISSION_PRIVILEGED) !== 0 && (access & PRIVILEGED) === 0) reason = PRIVILEGED_ONLY;
  else if (reads && (grant & PERMISSION_READ) === 0) reason = NO_READ_PERMISSION;
  else if (writes && (grant & PERMISSION_WRITE) === 0) reason = NO_WRITE_PERMISSION;
  probe?.push(rightsStep(grant & PERMISSIONS, reason));
  return refuse(out, UNSUPPORTED, reason);
}

/** The Translation Completion: the rights of the page, whatever the request wanted them for (PCIe 10.2.3). */
function completeTranslation(
  space: AddressSpace,
  index: number,
  grant: number,
  iovaHigh: number,
  iovaLow: number,
  access: number,
  out: Uint32Array,
  probe: Probe,
): number {
  const permissions = grant & PERMISSIONS;
  const privileged = (access & PRIVILEGED) !== 0;
  const hidden = (permissions & PERMISSION_PRIVILEGED) !== 0 && !privileged;
  const rights = hidden ? 0 : rightsOfCompletion(permissions, access);
  const forbidden = hidden ? PRIVILEGED_ONLY : NO_READ_PERMISSION;
  probe?.push(rightsStep(permissions, rights === 0 ? forbidden : 0));
  if (rights === 0) return refuse(out, ATS, forbidden);
  space.translate(index, iovaHigh, iovaLow, rights | (privileged ? PERMISSION_PRIVILEGED : 0), out);
  return ATS;
}

/** Write only when asked for (NW clear), execute only when asked for (ER set) and readable. */
function rightsOfCompletion(permissions: number, access: number): number {
  let rights = permissions & PERMISSION_READ;
  if ((access & NO_WRITE) === 0) rights |= permissions & PERMISSION_WRITE;
  const executes = (access & EXECUTE) !== 0 && (permissions & PERMISSION_READ) !== 0;
  if (executes) rights |= permissions & PERMISSION_EXECUTE;
  return rights;
}
