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
import { PASID_CAPABILITY, PASID_LENGTH, PASID_MAX_WIDTH, PASID_MAX_WIDTH_SHIFT } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** The PCI Express Capability of a function. */
export interface ExpressFacts {
  readonly offset: number;
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
  readonly physicalPasid: PhysicalPasid | undefined;
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
    physicalPasid: findPhysicalPasid(space, extended, raw),
  };
}

function expressFacts(space: ConfigSpace, standard: CapabilityChain): ExpressFacts | undefined {
  const found = standard.capabilities.find(({ id }) => id === CAP_PCI_EXPRESS);
  if (found === undefined) return undefined;
  const capabilities = space.read(found.offset + exp.EXP_CAPABILITIES, 2);
  return {
    offset: found.offset,
    version: capabilities & exp.EXP_CAPABILITY_VERSION,
    deviceType: (capabilities & exp.EXP_DEVICE_PORT_TYPE) >>> exp.EXP_DEVICE_PORT_TYPE_SHIFT,
  };
}

function findPhysicalPasid(
  space: ConfigSpace,
  extended: CapabilityChain,
  raw: Uint8Array | undefined,
): PhysicalPasid | undefined {
  const inChain = extended.capabilities.find(({ id }) => id === EXT_CAP_PASID);
  if (inChain !== undefined)
    return { offset: inChain.offset, inChain: true, width: widthAt(space, inChain.offset) };
  if (space.size < EXTENDED_CONFIG_SPACE_SIZE) return undefined;
  const hidden =
    raw?.length === EXTENDED_CONFIG_SPACE_SIZE ? pasidInChain(raw) : scanForPasid(space, extended);
  return hidden === undefined ? undefined : { offset: hidden, inChain: false, width: widthAt(space, hidden) };
}

function pasidInChain(raw: Uint8Array): number | undefined {
  const space = new ByteConfigSpace(raw);
  const chain = walkExtendedCapabilities(space, walkCapabilities(space));
  return chain.capabilities.find(({ id }) => id === EXT_CAP_PASID)?.offset;
}

/** The first dword in no capability that looks like a PASID header: ID 001Bh, version 1. */
function scanForPasid(space: ConfigSpace, extended: CapabilityChain): number | undefined {
  for (let offset = EXTENDED_CHAIN_HEAD; offset + PASID_LENGTH <= space.size; offset += 4) {
    const inside = extended.capabilities.find(
      (one) => offset >= one.offset && offset < one.offset + one.length,
    );
    if (inside === undefined && (space.read(offset, 4) & 0xfffff) === 0x1001b) return offset;
  }
  return undefined;
}

function widthAt(space: ConfigSpace, offset: number): number {
  return (space.read(offset + PASID_CAPABILITY, 2) & PASID_MAX_WIDTH) >>> PASID_MAX_WIDTH_SHIFT;
}
