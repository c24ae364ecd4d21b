import { createFunction, PciFunction } from '../function/index.ts';
import { type Capability, walkCapabilities, walkExtendedCapabilities } from '../pci/capability-chain.ts';
import { CAP_PCI_EXPRESS, EXT_CAP_PASID } from '../pci/capability-ids.ts';
import { ByteConfigSpace } from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import * as reg from '../pci/header.ts';
import { PASID_CAPABILITY, PASID_MAX_WIDTH, PASID_MAX_WIDTH_SHIFT } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { GuestViewOptions } from './guest-view.ts';

/** A function with everything that an explanation reads: the guest's registers and where they come from. */
export interface GuestSubject {
  /** The function as the guest gets it. */
  readonly fn: PciFunction;
  /** What the guest reads now; reading it touches nothing. */
  readonly guest: ByteConfigSpace;
  /** Bytes of the dump: the rest of `guest` is padding. */
  readonly known: number;
  /** Capabilities that the physical function has, both chains; empty when only the guest's side is known. */
  readonly physical: readonly Capability[];
  /** The physical PASID capability, which no guest sees. */
  readonly physicalPasid: { readonly offset: number; readonly width: number } | undefined;
  readonly identity: FunctionIdentity;
  /** Why what was asked for was left out, ATS and PRI included; undefined when it was not. */
  readonly refused: string | undefined;
}

/** What a function is, as the guest reads it. */
export interface FunctionIdentity {
  /** Vendor and Device ID, 16 bits each. */
  readonly vendorId: number;
  readonly deviceId: number;
  /** Base class, sub-class, programming interface, 24 bits. */
  readonly classCode: number;
  /** Header layout, 7 bits: 0 endpoint, 1 bridge, 2 CardBus. */
  readonly headerLayout: number;
  /** Header Type bit 7. */
  readonly multiFunction: boolean;
  /** Bytes of the configuration space that the guest gets: 256 or 4096. */
  readonly size: number;
  /** The PCI Express Capability; null for a conventional function. */
  readonly express: ExpressIdentity | null;
  /** What it is in words, such as `endpoint` or `root port`. */
  readonly kind: string;
}

/** What the PCI Express Capability says (PCIe 7.5.3.2). */
export interface ExpressIdentity {
  /** Config-space offset in bytes. */
  readonly offset: number;
  /** Capability Version, 4 bits. */
  readonly version: number;
  /** Device/Port Type, 4 bits. */
  readonly deviceType: number;
}

const TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [exp.DEVICE_TYPE_ENDPOINT, 'endpoint'],
  [exp.DEVICE_TYPE_LEGACY_ENDPOINT, 'legacy endpoint'],
  [exp.DEVICE_TYPE_ROOT_PORT, 'root port'],
  [exp.DEVICE_TYPE_UPSTREAM_PORT, 'upstream port of a switch'],
  [exp.DEVICE_TYPE_DOWNSTREAM_PORT, 'downstream port of a switch'],
  [exp.DEVICE_TYPE_PCIE_TO_PCI_BRIDGE, 'PCI Express to PCI bridge'],
  [exp.DEVICE_TYPE_PCI_TO_PCIE_BRIDGE, 'PCI to PCI Express bridge'],
  [exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT, 'RC integrated endpoint'],
  [exp.DEVICE_TYPE_RC_EVENT_COLLECTOR, 'root complex event collector'],
]);

/** Errors that are about the bytes of the function, not about a caller's mistake. */
const REFUSALS: ReadonlySet<string> = new Set([
  'VPCI_CAPABILITY_COLLISION',
  'VPCI_NO_EXTENDED_SPACE',
  'VPCI_NO_SPACE',
  'VPCI_PASID_OFFSET',
  'VPCI_PASSTHROUGH_RANGE',
]);

/** The function whose registers are `source`, as a guest gets it; a {@link PciFunction} is taken as it is. */
export function guestSubject(source: Uint8Array | PciFunction, options: GuestViewOptions): GuestSubject {
  if (source instanceof PciFunction) {
    const known = { known: source.size, physical: [], physicalPasid: undefined, refused: undefined };
    return { ...known, ...asTheGuestReads(source) };
  }
  // A copy: nothing that is tried here may change the caller's dump.
  const bytes = source.slice();
  const { fn, refused } = make(bytes, options);
  const space = new ByteConfigSpace(bytes);
  const standard = walkCapabilities(space);
  const extended = walkExtendedCapabilities(space, standard);
  const physical = [...standard.capabilities, ...extended.capabilities];
  const physicalPasid = pasidOf(space, fn, extended.capabilities);
  return { known: bytes.length, physical, physicalPasid, refused, ...asTheGuestReads(fn) };
}

function make(
  bytes: Uint8Array,
  options: GuestViewOptions,
): { fn: PciFunction; refused: string | undefined } {
  const isBridge = ((bytes[reg.HEADER_TYPE] ?? 0) & reg.HEADER_TYPE_LAYOUT) !== 0;
  const { vendorId, deviceId, rawConfig } = options;
  const bare = { physical: bytes, vendorId, deviceId, rawConfig };
  try {
    // What is asked for is for endpoints; a port is shown as it is.
    const wanted = isBridge ? bare : { ...options, ...bare };
    return { fn: createFunction({ ...wanted, onPasidRefused: 'omit' }), refused: undefined };
  } catch (error) {
    if (!(error instanceof VpciError) || !REFUSALS.has(error.code)) throw error;
    return { fn: createFunction(bare), refused: error.message };
  }
}

function asTheGuestReads(fn: PciFunction): Pick<GuestSubject, 'fn' | 'guest' | 'identity'> {
  const guest = new ByteConfigSpace(snapshot(fn));
  return { fn, guest, identity: identify(fn, guest) };
}

/** In the chain, or in a hole where the function found it. */
function pasidOf(
  space: ByteConfigSpace,
  fn: PciFunction,
  chain: readonly Capability[],
): GuestSubject['physicalPasid'] {
  const found =
    chain.find(({ id }) => id === EXT_CAP_PASID) ??
    fn.findings.find(({ code }) => code === 'physical-pasid-hidden');
  if (found === undefined) return undefined;
  const { offset } = found;
  return {
    offset,
    width: (space.read(offset + PASID_CAPABILITY, 2) & PASID_MAX_WIDTH) >>> PASID_MAX_WIDTH_SHIFT,
  };
}

/** What the guest reads now. A function that no guest has touched stays so: its PASID width is not frozen yet. */
function snapshot(fn: PciFunction): Uint8Array {
  const bytes = new Uint8Array(fn.size);
  fn.inspectInto(0, bytes);
  return bytes;
}

function identify(fn: PciFunction, guest: ByteConfigSpace): FunctionIdentity {
  const headerType = guest.read(reg.HEADER_TYPE, 1);
  const headerLayout = headerType & reg.HEADER_TYPE_LAYOUT;
  const express = expressIdentity(fn, guest);
  return {
    vendorId: guest.read(reg.VENDOR_ID, 2),
    deviceId: guest.read(reg.DEVICE_ID, 2),
    classCode: guest.read(reg.REVISION_ID, 4) >>> 8,
    headerLayout,
    multiFunction: (headerType & reg.HEADER_TYPE_MULTI_FUNCTION) !== 0,
    size: fn.size,
    express: express ?? null,
    kind: kindOf(express, headerLayout),
  };
}

function expressIdentity(fn: PciFunction, guest: ByteConfigSpace): ExpressIdentity | undefined {
  const offset = fn.capabilities.find(({ id }) => id === CAP_PCI_EXPRESS)?.offset;
  if (offset === undefined) return undefined;
  const capabilities = guest.read(offset + exp.EXP_CAPABILITIES, 2);
  return {
    offset,
    version: capabilities & exp.EXP_CAPABILITY_VERSION,
    deviceType: (capabilities & exp.EXP_DEVICE_PORT_TYPE) >>> exp.EXP_DEVICE_PORT_TYPE_SHIFT,
  };
}

function kindOf(express: ExpressIdentity | undefined, headerLayout: number): string {
  if (express !== undefined) {
    return TYPE_NAMES.get(express.deviceType) ?? `function of device/port type ${express.deviceType}`;
  }
  if (headerLayout === 1) return 'PCI bridge without PCI Express capability';
  return headerLayout === 2 ? 'CardBus bridge' : 'function without PCI Express capability';
}

/** True for what never has a PASID capability, because it is no endpoint (PCIe 7.8.9). */
export function isPort({ headerLayout, express }: FunctionIdentity): boolean {
  if (headerLayout !== 0) return true;
  const type = express?.deviceType ?? exp.DEVICE_TYPE_ENDPOINT;
  return (
    type >= exp.DEVICE_TYPE_ROOT_PORT &&
    type !== exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT &&
    TYPE_NAMES.has(type)
  );
}
