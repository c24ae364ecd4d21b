import type { GuestMemory } from '../../src/memory/index.ts';
import type { DmaPart } from './device.ts';
import { ERRNO, type Native } from '../linux/index.ts';
import { type DmaRegion, DmaTable } from './dma-table.ts';
import { type GuestFile, GuestFiles } from './guest-file.ts';
import { DMA_FLAG_READ, DMA_FLAG_WRITE } from './protocol.ts';

/** A DMA_MAP message, taken apart. */
export interface DmaMap {
  readonly flags: number;
  /** Offset in the file whose descriptor came along. */
  readonly offset: bigint;
  readonly address: bigint;
  /** Bytes. */
  readonly size: bigint;
}

/** Ranges that the walkers' memory shows at most: it is made for a machine's memory, not for an IOMMU's pages. */
const MAX_MIRRORED = 1024;
const PAGE = 4096;

/** The guest memory that one client opened to the device: which of it is shared with us, and how. */
export class DmaMappings {
  readonly #table = new DmaTable();
  readonly #native: Native | undefined;
  /** Undefined where no descriptors come. */
  readonly #files: GuestFiles | undefined;
  readonly #memoryFile: GuestFile | undefined;
  readonly #memory: GuestMemory;
  readonly #writeByMessage: (address: number, bytes: Uint8Array) => void;
  /** Regions of the walkers' memory, by the range they are of. */
  readonly #mirrored = new Map<DmaRegion, readonly number[]>();

  constructor(
    memory: GuestMemory,
    native: Native | undefined,
    memoryFile: GuestFile | undefined,
    writeByMessage: (address: number, bytes: Uint8Array) => void,
  ) {
    this.#memory = memory;
    this.#native = native;
    this.#files = native === undefined ? undefined : new GuestFiles(native);
    this.#memoryFile = memoryFile;
    this.#writeByMessage = writeByMessage;
  }

  /** Carries out DMA_MAP with the descriptors that came along, which it takes over; returns an errno, or 0. */
  map(request: DmaMap, descriptors: readonly number[]): number {
    const { flags, offset, address, size } = request;
    const [fd, ...more] = descriptors;
    const bad = (flags & ~(DMA_FLAG_READ | DMA_FLAG_WRITE)) !== 0 || more.length > 0;
    const errno = bad ? ERRNO.EINVAL : this.#table.refusal(address, size);
    if (errno !== 0) {
      for (const one of descriptors) this.#native?.close(one);
      return errno;
    }
    const opened = fd === undefined ? this.#namedFile(request) : this.#files?.open(fd);
    if (fd !== undefined && opened === undefined) return ERRNO.EINVAL;
    const file = opened === 'unsafe' ? undefined : opened;
    if (file !== undefined && offset + size > BigInt(file.size)) {
      file.release();
      return ERRNO.EINVAL;
    }
    const region: DmaRegion = {
      address: Number(address),
      size: Number(size),
      readable: (flags & DMA_FLAG_READ) !== 0,
      writable: (flags & DMA_FLAG_WRITE) !== 0,
      file,
      offset: Number(offset),
    };
    this.#table.add(region);
    this.#mirror(region);
    return 0;
  }

  /**
   * Carries out DMA_UNMAP: `tell` hears of each range before it goes. False, and nothing happens, when the borders cut
   * one in two.
   */
  unmap(address: bigint, size: bigint, tell: (region: DmaRegion) => void): boolean {
    const gone = this.#table.remove(address, size);
    for (const region of gone ?? []) {
      tell(region);
      this.#release(region);
    }
    return gone !== undefined;
  }

  /** The range that `address` is in. */
  find(address: bigint): DmaRegion | undefined {
    return this.#table.find(Number(address));
  }

  /** How the memory of `region` is reached. */
  reach({ file, offset }: DmaRegion): 'mapping' | 'file' | 'messages' {
    if (file === undefined) return 'messages';
    return file.mapped(offset) === undefined ? 'file' : 'mapping';
  }

  /** What is mapped here of `region`, in order. */
  parts(region: DmaRegion): DmaPart[] {
    const parts: DmaPart[] = [];
    for (let done = 0; done < region.size; ) {
      const piece = region.file?.mapped(region.offset + done);
      if (piece === undefined) break;
      const from = region.offset + done - piece.start;
      const bytes = piece.bytes.subarray(from, from + region.size - done);
      parts.push({ address: BigInt(region.address + done), bytes, writable: region.writable });
      done += bytes.length;
    }
    return parts;
  }

  /** Fills `bytes` from shared memory; false when some of it is not shared, or not to be read. */
  read(address: number, bytes: Uint8Array): boolean {
    return this.#access(address, bytes, false);
  }

  /** Stores `bytes` in shared memory; false when some of it is not shared, or not to be written. */
  write(address: number, bytes: Uint8Array): boolean {
    return this.#access(address, bytes, true);
  }

  /** Lets go of everything. */
  clear(): void {
    for (const region of this.#table.clear()) this.#release(region);
  }

  #access(address: number, bytes: Uint8Array, write: boolean): boolean {
    for (let done = 0; done < bytes.length; ) {
      const at = address + done;
      const region = this.#table.find(at);
      if (region?.file === undefined || !(write ? region.writable : region.readable)) return false;
      const length = Math.min(bytes.length - done, region.address + region.size - at);
      const part = bytes.subarray(done, done + length);
      const offset = region.offset + (at - region.address);
      if (!(write ? region.file.write(offset, part) : region.file.read(offset, part))) return false;
      done += length;
    }
    return true;
  }

  /**
   * The file that the user named, for a range whose descriptor got lost on the way. The client says offset 0 for
   * memory that has no descriptor at all (ROM, video memory), and only RAM's own start can be at offset 0.
   */
  #namedFile({ flags, offset, address }: DmaMap): GuestFile | undefined {
    if ((flags & DMA_FLAG_WRITE) === 0 || (offset === 0n && address !== 0n)) return undefined;
    return this.#memoryFile?.acquire();
  }

  #mirror(region: DmaRegion): void {
    const { address, size, file, writable } = region;
    if (this.#mirrored.size >= MAX_MIRRORED || address % PAGE !== 0 || size % PAGE !== 0) return;
    if (region.offset % PAGE !== 0 || address + size > 2 ** 52) return;
    const bases: number[] = [];
    for (let done = 0; done < size; ) {
      const base = address + done;
      const piece = file?.mapped(region.offset + done);
      const write = (gpa: number, bytes: Uint8Array): void => this.#writeAway(gpa, bytes);
      if (piece === undefined) {
        this.#memory.addRemote({ base, size: size - done, write });
        bases.push(base);
        break;
      }
      const offset = region.offset + done - piece.start;
      const length = Math.min(size - done, piece.bytes.length - offset);
      const { buffer } = piece.bytes;
      // The client's processors write it while a unit reads.
      this.#memory.addRegion({ base, buffer, offset, size: length, readOnly: !writable, shared: true });
      bases.push(base);
      done += length;
    }
    this.#mirrored.set(region, bases);
  }

  #writeAway(address: number, bytes: Uint8Array): void {
    if (!this.write(address, bytes)) this.#writeByMessage(address, bytes);
  }

  #release(region: DmaRegion): void {
    // The walkers lose sight of the memory before it is unmapped.
    for (const base of this.#mirrored.get(region) ?? []) this.#memory.removeRegion(base);
    this.#mirrored.delete(region);
    region.file?.release();
  }
}
