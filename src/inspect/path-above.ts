import * as exp from '../pci/express.ts';
import * as reg from '../pci/header.ts';
import type { GuestSubject } from './guest-subject.ts';

/** A function with its place in a dump of several. */
export interface PlacedSubject extends GuestSubject {
  /** `bb:dd.f`, with a domain in front when the dump has one. */
  readonly bdf: string;
  /** PCI segment group. */
  readonly domain: number;
  /** Requester ID, 16 bits. */
  readonly rid: number;
}

/** The ports and bridges between a function and the root complex. */
export interface PathAbove {
  /** From the function up. */
  readonly ports: readonly PlacedSubject[];
  /** True when the last of `ports`, or the function without any, is on the root bus; false when nobody knows. */
  readonly complete: boolean;
}

/** Nothing is known about what is above. */
export const UNKNOWN_PATH: PathAbove = { ports: [], complete: false };

/**
 * Follows the bus numbers of the type 1 headers from `subject` up. A bus that no port of the dump leads to is
 * the root bus below a root port or an RC integrated endpoint, and bus 0 is when the dump has other ports.
 */
export function pathAbove(
  subject: GuestSubject & Partial<PlacedSubject>,
  all: readonly PlacedSubject[],
): PathAbove {
  if (isRootComplexIntegrated(subject)) return { ports: [], complete: true };
  const { domain, rid } = subject;
  if (domain === undefined || rid === undefined) return UNKNOWN_PATH;
  const bridges = all.filter((one) => one.domain === domain && one.identity.headerLayout === 1);
  // Secondary bus 0 is a port that nobody has configured.
  const ports: PlacedSubject[] = [];
  let bus = rid >>> 8;
  for (;;) {
    const parent = bridges.find(
      (one) => secondaryBus(one) === bus && one.rid !== rid && !ports.includes(one),
    );
    if (parent === undefined || bus === 0) break;
    ports.push(parent);
    if (deviceType(parent) === exp.DEVICE_TYPE_ROOT_PORT) return { ports, complete: true };
    bus = parent.rid >>> 8;
  }
  return { ports, complete: bus === 0 && bridges.length > 0 };
}

function secondaryBus({ guest }: GuestSubject): number {
  return guest.read(reg.SECONDARY_BUS_NUMBER, 1);
}

function isRootComplexIntegrated(subject: GuestSubject): boolean {
  const type = deviceType(subject);
  return type === exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT || type === exp.DEVICE_TYPE_RC_EVENT_COLLECTOR;
}

/** Device/Port Type that the guest reads; undefined without a PCI Express Capability. */
export function deviceType({ identity }: GuestSubject): number | undefined {
  return identity.express?.deviceType;
}
