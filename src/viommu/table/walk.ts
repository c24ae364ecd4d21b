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
import { RIGHT_PRIVILEGED_SHIFT } from '../iotlb.ts';
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
import { ATTACH, attachmentStep, mappingStep, requestStep, rightsStep, step } from './steps.ts';
import type { Attachments } from './tables.ts';

/** Options of the unit as the walk uses them. */
export interface TableRules {
  readonly pasidWidth: number;
  /** Bits of a bus address, 12..64. */
  readonly addressWidth: number;
  readonly architectural: boolean;
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
  const impossible = checkRequest(rules, endpoint, pasid, access, probe);
  if (impossible !== 0) return refuse(out, STATUS_UNSUPPORTED_REQUEST, impossible);
  const translation = (access & ACCESS_TRANSLATION) !== 0;
  // A unit that is off passes requests, but has no translation to give away.
  const off = attachments === undefined && rules.architectural && !translation;
  if (off || (access & ACCESS_TRANSLATED) !== 0) {
    const passes = off || attachments !== undefined;
    probe?.push(
      step('attachment', { policy: policyOf(rules) }, passes, 'something is attached for the RID', ATTACH),
    );
    return passes ? pass(iovaHigh, iovaLow, out) : refuse(out, STATUS_UNSUPPORTED_REQUEST, NOT_ATTACHED);
  }
  const space = attachments?.get(pasid);
  probe?.push(attachmentStep(space, pasid));
  if (space === undefined) {
    return refuse(out, STATUS_UNSUPPORTED_REQUEST, pasid === NO_PASID ? NOT_ATTACHED : PASID_NOT_ATTACHED);
  }
  // No rights is the answer that makes a device send a page request (PCIe 10.2.3).
  const failed = translation ? STATUS_ATS : STATUS_UNSUPPORTED_REQUEST;
  const within = fits(iovaHigh, iovaLow, rules.addressWidth);
  probe?.push(step('address', {}, within, `address < 2^${rules.addressWidth}`, 'table model: addressWidth'));
  if (!within) return refuse(out, failed, ADDRESS_BEYOND_WIDTH);
  const index = space.find(iovaHigh, iovaLow);
  probe?.push(mappingStep(space, index));
  if (index < 0) return refuse(out, failed, NOT_MAPPED);
  const permissions = space.permissions(index);
  if (translation)
    return completeTranslation(space, index, permissions, iovaHigh, iovaLow, access, out, probe);
  const forbidden = checkRights(permissions, access);
  probe?.push(rightsStep(permissions, forbidden));
  if (forbidden !== 0) return refuse(out, failed, forbidden);
  space.translate(index, iovaHigh, iovaLow, permissions, out);
  return cacheable(STATUS_TRANSLATED, rightsToCache(permissions, pasid));
}

/** What no attachment could make right: 0, or the reason. */
function checkRequest(
  rules: TableRules,
  endpoint: EndpointState,
  pasid: number,
  access: number,
  probe: Probe,
): number {
  let failed = 0;
  if (pasid === NO_PASID) {
    if ((access & ACCESS_EXECUTE) !== 0) failed = EXECUTE_WITHOUT_PASID;
    else if ((access & ACCESS_PRIVILEGED) !== 0) failed = PRIVILEGED_WITHOUT_PASID;
  } else if (pasid >>> rules.pasidWidth !== 0) failed = REASON_PASID_BEYOND_WIDTH;
  if (failed === 0 && (access & (ACCESS_TRANSLATION | ACCESS_TRANSLATED)) !== 0) {
    const withPasid = pasid !== NO_PASID && (access & ACCESS_TRANSLATED) !== 0;
    if (!endpoint.ats) failed = ATS_NOT_SUPPORTED;
    else if (withPasid && !rules.architectural) failed = TRANSLATED_WITH_PASID;
  }
  probe?.push(requestStep(rules, failed));
  return failed;
}

/** 0 when `permissions` grant `access`, else the reason that comes first. */
function checkRights(permissions: number, access: number): number {
  if ((permissions & PERMISSION_PRIVILEGED) !== 0 && (access & ACCESS_PRIVILEGED) === 0)
    return PRIVILEGED_ONLY;
  const reads = (access & (ACCESS_READ | ACCESS_EXECUTE)) !== 0;
  if (reads && (permissions & PERMISSION_READ) === 0) return NO_READ_PERMISSION;
  if ((access & ACCESS_WRITE) !== 0 && (permissions & PERMISSION_WRITE) === 0) return NO_WRITE_PERMISSION;
  if ((access & ACCESS_EXECUTE) !== 0 && (permissions & PERMISSION_EXECUTE) === 0)
    return NO_EXECUTE_PERMISSION;
  return 0;
}

/** The Translation Completion: the rights of the page, whatever the request wanted them for (PCIe 10.2.3). */
function completeTranslation(
  space: AddressSpace,
  index: number,
  permissions: number,
  iovaHigh: number,
  iovaLow: number,
  access: number,
  out: Uint32Array,
  probe: Probe,
): number {
  const privileged = (access & ACCESS_PRIVILEGED) !== 0;
  const hidden = (permissions & PERMISSION_PRIVILEGED) !== 0 && !privileged;
  const rights = hidden ? 0 : rightsOfCompletion(permissions, access);
  const forbidden = hidden ? PRIVILEGED_ONLY : NO_READ_PERMISSION;
  probe?.push(rightsStep(permissions, rights === 0 ? forbidden : 0));
  if (rights === 0) return refuse(out, STATUS_ATS, forbidden);
  space.translate(index, iovaHigh, iovaLow, rights | (privileged ? PERMISSION_PRIVILEGED : 0), out);
  return STATUS_ATS;
}

/** Write only when asked for (NW clear), execute only when asked for (ER set) and readable. */
function rightsOfCompletion(permissions: number, access: number): number {
  let rights = permissions & PERMISSION_READ;
  if ((access & ACCESS_NO_WRITE) === 0) rights |= permissions & PERMISSION_WRITE;
  if (rights !== 0 && (access & ACCESS_EXECUTE) !== 0 && (permissions & PERMISSION_READ) !== 0) {
    rights |= permissions & PERMISSION_EXECUTE;
  }
  return rights;
}

function rightsToCache(permissions: number, pasid: number): number {
  const readWrite = permissions & (PERMISSION_READ | PERMISSION_WRITE);
  const onlyPrivileged = (permissions & PERMISSION_PRIVILEGED) !== 0;
  if (pasid === NO_PASID) return onlyPrivileged ? 0 : readWrite;
  const executes = (permissions & PERMISSION_READ) === 0 ? 0 : permissions & PERMISSION_EXECUTE;
  const rights = readWrite | executes;
  return (rights << RIGHT_PRIVILEGED_SHIFT) | (onlyPrivileged ? 0 : rights);
}

/** True when an address has no bit at `width` (12..64) or above. */
function fits(iovaHigh: number, iovaLow: number, width: number): boolean {
  if (width === 64) return true;
  return width < 32 ? iovaHigh === 0 && iovaLow >>> width === 0 : iovaHigh >>> (width - 32) === 0;
}

function pass(iovaHigh: number, iovaLow: number, out: Uint32Array): number {
  answer(out, iovaHigh, iovaLow, 0, 0);
  return STATUS_BYPASS;
}

function policyOf(rules: TableRules): string {
  return rules.architectural ? 'architectural' : 'reject';
}
