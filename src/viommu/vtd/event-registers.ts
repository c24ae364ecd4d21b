import type { InterruptEvent } from '../events.ts';
import type { RegisterFile } from './register-file.ts';
import { EVENT_ADDRESS, EVENT_DATA, EVENT_IM, EVENT_IP, EVENT_UPPER_ADDRESS } from './registers.ts';

/** Carries an interrupt out of the unit. */
export type SendInterrupt = (interrupt: InterruptEvent) => void;

/** Four registers that say whether and how an event interrupts: control, data, address (11.4.7.2 to 11.4.7.5). */
export class EventRegisters {
  readonly #registers: RegisterFile;
  readonly #control: number;
  readonly #cause: InterruptEvent['cause'];
  readonly #send: SendInterrupt;

  constructor(registers: RegisterFile, control: number, cause: InterruptEvent['cause'], send: SendInterrupt) {
    this.#registers = registers;
    this.#control = control;
    this.#cause = cause;
    this.#send = send;
  }

  /** Power-on: masked. */
  reset(): void {
    this.#registers.set(this.#control, EVENT_IM);
  }

  /** The event has happened: sends it, or keeps it pending while it is masked. */
  raise(): void {
    this.#registers.or(this.#control, EVENT_IP);
    this.#deliver();
  }

  /** Nothing is left to be serviced. */
  serviced(): void {
    this.#registers.clear(this.#control, EVENT_IP);
  }

  /** The guest writes one of the four; IP is read only. False when `offset` is none of them. */
  write(offset: number, value: number): boolean {
    switch (offset - this.#control) {
      case 0:
        this.#registers.set(offset, (this.#registers.get(offset) & EVENT_IP) | (value & EVENT_IM));
        this.#deliver();
        return true;
      case EVENT_ADDRESS:
        this.#registers.set(offset, value & ~3);
        return true;
      case EVENT_DATA:
      case EVENT_UPPER_ADDRESS:
        this.#registers.set(offset, value);
        return true;
      default:
        return false;
    }
  }

  #deliver(): void {
    const registers = this.#registers;
    const control = this.#control;
    if ((registers.get(control) & (EVENT_IM | EVENT_IP)) !== EVENT_IP) return;
    registers.clear(control, EVENT_IP);
    const low = registers.get(control + EVENT_ADDRESS) >>> 0;
    const high = registers.get(control + EVENT_UPPER_ADDRESS) >>> 0;
    this.#send({
      cause: this.#cause,
      address: (BigInt(high) << 32n) | BigInt(low),
      data: registers.get(control + EVENT_DATA) >>> 0,
    });
  }
}
