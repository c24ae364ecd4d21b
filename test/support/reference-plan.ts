import type { PassthroughOptions } from '../../src/index.ts';
import { byteAt, dwordAt, extendedLinks, type Link, standardLinks, wordAt } from './reference-chain.ts';

// What the guest's chains hold and where, from design sections 3 and 4. Written apart from src/function.

/** A capability of the guest's chain. */
export interface Shown extends Link {
  /** Made by the library; otherwise the physical one. */
  readonly virtual: boolean;
}

export interface ReferencePlan {
  readonly bytes: Uint8Array;
  /** Bytes of the guest's space. */
  readonly size: number;
  readonly standard: readonly Link[];
  readonly extended: readonly Shown[];
  /** The physical chain starts with a structure that the guest must not see. */
  readonly hiddenHead: boolean;
  /** Shown PASID, in bits and flags. */
  readonly pasid: { offset: number; width: number; execute: boolean; privileged: boolean } | undefined;
  readonly express: Link | undefined;
  /** Writes to PASID Control vanish. */
  readonly drop: boolean;
}

/** The host's options refuse the function: with a sentence for the test's output. */
export class Refused extends Error {}

const HIDDEN = new Set([0x05, 0x06, 0x07, 0x0a, 0x0e, 0x10, 0x11, 0x15, 0x24, 0x2e, 0x30]);
const [ATS, PRI, PASID] = [0x0f, 0x13, 0x1b];
const LENGTH = new Map([
  [ATS, 8],
  [PRI, 16],
  [PASID, 8],
]);

/** Dwords outside every capability that look like a physical PASID capability. */
export function holePasid(bytes: Uint8Array): number[] {
  const chain = extendedLinks(bytes);
  const found: number[] = [];
  // A device has one; where the chain shows it, what looks like another is data.
  if (chain.some(({ id }) => id === PASID)) return found;
  for (let offset = 0x100; offset + 8 <= bytes.length; offset += 4) {
    const covered = chain.some((link) => offset < link.offset + link.length && link.offset < offset + 4);
    if (!covered && (dwordAt(bytes, offset) & 0xfffff) === 0x1001b) found.push(offset);
  }
  return found;
}

/** @throws Refused when the options or the bytes don't allow what is asked for. */
export function planReference(
  bytes: Uint8Array,
  options: Omit<PassthroughOptions, 'physical'>,
): ReferencePlan {
  const physicalPasid = [
    ...extendedLinks(bytes)
      .filter(({ id }) => id === PASID)
      .map(({ offset }) => offset),
    ...holePasid(bytes),
  ];
  for (const [start, end] of options.passthroughRanges ?? []) {
    if (start < 0 || start >= end || end > bytes.length) throw new Refused('range outside');
    if (physicalPasid.some((at) => start < at + 8 && at < end)) throw new Refused('range covers PASID');
  }
  const width = Math.min(options.pasid?.width ?? 0, options.maxPasidWidth ?? 20);
  if (options.onPasidRefused !== 'omit') return arrange(bytes, options, width);
  // Not everything may fit: PASID is left out before PRI, and that before ATS.
  for (const ats of options.ats === true ? [true, false] : [options.ats]) {
    for (const pri of options.pri === true ? [true, false] : [options.pri]) {
      for (const bits of [width, 0]) {
        try {
          return arrange(bytes, { ...options, ats, pri }, bits);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
        }
      }
    }
  }
  throw new Error('nothing at all always fits');
}

function arrange(
  bytes: Uint8Array,
  given: Omit<PassthroughOptions, 'physical'>,
  width: number,
): ReferencePlan {
  // Virtual ATS and PRI are for endpoints; a bridge's own can be hidden all the same.
  const endpoint = (byteAt(bytes, 0x0e) & 0x7f) === 0;
  const options = endpoint
    ? given
    : {
        ...given,
        ats: given.ats === false ? false : undefined,
        pri: given.pri === false ? false : undefined,
      };
  const standard = standardLinks(bytes);
  const express = standard.find(({ id }) => id === 0x10);
  if (width > 0) checkEligible(bytes, express);
  const wanted: number[] = [];
  if (options.ats === true) wanted.push(ATS);
  if (options.pri === true) wanted.push(PRI);
  if (width > 0) wanted.push(PASID);
  if (wanted.length > 0 && bytes.length < 0x1000) throw new Refused('no extended space');

  const physical = extendedLinks(bytes);
  const explicit = width > 0 ? options.pasidOffset : undefined;
  const isHidden = ({ id, known }: Link): boolean =>
    !known ||
    HIDDEN.has(id) ||
    id === PASID ||
    (id === ATS && options.ats !== undefined) ||
    (id === PRI && options.pri !== undefined);

  // Which physical structures a virtual one takes the place of, and which bytes nothing else may use.
  const places = new Map<number, number>();
  for (const id of wanted) {
    const old = physical.find((link) => link.id === id && link.length >= (LENGTH.get(id) ?? 0));
    if (old === undefined) continue;
    if (id === PASID && explicit !== undefined && explicit !== old.offset) continue;
    places.set(id, old.offset);
  }
  // The device's own PASID capability is the first whole one. It frees its place when it goes elsewhere.
  const moved =
    explicit === undefined || places.has(PASID)
      ? undefined
      : physical.find(({ id, length }) => id === PASID && length >= 8);
  const taken: (readonly [start: number, end: number])[] = [];
  for (const link of physical) {
    if (link !== moved) taken.push([link.offset, link.offset + link.length]);
  }
  if (physical.length > 0) taken.push([0x100, 0x104]);
  for (const at of holePasid(bytes)) taken.push([at, at + 8]);
  for (const range of options.passthroughRanges ?? []) taken.push(range);
  const free = (at: number, length: number): boolean =>
    at >= 0x100 && at + length <= 0x1000 && taken.every(([start, end]) => at + length <= start || end <= at);

  let empty = physical.length === 0;
  if (explicit !== undefined && !places.has(PASID)) {
    if (!Number.isInteger(explicit) || explicit % 4 !== 0 || explicit < 0x100 || explicit > 0xff8) {
      throw new Refused('explicit offset outside');
    }
    if (!free(explicit, 8)) throw new Refused('collision');
    if (empty && explicit !== 0x100 && wanted.length === 1) throw new Refused('empty chain');
    taken.push([explicit, explicit + 8]);
    places.set(PASID, explicit);
    if (explicit === 0x100) empty = false;
  }
  const lastEnd = Math.max(0x100, ...physical.map((link) => link.offset + link.length));
  for (const id of wanted) {
    if (places.has(id)) continue;
    const length = LENGTH.get(id) ?? 0;
    const at = empty ? 0x100 : search(free, length, lastEnd);
    if (at === undefined || !free(at, length)) throw new Refused('no space');
    empty = false;
    taken.push([at, at + length]);
    places.set(id, at);
  }

  const extended: Shown[] = [];
  for (const link of physical) {
    if (places.get(link.id) === link.offset) {
      extended.push({ ...link, version: 1, length: LENGTH.get(link.id) ?? 0, virtual: true });
    } else if (!isHidden(link)) {
      extended.push({ ...link, virtual: false });
    }
  }
  for (const id of wanted) {
    const offset = places.get(id) ?? 0;
    if (extended.some((one) => one.offset === offset)) continue;
    const one = { offset, id, version: 1, length: LENGTH.get(id) ?? 0, known: true, virtual: true };
    const before = extended.findIndex((other) => other.offset > offset);
    extended.splice(before < 0 ? extended.length : before, 0, one);
  }
  return {
    bytes,
    size: bytes.length < 0x1000 ? 0x100 : 0x1000,
    standard: standard.filter(({ known }) => known),
    extended,
    hiddenHead: physical.length > 0 && extended.every(({ offset }) => offset !== 0x100),
    pasid:
      width === 0
        ? undefined
        : {
            offset: places.get(PASID) ?? 0,
            width,
            execute: options.pasid?.execute ?? false,
            privileged: options.pasid?.privileged ?? false,
          },
    express,
    drop: options.control === 'drop',
  };
}

/** Design section 4, "who may have it". */
function checkEligible(bytes: Uint8Array, express: Link | undefined): void {
  if (bytes.length < 0x1000) throw new Refused('no extended space');
  if ((byteAt(bytes, 0x0e) & 0x7f) !== 0) throw new Refused('not a type 0 header');
  if (express === undefined) throw new Refused('no PCIe capability');
  const capabilities = wordAt(bytes, express.offset + 2);
  if ((capabilities & 0xf) < 2) throw new Refused('PCIe capability version 1');
  if (![0, 1, 9].includes((capabilities >> 4) & 0xf)) throw new Refused('not an endpoint');
  if (express.length < 0x28) throw new Refused('Device Capabilities 2 is cut off');
}

/** 0xff8; then the lowest gap behind the last body; then the lowest gap. */
function search(
  free: (at: number, length: number) => boolean,
  length: number,
  lastEnd: number,
): number | undefined {
  if (free(0xff8, length)) return 0xff8;
  for (let at = Math.ceil(lastEnd / 4) * 4; at < 0x1000; at += 4) if (free(at, length)) return at;
  for (let at = 0x100; at < 0x1000; at += 4) if (free(at, length)) return at;
  return undefined;
}
