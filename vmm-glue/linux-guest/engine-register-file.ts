import * as reg from './engine-registers.ts';
import type { EngineOrder, EngineResult } from './engine-order.ts';

const KINDS = {
  [reg.COMMAND_READ]: 'read',
  [reg.COMMAND_WRITE]: 'write',
  [reg.COMMAND_EXECUTE]: 'execute',
  [reg.COMMAND_TRANSLATE]: 'translate',
} as const;
const STATUSES = {
  done: reg.STATUS_DONE,
  rejected: reg.STATUS_REJECTED,
  'not-sent': reg.STATUS_NOT_SENT,
  'no-memory': reg.STATUS_NO_MEMORY,
} as const;
const BYTES = reg.DATA + reg.DATA_BYTES;
const PASID_BITS = 0xf_ffff;

/** The registers through which a guest orders requests, one at a time. Whatever is written to them is defined. */
export class EngineRegisters {
  readonly #registers = new DataView(new ArrayBuffer(BYTES));
  readonly #order: (order: EngineOrder) => Promise<EngineResult>;
  /** Counts resets: what was ordered before one must not write its end into the registers after it. */
  #resets = 0;

  constructor(order: (order: EngineOrder) => Promise<EngineResult>) {
    this.#order = order;
  }

  /** What the guest reads: aligned words, and 0 elsewhere. */
  read(offset: number, size: number): number {
    return isWord(offset, size) ? this.#registers.getUint32(offset, true) : 0;
  }

  /** The guest writes a word. While a request is on its way nothing can be written. */
  write(offset: number, size: number, value: number): void {
    if (!isWord(offset, size) || this.#get(reg.STATUS) === reg.STATUS_BUSY) return;
    if (offset >= reg.STATUS && offset < reg.DATA) return;
    this.#set(offset, value);
    if (offset === reg.COMMAND) void this.#start();
  }

  /** Everything reads 0 again. */
  reset(): void {
    this.#resets++;
    new Uint8Array(this.#registers.buffer).fill(0);
  }

  async #start(): Promise<void> {
    const order = this.#ordered();
    if (order === undefined) {
      this.#set(reg.STATUS, reg.STATUS_NOT_SENT);
      return;
    }
    this.#set(reg.STATUS, reg.STATUS_BUSY);
    const resets = this.#resets;
    const result = await this.#order(order);
    if (resets === this.#resets) this.#end(result);
  }

  /** The request that the registers describe; undefined when there is no such request. */
  #ordered(): EngineOrder | undefined {
    const command = this.#get(reg.COMMAND);
    const selector = command & reg.COMMAND_KIND;
    if (!isKind(selector)) return undefined;
    const kind = KINDS[selector];
    const withPasid = (this.#get(reg.PASID) & reg.PASID_PRESENT) !== 0;
    const privileged = (command & reg.COMMAND_PRIVILEGED) !== 0;
    if (!withPasid && (privileged || kind === 'execute')) return undefined;
    const length = this.#get(reg.LENGTH);
    const low = this.#get(reg.ADDRESS_LOW);
    if (length < 1 || length > reg.DATA_BYTES || (low & 0xfff) + length > 0x1000) return undefined;
    return {
      kind,
      pasid: withPasid ? this.#get(reg.PASID) & PASID_BITS : null,
      address: (BigInt(this.#get(reg.ADDRESS_HIGH)) << 32n) | BigInt(low),
      data: new Uint8Array(this.#registers.buffer.slice(reg.DATA, reg.DATA + length)),
      privileged,
      ats: (command & reg.COMMAND_ATS) !== 0,
      pri: (command & reg.COMMAND_PRI) !== 0,
      force: (command & reg.COMMAND_FORCE) !== 0,
    };
  }

  #end({ order, outcome, verdict, data }: EngineResult): void {
    const code = verdict !== undefined && 'code' in verdict ? verdict.code : undefined;
    const address = verdict !== undefined && 'address' in verdict ? verdict.address : undefined;
    this.#set(reg.CODE, code ?? 0);
    this.#set(reg.RESULT_LOW, Number((address ?? 0n) & 0xffff_ffffn));
    this.#set(reg.RESULT_HIGH, Number((address ?? 0n) >> 32n));
    if (order.kind === 'read' || order.kind === 'execute')
      new Uint8Array(this.#registers.buffer).set(data, reg.DATA);
    this.#set(reg.STATUS, STATUSES[outcome]);
  }

  #get(offset: number): number {
    return this.#registers.getUint32(offset, true);
  }

  #set(offset: number, value: number): void {
    this.#registers.setUint32(offset, value, true);
  }
}

function isWord(offset: number, size: number): boolean {
  return size === 4 && offset % 4 === 0 && offset >= 0 && offset < BYTES;
}

function isKind(selector: number): selector is keyof typeof KINDS {
  return Object.hasOwn(KINDS, selector);
}
