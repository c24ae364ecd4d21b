import type { PciFunction } from '../function/index.ts';
import { formatBdf, parseBdf } from '../pci/bdf.ts';
import type { EndpointSink, ResetKind } from '../pci/endpoint.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { CONFIG_ADDRESS_MASK, CONFIG_ADDRESS_PORT, CONFIG_DATA_PORT } from './config-mechanism.ts';
import { checkSegmentState, SEGMENT_STATE_VERSION, type SegmentState } from './segment-state.ts';

/** Options of a {@link PciSegment}. */
export interface SegmentOptions {
  /** Guest-physical address of the ECAM window, a multiple of 1 MiB (PCIe 7.2.2). Default 0xb0000000. */
  readonly ecamBase?: number | bigint;
  /** Buses that the window covers, 1..256, from bus 0 on. Default 256. */
  readonly buses?: number;
  /** The vIOMMU that translates for the functions added, unless `add` names another. */
  readonly iommu?: EndpointSink | undefined;
}

/** Default of {@link SegmentOptions.ecamBase}. */
export const DEFAULT_ECAM_BASE = 0xb0000000;

/** Bytes of ECAM that a bus takes: 32 devices, 8 functions, 4096 bytes each. */
const BUS_SIZE = 0x100000;
/** Addresses are exact numbers below this. */
const ADDRESS_LIMIT = 2 ** 53;

/**
 * One PCI segment: up to 65,536 functions, reached through the two ports at 0xcf8 and 0xcfc (CAM) and through the
 * memory window (ECAM). An absent function answers as hardware does: reads are all-ones, writes vanish.
 */
export class PciSegment {
  /** Guest-physical address of the ECAM window. */
  readonly ecamBase: number;
  /** Bytes of the ECAM window. */
  readonly ecamSize: number;
  /** Default vIOMMU of functions that are added. */
  readonly iommu: EndpointSink | undefined;

  // A dense array: the fastest map there is from 16 bits to an object, at any number of functions.
  readonly #functions: (PciFunction | undefined)[];
  /** CONFIG_ADDRESS as a signed word: negative while Enable (bit 31) is set. */
  #configAddress = 0;

  /** @throws VpciError `VPCI_ECAM` when the window is misaligned, empty, or ends beyond 2^53. */
  constructor(options: SegmentOptions = {}) {
    const { ecamBase = DEFAULT_ECAM_BASE, buses = 256, iommu } = options;
    const base = Number(ecamBase);
    if (!Number.isInteger(buses) || buses < 1 || buses > 256) {
      throw new VpciError('VPCI_ECAM', `buses is ${buses}: a segment has 1 to 256`);
    }
    if (
      !Number.isInteger(base) ||
      base < 0 ||
      base % BUS_SIZE !== 0 ||
      base + buses * BUS_SIZE > ADDRESS_LIMIT
    ) {
      throw new VpciError(
        'VPCI_ECAM',
        `ecamBase is ${ecamBase}: give a multiple of 0x100000 whose window ends below 2^53`,
      );
    }
    this.ecamBase = base;
    this.ecamSize = buses * BUS_SIZE;
    this.iommu = iommu;
    this.#functions = new Array<PciFunction | undefined>(0x10000).fill(undefined);
  }

  /**
   * Places `fn` at `bdf`, behind `iommu` or the segment's own; `null` stands for no vIOMMU. Returns `fn`.
   *
   * @throws VpciError `VPCI_BDF`, `VPCI_BDF_TAKEN`, or what `PciFunction.attach` throws.
   */
  add(
    bdf: string | number,
    fn: PciFunction,
    iommu: EndpointSink | null | undefined = this.iommu,
  ): PciFunction {
    const rid = parseBdf(bdf);
    if (this.#functions[rid] !== undefined) {
      throw new VpciError(
        'VPCI_BDF_TAKEN',
        `${formatBdf(rid)} has a function already: remove it first, or choose another address`,
      );
    }
    fn.attach(rid, iommu ?? undefined);
    this.#functions[rid] = fn;
    return fn;
  }

  /**
   * Takes the function at `bdf` out of the segment and returns it.
   *
   * @throws VpciError `VPCI_BDF`, or `VPCI_NO_FUNCTION` when there is none.
   */
  remove(bdf: string | number): PciFunction {
    const rid = parseBdf(bdf);
    const fn = this.function(rid);
    if (fn === undefined)
      throw new VpciError('VPCI_NO_FUNCTION', `there is no function at ${formatBdf(rid)}`);
    this.#functions[rid] = undefined;
    fn.detach();
    return fn;
  }

  /** The function at `bdf`; undefined when there is none. @throws VpciError `VPCI_BDF`. */
  function(bdf: string | number): PciFunction | undefined {
    return this.#functions[parseBdf(bdf)];
  }

  /** Every function with its requester ID, in order of requester ID. */
  *functions(): Generator<readonly [rid: number, fn: PciFunction]> {
    for (const [rid, fn] of this.#functions.entries()) if (fn !== undefined) yield [rid, fn];
  }

  /** Guest-physical address of the configuration space of `bdf`. @throws VpciError `VPCI_BDF`. */
  ecamAddress(bdf: string | number): number {
    return this.ecamBase + parseBdf(bdf) * 0x1000;
  }

  /**
   * The guest reads `size` (1, 2, 4) bytes of configuration space at guest-physical `address`, at any alignment.
   * Outside the window and for absent functions the answer is all-ones.
   */
  ecamRead(address: number, size: number): number {
    const offset = address - this.ecamBase;
    if (!(offset >= 0 && offset < this.ecamSize)) return allOnes(size);
    const register = offset & 0xfff;
    if (register + size > 0x1000) return this.#ecamReadAcross(address, size);
    const fn = this.#functions[offset >>> 12];
    return fn === undefined ? allOnes(size) : fn.read(register, size);
  }

  /** The guest writes the low `size` (1, 2, 4) bytes of `value` at guest-physical `address`, at any alignment. */
  ecamWrite(address: number, size: number, value: number): void {
    const offset = address - this.ecamBase;
    if (!(offset >= 0 && offset < this.ecamSize)) return;
    const register = offset & 0xfff;
    if (register + size > 0x1000) {
      for (let i = 0; i < size; i++) this.ecamWrite(address + i, 1, value >>> (8 * i));
      return;
    }
    this.#functions[offset >>> 12]?.write(register, size, value);
  }

  /**
   * The guest reads `size` (1, 2, 4) bytes of I/O port `port`. Only the ports of the configuration mechanism
   * are the segment's; for others, and for CONFIG_ADDRESS in pieces, the answer is all-ones.
   */
  pioRead(port: number, size: number): number {
    const lane = port - CONFIG_DATA_PORT;
    if (lane >= 0 && lane < 4) {
      if (lane + size > 4) return this.#pioReadAcross(port, size);
      if (this.#configAddress >= 0) return allOnes(size);
      const fn = this.#functions[(this.#configAddress >>> 8) & 0xffff];
      return fn === undefined ? allOnes(size) : fn.read((this.#configAddress & 0xfc) + lane, size);
    }
    return port === CONFIG_ADDRESS_PORT && size === 4 ? this.#configAddress >>> 0 : allOnes(size);
  }

  /** The guest writes the low `size` (1, 2, 4) bytes of `value` to I/O port `port`. */
  pioWrite(port: number, size: number, value: number): void {
    const lane = port - CONFIG_DATA_PORT;
    if (lane >= 0 && lane < 4) {
      if (lane + size > 4) {
        for (let i = 0; i < size; i++) this.pioWrite(port + i, 1, value >>> (8 * i));
        return;
      }
      if (this.#configAddress >= 0) return;
      this.#functions[(this.#configAddress >>> 8) & 0xffff]?.write(
        (this.#configAddress & 0xfc) + lane,
        size,
        value,
      );
    } else if (port === CONFIG_ADDRESS_PORT && size === 4) {
      this.#configAddress = value & CONFIG_ADDRESS_MASK;
    }
  }

  /** Resets the segment and every function in it. */
  reset(kind: ResetKind = 'bus'): void {
    this.#configAddress = 0;
    for (const [, fn] of this.functions()) fn.reset(kind);
  }

  /** The state of the segment and of its functions, as plain data. */
  saveState(): SegmentState {
    const functions = [...this.functions()].map(([rid, fn]) => ({
      bdf: formatBdf(rid),
      state: fn.saveState(),
    }));
    return { version: SEGMENT_STATE_VERSION, configAddress: this.#configAddress >>> 0, functions };
  }

  /**
   * Takes back what {@link PciSegment.saveState} gave. The same functions must be in place.
   *
   * @throws VpciError `VPCI_STATE` when the state is damaged or of other functions; nothing is changed then,
   * unless a function's own state is what is damaged.
   */
  restoreState(state: unknown): void {
    const { configAddress, functions } = checkSegmentState(state);
    const present = [...this.functions()].map(([rid]) => formatBdf(rid));
    const saved = functions.map(({ bdf }) => bdf);
    if (saved.join() !== present.join()) {
      throw new VpciError(
        'VPCI_STATE',
        `the state is of functions at [${saved.join(', ')}], and the segment has [${present.join(', ')}]`,
      );
    }
    for (const { bdf, state: one } of functions) this.function(bdf)?.restoreState(one);
    this.#configAddress = configAddress & CONFIG_ADDRESS_MASK;
  }

  #ecamReadAcross(address: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.ecamRead(address + i, 1);
    return value >>> 0;
  }

  #pioReadAcross(port: number, size: number): number {
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.pioRead(port + i, 1);
    return value >>> 0;
  }
}

function allOnes(size: number): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}
