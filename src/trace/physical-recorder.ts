import { ByteConfigSpace } from '../pci/config-space.ts';

/** One write that reached the physical side. */
export interface PhysicalWrite {
  readonly offset: number;
  readonly size: number;
  readonly value: number;
}

/** Writes since they were last asked for. */
export interface RecordedWrites {
  readonly writes: readonly PhysicalWrite[];
  /** How many more there were; absent when none. */
  readonly lost?: number;
}

/** Most writes that are kept between two questions. */
const WRITE_LIMIT = 0x10000;

/** The physical side of a function in a trace: bytes, and a record of the writes that reached them. */
export class PhysicalRecorder extends ByteConfigSpace {
  #writes: PhysicalWrite[] = [];
  #lost = 0;

  override write(offset: number, size: number, value: number): void {
    super.write(offset, size, value);
    if (this.#writes.length < WRITE_LIMIT) this.#writes.push({ offset, size, value });
    else this.#lost++;
  }

  /** The writes since the last call; of too many, the first ones. */
  takeWrites(): RecordedWrites & Record<string, unknown> {
    const [writes, lost] = [this.#writes, this.#lost];
    this.#writes = [];
    this.#lost = 0;
    return lost === 0 ? { writes } : { writes, lost };
  }
}
