import type { DecodedWindow, PciSegment } from '../../src/index.ts';
import type { AccessListener } from './guest-access.ts';
import type { Machine } from './machine.ts';
import { BLOCK_COUNT, BLOCK_SIZE, type BlockHandlers, MemoryBlocks } from './memory-blocks.ts';
import type { PortClaims, PortHandler } from './ports.ts';

/** Ports of the machine's own where no I/O BAR is let in: the reset control and the configuration mechanism. */
const FIRST_CONFIG_PORT = 0xcf8;
const LAST_CONFIG_PORT = 0xcff;
const PORT_COUNT = 0x10000;

/**
 * The BARs of the segment's functions, wherever the guest puts them. v86 dispatches memory by blocks of 128 KiB;
 * what no BAR claims in a block goes to whom it went before. Memory above 4 GiB is out of v86's reach.
 */
export class BarWindows {
  readonly blocks: MemoryBlocks;
  readonly #segment: PciSegment;
  readonly #ports: PortClaims;
  readonly #onAccess: AccessListener | undefined;
  /** Ports claimed for I/O BARs. */
  #claimed = new Set<number>();

  constructor(
    machine: Machine,
    segment: PciSegment,
    ports: PortClaims,
    onAccess: AccessListener | undefined,
  ) {
    this.#segment = segment;
    this.#ports = ports;
    this.#onAccess = onAccess;
    this.blocks = new MemoryBlocks(machine, this.#memory);
  }

  /** Follows the BARs to `windows`. */
  update(windows: readonly DecodedWindow[]): void {
    this.blocks.replace(new Set(windows.flatMap((window) => this.#blocksOf(window))));
    const wanted = new Set(windows.flatMap(portsOf));
    for (const port of this.#claimed) if (!wanted.has(port)) this.#ports.release(port);
    // The ports that others claimed are not for BARs.
    const ours = [...wanted].filter((port) => this.#claimed.has(port) || !this.#ports.has(port));
    for (const port of ours) this.#ports.claim(port, this.#io);
    this.#claimed = new Set(ours);
  }

  read(address: number, size: number): number {
    const value = this.#segment.mmioRead(address, size);
    this.#onAccess?.({ via: 'memory', address, write: false, size, value });
    return value;
  }

  write(address: number, size: number, value: number): void {
    this.#segment.mmioWrite(address, size, value);
    this.#onAccess?.({ via: 'memory', address, write: true, size, value });
  }

  /** A BAR claims `address`, which may be signed. */
  claims(address: number): boolean {
    return this.#segment.findWindow('memory', address >>> 0) !== undefined;
  }

  readonly #memory: BlockHandlers = {
    read8: (address) =>
      this.claims(address)
        ? this.read(address >>> 0, 1)
        : (this.blocks.previousAt(address)?.read8(address) ?? 0xff),
    read32: (address) =>
      this.claims(address)
        ? this.read(address >>> 0, 4) | 0
        : (this.blocks.previousAt(address)?.read32(address) ?? -1),
    write8: (address, value) => {
      if (this.claims(address)) this.write(address >>> 0, 1, value & 0xff);
      else this.blocks.previousAt(address)?.write8(address, value);
    },
    write32: (address, value) => {
      if (this.claims(address)) this.write(address >>> 0, 4, value >>> 0);
      else this.blocks.previousAt(address)?.write32(address, value);
    },
  };

  readonly #io: PortHandler = {
    read: (port, size) => {
      const value = this.#segment.pioRead(port, size);
      this.#onAccess?.({ via: 'io', address: port, write: false, size, value });
      return value;
    },
    write: (port, size, value) => {
      this.#segment.pioWrite(port, size, value);
      this.#onAccess?.({ via: 'io', address: port, write: true, size, value });
    },
  };

  #blocksOf({ kind, address, size }: DecodedWindow): number[] {
    if (kind === 'io') return [];
    const { ecamBase, ecamSize } = this.#segment;
    const blocks: number[] = [];
    const end = Math.min(BLOCK_COUNT, Math.ceil((address + size) / BLOCK_SIZE));
    for (let block = Math.floor(address / BLOCK_SIZE); block < end; block++) {
      const start = block * BLOCK_SIZE;
      // Where a BAR was put on the ECAM window, the window answers.
      if (start < ecamBase || start >= ecamBase + ecamSize) blocks.push(block);
    }
    return blocks;
  }
}

function portsOf({ kind, address, size }: DecodedWindow): number[] {
  if (kind !== 'io') return [];
  const ports = Array.from({ length: size }, (_, i) => address + i);
  return ports.filter((port) => port < PORT_COUNT && (port < FIRST_CONFIG_PORT || port > LAST_CONFIG_PORT));
}
