import { MSI_CONTROL, MSI_ENABLE, MSI_MULTIPLE_MESSAGE_ENABLE } from '../capabilities/msi.ts';
import type { MessageSink, RegisterFile } from './interrupt-types.ts';

/** How many vectors the function asks for, log 2. */
const MULTIPLE_MESSAGE_CAPABLE = 0x000e;
const ADDRESS_64 = 0x0080;
const PER_VECTOR_MASKING = 0x0100;
const EXTENDED_MESSAGE_DATA_ENABLE = 0x0400;

/** Bytes of a structure whose Message Control is `control`, as far as {@link Msi} uses it. */
export function msiLength(control: number): number {
  const data = (control & ADDRESS_64) === 0 ? 8 : 12;
  return (control & PER_VECTOR_MASKING) === 0 ? data + 2 : data + 12;
}

/** The device's side of an MSI capability at `offset` (PCIe 6.1.4): what its registers say, and sending by it. */
export class Msi {
  readonly #offset: number;
  readonly #registers: RegisterFile;
  readonly #sink: MessageSink;
  // Ours: what the register shows at power-on is the host's.
  #pending = 0;
  // What decides about routes, as it was when they were told: Message Control, address, data and mask.
  readonly #told = new Int32Array(5);

  constructor(offset: number, registers: RegisterFile, sink: MessageSink) {
    this.#offset = offset;
    this.#registers = registers;
    this.#sink = sink;
  }

  /** MSI Enable. */
  get enabled(): boolean {
    return (this.#control & MSI_ENABLE) !== 0;
  }

  /** Vectors that the guest allocated, 1..32; never more than there are. */
  get vectors(): number {
    return vectorsOf(this.#control);
  }

  /** Requests an interrupt; a masked vector becomes pending. False when the vector does not exist or MSI is off. */
  trigger(vector: number): boolean {
    if (!this.enabled || vector >= this.vectors) return false;
    if (this.#isMasked(vector)) this.#setPending(this.#pending | (1 << vector));
    else this.#send(vector);
    return true;
  }

  /** The structure, or whether the function may send, changed: what is due is sent, and new routes are told. */
  settle(): void {
    this.deliver();
    const before = vectorsOf(this.#told[0] ?? 0);
    if (!this.#takeOver()) return;
    // Vectors that are not allocated any more end.
    for (let vector = 0; vector < Math.max(before, this.vectors); vector++) {
      const enabled = this.enabled && vector < this.vectors && !this.#isMasked(vector);
      this.#sink.route('msi', vector, this.#addressLow, this.#addressHigh, this.#dataOf(vector), enabled);
    }
  }

  /** Sends what waits and may go. */
  deliver(): void {
    if (this.#pending === 0 || !this.enabled || !this.#sink.canSend()) return;
    const due = this.#pending & ~this.#mask;
    for (let vector = 0; vector < this.vectors; vector++) {
      if ((due & (1 << vector)) === 0) continue;
      this.#setPending(this.#pending & ~(1 << vector));
      this.#send(vector);
    }
  }

  /** Pending Bits, 32 bits. */
  get pending(): number {
    return this.#pending >>> 0;
  }

  /** Puts Pending Bits back: of a saved state, or 0. */
  set pending(bits: number) {
    this.#setPending(bits);
  }

  /** Takes over what decides about routes; true when anything of it is not as it was told. */
  #takeOver(): boolean {
    const told = this.#told;
    const [control, low, high, data, mask] = told;
    told[0] = this.#control;
    told[1] = this.#addressLow;
    told[2] = this.#addressHigh;
    told[3] = this.#registers.peek(this.#dataOffset);
    told[4] = this.#mask;
    return control !== told[0] || low !== told[1] || high !== told[2] || data !== told[3] || mask !== told[4];
  }

  #send(vector: number): void {
    this.#sink.send('msi', vector, this.#addressLow, this.#addressHigh, this.#dataOf(vector));
  }

  /** The low bits of the data are the vector's, as many as were allocated (PCIe 6.1.4.3). */
  #dataOf(vector: number): number {
    const register = this.#registers.peek(this.#dataOffset);
    const wide = (this.#control & EXTENDED_MESSAGE_DATA_ENABLE) !== 0;
    const data = wide ? register : register & 0xffff;
    return ((data & ~(this.vectors - 1)) | vector) >>> 0;
  }

  get #control(): number {
    return this.#registers.peek(this.#offset) >>> (8 * MSI_CONTROL);
  }

  get #addressLow(): number {
    return this.#registers.peek(this.#offset + 4) >>> 0;
  }

  get #addressHigh(): number {
    return (this.#control & ADDRESS_64) === 0 ? 0 : this.#registers.peek(this.#offset + 8) >>> 0;
  }

  get #dataOffset(): number {
    return this.#offset + ((this.#control & ADDRESS_64) === 0 ? 8 : 12);
  }

  get #hasMasks(): boolean {
    return (this.#control & PER_VECTOR_MASKING) !== 0;
  }

  get #mask(): number {
    return this.#hasMasks ? this.#registers.peek(this.#dataOffset + 4) : 0;
  }

  #setPending(bits: number): void {
    this.#pending = bits;
    if (this.#hasMasks) this.#registers.poke(this.#dataOffset + 8, -1, bits);
  }

  #isMasked(vector: number): boolean {
    return (this.#mask & (1 << vector)) !== 0;
  }
}

/** Vectors that Message Control allocates. */
function vectorsOf(control: number): number {
  const allocated = (control & MSI_MULTIPLE_MESSAGE_ENABLE) >>> 4;
  const capable = (control & MULTIPLE_MESSAGE_CAPABLE) >>> 1;
  return 1 << Math.min(5, allocated, capable);
}
