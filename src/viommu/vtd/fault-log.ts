import type { EventRegisters } from './event-registers.ts';
import type { RegisterFile } from './register-file.ts';
import {
  FRCD,
  FRCD2_EXE,
  FRCD2_PP,
  FRCD2_PRIV,
  FRCD2_T2,
  FRCD3_AT_SHIFT,
  FRCD3_F,
  FRCD3_PV_SHIFT,
  FRCD3_T1,
  FRCD_BYTES,
  FSTS,
  FSTS_FRI,
  FSTS_FRI_SHIFT,
  FSTS_ICE,
  FSTS_IQE,
  FSTS_ITE,
  FSTS_PFO,
  FSTS_PPF,
} from './registers.ts';

/** What kind of request a fault record tells of: T1 and T2. */
export const RECORD_WRITE = 0;
export const RECORD_PAGE_REQUEST = 1;
export const RECORD_READ = 2;
export const RECORD_ATOMIC = 3;

// Not exported, and so folded into the code that uses them (see result.ts).
const STATUS = FSTS;
const OVERFLOW = FSTS_PFO;

const CONDITIONS = FSTS_PFO | FSTS_PPF | FSTS_IQE | FSTS_ICE | FSTS_ITE;
const CLEARED_BY_ONE = FSTS_PFO | FSTS_IQE | FSTS_ICE | FSTS_ITE;

/** The fault status and fault recording registers (7.2, 11.4.7). */
export class FaultLog {
  readonly #registers: RegisterFile;
  readonly #event: EventRegisters;
  readonly #records: number;
  readonly #collapse: boolean;
  #index = 0;

  constructor(registers: RegisterFile, event: EventRegisters, records: number, collapse: boolean) {
    this.#registers = registers;
    this.#event = event;
    this.#records = records;
    this.#collapse = collapse;
  }

  /** The next register that a fault is recorded in. */
  get index(): number {
    return this.#index;
  }

  /** PFO is set: whatever comes is lost. */
  get isFull(): boolean {
    return this.#registers.has(STATUS, OVERFLOW);
  }

  /** Translation is off: recording begins at the first register again. Also for a saved state. */
  restart(index = 0): void {
    this.#index = index;
  }

  /**
   * Records a fault (7.2.1).
   *
   * @param code 8 bits
   * @param source requester ID, 16 bits
   * @param high bits 63:32 of the address, and `low` bits 31:0
   * @param pasid 20 bits, or -1 when the request carried none
   * @param type `RECORD_*`
   * @param at the AT field of the request
   */
  record(
    code: number,
    source: number,
    high: number,
    low: number,
    pasid: number,
    type: number,
    execute: boolean,
    privileged: boolean,
    at: number,
  ): void {
    const registers = this.#registers;
    if (this.isFull || (this.#collapse && this.#isPending(source))) return;
    const record = FRCD + this.#index * FRCD_BYTES;
    if (registers.has(record + 12, FRCD3_F)) {
      this.raise(FSTS_PFO);
      return;
    }
    let word2 = source & 0xffff;
    let word3 = FRCD3_F | code | (at << FRCD3_AT_SHIFT);
    if ((type & RECORD_PAGE_REQUEST) !== 0) word2 |= FRCD2_T2;
    if ((type & RECORD_READ) !== 0) word3 |= FRCD3_T1;
    if (pasid >= 0) {
      word2 |= FRCD2_PP;
      if (execute) word2 |= FRCD2_EXE;
      if (privileged) word2 |= FRCD2_PRIV;
      word3 |= pasid << FRCD3_PV_SHIFT;
    }
    registers.set(record, low & ~0xfff);
    registers.set(record + 4, high);
    registers.set(record + 8, word2);
    registers.set(record + 12, word3);
    const first = !registers.has(FSTS, FSTS_PPF);
    const index = this.#index;
    this.#index = (index + 1) % this.#records;
    if (!first) return;
    const others = registers.get(FSTS) & ~FSTS_FRI;
    registers.set(FSTS, others | (index << FSTS_FRI_SHIFT));
    this.raise(FSTS_PPF);
  }

  /** Sets a condition of FSTS; it interrupts unless an earlier one is not serviced yet. */
  raise(condition: number): void {
    const earlier = this.#registers.has(FSTS, CONDITIONS);
    this.#registers.or(FSTS, condition);
    if (!earlier) this.#event.raise();
  }

  /** The guest writes FSTS: ones clear. */
  writeStatus(value: number): void {
    this.#registers.clear(FSTS, value & CLEARED_BY_ONE);
    this.#checkServiced();
  }

  /** The guest writes word 3 of a fault recording register: a one in F clears it. */
  writeRecord(offset: number, value: number): void {
    if ((value & FRCD3_F) === 0) return;
    this.#registers.clear(offset, FRCD3_F);
    if (!this.#someFault()) this.#registers.clear(FSTS, FSTS_PPF);
    this.#checkServiced();
  }

  #checkServiced(): void {
    if (!this.#registers.has(FSTS, CONDITIONS)) this.#event.serviced();
  }

  #someFault(): boolean {
    for (let index = 0; index < this.#records; index++) {
      if (this.#registers.has(FRCD + index * FRCD_BYTES + 12, FRCD3_F)) return true;
    }
    return false;
  }

  #isPending(source: number): boolean {
    for (let index = 0; index < this.#records; index++) {
      const record = FRCD + index * FRCD_BYTES;
      const same = (this.#registers.get(record + 8) & 0xffff) === source;
      if (same && this.#registers.has(record + 12, FRCD3_F)) return true;
    }
    return false;
  }
}
