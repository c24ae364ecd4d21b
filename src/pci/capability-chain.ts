import { hex } from './bdf.ts';
import { CAP_PCI_EXPRESS, capabilityName, EXT_CAP_NULL, extendedCapabilityName } from './capability-ids.ts';
import { capabilityLength, extendedCapabilityLength } from './capability-length.ts';
import { CONFIG_SPACE_SIZE, type ConfigSpace, EXTENDED_CONFIG_SPACE_SIZE } from './config-space.ts';
import type { Finding, FindingCode } from './finding.ts';
import {
  CAPABILITIES_POINTER,
  HEADER_END,
  HEADER_TYPE,
  HEADER_TYPE_LAYOUT,
  STATUS,
  STATUS_CAPABILITIES_LIST,
} from './header.ts';

/**
 * The two linked lists of capability structures, walked with bounds: a physical chain is hostile input.
 *
 * @module
 */

/** Longest standard chain: 192 bytes hold 48 headers of a dword each. */
export const MAX_CAPABILITIES = 48;
/** Longest extended chain: 3840 bytes hold 960 headers. */
export const MAX_EXTENDED_CAPABILITIES = 960;
/** Where the extended chain begins, always (PCIe 7.6.1). */
export const EXTENDED_CHAIN_HEAD = 0x100;

/** A capability structure met on a walk. */
export interface Capability {
  /** Config-space offset of its header, in bytes; dword aligned. */
  readonly offset: number;
  /** Capability ID: 8 bits in the standard chain, 16 in the extended one. */
  readonly id: number;
  /** Capability Version, 4 bits; 0 in the standard chain, which has none. */
  readonly version: number;
  /** Bytes it occupies, header included; never reaches into the next header or past the end of its region. */
  readonly length: number;
  /** True when PCIe 6 does not assign the ID; `length` is then that of the header. */
  readonly unknown: boolean;
  /** Name of the ID, for people. */
  readonly name: string;
}

/** The result of a walk: what stands in the chain, in chain order, and what was wrong with it. */
export interface CapabilityChain {
  readonly capabilities: readonly Capability[];
  readonly findings: readonly Finding[];
}

interface Region {
  readonly start: number;
  readonly end: number;
  readonly limit: number;
  readonly headerLength: number;
}

const STANDARD: Region = {
  start: HEADER_END,
  end: CONFIG_SPACE_SIZE,
  limit: MAX_CAPABILITIES,
  headerLength: 2,
};
const EXTENDED: Region = {
  start: EXTENDED_CHAIN_HEAD,
  end: EXTENDED_CONFIG_SPACE_SIZE,
  limit: MAX_EXTENDED_CAPABILITIES,
  headerLength: 4,
};

/** Where the Capabilities Pointer of this header layout is: CardBus bridges keep it at 14h. */
export function capabilitiesPointerOffset(space: ConfigSpace): number {
  return (space.read(HEADER_TYPE, 1) & HEADER_TYPE_LAYOUT) === 2 ? 0x14 : CAPABILITIES_POINTER;
}

/** Status says that there is a standard chain (PCIe 7.5.1.1.4). */
export function hasCapabilitiesList(space: ConfigSpace): boolean {
  return (space.read(STATUS, 2) & STATUS_CAPABILITIES_LIST) !== 0;
}

/** Walks the standard chain of `space` (PCIe 7.5.1.1.11). Bounded; never throws. */
export function walkCapabilities(space: ConfigSpace): CapabilityChain {
  if (!hasCapabilitiesList(space)) return { capabilities: [], findings: [] };
  const pointer = capabilitiesPointerOffset(space);
  const end = Math.min(space.size, STANDARD.end);
  const walk = followLinks({ ...STANDARD, end }, pointer, space.read(pointer, 1), (offset) => {
    const header = space.read(offset, 2);
    return { id: header & 0xff, version: 0, next: header >>> 8, allOnes: header === 0xffff };
  });
  return measure(walk, { ...STANDARD, end }, capabilityName, (id, offset) =>
    capabilityLength(space, id, offset),
  );
}

/** Walks the extended chain of `space` (PCIe 7.6.3); `standard` is the walk of its standard chain. Never throws. */
export function walkExtendedCapabilities(space: ConfigSpace, standard: CapabilityChain): CapabilityChain {
  if (space.size < EXTENDED_CONFIG_SPACE_SIZE || space.read(EXTENDED_CHAIN_HEAD, 4) === 0) {
    return { capabilities: [], findings: [] };
  }
  const expressOffset = standard.capabilities.find(({ id }) => id === CAP_PCI_EXPRESS)?.offset ?? 0;
  const walk = followLinks(EXTENDED, EXTENDED_CHAIN_HEAD, EXTENDED_CHAIN_HEAD, (offset) => {
    const header = space.read(offset, 4);
    return {
      id: header & 0xffff,
      version: (header >>> 16) & 0xf,
      next: header >>> 20,
      allOnes: header === 0xffffffff,
    };
  });
  return measure(walk, EXTENDED, extendedCapabilityName, (id, offset) =>
    extendedCapabilityLength(space, id, offset, { expressOffset }),
  );
}

interface Header {
  readonly id: number;
  readonly version: number;
  readonly next: number;
  readonly allOnes: boolean;
}

interface Link {
  readonly offset: number;
  readonly id: number;
  readonly version: number;
}

interface Walk {
  readonly links: Link[];
  readonly findings: Finding[];
}

/** `holder` is where the pointer `first` was read from: findings about a bad pointer name its holder. */
function followLinks(
  region: Region,
  holder: number,
  first: number,
  header: (offset: number) => Header,
): Walk {
  const walk: Walk = { links: [], findings: [] };
  const seen = new Set<number>();
  let from = holder;
  let offset = first;
  while (offset !== 0) {
    const stop = reasonToStop(region, seen, offset);
    if (stop !== undefined) {
      walk.findings.push({
        code: stop,
        offset: from,
        length: region.headerLength,
        message: `the chain ends at 0x${hex(from, 3)}: its pointer to 0x${hex(offset, 3)} ${WHY[stop]}`,
      });
      break;
    }
    const { id, version, next, allOnes } = header(offset);
    if (allOnes) {
      walk.findings.push({
        code: 'chain-all-ones',
        offset,
        length: region.headerLength,
        message: `the chain ends at 0x${hex(offset, 3)}: the header there reads all-ones`,
      });
      break;
    }
    seen.add(offset);
    walk.links.push({ offset, id, version });
    from = offset;
    offset = next;
  }
  return walk;
}

const WHY = {
  'chain-all-ones': 'is all-ones',
  'chain-cycle': 'closes a cycle',
  'chain-misaligned': 'is not dword aligned',
  'chain-out-of-range': 'is outside its region',
  'chain-too-long': 'is one more than the region can hold',
} satisfies Partial<Record<FindingCode, string>>;

function reasonToStop(
  region: Region,
  seen: ReadonlySet<number>,
  offset: number,
): keyof typeof WHY | undefined {
  if (offset === 0xff || offset === 0xfff) return 'chain-all-ones';
  if ((offset & 3) !== 0) return 'chain-misaligned';
  if (offset < region.start || offset + region.headerLength > region.end) return 'chain-out-of-range';
  if (seen.has(offset)) return 'chain-cycle';
  if (seen.size >= region.limit) return 'chain-too-long';
  return undefined;
}

function measure(
  walk: Walk,
  region: Region,
  nameOf: (id: number) => string | undefined,
  lengthOf: (id: number, offset: number) => number | undefined,
): CapabilityChain {
  const findings = [...walk.findings];
  const starts = walk.links.map(({ offset }) => offset).toSorted((a, b) => a - b);
  const capabilities = walk.links.map(({ offset, id, version }): Capability => {
    const name = nameOf(id) ?? `unknown ID 0x${hex(id, 2)}`;
    const known = lengthOf(id, offset);
    const length = known ?? region.headerLength;
    const limit = (starts.find((start) => start > offset) ?? region.end) - offset;
    if (length > limit) {
      findings.push({
        code: 'capability-clipped',
        offset,
        length: limit,
        message: `${name} at 0x${hex(offset, 3)} is cut to ${limit} of ${length} bytes, where ${
          offset + limit === region.end ? 'its region ends' : 'the next capability begins'
        }`,
      });
    }
    return { offset, id, version, length: Math.min(length, limit), unknown: known === undefined, name };
  });
  return { capabilities, findings };
}

/** True for the extended capability that is only a link in the chain. */
export function isNullCapability({ id }: Capability): boolean {
  return id === EXT_CAP_NULL;
}
