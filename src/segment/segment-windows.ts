import { type AddressRange, isRange, type PciFunction } from '../function/index.ts';
import { type DecodedWindow, DecodeMap } from './decode-map.ts';
import type { Hierarchy } from './hierarchy.ts';

/** What the BARs of a segment claim of memory and I/O space, worked out again when somebody asks after a change. */
export class SegmentWindows {
  readonly #hierarchy: Hierarchy;
  readonly #memory = new DecodeMap();
  readonly #io = new DecodeMap();
  #isStale = false;

  constructor(hierarchy: Hierarchy) {
    this.#hierarchy = hierarchy;
  }

  /** A BAR, a window of a port or the topology changed. */
  invalidate(): void {
    this.#isStale = true;
  }

  /** Memory space. */
  get memory(): DecodeMap {
    if (this.#isStale) this.#workOut();
    return this.#memory;
  }

  /** I/O space. */
  get io(): DecodeMap {
    if (this.#isStale) this.#workOut();
    return this.#io;
  }

  #workOut(): void {
    this.#isStale = false;
    const memory: DecodedWindow[] = [];
    const io: DecodedWindow[] = [];
    for (const [, fn] of this.#hierarchy.seats.entries()) {
      for (const { index, kind, address, size, enabled } of fn.bars) {
        if (!enabled) continue;
        const space = kind === 'io' ? 'io' : 'memory';
        for (const { first, last } of this.#reachable(fn, space, {
          first: address,
          last: address + size - 1,
        })) {
          (space === 'io' ? io : memory).push({
            kind: space,
            address: first,
            size: last - first + 1,
            fn,
            bar: index,
            offset: first - address,
          });
        }
      }
    }
    this.#memory.replace(memory);
    this.#io.replace(io);
  }

  /** What of a BAR the ports above its function let through: they need not pass on all of it. */
  #reachable(fn: PciFunction, kind: 'memory' | 'io', bar: AddressRange): readonly AddressRange[] {
    let ranges: readonly AddressRange[] = [bar];
    for (const { powerState, port } of this.#hierarchy.topology.above(fn)) {
      // In D3hot a port passes configuration requests on only (PCIe 5.3.1.4).
      const passed = powerState === 0 ? (port?.forwarded(kind) ?? []) : [];
      ranges = ranges.flatMap((range) => passed.map((window) => overlap(range, window)).filter(isRange));
    }
    return ranges;
  }
}

function overlap(left: AddressRange, right: AddressRange): AddressRange {
  return { first: Math.max(left.first, right.first), last: Math.min(left.last, right.last) };
}
