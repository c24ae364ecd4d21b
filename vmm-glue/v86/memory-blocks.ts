import type { Machine, MemoryRead, MemoryWrite } from './machine.ts';

/** v86 dispatches memory space by blocks of 128 KiB. */
export const BLOCK_SHIFT = 17;
export const BLOCK_SIZE = 0x20000;
/** Blocks in the 4 GiB that v86 has. */
export const BLOCK_COUNT = 0x8000;

/** How a block answers. Addresses and dwords are signed, as v86 has them. */
export interface BlockHandlers {
  readonly read8: MemoryRead;
  readonly read32: MemoryRead;
  readonly write8: MemoryWrite;
  readonly write32: MemoryWrite;
}

/** Blocks of memory space taken over from v86 by one set of handlers, and what was there before. */
export class MemoryBlocks {
  readonly #machine: Machine;
  readonly #handlers: BlockHandlers;
  readonly #previous = new Map<number, BlockHandlers>();

  constructor(machine: Machine, handlers: BlockHandlers) {
    this.#machine = machine;
    this.#handlers = handlers;
  }

  /** True when the block that holds `address` answers by these handlers. */
  answersAt(address: number): boolean {
    return this.#machine.memory_map_write8[address >>> BLOCK_SHIFT] === this.#handlers.write8;
  }

  /** What answered in the block that holds `address`, before it was taken over. */
  previousAt(address: number): BlockHandlers | undefined {
    return this.#previous.get(address >>> BLOCK_SHIFT);
  }

  /** Takes over the blocks in `wanted` and gives back all others. Blocks of RAM stay RAM. */
  replace(wanted: ReadonlySet<number>): void {
    for (const block of this.#previous.keys()) if (!wanted.has(block)) this.#release(block);
    for (const block of wanted) if (!this.#previous.has(block)) this.#claim(block);
  }

  #claim(block: number): void {
    const { memory_map_read8, memory_map_read32, memory_map_write8, memory_map_write32 } = this.#machine;
    const read8 = memory_map_read8[block];
    const read32 = memory_map_read32[block];
    const write8 = memory_map_write8[block];
    const write32 = memory_map_write32[block];
    if (read8 === undefined || read32 === undefined || write8 === undefined || write32 === undefined) return;
    this.#previous.set(block, { read8, read32, write8, write32 });
    this.#put(block, this.#handlers);
  }

  #release(block: number): void {
    const previous = this.#previous.get(block);
    if (previous === undefined) return;
    this.#previous.delete(block);
    if (this.#machine.memory_map_write8[block] === this.#handlers.write8) this.#put(block, previous);
  }

  #put(block: number, { read8, read32, write8, write32 }: BlockHandlers): void {
    this.#machine.memory_map_read8[block] = read8;
    this.#machine.memory_map_read32[block] = read32;
    this.#machine.memory_map_write8[block] = write8;
    this.#machine.memory_map_write32[block] = write32;
  }
}
