import { capabilityLength, extendedCapabilityLength } from '../../src/pci/capability-length.ts';
import { ByteConfigSpace } from '../../src/pci/config-space.ts';

// The chains of a configuration space, walked as naively as possible from design section 3. Only the lengths by ID
// are shared with src, as data.

/** A capability as the reference sees it. */
export interface Link {
  readonly offset: number;
  readonly id: number;
  readonly version: number;
  /** Bytes, cut where the next header or the end of the region is. */
  readonly length: number;
  readonly known: boolean;
}

export function byteAt(bytes: Uint8Array, offset: number): number {
  return bytes[offset] ?? 0xff;
}

export function wordAt(bytes: Uint8Array, offset: number): number {
  return byteAt(bytes, offset) | (byteAt(bytes, offset + 1) << 8);
}

export function dwordAt(bytes: Uint8Array, offset: number): number {
  return (wordAt(bytes, offset) | (wordAt(bytes, offset + 2) << 16)) >>> 0;
}

/** Where this header keeps its Capabilities Pointer: a CardBus bridge at 14h, all others at 34h. */
export function pointerOffset(bytes: Uint8Array): number {
  return (byteAt(bytes, 0x0e) & 0x7f) === 2 ? 0x14 : 0x34;
}

/** The standard chain, up to the first thing that cannot be trusted. */
export function standardLinks(bytes: Uint8Array): Link[] {
  if ((byteAt(bytes, 0x06) & 0x10) === 0) return [];
  const end = Math.min(bytes.length, 0x100);
  const found: { offset: number; id: number; version: number }[] = [];
  let offset = byteAt(bytes, pointerOffset(bytes));
  while (offset % 4 === 0 && offset >= 0x40 && offset < end) {
    if (found.some((one) => one.offset === offset)) break;
    if (wordAt(bytes, offset) === 0xffff) break;
    found.push({ offset, id: byteAt(bytes, offset), version: 0 });
    offset = byteAt(bytes, offset + 1);
  }
  const space = new ByteConfigSpace(bytes);
  return found.map((one) => cut(one, capabilityLength(space, one.id, one.offset), 2, found, end));
}

/** The extended chain. */
export function extendedLinks(bytes: Uint8Array): Link[] {
  if (bytes.length < 0x1000 || dwordAt(bytes, 0x100) === 0) return [];
  const found: { offset: number; id: number; version: number }[] = [];
  let offset = 0x100;
  while (offset % 4 === 0 && offset >= 0x100 && offset < 0x1000) {
    if (found.some((one) => one.offset === offset)) break;
    const header = dwordAt(bytes, offset);
    if (header === 0xffffffff) break;
    found.push({ offset, id: header & 0xffff, version: (header >>> 16) & 0xf });
    offset = header >>> 20;
  }
  const space = new ByteConfigSpace(bytes);
  const expressOffset = standardLinks(bytes).find(({ id }) => id === 0x10)?.offset ?? 0;
  return found.map((one) =>
    cut(one, extendedCapabilityLength(space, one.id, one.offset, { expressOffset }), 4, found, 0x1000),
  );
}

function cut(
  one: { offset: number; id: number; version: number },
  length: number | undefined,
  headerLength: number,
  all: readonly { offset: number }[],
  end: number,
): Link {
  let limit = end;
  for (const other of all) {
    if (other.offset > one.offset && other.offset < limit) limit = other.offset;
  }
  return {
    ...one,
    length: Math.min(length ?? headerLength, limit - one.offset),
    known: length !== undefined,
  };
}
