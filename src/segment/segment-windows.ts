import type { PciFunction } from '../function/index.ts';
import { type DecodedWindow, DecodeMap } from './decode-map.ts';
import type { Topology } from './topology.ts';

/** What the BARs of a segment claim of memory and I/O space, worked out again when somebody asks after a change. */
export class SegmentWindows {
  readonly #functions: () => Iterable<readonly [rid: number, fn: PciFunction]>;
  readonly #topology: Topology;
  readonly #memory = new DecodeMap();
  readonly #io = new DecodeMap();
  #isStale = false;

  /** `functions`: those within reach, in order of requester ID. */
  constructor(functions: () => Iterable<readonly [rid: number, fn: PciFunction]>, topology: Topology) {
    this.#functions = functions;
    this.#topology = topology;
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
    for (const [, fn] of this.#functions()) {
      for (const { index, kind, address, size, enabled } of fn.bars) {
        const space = kind === 'io' ? 'io' : 'memory';
        if (!enabled || !this.#isForwarded(fn, space, address, size)) continue;
        (space === 'io' ? io : memory).push({ kind: space, address, size, fn, bar: index });
      }
    }
    this.#memory.replace(memory);
    this.#io.replace(io);
  }

  #isForwarded(fn: PciFunction, kind: 'memory' | 'io', address: number, size: number): boolean {
    for (const port of this.#topology.above(fn)) {
      // In D3hot a port passes configuration requests on only (PCIe 5.3.1.4).
      if (port.powerState !== 0 || port.port?.forwards(kind, address, size) !== true) return false;
    }
    return true;
  }
}
