import { ATS_LENGTH, ATS_VERSION, PRI_LENGTH, PRI_VERSION } from '../pci/ats.ts';
import { hex } from '../pci/bdf.ts';
import * as id from '../pci/capability-ids.ts';
import { type Capability, EXTENDED_CHAIN_HEAD, isNullCapability } from '../pci/capability-chain.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import type { Finding, FindingCode } from '../pci/finding.ts';
import { PASID_LENGTH, PASID_VERSION } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { ShownPasid } from './capabilities/index.ts';
import type { FunctionImage } from './function-image.ts';
import { findPlace, type Occupied, refusePlace } from './placement.ts';

/** Extended capabilities that a guest never sees on a passed-through function. */
const HIDDEN: ReadonlyMap<number, string> = new Map([
  [id.EXT_CAP_SR_IOV, 'the guest must not create virtual functions'],
  [id.EXT_CAP_MR_IOV, 'the guest must not manage other hierarchies'],
  [id.EXT_CAP_ARI, 'the guest topology decides function numbers'],
  [id.EXT_CAP_RESIZABLE_BAR, 'BAR sizes are fixed by the host'],
  [id.EXT_CAP_VF_RESIZABLE_BAR, 'BAR sizes are fixed by the host'],
  [id.EXT_CAP_DOE, 'its mailbox reaches the security state of the device'],
  [id.EXT_CAP_IDE, 'link encryption belongs to the host'],
  [id.EXT_CAP_RC_LINK_DECLARATION, 'it describes the root complex of the host'],
  [id.EXT_CAP_RC_INTERNAL_LINK_CONTROL, 'it describes the root complex of the host'],
  [id.EXT_CAP_RC_EVENT_COLLECTOR, 'it describes the root complex of the host'],
  [id.EXT_CAP_RCRB, 'it describes the root complex of the host'],
]);

/** `[start, end)` in bytes. */
export type ByteRange = readonly [start: number, end: number];

/** What the guest is to see, apart from what the image has. */
export interface PlanRequest {
  readonly image: FunctionImage;
  /** Shown PASID; undefined for none. */
  readonly pasid: ShownPasid | undefined;
  /** Explicit place of the PASID capability. */
  readonly pasidOffset: number | undefined;
  /** True: synthesized. False: hidden. Undefined: as the image has it. */
  readonly ats: boolean | undefined;
  readonly pri: boolean | undefined;
  readonly passthroughRanges: readonly ByteRange[];
}

/** A capability in the guest's chain. */
export interface PlannedCapability extends Capability {
  /** Made here, or a register block of the image. */
  readonly synthesized: boolean;
}

/** The guest's two chains, in chain order. */
export interface GuestPlan {
  readonly standard: readonly PlannedCapability[];
  readonly extended: readonly PlannedCapability[];
  readonly findings: readonly Finding[];
}

/** A synthesized capability has no place. */
export interface PlanRefusal {
  /** Its ID. */
  readonly capability: number;
  readonly refused: VpciError;
}

interface Wanted {
  readonly id: number;
  readonly length: number;
  readonly version: number;
  readonly name: string;
  readonly offset: number | undefined;
}

/**
 * Decides which capabilities the guest sees and where, unless a synthesized one has no place (`VPCI_NO_SPACE`,
 * `VPCI_PASID_OFFSET`, `VPCI_CAPABILITY_COLLISION`, `VPCI_NO_EXTENDED_SPACE`).
 */
export function planGuestView(asked: PlanRequest): GuestPlan | PlanRefusal {
  const { image } = asked;
  const request =
    image.headerLayout === 0 ? asked : { ...asked, ats: notShown(asked.ats), pri: notShown(asked.pri) };
  const findings: Finding[] = [...image.standard.findings, ...image.extended.findings];
  const standard: PlannedCapability[] = [];
  for (const capability of image.standard.capabilities) {
    if (capability.unknown) findings.push(hidden(capability, 'PCIe does not assign the ID'));
    else standard.push({ ...capability, synthesized: false });
  }
  const wanted = wantedCapabilities(request);
  const extended: PlannedCapability[] = [];
  const replaced = new Map<number, Wanted>();
  for (const one of wanted) {
    const own = deviceCapability(image, one);
    if (own !== undefined && (one.offset ?? own.offset) === own.offset) replaced.set(own.offset, one);
  }
  for (const capability of image.extended.capabilities) {
    const inPlace = replaced.get(capability.offset);
    if (inPlace !== undefined) {
      extended.push({ ...inPlace, offset: capability.offset, unknown: false, synthesized: true });
      findings.push(
        finding(
          'capability-replaced',
          capability,
          `${capability.name} at 0x${hex(capability.offset, 3)} is a virtual one`,
        ),
      );
      continue;
    }
    const why = reasonToHide(request, capability);
    if (why === undefined) extended.push({ ...capability, synthesized: false });
    else findings.push(hidden(capability, why));
  }
  noteHiddenPasid(image, findings);
  const done = new Set(replaced.values());
  const missing = wanted.filter((one) => !done.has(one));
  const places = place(request, missing);
  if ('refused' in places) return places;
  for (const placed of places) {
    const next = extended.findIndex(({ offset }) => offset > placed.offset);
    extended.splice(next === -1 ? extended.length : next, 0, placed);
  }
  return { standard, extended, findings };
}

/** A bridge has no virtual ATS or PRI, but its own can be hidden. */
function notShown(option: boolean | undefined): false | undefined {
  return option === false ? false : undefined;
}

function wantedCapabilities({ pasid, pasidOffset, ats, pri }: PlanRequest): readonly Wanted[] {
  const wanted: Wanted[] = [];
  const add = (capability: number, length: number, version: number, offset: number | undefined): void => {
    wanted.push({
      id: capability,
      length,
      version,
      offset,
      name: id.extendedCapabilityName(capability) ?? '',
    });
  };
  // In the order of placing: what comes first gets the better place.
  if (ats === true) add(id.EXT_CAP_ATS, ATS_LENGTH, ATS_VERSION, undefined);
  if (pri === true) add(id.EXT_CAP_PAGE_REQUEST, PRI_LENGTH, PRI_VERSION, undefined);
  if (pasid !== undefined) add(id.EXT_CAP_PASID, PASID_LENGTH, PASID_VERSION, pasidOffset);
  return wanted;
}

/** The device's own capability of the kind, which is the first that is whole; more of them are only hidden. */
function deviceCapability(
  { extended }: FunctionImage,
  { id: wanted, length }: Pick<Wanted, 'id' | 'length'>,
): Capability | undefined {
  return extended.capabilities.find((one) => one.id === wanted && one.length >= length);
}

function reasonToHide({ image, ats, pri }: PlanRequest, capability: Capability): string | undefined {
  if (isNullCapability(capability)) return undefined;
  if (capability.unknown) return 'PCIe does not assign the ID';
  switch (capability.id) {
    case id.EXT_CAP_PASID:
      return 'the guest must not reach the physical PASID configuration';
    case id.EXT_CAP_ATS:
      return ats === undefined ? undefined : 'the virtual one, or none, takes its place';
    case id.EXT_CAP_PAGE_REQUEST:
      return pri === undefined ? undefined : 'the virtual one, or none, takes its place';
    default:
      // An emulated function shows what its author gave it.
      return image.isPhysical ? HIDDEN.get(capability.id) : undefined;
  }
}

function noteHiddenPasid({ physicalPasids }: FunctionImage, findings: Finding[]): void {
  for (const { offset, inChain } of physicalPasids) {
    if (inChain) continue;
    findings.push({
      code: 'physical-pasid-hidden',
      offset,
      length: PASID_LENGTH,
      message: `a physical PASID capability outside the chain at 0x${hex(offset, 3)} is out of the guest's reach`,
    });
  }
}

/** Finds a place for each of `wanted`; explicit places are kept free for their owners. */
function place(request: PlanRequest, wanted: readonly Wanted[]): PlannedCapability[] | PlanRefusal {
  const { image } = request;
  const occupied = occupiedBytes(request);
  const lastBodyEnd = Math.max(
    EXTENDED_CHAIN_HEAD,
    ...image.extended.capabilities.map((one) => one.offset + one.length),
  );
  let headIsFree = image.extended.capabilities.length === 0;
  const explicit = wanted.find((one) => one.offset !== undefined);
  const placed: PlannedCapability[] = [];
  for (const one of wanted) {
    const capability = one.id;
    if (image.space.size < EXTENDED_CONFIG_SPACE_SIZE)
      return { capability, refused: withoutSpace(image, one) };
    const taken =
      one === explicit || explicit?.offset === undefined
        ? occupied
        : [...occupied, bytesOf(explicit, explicit.offset)];
    const offset =
      headIsFree && !(explicit?.offset === EXTENDED_CHAIN_HEAD && one !== explicit)
        ? headPlace(one, taken)
        : placeOf(one, taken, lastBodyEnd);
    if (typeof offset !== 'number') return { capability, refused: offset };
    headIsFree = headIsFree && offset !== EXTENDED_CHAIN_HEAD;
    occupied.push(bytesOf(one, offset));
    placed.push({ ...one, offset, unknown: false, synthesized: true });
  }
  return placed;
}

function withoutSpace({ space }: FunctionImage, { name }: Wanted): VpciError {
  return new VpciError(
    'VPCI_NO_EXTENDED_SPACE',
    `the function has ${space.size} bytes of configuration space: ${name} needs the extended space of a PCI Express function (4096 bytes)`,
  );
}

function placeOf(one: Wanted, occupied: readonly Occupied[], lastBodyEnd: number): number | VpciError {
  if (one.offset === undefined) return findPlace(one.length, occupied, lastBodyEnd, one.name);
  return refusePlace(one.offset, one.length, occupied, one.name) ?? one.offset;
}

/** An empty chain begins at 100h or not at all (PCIe 7.6.1). */
function headPlace(one: Wanted, occupied: readonly Occupied[]): number | VpciError {
  const offset = one.offset ?? EXTENDED_CHAIN_HEAD;
  const refused = refusePlace(offset, one.length, occupied, one.name);
  if (refused !== undefined) return refused;
  if (offset === EXTENDED_CHAIN_HEAD) return offset;
  return new VpciError(
    'VPCI_PASID_OFFSET',
    `${one.name} at 0x${hex(offset, 3)} is refused: the function has no extended capability, and a chain begins at 0x100 only`,
  );
}

function bytesOf({ length, name }: Wanted, offset: number): Occupied {
  return { start: offset, end: offset + length, name };
}

function occupiedBytes({ image, passthroughRanges, pasid, pasidOffset }: PlanRequest): Occupied[] {
  const occupied: Occupied[] = [];
  const moved =
    pasid === undefined || pasidOffset === undefined
      ? undefined
      : deviceCapability(image, { id: id.EXT_CAP_PASID, length: PASID_LENGTH });
  for (const capability of image.extended.capabilities) {
    // A PASID capability that goes elsewhere frees its place, except that the head of the chain stays.
    const { offset, length, name } = capability;
    const moves = capability === moved && offset !== pasidOffset;
    if (!moves) occupied.push({ start: offset, end: offset + length, name });
    else if (offset === EXTENDED_CHAIN_HEAD)
      occupied.push({ start: offset, end: offset + 4, name: 'the head of the chain' });
  }
  for (const [start, end] of passthroughRanges) occupied.push({ start, end, name: 'a passed-through range' });
  for (const { offset, inChain } of image.physicalPasids) {
    if (inChain) continue;
    occupied.push({
      start: offset,
      end: offset + PASID_LENGTH,
      name: 'the hidden physical PASID capability',
    });
  }
  return occupied;
}

function hidden(capability: Capability, why: string): Finding {
  const { name, offset } = capability;
  return finding('capability-hidden', capability, `${name} at 0x${hex(offset, 3)} is hidden: ${why}`);
}

function finding(code: FindingCode, { offset, length }: Capability, message: string): Finding {
  return { code, offset, length, message };
}
