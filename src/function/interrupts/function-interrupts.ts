import { CAP_MSI, CAP_MSI_X } from '../../pci/capability-ids.ts';
import * as reg from '../../pci/header.ts';
import type { Place } from '../capabilities/index.ts';
import type { MessageSink, RegisterFile } from './interrupt-types.ts';
import { Msi, msiLength } from './msi.ts';
import { MsiX, type MsiXState } from './msi-x.ts';

/** What `saveState` keeps of interrupts. */
export interface InterruptState {
  /** The level that the device drives. */
  readonly level: boolean;
  /** Pending Bits of MSI. */
  readonly msiPending: number;
  readonly msiX: MsiXState | null;
}

/** The three ways in which a function interrupts: INTx, MSI and MSI-X (PCIe 6.1). */
export class FunctionInterrupts {
  readonly msi: Msi | undefined;
  readonly msiX: MsiX | undefined;
  /** Interrupt Pin: 1..4 for INTA..INTD, 0 for none. */
  readonly pin: number;

  readonly #registers: RegisterFile;
  // What the device drives, and what the bus sees of it.
  #level = false;
  #asserted = false;

  /** `capabilities`: the standard chain the guest sees. */
  constructor(
    capabilities: readonly (Place & { readonly id: number })[],
    registers: RegisterFile,
    readPowerOn: (offset: number) => number,
    messages: MessageSink,
  ) {
    this.#registers = registers;
    this.pin = pinOf(readPowerOn);
    // A clipped structure has no registers to go by.
    const msi = capabilities.find(
      (one) => one.id === CAP_MSI && one.length >= msiLength(readPowerOn(one.offset) >>> 16),
    );
    const msiX = capabilities.find((one) => one.id === CAP_MSI_X && one.length >= 12);
    this.msi = msi === undefined ? undefined : new Msi(msi.offset, registers, messages);
    if (msiX === undefined) return;
    const { offset } = msiX;
    const control = readPowerOn(offset) >>> 16;
    this.msiX = new MsiX(
      offset,
      control,
      readPowerOn(offset + 4),
      readPowerOn(offset + 8),
      registers,
      messages,
    );
  }

  /** The device drives its interrupt line; only a function with a pin that uses no messages gets through. */
  setLevel(level: boolean): void {
    this.#level = level;
  }

  /**
   * Something that decides about the pin changed: its level, Interrupt Disable, the use of messages, or the power
   * state. Outside D0 a function sends nothing but PME (PCIe 5.3.1).
   */
  settlePin(isInD0: boolean): void {
    const bit = reg.STATUS_INTERRUPT << 16;
    this.#registers.poke(reg.COMMAND, bit, this.#level ? bit : 0);
    const disabled = (this.#registers.peek(reg.COMMAND) & reg.COMMAND_INTERRUPT_DISABLE) !== 0;
    this.#asserted = this.#level && this.pin !== 0 && isInD0 && !disabled && !this.usesMessages;
  }

  /** The registers of MSI and MSI-X may have changed as a whole. */
  settleMessages(): void {
    this.msi?.settle();
    this.msiX?.settle();
  }

  /** The function may send perhaps: what waits and may go, goes. */
  deliver(): void {
    this.msi?.deliver();
    this.msiX?.deliver();
  }

  /** The pin is asserted, as the bus sees it since it was settled. */
  get asserted(): boolean {
    return this.#asserted;
  }

  /** MSI or MSI-X is enabled, so the pin must be silent (PCIe 6.1.4.4). */
  get usesMessages(): boolean {
    return this.msi?.enabled === true || this.msiX?.enabled === true;
  }

  /** Sends vector `vector` by the mechanism in use; false when none is, or the vector does not exist. */
  trigger(vector: number): boolean {
    if (!Number.isInteger(vector) || vector < 0) return false;
    if (this.msiX?.enabled === true) return this.msiX.trigger(vector);
    return this.msi?.trigger(vector) ?? false;
  }

  /** After the registers were reset: nothing is pending, no line is driven. */
  reset(): void {
    if (this.msi !== undefined) this.msi.pending = 0;
    this.msiX?.reset();
    this.#level = false;
  }

  saveState(): InterruptState {
    return {
      level: this.#level,
      msiPending: this.msi?.pending ?? 0,
      msiX: this.msiX?.saveState() ?? null,
    };
  }

  /** True when `state` is of a function that interrupts in the same ways. */
  fits({ msiPending, msiX }: InterruptState): boolean {
    if (this.msi === undefined && msiPending !== 0) return false;
    return msiX === null ? this.msiX === undefined : this.msiX?.fits(msiX) === true;
  }

  /** After the registers were restored; `state` {@link FunctionInterrupts.fits}. */
  restoreState({ level, msiPending, msiX }: InterruptState): void {
    if (this.msi !== undefined) this.msi.pending = msiPending;
    if (msiX !== null) this.msiX?.restoreState(msiX);
    this.#level = level;
  }
}

/** The pin is not in the shadow when the register is physical. A VF, whose IDs read FFFFh, has none (PCIe 9.3.4.1). */
function pinOf(readPowerOn: (offset: number) => number): number {
  const pin = (readPowerOn(reg.INTERRUPT_LINE) >>> 8) & 0xff;
  return pin > 4 || readPowerOn(reg.VENDOR_ID) === 0xffffffff ? 0 : pin;
}
