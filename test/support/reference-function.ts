import type { PassthroughOptions, ResetKind } from '../../src/index.ts';
import { byteAt, pointerOffset, wordAt } from './reference-chain.ts';
import { planReference, type ReferencePlan } from './reference-plan.ts';
import { extendedRules, standardRules } from './reference-rules.ts';

/** One byte of the guest's space. Bits outside `virtual` are the physical function's. */
interface Cell {
  /** Bits that come from `shadow`. */
  virtual: number;
  shadow: number;
  /** Virtual bits that take what is written. */
  rw: number;
  /** Virtual bits that a written 1 clears. */
  rw1c: number;
  /** Physical bits that a write reaches. */
  forward: number;
  /** Writable bits that a reset leaves alone. */
  sticky: number;
  /** Those that a Function Level Reset leaves alone, too. */
  keptByFlr: number;
  reset: number;
}

/** What a rule says about a byte; masks that are left out are 0. */
export interface CellRule {
  readonly virtual: number;
  /** Power-on value of the virtual bits; default: what the physical function holds. */
  readonly value?: number;
  readonly rw?: number;
  readonly rw1c?: number;
  readonly sticky?: number;
  readonly keptByFlr?: number;
  readonly reset?: number;
}

/**
 * A passed-through function, byte by byte, from design sections 3 and 4. Simple and slow: the other opinion that
 * `src/function` is compared with.
 */
export class ReferenceFunction {
  readonly plan: ReferencePlan;
  /** What the physical registers ought to hold. */
  readonly host: Uint8Array;
  readonly cells: Cell[];
  /** Byte and bit that start a Function Level Reset. */
  readonly resets = new Map<number, number>();
  /** Bytes whose bits 1:0 are a power state, with the states that there are. */
  readonly powerStates = new Map<number, readonly number[]>();
  /** The one of them that is the function's own, when coming back from D3hot loses the state (PCIe 5.3.1.4). */
  softReset: number | undefined;
  /** The Page Request capability made here, if any. */
  pageRequest: number | undefined;

  /** @throws Refused when the function must be refused. */
  constructor(bytes: Uint8Array, options: Omit<PassthroughOptions, 'physical'>) {
    this.plan = planReference(bytes, options);
    this.host = bytes.slice();
    this.cells = Array.from({ length: this.plan.size }, () => ({
      virtual: 0xff,
      shadow: 0,
      rw: 0,
      rw1c: 0,
      forward: 0,
      sticky: 0,
      keptByFlr: 0,
      reset: 0,
    }));
    this.#header(options);
    // 35h..3bh are reserved in a type 0 header: no register owns them.
    const layout = byteAt(bytes, 0x0e) & 0x7f;
    const claimed = new Set<number>();
    // A CardBus bridge has eight more bytes of header (PC Card Standard).
    const end = layout === 2 ? 0x48 : 0x40;
    for (let at = 0; at < end; at++) if (layout !== 0 || at < 0x35 || at > 0x3b) claimed.add(at);
    this.#chains(options, claimed);
    this.#passThrough(options.passthroughRanges ?? [], claimed);
  }

  cell(offset: number): Cell {
    const cell = this.cells[offset];
    if (cell === undefined) throw new Error(`no byte ${offset}`);
    return cell;
  }

  /** Makes the bits in `rule.virtual` of the byte at `offset` virtual. */
  rule(offset: number, rule: CellRule): void {
    const cell = this.cell(offset);
    const { virtual } = rule;
    const set = (old: number, value: number): number => (old & ~virtual) | (value & virtual);
    cell.virtual |= virtual;
    cell.shadow = set(cell.shadow, rule.value ?? byteAt(this.plan.bytes, offset));
    cell.rw = set(cell.rw, rule.rw ?? 0);
    cell.rw1c = set(cell.rw1c, rule.rw1c ?? 0);
    cell.forward = set(cell.forward, 0);
    cell.sticky = set(cell.sticky, rule.sticky ?? 0);
    cell.keptByFlr = set(cell.keptByFlr, rule.keptByFlr ?? 0);
    cell.reset = set(cell.reset, rule.reset ?? 0);
  }

  /** The bits in `mask` of the byte at `offset` are physical, and writes to them go through. */
  forward(offset: number, mask: number): void {
    this.cell(offset).virtual &= ~mask;
    this.cell(offset).forward |= mask;
  }

  physical(start: number, end: number): void {
    for (let at = start; at < end; at++) {
      if (at < this.plan.bytes.length) this.cell(at).virtual = 0;
    }
  }

  #header(options: Omit<PassthroughOptions, 'physical'>): void {
    const { bytes } = this.plan;
    const layout = byteAt(bytes, 0x0e) & 0x7f;
    this.physical(0, (byteAt(this.plan.bytes, 0x0e) & 0x7f) === 2 ? 0x48 : 0x40);
    if (layout === 0) for (let at = 0x35; at < 0x3c; at++) this.rule(at, { virtual: 0xff, value: 0 });
    this.rule(0x04, { virtual: 0x47, rw: 0x47 });
    this.rule(0x05, { virtual: 0x05, rw: 0x05 });
    // The multi-function bit is the segment's to show.
    this.rule(0x0e, { virtual: 0x80 });
    // Interrupt Status is the level of the emulated pin, whatever the host's was.
    this.rule(0x06, { virtual: 0x08, value: 0 });
    this.rule(0x0c, { virtual: 0xff, rw: 0xff });
    this.rule(0x3c, { virtual: 0xff, rw: 0xff });
    if (wordAt(bytes, 0) === 0xffff && wordAt(bytes, 2) === 0xffff) {
      for (let at = 0x10; at < 0x28; at++) this.rule(at, { virtual: 0xff, value: 0 });
      this.rule(0x3d, { virtual: 0xff, value: 0 });
      const { vendorId, deviceId } = options;
      if (vendorId !== undefined && deviceId !== undefined) {
        for (const [at, id] of [vendorId, deviceId].entries()) {
          this.rule(2 * at, { virtual: 0xff, value: id & 0xff });
          this.rule(2 * at + 1, { virtual: 0xff, value: id >> 8 });
        }
      }
    }
  }

  #chains(options: Omit<PassthroughOptions, 'physical'>, claimed: Set<number>): void {
    const { bytes, standard, extended, hiddenHead } = this.plan;
    const links = standard.map(({ offset }) => offset);
    this.rule(0x06, { virtual: 0x10, value: links.length > 0 ? 0x10 : 0 });
    this.rule(pointerOffset(bytes), { virtual: 0xff, value: links[0] ?? 0 });
    for (const [index, link] of standard.entries()) {
      this.physical(link.offset, link.offset + link.length);
      this.rule(link.offset, { virtual: 0xff });
      this.rule(link.offset + 1, { virtual: 0xff, value: links[index + 1] ?? 0 });
      standardRules(this, link, options);
    }
    if (hiddenHead) this.#extendedHeader(0x100, 0, 0, extended[0]?.offset ?? 0);
    for (const [index, shown] of extended.entries()) {
      const { offset, length, id, version, virtual } = shown;
      if (virtual) {
        for (let at = offset; at < offset + length; at++) this.rule(at, { virtual: 0xff, value: 0 });
      } else this.physical(offset, offset + length);
      this.#extendedHeader(offset, id, version, extended[index + 1]?.offset ?? 0);
      extendedRules(this, shown);
    }
    for (const { offset, length } of [...standard, ...extended]) {
      for (let at = offset; at < offset + length; at++) claimed.add(at);
    }
    // The head of the extended chain, even of an empty one.
    for (let at = 0x100; at < 0x104; at++) claimed.add(at);
  }

  /** A header is rebuilt: all of it is virtual. */
  #extendedHeader(offset: number, id: number, version: number, next: number): void {
    const header = id | (version << 16) | (next << 20);
    for (let i = 0; i < 4; i++) this.rule(offset + i, { virtual: 0xff, value: (header >>> (8 * i)) & 0xff });
  }

  #passThrough(ranges: readonly (readonly [number, number])[], claimed: ReadonlySet<number>): void {
    for (const [start, end] of ranges) {
      for (let at = start; at < end; at++) {
        const cell = this.cell(at);
        if (!claimed.has(at)) cell.virtual = 0;
        cell.forward = ~cell.virtual & 0xff;
      }
    }
  }

  readByte(offset: number): number {
    const cell = this.cells[offset];
    if (cell === undefined) return 0xff;
    return (cell.shadow & cell.virtual) | (byteAt(this.host, offset) & ~cell.virtual);
  }

  read(offset: number, length: number): number[] {
    return Array.from({ length }, (_, i) => this.readByte(offset + i));
  }

  /** The guest's bytes arrive a dword at a time; what a dword sets off happens before the next one. */
  write(offset: number, bytes: readonly number[]): void {
    let at = 0;
    while (at < bytes.length) {
      const dword = Math.floor((offset + at) / 4);
      let reset: ResetKind | undefined;
      for (; at < bytes.length && Math.floor((offset + at) / 4) === dword; at++) {
        reset = this.#writeByte(offset + at, bytes[at] ?? 0) ?? reset;
      }
      if (reset !== undefined) this.reset(reset);
      this.#pageRequestStopped();
    }
  }

  /** The reset that the write starts. */
  #writeByte(offset: number, value: number): ResetKind | undefined {
    const cell = this.cells[offset];
    if (cell === undefined) return undefined;
    const before = cell.shadow;
    const states = this.powerStates.get(offset);
    const rw = states === undefined || states.includes(value & 3) ? cell.rw : cell.rw & ~3;
    cell.shadow = (cell.shadow & ~rw) | (value & rw);
    cell.shadow &= ~(value & cell.rw1c);
    if (cell.forward !== 0) {
      this.host[offset] = (byteAt(this.host, offset) & ~cell.forward) | (value & cell.forward);
    }
    if ((value & (this.resets.get(offset) ?? 0)) !== 0) return 'flr';
    const isAwake = offset === this.softReset && (before & 3) === 3 && (cell.shadow & 3) === 0;
    return isAwake ? 'd3hot' : undefined;
  }

  reset(kind: ResetKind): void {
    for (const cell of this.cells) {
      const kept = kind === 'flr' ? cell.sticky | cell.keptByFlr : cell.sticky;
      const mask = (cell.rw | cell.rw1c) & ~kept;
      cell.shadow = (cell.shadow & ~mask) | (cell.reset & mask);
    }
    this.#pageRequestStopped();
  }

  /** PCIe 10.5.2.3: Stopped is set at reset, and while the interface is disabled with nothing outstanding. */
  #pageRequestStopped(): void {
    if (this.pageRequest === undefined) return;
    const enabled = this.cell(this.pageRequest + 4).shadow & 1;
    const status = this.cell(this.pageRequest + 7);
    status.shadow = (status.shadow & ~1) | (enabled ^ 1);
  }
}
