import { ByteConfigSpace } from '../pci/config-space.ts';

/** One write that reached the physical side. */
export interface PhysicalWrite {
  readonly offset: number;
  readonly size: number;
  readonly value: number;
}

/** The physical side of a function in a trace: bytes, and a record of the writes that reached them. */
export class PhysicalRecorder extends ByteConfigSpace {
  #writes: PhysicalWrite[] = [];

  override write(offset: number, size: number, value: number): void {
    super.write(offset, size, value);
    this.#writes.push({ offset, size, value });
  }

  /** The writes since the last call. */
  takeWrites(): readonly PhysicalWrite[] {
    const writes = this.#writes;
    this.#writes = [];
    return writes;
  }
}
