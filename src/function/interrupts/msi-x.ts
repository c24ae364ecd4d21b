import { hex } from '../../pci/bdf.ts';
import { CAP_MSI_X } from '../../pci/capability-ids.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import type { Bar } from '../bars.ts';
import { MSI_X_CONTROL, MSI_X_ENABLE, MSI_X_FUNCTION_MASK } from '../capabilities/msi-x.ts';
import type { FunctionImage } from '../function-image.ts';
import type { MessageSink, RegisterFile } from './interrupt-types.ts';

/** Bytes of a table entry: address, upper address, data, vector control (PCIe 7.7.2.6 to 7.7.2.9). */
const ENTRY = 16;
const VECTOR_CONTROL = 12;
const MASK = 1;
/** Table Size, bits 10:0 of Message Control: entries less one. */
const TABLE_SIZE = 0x07ff;
/** BAR Indicator, bits 2:0 of the two location registers. */
const BIR = 0x7;

/** Where the table or the pending bits are: a BAR and a range of bytes in it. */
interface Location {
  readonly bar: number;
  readonly start: number;
  readonly end: number;
}

/** What `saveState` keeps of MSI-X. */
export interface MsiXState {
  /** Dwords of the table. */
  readonly table: readonly number[];
  /** Dwords of the Pending Bit Array. */
  readonly pending: readonly number[];
}

/**
 * MSI-X (PCIe 6.1.4, 7.7.2): the vector table and the pending bits, which live in a BAR and not in configuration
 * space, and sending by them.
 */
export class MsiX {
  /** Vectors, 1..2048. */
  readonly vectors: number;

  readonly #offset: number;
  readonly #registers: RegisterFile;
  readonly #sink: MessageSink;
  readonly #table: DataView;
  readonly #pending: DataView;
  readonly #tableAt: Location;
  readonly #pendingAt: Location;
  // The table and Message Control as routes were told by them.
  readonly #told: DataView;
  #toldControl = 0;

  /** `control`, `table` and `pba`: the registers of the capability at `offset`, as they read at power-on. */
  constructor(
    offset: number,
    control: number,
    table: number,
    pba: number,
    registers: RegisterFile,
    sink: MessageSink,
  ) {
    this.#offset = offset;
    this.#registers = registers;
    this.#sink = sink;
    this.vectors = (control & TABLE_SIZE) + 1;
    const tableBytes = ENTRY * this.vectors;
    const pendingBytes = pendingLength(this.vectors);
    this.#table = new DataView(new ArrayBuffer(tableBytes));
    this.#pending = new DataView(new ArrayBuffer(pendingBytes));
    this.#tableAt = locate(table, tableBytes);
    this.#pendingAt = locate(pba, pendingBytes);
    this.reset();
    this.#told = new DataView(this.#table.buffer.slice(0));
  }

  /** MSI-X Enable. */
  get enabled(): boolean {
    return (this.#control & MSI_X_ENABLE) !== 0;
  }

  /** Every vector masked, nothing pending. */
  reset(): void {
    for (let at = 0; at < this.#table.byteLength; at += 4) {
      this.#table.setUint32(at, at % ENTRY === VECTOR_CONTROL ? MASK : 0, true);
    }
    for (let at = 0; at < this.#pending.byteLength; at += 4) this.#pending.setUint32(at, 0, true);
  }

  /** Requests an interrupt; a masked vector becomes pending. False when the vector does not exist or MSI-X is off. */
  trigger(vector: number): boolean {
    if (!this.enabled || vector >= this.vectors) return false;
    if (this.#isMasked(vector)) this.#setPending(vector, true);
    else this.#send(vector);
    return true;
  }

  /**
   * Message Control, the table, or whether the function may send changed: what is due is sent, and routes are told:
   * those that differ, or all of them when Enable or Function Mask does.
   */
  settle(): void {
    const control = this.#control & (MSI_X_ENABLE | MSI_X_FUNCTION_MASK);
    const all = control !== this.#toldControl;
    this.#toldControl = control;
    for (let vector = 0; vector < this.vectors; vector++) this.#settle(vector, all);
  }

  /** Sends what waits and may go. */
  deliver(): void {
    if (!this.enabled || !this.#sink.canSend()) return;
    for (let word = 0; word < this.#pending.byteLength; word += 4) {
      if (this.#pending.getUint32(word, true) === 0) continue;
      for (let vector = 8 * word; vector < Math.min(8 * word + 32, this.vectors); vector++)
        this.#deliver(vector);
    }
  }

  /** True when `size` bytes at `offset` of BAR `bar` touch the table or the pending bits. */
  covers(bar: number, offset: number, size: number): boolean {
    return touches(this.#tableAt, bar, offset, size) || touches(this.#pendingAt, bar, offset, size);
  }

  /** Reads what {@link MsiX.covers}; bytes outside read 0. */
  read(bar: number, offset: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.#byte(bar, offset + i);
    return value >>> 0;
  }

  /** Writes what {@link MsiX.covers}: the table. The pending bits are read-only. */
  write(bar: number, offset: number, size: number, value: number): void {
    if (!touches(this.#tableAt, bar, offset, size)) return;
    const { start, end } = this.#tableAt;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      if (at >= start && at < end) this.#table.setUint8(at - start, value >>> (8 * i));
    }
    const first = Math.max(0, Math.floor((offset - start) / ENTRY));
    const last = Math.min(this.vectors - 1, Math.floor((offset + size - 1 - start) / ENTRY));
    for (let vector = first; vector <= last; vector++) this.#settle(vector, false);
  }

  saveState(): MsiXState {
    return { table: words(this.#table), pending: words(this.#pending) };
  }

  /** True when `state` is of a function with as many vectors. */
  fits({ table, pending }: MsiXState): boolean {
    return 4 * table.length === this.#table.byteLength && 4 * pending.length === this.#pending.byteLength;
  }

  /** Takes back what {@link MsiX.saveState} gave, if it {@link MsiX.fits}. */
  restoreState({ table, pending }: MsiXState): void {
    for (const [i, word] of table.entries()) this.#table.setUint32(4 * i, word, true);
    for (const [i, word] of pending.entries()) this.#pending.setUint32(4 * i, word, true);
  }

  #deliver(vector: number): void {
    if (!this.#isPending(vector) || this.#isMasked(vector)) return;
    this.#setPending(vector, false);
    this.#send(vector);
  }

  #settle(vector: number, tell: boolean): void {
    if (this.enabled && this.#isPending(vector) && this.#sink.canSend()) this.#deliver(vector);
    const at = ENTRY * vector;
    let differs = tell;
    for (let field = at; field < at + ENTRY; field += 4) {
      const word = this.#table.getUint32(field, true);
      if (word === this.#told.getUint32(field, true)) continue;
      this.#told.setUint32(field, word, true);
      differs = true;
    }
    if (!differs) return;
    this.#sink.route(
      'msi-x',
      vector,
      this.#table.getUint32(at, true),
      this.#table.getUint32(at + 4, true),
      this.#table.getUint32(at + 8, true),
      this.enabled && !this.#isMasked(vector),
    );
  }

  #send(vector: number): void {
    const at = ENTRY * vector;
    const [low, high, data] = [0, 4, 8].map((field) => this.#table.getUint32(at + field, true));
    this.#sink.send('msi-x', vector, low ?? 0, high ?? 0, data ?? 0);
  }

  get #control(): number {
    return this.#registers.peek(this.#offset) >>> (8 * MSI_X_CONTROL);
  }

  #isMasked(vector: number): boolean {
    if ((this.#control & MSI_X_FUNCTION_MASK) !== 0) return true;
    return (this.#table.getUint32(ENTRY * vector + VECTOR_CONTROL, true) & MASK) !== 0;
  }

  #isPending(vector: number): boolean {
    return (this.#pending.getUint8(vector >>> 3) & (1 << (vector & 7))) !== 0;
  }

  #setPending(vector: number, on: boolean): void {
    const bits = this.#pending.getUint8(vector >>> 3);
    const bit = 1 << (vector & 7);
    this.#pending.setUint8(vector >>> 3, on ? bits | bit : bits & ~bit);
  }

  #byte(bar: number, offset: number): number {
    if (touches(this.#tableAt, bar, offset, 1)) return this.#table.getUint8(offset - this.#tableAt.start);
    if (touches(this.#pendingAt, bar, offset, 1))
      return this.#pending.getUint8(offset - this.#pendingAt.start);
    return 0;
  }
}

/** What a location register says. BAR Indicators 6 and 7 are reserved (PCIe 7.7.2.3) and lead nowhere. */
function locate(register: number, bytes: number): Location {
  const bir = register & BIR;
  const start = (register & ~BIR) >>> 0;
  return { bar: bir > 5 ? -1 : bir, start, end: start + bytes };
}

function touches({ bar, start, end }: Location, index: number, offset: number, size: number): boolean {
  return bar === index && offset < end && offset + size > start;
}

function words(view: DataView): number[] {
  return Array.from({ length: view.byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/**
 * Refuses an MSI-X structure of an emulated function whose table or pending bits are in no memory BAR of it, or in each
 * other's way.
 *
 * @throws VpciError `VPCI_BAR`.
 */
export function checkMsiX(
  { space, standard }: Pick<FunctionImage, 'space' | 'standard'>,
  bars: readonly Bar[],
): void {
  for (const { id, offset, length } of standard.capabilities) {
    if (id !== CAP_MSI_X || length < 12) continue;
    const vectors = (space.read(offset + MSI_X_CONTROL, 2) & TABLE_SIZE) + 1;
    const table = locate(space.read(offset + 4, 4), ENTRY * vectors);
    const pending = locate(space.read(offset + 8, 4), pendingLength(vectors));
    for (const [what, { bar, end }] of [
      ['table', table],
      ['pending bits', pending],
    ] as const) {
      const found = bars.find(({ index, kind }) => index === bar && kind !== 'io');
      if (found !== undefined && end <= found.size) continue;
      throw refused(
        `the ${what} of ${vectors} MSI-X vectors end at 0x${hex(end)} of BAR ${bar}, which is not there in memory space or not as large: describe it in \`bars\``,
      );
    }
    if (touches(table, pending.bar, pending.start, pending.end - pending.start))
      throw refused(
        `the table and the pending bits of ${vectors} MSI-X vectors overlap in BAR ${table.bar}: choose another offset`,
      );
  }
}

function refused(why: string): VpciError {
  return new VpciError('VPCI_BAR', why);
}

/** Bytes of the Pending Bit Array: quadwords. */
function pendingLength(vectors: number): number {
  return 8 * Math.ceil(vectors / 64);
}
