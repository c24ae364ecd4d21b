import { CONFIG_ADDRESS_PORT, CONFIG_DATA_PORT } from '../../src/segment/config-mechanism.ts';
import type { Machine, PortEntry } from './machine.ts';
import type { PortClaims } from './ports.ts';

const ENABLE = 0x80000000;
const CONVENTIONAL_SIZE = 0x100;

/**
 * v86's own functions, all on bus 0: conventional PCI, 256 bytes of registers each. They are reached through v86's
 * own CONFIG_ADDRESS, which is written anew for each access and only for functions that exist: v86 answers a read
 * with what it held at that moment, throws on narrow writes to a function that does not exist, and may take bits
 * 15:8 for a reset of the machine.
 */
export class OwnFunctions {
  readonly #spaces: readonly unknown[];
  readonly #ports: PortClaims;

  constructor(machine: Machine, ports: PortClaims) {
    this.#spaces = machine.devices.pci.device_spaces;
    this.#ports = ports;
  }

  /** True when v86 has a function of its own at requester ID `rid`. */
  has(rid: number): boolean {
    return this.#spaces[rid] !== undefined;
  }

  /** Reads `size` (1, 2, 4) bytes at `offset` of the function at `rid`; unsigned. */
  read(rid: number, offset: number, size: number): number {
    if (offset >= CONVENTIONAL_SIZE) return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    const port = this.#select(rid, offset);
    const entry = this.#ports.previous(port);
    if (entry === undefined) return 0;
    const { device } = entry;
    if (size === 4) return entry.read32.call(device, port) >>> 0;
    return size === 2 ? entry.read16.call(device, port) : entry.read8.call(device, port);
  }

  /** Writes the low `size` (1, 2, 4) bytes of `value` at `offset` of the function at `rid`. */
  write(rid: number, offset: number, size: number, value: number): void {
    if (offset >= CONVENTIONAL_SIZE) return;
    const entry = this.#ports.previous(this.#select(rid, offset));
    if (entry === undefined) return;
    const { device } = entry;
    if (size === 4) entry.write32.call(device, value | 0);
    else if (size === 2) entry.write16.call(device, value & 0xffff);
    else entry.write8.call(device, value & 0xff);
  }

  /** Lets v86's own CONFIG_ADDRESS point to the register; the result is the port of its data. */
  #select(rid: number, offset: number): number {
    const entry: PortEntry | undefined = this.#ports.previous(CONFIG_ADDRESS_PORT);
    entry?.write32.call(entry.device, ENABLE | (rid << 8) | (offset & 0xfc));
    return CONFIG_DATA_PORT + (offset & 3);
  }
}
