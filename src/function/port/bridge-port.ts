import * as exp from '../../pci/express.ts';
import * as reg from '../../pci/header.ts';
import type { FunctionImage } from '../function-image.ts';
import type { RegisterFile } from '../interrupts/interrupt-types.ts';
import * as port from './port-registers.ts';
import * as slot from './slot-registers.ts';

/** What a bridge forwards. */
export type ForwardedKind = 'memory' | 'io';

/** Addresses `first` to `last`, both included. */
export interface AddressRange {
  readonly first: number;
  readonly last: number;
}

/** False for a window whose limit is below its base: it is closed. */
export function isRange({ first, last }: AddressRange): boolean {
  return first <= last;
}

/** The downstream side of a root port or a switch port: bus numbers, windows and slot. */
export class BridgePort {
  /** Device/Port Type, 4 bits. */
  readonly deviceType: number;

  readonly #registers: RegisterFile;
  readonly #express: number;
  readonly #hasSlot: boolean;
  readonly #interrupt: () => void;
  // Not in a register without a slot; the topology knows it.
  #present = false;

  /** `express`: offset of the PCI Express Capability; `interrupt` sends the port's own interrupt. */
  constructor(
    deviceType: number,
    hasSlot: boolean,
    express: number,
    registers: RegisterFile,
    interrupt: () => void,
  ) {
    this.deviceType = deviceType;
    this.#hasSlot = hasSlot;
    this.#express = express;
    this.#registers = registers;
    this.#interrupt = interrupt;
  }

  /** Secondary Bus Number as the guest programmed it; 0 before it did. */
  get secondary(): number {
    return (this.#registers.peek(reg.PRIMARY_BUS_NUMBER) >>> 8) & 0xff;
  }

  /** Subordinate Bus Number as the guest programmed it. */
  get subordinate(): number {
    return (this.#registers.peek(reg.PRIMARY_BUS_NUMBER) >>> 16) & 0xff;
  }

  /** The addresses that the port passes on downstream, ascending and apart (PCIe 7.5.1.3). */
  forwarded(kind: ForwardedKind): readonly AddressRange[] {
    if (!this.isLinkEnabled) return [];
    const command = this.#registers.peek(reg.COMMAND);
    if (kind === 'io') {
      if ((command & reg.COMMAND_IO_SPACE_ENABLE) === 0) return [];
      const word = this.#registers.peek(port.IO_BASE);
      return [{ first: (word & 0xf0) << 8, last: (((word >>> 8) & 0xf0) << 8) + 0xfff }].filter(isRange);
    }
    if ((command & reg.COMMAND_MEMORY_SPACE_ENABLE) === 0) return [];
    const memory = this.#window(port.MEMORY_BASE, 0, 0);
    const prefetchable = this.#window(
      port.PREFETCHABLE_BASE,
      this.#registers.peek(port.PREFETCHABLE_BASE_UPPER) >>> 0,
      this.#registers.peek(port.PREFETCHABLE_LIMIT_UPPER) >>> 0,
    );
    return joined([memory, prefetchable].filter(isRange));
  }

  /**
   * The guest neither disabled the link (PCIe 7.5.3.7) nor holds the secondary bus in reset (7.5.1.3.13): what is below
   * can be reached.
   */
  get isLinkEnabled(): boolean {
    const control = this.#registers.peek(port.BRIDGE_CONTROL) >>> (8 * (port.BRIDGE_CONTROL & 3));
    if ((control & port.BRIDGE_CONTROL_SECONDARY_BUS_RESET) !== 0) return false;
    const link = this.#registers.peek(this.#express + exp.EXP_LINK_CONTROL);
    return !this.#hasLinkBelow || (link & exp.EXP_LINK_DISABLE) === 0;
  }

  /**
   * A function was put into the slot, or taken out. Presence and link state follow; `announce`: as a hot-plug, with
   * the change bits and the interrupt that the guest enabled (PCIe 6.7.3).
   */
  setPresence(present: boolean, announce: boolean): void {
    this.#present = present;
    const linkChanged = this.settleLink();
    this.#settlePresence();
    if (!this.#hasSlot || !announce) return;
    this.#raise(
      slot.STATUS_PRESENCE_DETECT_CHANGED | (linkChanged ? slot.STATUS_DATA_LINK_LAYER_STATE_CHANGED : 0),
    );
  }

  /** Brings link and presence state in line with what is in the slot and what the guest wrote. */
  settle(): void {
    this.settleLink();
    this.#settlePresence();
  }

  #settlePresence(): void {
    if (!this.#hasSlot) return;
    const control = this.#express + exp.EXP_SLOT_CONTROL;
    const detect = slot.STATUS_PRESENCE_DETECT_STATE << 16;
    this.#registers.poke(control, detect, this.#present ? detect : 0);
  }

  /** Brings Data Link Layer Link Active in line with what is present and what the guest wrote; true when it changed. */
  settleLink(): boolean {
    if (!this.#hasLinkBelow) return false;
    const link = this.#express + exp.EXP_LINK_CONTROL;
    const bit = slot.LINK_STATUS_DATA_LINK_LAYER_ACTIVE << 16;
    const active = this.#present && this.isLinkEnabled ? bit : 0;
    const changed = (this.#registers.peek(link) & bit) !== active;
    this.#registers.poke(link, bit, active);
    return changed;
  }

  /** The link went up or down by the guest's own doing: the slot says so. */
  announceLink(): void {
    if (this.#hasSlot) this.#raise(slot.STATUS_DATA_LINK_LAYER_STATE_CHANGED);
  }

  /** Somebody pressed the attention button: the guest is asked to power the slot up or down. */
  pressAttentionButton(): void {
    if (this.#hasSlot) this.#raise(slot.STATUS_ATTENTION_BUTTON_PRESSED);
  }

  /** Slot Control, 16 bits. */
  get slotControl(): number {
    return this.#registers.peek(this.#express + exp.EXP_SLOT_CONTROL) & 0xffff;
  }

  /** A change that the guest wants to be interrupted for waits in Slot Status (PCIe 6.7.3.4). */
  get interruptPending(): boolean {
    return this.#isPending(this.slotControl);
  }

  /** The guest wrote Slot Control, which read `previous`: it may have enabled what waits already. */
  slotWritten(previous: number): void {
    if (this.interruptPending && !this.#isPending(previous)) this.#interrupt();
  }

  /** Behind an upstream port is the switch's internal bus. */
  get #hasLinkBelow(): boolean {
    return this.deviceType !== exp.DEVICE_TYPE_UPSTREAM_PORT;
  }

  #isPending(control: number): boolean {
    if (!this.#hasSlot || (control & slot.CONTROL_HOT_PLUG_INTERRUPT_ENABLE) === 0) return false;
    const status = this.#registers.peek(this.#express + exp.EXP_SLOT_CONTROL) >>> 16;
    // The enables have the positions of the status bits, but for the link state's.
    const linkChanged =
      (control & slot.CONTROL_DATA_LINK_LAYER_STATE_CHANGED_ENABLE) !== 0 &&
      (status & slot.STATUS_DATA_LINK_LAYER_STATE_CHANGED) !== 0;
    return linkChanged || (control & status & slot.STATUS_WITH_ENABLES) !== 0;
  }

  #raise(status: number): void {
    const waits = this.interruptPending;
    this.#registers.poke(this.#express + exp.EXP_SLOT_CONTROL, status << 16, status << 16);
    if (!waits && this.interruptPending) this.#interrupt();
  }

  #window(register: number, baseUpper: number, limitUpper: number): AddressRange {
    const word = this.#registers.peek(register);
    // Registers beyond 2^53 come out inexact, and no address is as high as that.
    return {
      first: baseUpper * 2 ** 32 + (((word & 0xfff0) << 16) >>> 0),
      last: limitUpper * 2 ** 32 + ((word & 0xfff00000) >>> 0) + 0xfffff,
    };
  }
}

/** Ranges that touch or overlap become one. */
function joined(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const apart: AddressRange[] = [];
  for (const range of ranges.toSorted((left, right) => left.first - right.first)) {
    const before = apart.at(-1);
    if (before === undefined || range.first > before.last + 1) apart.push(range);
    else apart[apart.length - 1] = { first: before.first, last: Math.max(before.last, range.last) };
  }
  return apart;
}

/** The downstream side of `image`, when it is an emulated bridge. */
export function bridgePort(
  { headerLayout, isPhysical, express, space }: FunctionImage,
  registers: RegisterFile,
  interrupt: () => void,
): BridgePort | undefined {
  if (headerLayout !== 1 || isPhysical || express === undefined) return undefined;
  const hasSlot = (space.read(express.offset + exp.EXP_CAPABILITIES, 2) & exp.EXP_SLOT_IMPLEMENTED) !== 0;
  return new BridgePort(express.deviceType, hasSlot, express.offset, registers, interrupt);
}
