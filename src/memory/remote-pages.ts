import { makePiece, type Piece, type RemoteMemoryRegion } from './region.ts';

/** Guest memory that is reached by messages, and the pages of it that were fetched. */
export class RemotePages {
  #regions: readonly RemoteMemoryRegion[] = [];
  readonly #pages = new Map<number, Piece>();

  add(region: RemoteMemoryRegion): void {
    this.#regions = [...this.#regions, region];
  }

  /** Takes the region at `base` away; returns its end, or 0 when there is none. */
  remove(base: number): number {
    const region = this.#regionAt(base);
    if (region === undefined || region.base !== base) return 0;
    this.#regions = this.#regions.filter((other) => other !== region);
    this.forget();
    return base + region.size;
  }

  overlaps(base: number, end: number): boolean {
    return this.#regions.some((region) => base < region.base + region.size && end > region.base);
  }

  /** True when the range lies in one page of a region. */
  covers(gpa: number, length: number): boolean {
    return (gpa % 4096) + length <= 4096 && this.#regionAt(gpa) !== undefined;
  }

  /** The fetched page around `gpa`, if it was. */
  page(gpa: number): Piece | undefined {
    return this.#pages.get(gpa - (gpa % 4096));
  }

  /** A page to write into without fetching it first: the fetched one, or an empty one that is not kept. */
  blank(high: number, low: number): Piece | undefined {
    if (this.#regions.length === 0) return undefined;
    const gpa = (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
    if (this.#regionAt(gpa) === undefined) return undefined;
    return this.page(gpa) ?? pageAt(gpa - (gpa % 4096));
  }

  provide(gpa: number, bytes: Uint8Array): void {
    const page = pageAt(gpa);
    new Uint8Array(page.words.buffer).set(bytes);
    this.#pages.set(gpa, page);
  }

  forget(): void {
    this.#pages.clear();
  }

  /** Sends words of the page at `base` away; nothing when no region is there. */
  write(base: number, words: Int32Array, at: number, count: number): void {
    if (this.#regions.length === 0) return;
    this.#regionAt(base)?.write(base + at * 4, new Uint8Array(words.slice(at, at + count).buffer));
  }

  #regionAt(gpa: number): RemoteMemoryRegion | undefined {
    return this.#regions.find(({ base, size }) => gpa >= base && gpa < base + size);
  }
}

function pageAt(base: number): Piece {
  return makePiece(base, 4096, new ArrayBuffer(4096), 0, false, false, undefined);
}
