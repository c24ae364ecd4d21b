import type { PciFunction, SegmentIntxEvent } from '../../src/index.ts';
import type { Machine } from './machine.ts';
import { override } from './override.ts';

/** PIRQRC[A:D]: which IRQ each of the four PCI interrupt lines becomes (82371SB 2.2.6). */
const ROUTE_CONTROL = 0x60;
/** Interrupt Routing Disable (bit 7); the IRQ is in bits 3:0. */
const ROUTE_DISABLED = 0x80;
/** IRQs that a PCI interrupt can become: 3..7, 9..12, 14 and 15; the other values are reserved. */
const ROUTABLE = 0xdef8;

/**
 * The four PCI interrupt lines through the PIIX3 router to the interrupt controllers. v86's own devices drive the
 * same inputs, so both sides are remembered: an input falls when nobody drives it any more.
 */
export class InterruptLines {
  readonly #router: Uint8Array;
  readonly #raise: (irq: number) => void;
  readonly #lower: (irq: number) => void;
  readonly #restore: readonly (() => void)[];
  /** Each function that asserts its pin, with the line it comes out on. */
  readonly #asserting = new Map<PciFunction, number>();
  /** Bit n: IRQ n is driven by v86's devices, or by the segment's functions. */
  #theirs = 0;
  #ours = 0;

  constructor(machine: Machine) {
    this.#router = machine.devices.pci.isa_bridge_space8;
    this.#raise = machine.device_raise_irq;
    this.#lower = machine.device_lower_irq;
    this.#restore = [
      override(machine, 'device_raise_irq', (irq: number) => {
        this.#theirs |= 1 << irq;
        this.#raise(irq);
      }),
      override(machine, 'device_lower_irq', (irq: number) => {
        this.#theirs &= ~(1 << irq);
        if ((this.#ours & (1 << irq)) === 0) this.#lower(irq);
      }),
    ];
  }

  /** A pin rose or fell. */
  pinChanged({ fn, device, pin, asserted }: SegmentIntxEvent): void {
    // As v86 and SeaBIOS wire the slots: device 1's INTA is the first line.
    if (asserted) this.#asserting.set(fn, (pin - 1 + device - 1) & 3);
    else this.#asserting.delete(fn);
    this.update();
  }

  /** Drives the inputs that the router leads to now. */
  update(): void {
    let wanted = 0;
    for (const line of this.#asserting.values()) {
      const route = this.#router[ROUTE_CONTROL + line] ?? ROUTE_DISABLED;
      if ((route & ROUTE_DISABLED) === 0) wanted |= (1 << (route & 0xf)) & ROUTABLE;
    }
    this.#drive(wanted);
  }

  /** Lets go of all inputs, and gives v86 its own methods back. */
  release(): void {
    this.#drive(0);
    for (const restore of this.#restore) restore();
  }

  #drive(wanted: number): void {
    const changed = wanted ^ this.#ours;
    this.#ours = wanted;
    for (let irq = 0; irq < 16; irq++) {
      const bit = 1 << irq;
      if ((changed & bit) === 0) continue;
      if ((wanted & bit) !== 0) this.#raise(irq);
      else if ((this.#theirs & bit) === 0) this.#lower(irq);
    }
  }
}
