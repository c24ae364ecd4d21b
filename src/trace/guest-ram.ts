import { GuestMemory } from '../memory/index.ts';
import { TraceError } from './trace-error.ts';

/** Most bytes of guest memory and snapshots together: a trace must not eat the machine. */
export const MEMORY_LIMIT = 0x1000_0000;
/** Most regions: every one more makes all look-ups longer. */
const REGION_LIMIT = 1024;

/** A copy of a region. */
export interface RamCopy {
  readonly base: number;
  readonly content: ArrayBuffer;
}

/** The guest memory that a trace adds, and what its snapshots keep. */
export class GuestRam {
  /** What the vIOMMUs of the trace see. */
  readonly memory: GuestMemory = new GuestMemory();
  readonly #regions = new Map<number, ArrayBuffer>();
  // Bytes of snapshots, by name.
  readonly #kept = new Map<string, number>();

  /**
   * Adds zeroed memory at `base`, in place of memory that begins there.
   *
   * @throws TraceError `bad-field` when it is too much, VpciError `VPCI_MEMORY` when it overlaps; nothing changed then.
   */
  add(base: number, size: number): void {
    const before = this.#regions.get(base);
    this.#refuse(size - (before?.byteLength ?? 0), `${size} bytes at 0x${base.toString(16)}`);
    if (before === undefined && this.#regions.size === REGION_LIMIT)
      throw new TraceError('bad-field', `guest memory has ${REGION_LIMIT} regions at most`);
    const buffer = allocate(() => new ArrayBuffer(size), size);
    // Whatever is wrong but a collision is so anywhere, and what is there now must stay then.
    new GuestMemory().addRegion({ base, buffer });
    const collides = [...this.#regions].some(
      ([other, { byteLength }]) => other !== base && base < other + byteLength && other < base + size,
    );
    if (before !== undefined && !collides) this.memory.removeRegion(base);
    this.memory.addRegion({ base, buffer });
    this.#regions.set(base, buffer);
  }

  /**
   * Copies all memory for the snapshot `name`, which takes `more` bytes besides.
   *
   * @throws TraceError `bad-field` when it is too much.
   */
  copy(name: string, more: number): readonly RamCopy[] {
    const size = this.#size + more;
    this.#refuse(size - (this.#kept.get(name) ?? 0), `a snapshot of ${size} bytes`);
    const copies = [...this.#regions].map(([base, buffer]) => ({
      base,
      content: allocate(() => buffer.slice(0), buffer.byteLength),
    }));
    this.#kept.set(name, size);
    return copies;
  }

  /** Takes back what {@link GuestRam.copy} gave; memory that was replaced by less keeps what fits. */
  putBack(copies: readonly RamCopy[]): void {
    for (const { base, content } of copies) {
      const buffer = this.#regions.get(base);
      if (buffer === undefined) continue;
      const fits = Math.min(content.byteLength, buffer.byteLength);
      new Uint8Array(buffer).set(new Uint8Array(content, 0, fits));
    }
  }

  get #size(): number {
    return sum([...this.#regions.values()].map(({ byteLength }) => byteLength));
  }

  #refuse(more: number, what: string): void {
    if (this.#size + sum(this.#kept.values()) + more <= MEMORY_LIMIT) return;
    throw new TraceError(
      'bad-field',
      `${what} are too many: guest memory and snapshots together have 0x${MEMORY_LIMIT.toString(16)} at most`,
    );
  }
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const one of numbers) total += one;
  return total;
}

function allocate(make: () => ArrayBuffer, size: number): ArrayBuffer {
  try {
    return make();
  } catch {
    throw new TraceError('bad-field', `this machine has no ${size} bytes of memory to give`);
  }
}
