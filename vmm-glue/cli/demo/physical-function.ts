import { ByteConfigSpace } from '../../../src/index.ts';

/** The physical side of the demo: the bytes of a dump, and a count of the writes that reached them. */
export class PhysicalFunction extends ByteConfigSpace {
  /** Writes so far. */
  writes = 0;

  override write(offset: number, size: number, value: number): void {
    this.writes++;
    super.write(offset, size, value);
  }
}
