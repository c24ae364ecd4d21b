import { EXT_CAP_PASID, CAP_PCI_EXPRESS } from '../pci/capability-ids.ts';
import {
  type CapabilityChain,
  EXTENDED_CHAIN_HEAD,
  walkCapabilities,
  walkExtendedCapabilities,
} from '../pci/capability-chain.ts';
import {
  ByteConfigSpace,
  CONFIG_SPACE_SIZE,
  type ConfigSpace,
  EXTENDED_CONFIG_SPACE_SIZE,
} from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import { DEVICE_ID, HEADER_TYPE, HEADER_TYPE_LAYOUT, VENDOR_ID } from '../pci/header.ts';
import {
  PASID_CAPABILITY,
  PASID_EXECUTE_PERMISSION_SUPPORTED,
  PASID_LENGTH,
  PASID_MAX_WIDTH,
  PASID_MAX_WIDTH_SHIFT,
  PASID_PRIVILEGED_MODE_SUPPORTED,
} from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** The PCI Express Capability of a function. */
export interface ExpressFacts {
  readonly offset: number;
  /** Bytes of the structure; less than the version has when it is cut off. */
  readonly length: number;
  /** Capability Version, 4 bits. */
  readonly version: number;
  /** Device/Port Type, 4 bits (PCIe 7.5.3.2). */
  readonly deviceType: number;
}

/** Where a physical PASID capability is, in the chain or hidden in a hole. */
export interface PhysicalPasid {
  readonly offset: number;
  /** True when it stands in the chain that the embedder handed over. */
  readonly inChain: boolean;
  /** Max PASID Width it shows, 5 bits as found. */
  readonly width: number;
  /** Execute Permission and Privileged Mode supported, as found. */
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** Everything that is read from a function's registers once, before the guest sees it. */
export interface FunctionImage {
  /** A number of its own, for caches. */
  readonly id: number;
  /** A copy of the registers; its size is that of the guest's space: 256 or 4096 bytes. */
  readonly space: ByteConfigSpace;
  /** Bytes that there were to read; the rest of `space` is 0. */
  readonly readSize: number;
  /** The registers are a real function's, so that what has no rule of its own is read there. */
  readonly isPhysical: boolean;
  readonly standard: CapabilityChain;
  readonly extended: CapabilityChain;
  readonly express: ExpressFacts | undefined;
  /** Header layout, 7 bits: 0 endpoint, 1 bridge, 2 CardBus. */
  readonly headerLayout: number;
  /** Vendor and Device ID read FFFFh, as a VF's do (PCIe 9.3.4.1.1). */
  readonly hasVfHeader: boolean;
  /** Physical PASID capabilities: the first is the device's own, others in holes may only look like one. */
  readonly physicalPasids: readonly PhysicalPasid[];
}

/** Images in use lately. Functions of the same make, such as the VFs of a device, share one and all that follows. */
const IMAGES_KEPT = 64;
const images: FunctionImage[] = [];
let nextId = 0;

/**
 * Reads `source` once and takes it apart. `raw`: the same registers without the host's filter (sysfs `config`),
 * to find a PASID capability that the host hides.
 *
 * @throws VpciError `VPCI_CONFIG_SIZE` unless there are 64, 128, 256 or 4096 bytes.
 */
export function readFunctionImage(
  source: ConfigSpace,
  isPhysical: boolean,
  raw: Uint8Array | undefined,
): FunctionImage {
  if (![64, 128, CONFIG_SPACE_SIZE, EXTENDED_CONFIG_SPACE_SIZE].includes(source.size)) {
    throw new VpciError(
      'VPCI_CONFIG_SIZE',
      `a configuration space of ${source.size} bytes: give all of it, 256 or 4096 bytes (64 or 128 for a header alone)`,
    );
  }
  const bytes = new Uint8Array(source.size);
  const view = new DataView(bytes.buffer);
  for (let offset = 0; offset < source.size; offset += 4)
    view.setUint32(offset, source.read(offset, 4), true);
  if (raw !== undefined) return takeApart(bytes, isPhysical, raw);
  const known = images.findIndex(
    (image) =>
      image.isPhysical === isPhysical &&
      image.readSize === bytes.length &&
      startsWith(image.space.bytes, bytes),
  );
  const image = images[known] ?? takeApart(bytes, isPhysical, undefined);
  if (known !== -1) images.splice(known, 1);
  images.unshift(image);
  images.length = Math.min(images.length, IMAGES_KEPT);
  return image;
}

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  for (let i = 0; i < start.length; i++) if (bytes[i] !== start[i]) return false;
  return true;
}

function takeApart(bytes: Uint8Array, isPhysical: boolean, raw: Uint8Array | undefined): FunctionImage {
  const read = new ByteConfigSpace(bytes);
  // The walks run over what was read, not over the padding: a 64-byte header has no chain to show.
  const standard = walkCapabilities(read);
  const extended = walkExtendedCapabilities(read, standard);
  const padded = new Uint8Array(
    bytes.length > CONFIG_SPACE_SIZE ? EXTENDED_CONFIG_SPACE_SIZE : CONFIG_SPACE_SIZE,
  );
  padded.set(bytes);
  const space = new ByteConfigSpace(padded);
  return {
    id: nextId++,
    space,
    readSize: bytes.length,
    isPhysical,
    standard,
    extended,
    express: expressFacts(space, standard),
    headerLayout: space.read(HEADER_TYPE, 1) & HEADER_TYPE_LAYOUT,
    hasVfHeader: space.read(VENDOR_ID, 2) === 0xffff && space.read(DEVICE_ID, 2) === 0xffff,
    physicalPasids: findPhysicalPasids(space, extended, raw),
  };
}

function expressFacts(space: ConfigSpace, standard: CapabilityChain): ExpressFacts | undefined {
  const found = standard.capabilities.find(({ id }) => id === CAP_PCI_EXPRESS);
  if (found === undefined) return undefined;
  const capabilities = space.read(found.offset + exp.EXP_CAPABILITIES, 2);
  return {
    offset: found.offset,
    length: found.length,
    version: capabilities & exp.EXP_CAPABILITY_VERSION,
    deviceType: (capabilities & exp.EXP_DEVICE_PORT_TYPE) >>> exp.EXP_DEVICE_PORT_TYPE_SHIFT,
  };
}

function findPhysicalPasids(
  space: ConfigSpace,
  extended: CapabilityChain,
  raw: Uint8Array | undefined,
): readonly PhysicalPasid[] {
  const inChain = extended.capabilities.filter(({ id }) => id === EXT_CAP_PASID);
  if (inChain.length > 0) return inChain.map(({ offset }) => pasidAt(space, offset, true));
  if (space.size < EXTENDED_CONFIG_SPACE_SIZE) return [];
  const named = raw?.length === EXTENDED_CONFIG_SPACE_SIZE ? pasidsInChain(raw) : [];
  // A raw space that shows none may have been read in part.
  const hidden = named.length > 0 ? named : scanForPasids(space, extended);
  return hidden.map((offset) => pasidAt(space, offset, false));
}

function pasidsInChain(raw: Uint8Array): number[] {
  const space = new ByteConfigSpace(raw);
  const chain = walkExtendedCapabilities(space, walkCapabilities(space));
  return chain.capabilities.filter(({ id }) => id === EXT_CAP_PASID).map(({ offset }) => offset);
}

/** Dwords in no capability that look like a PASID header: ID 001Bh, version 1. */
function scanForPasids(space: ConfigSpace, extended: CapabilityChain): number[] {
  const found: number[] = [];
  for (let offset = EXTENDED_CHAIN_HEAD; offset + PASID_LENGTH <= space.size; offset += 4) {
    if ((space.read(offset, 4) & 0xfffff) !== 0x1001b) continue;
    const inside = extended.capabilities.some(
      (one) => offset >= one.offset && offset < one.offset + one.length,
    );
    if (!inside) found.push(offset);
  }
  return found;
}

function pasidAt(space: ConfigSpace, offset: number, inChain: boolean): PhysicalPasid {
  const capability = space.read(offset + PASID_CAPABILITY, 2);
  return {
    offset,
    inChain,
    width: (capability & PASID_MAX_WIDTH) >>> PASID_MAX_WIDTH_SHIFT,
    execute: (capability & PASID_EXECUTE_PERMISSION_SUPPORTED) !== 0,
    privileged: (capability & PASID_PRIVILEGED_MODE_SUPPORTED) !== 0,
  };
}
