import type { PciSegment } from '../../src/index.ts';
import { CONFIG_ADDRESS_PORT, CONFIG_DATA_PORT } from '../../src/segment/config-mechanism.ts';
import type { AccessListener } from './guest-access.ts';
import type { BlockHandlers } from './memory-blocks.ts';
import type { OwnFunctions } from './own-functions.ts';
import type { PortHandler } from './ports.ts';

/** Both ways to configuration space: the segment's functions, and v86's own behind them. */
export class ConfigAccess {
  readonly #segment: PciSegment;
  readonly #own: OwnFunctions;
  readonly #onOwnWrite: () => void;
  readonly #onAccess: AccessListener | undefined;

  /** `onOwnWrite` is called after a write to a function of v86's. */
  constructor(
    segment: PciSegment,
    own: OwnFunctions,
    onOwnWrite: () => void,
    onAccess: AccessListener | undefined,
  ) {
    this.#segment = segment;
    this.#own = own;
    this.#onOwnWrite = onOwnWrite;
    this.#onAccess = onAccess;
  }

  /** CONFIG_DATA, at any of its four ports. */
  readonly dataPort: PortHandler = {
    read: (port, size) => {
      const address = this.#segment.pioRead(CONFIG_ADDRESS_PORT, 4);
      const rid = (address >>> 8) & 0xffff;
      const offset = (address & 0xfc) + port - CONFIG_DATA_PORT;
      const enabled = address >= 0x80000000;
      if (enabled && this.#own.has(rid)) return this.#own.read(rid, offset, size);
      const value = this.#segment.pioRead(port, size);
      if (enabled) this.#onAccess?.({ via: 'cam', rid, offset, write: false, size, value });
      return value;
    },
    write: (port, size, value) => {
      const address = this.#segment.pioRead(CONFIG_ADDRESS_PORT, 4);
      const rid = (address >>> 8) & 0xffff;
      const offset = (address & 0xfc) + port - CONFIG_DATA_PORT;
      const enabled = address >= 0x80000000;
      if (enabled && this.#own.has(rid)) {
        this.#own.write(rid, offset, size, value);
        this.#onOwnWrite();
        return;
      }
      this.#segment.pioWrite(port, size, value);
      if (enabled) this.#onAccess?.({ via: 'cam', rid, offset, write: true, size, value });
    },
  };

  /** The ECAM window; addresses are signed. */
  readonly window: BlockHandlers = {
    read8: (address) => this.ecamRead(address >>> 0, 1),
    read32: (address) => this.ecamRead(address >>> 0, 4) | 0,
    write8: (address, value) => this.ecamWrite(address >>> 0, 1, value & 0xff),
    write32: (address, value) => this.ecamWrite(address >>> 0, 4, value >>> 0),
  };

  ecamRead(address: number, size: number): number {
    const place = address - this.#segment.ecamBase;
    const rid = place >>> 12;
    if (this.#own.has(rid)) return this.#own.read(rid, place & 0xfff, size);
    const value = this.#segment.ecamRead(address, size);
    this.#onAccess?.({ via: 'ecam', rid, offset: place & 0xfff, write: false, size, value });
    return value;
  }

  ecamWrite(address: number, size: number, value: number): void {
    const place = address - this.#segment.ecamBase;
    const rid = place >>> 12;
    if (this.#own.has(rid)) {
      this.#own.write(rid, place & 0xfff, size, value);
      this.#onOwnWrite();
      return;
    }
    this.#segment.ecamWrite(address, size, value);
    this.#onAccess?.({ via: 'ecam', rid, offset: place & 0xfff, write: true, size, value });
  }
}
