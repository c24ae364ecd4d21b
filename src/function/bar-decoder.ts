import * as reg from '../pci/header.ts';
import { type Bar, type BarKind, barOffset, ROM_BAR } from './bars.ts';

/** Where a BAR decodes now. */
export interface DecodedBar {
  /** 0..5, or 6 for the expansion ROM. */
  readonly index: number;
  readonly kind: BarKind;
  readonly prefetchable: boolean;
  /** Bytes. */
  readonly size: number;
  /** Guest-physical address, or I/O port for an `io` BAR; what the register holds, while disabled. */
  readonly address: number;
  /** The function claims accesses to the address. */
  readonly enabled: boolean;
}

/** Addresses are exact numbers below this. */
const ADDRESS_LIMIT = 2 ** 53;

/** Keeps track of where a function's BARs decode, and says what changed. */
export class BarDecoder {
  readonly bars: readonly Bar[];
  readonly #peek: (offset: number) => number;
  // Where each BAR decoded when last looked, and where it was last said to; -1 for nowhere.
  readonly #decoded: Float64Array;
  readonly #announced: Float64Array;

  constructor(bars: readonly Bar[], peek: (offset: number) => number) {
    this.bars = bars;
    this.#peek = peek;
    this.#decoded = new Float64Array(bars.length).fill(-1);
    this.#announced = new Float64Array(bars.length).fill(-1);
  }

  /** Looks again. */
  refresh(powered: boolean): void {
    const command = powered ? this.#peek(reg.COMMAND) : 0;
    for (const [i, bar] of this.bars.entries()) {
      const address = this.#address(bar);
      this.#decoded[i] = this.#isEnabled(bar, command) && isUsable(bar, address) ? address : -1;
    }
  }

  /**
   * Calls `changed`, if it is given, for each BAR that decodes elsewhere than was last announced, started or stopped.
   * True when there is any.
   */
  announce(changed: ((bar: DecodedBar) => void) | undefined): boolean {
    let any = false;
    for (const [i, bar] of this.bars.entries()) {
      const now = this.#decoded[i] ?? -1;
      if (now === this.#announced[i]) continue;
      this.#announced[i] = now;
      any = true;
      changed?.(describe(bar, this.#address(bar), now !== -1));
    }
    return any;
  }

  /** Every BAR as it decoded when last looked. */
  decoded(): DecodedBar[] {
    return this.bars.map((bar, i) => describe(bar, this.#address(bar), this.#decoded[i] !== -1));
  }

  /** What the device answers at `offset` of BAR `bar`; all-ones when it has nothing to say. */
  read(bar: number, offset: number, size: number): number {
    const all = size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    const read = this.#bar(bar)?.read;
    return read === undefined ? all : (read(offset, size) & all) >>> 0;
  }

  /** The device takes a write at `offset` of BAR `bar`. */
  write(bar: number, offset: number, size: number, value: number): void {
    this.#bar(bar)?.write?.(offset, size, value);
  }

  #bar(bar: number): Bar | undefined {
    return this.bars.find(({ index }) => index === bar);
  }

  #address({ index, kind }: Bar): number {
    const register = barOffset(index);
    const low = this.#peek(register);
    if (index === ROM_BAR) return (low & ~0x7ff) >>> 0;
    if (kind === 'io') return (low & ~0x3) >>> 0;
    const high = kind === 'memory64' ? this.#peek(register + 4) >>> 0 : 0;
    return high * 2 ** 32 + ((low & ~0xf) >>> 0);
  }

  #isEnabled({ index, kind }: Bar, command: number): boolean {
    if (kind === 'io') return (command & reg.COMMAND_IO_SPACE_ENABLE) !== 0;
    if ((command & reg.COMMAND_MEMORY_SPACE_ENABLE) === 0) return false;
    return index !== ROM_BAR || (this.#peek(reg.EXPANSION_ROM_BASE_ADDRESS) & reg.EXPANSION_ROM_ENABLE) !== 0;
  }
}

/**
 * An unprogrammed BAR (0) and one that holds the all-ones of the sizing protocol claim nothing, though a guest may
 * leave decoding on meanwhile. To a 32-bit memory BAR these all-ones are the last place below 4 GiB: it has to be
 * elsewhere, except for one of 2 GiB, which has no other place.
 */
function isUsable({ kind, size }: Bar, address: number): boolean {
  if (address === 0) return false;
  const last = address + size;
  if (kind === 'io') return last <= 2 ** 16;
  if (kind === 'memory64') return last <= ADDRESS_LIMIT;
  return last < 2 ** 32 || size === 2 ** 31;
}

function describe({ index, kind, prefetchable, size }: Bar, address: number, enabled: boolean): DecodedBar {
  return { index, kind, prefetchable, size, address, enabled };
}
