import { type GuestMemory, SPAN_MISS, SPAN_OK } from '../../memory/index.ts';
import {
  DESCRIPTOR_RSVD,
  TYPE_DEVICE_TLB,
  TYPE_HIGH,
  TYPE_HIGH_SHIFT,
  TYPE_LOW,
  TYPE_PAGE_GROUP_RESPONSE,
  TYPE_PASID_DEVICE_TLB,
  TYPE_WAIT,
  WAIT_IF,
  WAIT_SW,
} from './descriptors.ts';
import type { EventRegisters } from './event-registers.ts';
import type { FaultLog } from './fault-log.ts';
import type { VtdFeatures } from './options.ts';
import type { RegisterFile } from './register-file.ts';
import {
  FSTS,
  FSTS_IQE,
  FSTS_ITE,
  GCMD_QIE,
  GSTS,
  ICS,
  ICS_IWC,
  IQ_OFFSET,
  IQA,
  IQA_DW,
  IQA_QS,
  IQH,
  IQT,
  TTM_ABORT_DMA,
  TTM_LEGACY,
  TTM_SCALABLE,
} from './registers.ts';

const WAIT_WORDS = 4;

/** What became of a descriptor: it is done, it is none, or a device did not answer it. */
export const DESCRIPTOR_DONE = 0;
export const DESCRIPTOR_INVALID = 1;
export const DESCRIPTOR_TIMEOUT = 2;

/** Carries out what descriptors ask for. */
export interface DescriptorHost {
  /** Carries out a descriptor other than a wait; the words are signed. Returns `DESCRIPTOR_*`. */
  readonly carryOut: (type: number, words: Int32Array) => number;
  /** True when listeners are yet to hear what was invalidated: waits end behind that. */
  readonly isPending: () => boolean;
  /** Ends what was invalidated, and tells them. */
  readonly settle: () => void;
}

/** The invalidation queue (6.5.2): one serial job that goes on until it is empty, fails, or misses memory. */
export class InvalidationQueue {
  readonly #registers: RegisterFile;
  readonly #memory: GuestMemory;
  readonly #features: VtdFeatures;
  readonly #faults: FaultLog;
  readonly #completion: EventRegisters;
  readonly #host: DescriptorHost;
  readonly #words = new Int32Array(8);
  /** Words 0 to 3 of waits that end when listeners have heard all; no more than the queue holds. */
  readonly #waits: number[] = [];
  readonly #status = new Int32Array(1);
  #mode = TTM_LEGACY;
  #running = false;
  #epoch = 0;
  #missing: { readonly high: number; readonly low: number } | undefined;

  constructor(
    registers: RegisterFile,
    memory: GuestMemory,
    features: VtdFeatures,
    faults: FaultLog,
    completion: EventRegisters,
    host: DescriptorHost,
  ) {
    this.#registers = registers;
    this.#memory = memory;
    this.#features = features;
    this.#faults = faults;
    this.#completion = completion;
    this.#host = host;
  }

  /** The page of guest memory that the job waits for, as halves of its address; undefined when it does not. */
  get missing(): { readonly high: number; readonly low: number } | undefined {
    return this.#missing;
  }

  /** TTM as latched decides which types are allowed. */
  setMode(mode: number): void {
    this.#mode = mode;
  }

  /** QIE changed: the head begins at 0 again. */
  enable(on: boolean): void {
    this.#registers.set(IQH, 0);
    this.#missing = undefined;
    this.#waits.length = 0;
    this.#epoch++;
    if (on) this.run();
  }

  /**
   * Processes descriptors. A listener or a device that gets here again does nothing: the job that runs sees
   * what it changed.
   */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    try {
      this.#missing = undefined;
      let more = true;
      while (more) {
        while (this.#isActive() && more) more = this.#step();
        this.#settle();
        more &&= this.#isActive();
      }
    } finally {
      this.#running = false;
    }
  }

  /** Once for all that the run has invalidated, however many waits there are. */
  #settle(): void {
    const waits = this.#waits;
    this.#host.settle();
    // A listener may have reset the unit, and there are none any more.
    for (let at = 0; at < waits.length; at += WAIT_WORDS) {
      this.#end(waits[at] ?? 0, waits[at + 1] ?? 0, waits[at + 2] ?? 0, waits[at + 3] ?? 0);
    }
    waits.length = 0;
  }

  /** There is something to do, and nothing stops it. */
  #isActive(): boolean {
    const registers = this.#registers;
    if (!registers.has(GSTS, GCMD_QIE) || registers.has(FSTS, FSTS_IQE | FSTS_ITE)) return false;
    return registers.get(IQH) !== registers.get(IQT);
  }

  /** Processes the descriptor at the head; false when its memory has to be fetched. */
  #step(): boolean {
    const registers = this.#registers;
    const head = registers.get(IQH);
    const base = registers.get(IQA);
    const wide = (base & IQA_DW) !== 0;
    const bytes = wide ? 32 : 16;
    const size = 0x1000 << (base & IQA_QS);
    if (((registers.get(IQT) | head) & (bytes - 1)) !== 0 || registers.get(IQT) >= size) return this.#fail();
    // The base is aligned to 4 KiB, but not to its size, so that the sum may carry.
    const address = ((base & ~0xfff) >>> 0) + head;
    const carry = address > 0xffff_ffff ? 1 : 0;
    const status = this.#memory.span((registers.get(IQA + 4) + carry) | 0, address | 0, bytes);
    if (status === SPAN_MISS) {
      this.#missing = { high: this.#memory.missHigh, low: this.#memory.missLow };
      return false;
    }
    if (status !== SPAN_OK) return this.#fail();
    this.#words.fill(0);
    for (let word = 0; word < bytes / 4; word++) this.#words[word] = this.#memory.load32(word);
    const epoch = this.#epoch;
    const result = this.#process(wide);
    // Whoever heard of it may have switched the queue off, and even on again.
    if (this.#epoch !== epoch) return true;
    if (result === DESCRIPTOR_INVALID) return this.#fail();
    registers.set(IQH, (head + bytes) & (size - 1) & IQ_OFFSET);
    // Nothing more is fetched until the guest clears ITE.
    if (result === DESCRIPTOR_TIMEOUT) this.#faults.raise(FSTS_ITE);
    return true;
  }

  #process(wide: boolean): number {
    const words = this.#words;
    const word0 = words[0] ?? 0;
    const type = (word0 & TYPE_LOW) | ((word0 & TYPE_HIGH) >>> TYPE_HIGH_SHIFT);
    const reserved = DESCRIPTOR_RSVD[type];
    if (reserved === undefined || !this.#allows(type, wide)) return DESCRIPTOR_INVALID;
    for (let word = 0; word < 8; word++) {
      if (((words[word] ?? 0) & (reserved[word] ?? -1)) !== 0) return DESCRIPTOR_INVALID;
    }
    return type === TYPE_WAIT ? this.#wait(word0) : this.#host.carryOut(type, words);
  }

  /** Types that the mode allows (table 26), and the unit has. */
  #allows(type: number, wide: boolean): boolean {
    const features = this.#features;
    if (type === TYPE_DEVICE_TLB && !features.deviceTlb) return false;
    if (this.#mode === TTM_LEGACY) return type <= TYPE_WAIT;
    if (!wide || (this.#mode !== TTM_SCALABLE && this.#mode !== TTM_ABORT_DMA)) return false;
    if (type === TYPE_PASID_DEVICE_TLB) return features.deviceTlb;
    if (type === TYPE_PAGE_GROUP_RESPONSE) return features.pageRequests;
    return type <= TYPE_WAIT || features.scalableMode;
  }

  /** All earlier descriptors are done when this one is reached, so that only the messages are left. */
  #wait(word0: number): number {
    const words = this.#words;
    const data = words[1] ?? 0;
    const low = words[2] ?? 0;
    const high = words[3] ?? 0;
    // In their order: what was pending may have been told early, by a register write from within the run.
    const behind = this.#waits.length > 0 || this.#host.isPending();
    if (behind) this.#waits.push(word0, data, low, high);
    else this.#end(word0, data, low, high);
    return DESCRIPTOR_DONE;
  }

  #end(word0: number, data: number, low: number, high: number): void {
    if ((word0 & WAIT_SW) !== 0) {
      this.#status[0] = data;
      this.#memory.store(high, low, this.#status, 1);
    }
    if ((word0 & WAIT_IF) !== 0) {
      const first = !this.#registers.has(ICS, ICS_IWC);
      this.#registers.or(ICS, ICS_IWC);
      if (first) this.#completion.raise();
    }
  }

  /** Whoever hears of it may have repaired the queue: the registers say whether it goes on. */
  #fail(): boolean {
    this.#faults.raise(FSTS_IQE);
    return true;
  }
}
