import type { GuestConfigSpace, PciFunction } from '../function/index.ts';
import { formatBdf, parseBdf } from '../pci/bdf.ts';
import type { EndpointSink, ResetKind } from '../pci/endpoint.ts';
import { TypedEmitter } from '../pci/typed-emitter.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { allOnes, checkSize } from './access-size.ts';
import { CONFIG_ADDRESS_MASK, CONFIG_ADDRESS_PORT, CONFIG_DATA_PORT } from './config-mechanism.ts';
import type { DecodedWindow } from './decode-map.ts';
import { Hierarchy, noFunction } from './hierarchy.ts';
import { rootInterrupt, type RootInterrupt } from './interrupt-routing.ts';
import { loadSegmentState, SEGMENT_STATE_VERSION, type SegmentState } from './segment-state.ts';
import { SegmentWindows } from './segment-windows.ts';

/** Options of a {@link PciSegment}. */
export interface SegmentOptions {
  /** Guest-physical address of the ECAM window, a multiple of 1 MiB (PCIe 7.2.2). Default 0xb0000000. */
  readonly ecamBase?: number | bigint;
  /** Buses that the window covers, 1..256, from bus 0 on. Default 256. */
  readonly buses?: number;
  /** The vIOMMU that translates for the functions added, unless `add` names another. */
  readonly iommu?: EndpointSink | undefined;
}

/** Where a function is plugged behind a port. */
export interface PlugOptions {
  /** 0..31; behind a root port or a downstream port only 0, behind an upstream port any. Default 0. */
  readonly device?: number;
  /** 0..7. Default 0. */
  readonly fn?: number;
  /** As for {@link PciSegment.add}. */
  readonly iommu?: EndpointSink | null | undefined;
}

/** An interrupt line of the root bus rose or fell. */
export interface SegmentIntxEvent extends RootInterrupt {
  readonly asserted: boolean;
  /** The function whose pin it is. */
  readonly fn: PciFunction;
}

/** Events of a {@link PciSegment}. */
export interface SegmentEvents {
  intx: SegmentIntxEvent;
  /** Some BAR claims other addresses than before; `windows` has all that are claimed now. */
  decode: { readonly windows: readonly DecodedWindow[] };
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
export class PciSegment extends TypedEmitter<SegmentEvents> {
  /** Guest-physical address of the ECAM window. */
  readonly ecamBase: number;
  /** Bytes of the ECAM window. */
  readonly ecamSize: number;
  /** Default vIOMMU of functions that are added. */
  readonly iommu: EndpointSink | undefined;

  readonly #hierarchy: Hierarchy;
  // The registers that answer, by requester ID; here, to spare the hot path a step.
  readonly #spaces: readonly (GuestConfigSpace | undefined)[];
  readonly #windows: SegmentWindows;
  /** CONFIG_ADDRESS as a signed word: negative while Enable (bit 31) is set. */
  #configAddress = 0;

  /** @throws VpciError `VPCI_ECAM` when the window is misaligned, empty, or ends beyond 2^53. */
  constructor(options: SegmentOptions = {}) {
    super();
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
    this.#hierarchy = new Hierarchy({
      decodeChanged: () => this.#decodeChanged(),
      pinChanged: (fn, pin, asserted) => {
        const { topology } = this.#hierarchy;
        if (this.hears('intx') && topology.isConnected(fn))
          this.emit('intx', { ...rootInterrupt(topology, fn, pin), asserted, fn });
      },
    });
    this.#spaces = this.#hierarchy.seats.spaces;
    this.#windows = new SegmentWindows(this.#hierarchy);
  }

  /**
   * Places `fn` at the fixed address `bdf`, behind `iommu` or the segment's own; `null` stands for no vIOMMU.
   * Returns `fn`.
   *
   * @throws VpciError `VPCI_BDF`, `VPCI_BDF_TAKEN`, or what `PciFunction.attach` throws.
   */
  add(
    bdf: string | number,
    fn: PciFunction,
    iommu: EndpointSink | null | undefined = this.iommu,
  ): PciFunction {
    this.#hierarchy.add(parseBdf(bdf), fn, iommu ?? undefined);
    return fn;
  }

  /**
   * Plugs `fn` behind `port`, a root port or switch port of this segment. Its address follows from the bus numbers
   * that the guest programs. The port's slot announces it as a hot-plug. Returns `fn`.
   *
   * @throws VpciError `VPCI_PLUG` when `port` is no port of this segment or is behind `fn`, or the place is taken or
   * does not exist, or what `PciFunction.attach` throws.
   */
  plug(port: PciFunction, fn: PciFunction, options: PlugOptions = {}): PciFunction {
    const { device = 0, fn: number = 0, iommu = this.iommu } = options;
    this.#hierarchy.plug({ port, device, fn: number }, fn, iommu ?? undefined);
    return fn;
  }

  /**
   * Takes a function out of the segment and returns it: by address, or the function itself. What is plugged behind
   * it goes out of reach, and the interrupt lines that it and those drive fall (PCIe 2.2.8.1).
   *
   * @throws VpciError `VPCI_BDF`, or `VPCI_NO_FUNCTION` when there is none.
   */
  remove(which: string | number | PciFunction): PciFunction {
    const fn = typeof which === 'object' ? which : this.function(which);
    if (fn === undefined || !this.#hierarchy.topology.has(fn))
      throw noFunction(typeof which === 'object' ? 'like this' : formatBdf(parseBdf(which)));
    this.#hierarchy.remove(fn);
    return fn;
  }

  /**
   * Puts functions behind other vIOMMUs where they are; `null` stands for none. All are checked before the first one
   * changes.
   *
   * @throws VpciError `VPCI_NO_FUNCTION`, or `VPCI_VIOMMU_TOO_NARROW` where the guest has seen a wider PASID.
   */
  reattach(units: Iterable<readonly [fn: PciFunction, iommu: EndpointSink | null]>): void {
    this.#hierarchy.reattach([...units].map(([fn, iommu]) => [fn, iommu ?? undefined]));
  }

  /** The function at `bdf` now; undefined when there is none. @throws VpciError `VPCI_BDF`. */
  function(bdf: string | number): PciFunction | undefined {
    return this.#hierarchy.seats.get(parseBdf(bdf));
  }

  /**
   * The registers that answer configuration requests to `bdf`; undefined when nobody does: nothing is there, or a port
   * above is in D3hot, holds its bus in reset, or has its link disabled.
   *
   * @throws VpciError `VPCI_BDF`.
   */
  configSpace(bdf: string | number): GuestConfigSpace | undefined {
    return this.#spaces[parseBdf(bdf)];
  }

  /** Every function that has a requester ID now, in order of requester ID. */
  functions(): Generator<readonly [rid: number, fn: PciFunction]> {
    return this.#hierarchy.seats.entries();
  }

  /**
   * Guest-physical address of the configuration space of `bdf`.
   *
   * @throws VpciError `VPCI_BDF`, or `VPCI_ECAM` when its bus is beyond the window.
   */
  ecamAddress(bdf: string | number): number {
    const offset = parseBdf(bdf) * 0x1000;
    if (offset < this.ecamSize) return this.ecamBase + offset;
    throw new VpciError(
      'VPCI_ECAM',
      `bus ${Math.floor(offset / BUS_SIZE)} is beyond the window, which has ${this.ecamSize / BUS_SIZE} buses: give the segment more`,
    );
  }

  /**
   * The guest reads `size` (1, 2, 4) bytes of configuration space at guest-physical `address`, at any alignment.
   * Outside the window and for absent functions the answer is all-ones.
   */
  ecamRead(address: number, size: number): number {
    const offset = address - this.ecamBase;
    if (!(offset >= 0 && offset < this.ecamSize)) return allOnes(size);
    return this.ecamReadAt(offset | 0, size);
  }

  /** The guest writes the low `size` (1, 2, 4) bytes of `value` at guest-physical `address`, at any alignment. */
  ecamWrite(address: number, size: number, value: number): void {
    const offset = address - this.ecamBase;
    if (offset >= 0 && offset < this.ecamSize) this.ecamWriteAt(offset | 0, size, value);
    else checkSize(size);
  }

  /**
   * The hot door of {@link PciSegment.ecamRead}: `offset` is from the start of the window, bus[27:20] device[19:15]
   * function[14:12] register[11:0]. A small integer, where an address may be a boxed number.
   */
  ecamReadAt(offset: number, size: number): number {
    const register = offset & 0xfff;
    if (offset >>> 0 >= this.ecamSize || register + size > 0x1000) return this.#ecamReadAcross(offset, size);
    const space = this.#spaces[offset >>> 12];
    return space === undefined ? allOnes(size) : space.read(register, size);
  }

  /** The hot door of {@link PciSegment.ecamWrite}; `offset` as for {@link PciSegment.ecamReadAt}. */
  ecamWriteAt(offset: number, size: number, value: number): void {
    const register = offset & 0xfff;
    if (offset >>> 0 >= this.ecamSize || register + size > 0x1000) this.#ecamWriteAcross(offset, size, value);
    else {
      const space = this.#spaces[offset >>> 12];
      if (space === undefined) checkSize(size);
      else space.write(register, size, value);
    }
  }

  /**
   * The guest reads `size` (1, 2, 4) bytes of I/O port `port`: of the configuration mechanism, or of an I/O BAR. For
   * other ports, and for CONFIG_ADDRESS in pieces, the answer is all-ones.
   */
  pioRead(port: number, size: number): number {
    const lane = port - CONFIG_DATA_PORT;
    if (lane >= 0 && lane < 4) {
      if (lane + size > 4) return this.#pioReadAcross(port, size);
      if (this.#configAddress >= 0) return allOnes(size);
      const space = this.#spaces[(this.#configAddress >>> 8) & 0xffff];
      return space === undefined ? allOnes(size) : space.read((this.#configAddress & 0xfc) + lane, size);
    }
    if (port === CONFIG_ADDRESS_PORT && size === 4) return this.#configAddress >>> 0;
    return this.#windows.io.read(port, size);
  }

  /** The guest writes the low `size` (1, 2, 4) bytes of `value` to I/O port `port`. */
  pioWrite(port: number, size: number, value: number): void {
    const lane = port - CONFIG_DATA_PORT;
    if (lane >= 0 && lane < 4) {
      if (lane + size > 4) {
        checkSize(size);
        for (let i = 0; i < size; i++) this.pioWrite(port + i, 1, value >>> (8 * i));
        return;
      }
      const address = this.#configAddress;
      const space = address < 0 ? this.#spaces[(address >>> 8) & 0xffff] : undefined;
      if (space === undefined) checkSize(size);
      else space.write((address & 0xfc) + lane, size, value);
    } else if (port === CONFIG_ADDRESS_PORT && size === 4) {
      this.#configAddress = value & CONFIG_ADDRESS_MASK;
    } else {
      this.#windows.io.write(port, size, value);
    }
  }

  /** The guest reads `size` (1, 2, 4) bytes of memory space: of the ECAM window or of a BAR; all-ones elsewhere. */
  mmioRead(address: number, size: number): number {
    const offset = address - this.ecamBase;
    if (offset >= 0 && offset < this.ecamSize) return this.ecamRead(address, size);
    return this.#windows.memory.read(address, size);
  }

  /** The guest writes the low `size` (1, 2, 4) bytes of `value` to memory space. */
  mmioWrite(address: number, size: number, value: number): void {
    const offset = address - this.ecamBase;
    if (offset >= 0 && offset < this.ecamSize) this.ecamWrite(address, size, value);
    else this.#windows.memory.write(address, size, value);
  }

  /**
   * The BAR that claims `address` of memory or I/O space: BARs whose function decodes and whose ports above pass the
   * address on. Undefined when nobody claims it.
   */
  findWindow(kind: 'memory' | 'io', address: number): DecodedWindow | undefined {
    return (kind === 'io' ? this.#windows.io : this.#windows.memory).find(address);
  }

  /** All that BARs claim, memory first, by address. */
  windows(): readonly DecodedWindow[] {
    return [...this.#windows.memory.windows, ...this.#windows.io.windows];
  }

  /** Device and pin on the root bus that the interrupt pin of `fn` reaches (PCIe 2.2.8.1). */
  interruptRoute(fn: PciFunction): RootInterrupt {
    return rootInterrupt(this.#hierarchy.topology, fn, fn.interruptPin);
  }

  /** Resets the segment and every function in it. */
  reset(kind: ResetKind = 'bus'): void {
    this.#configAddress = 0;
    this.#hierarchy.reset(kind);
  }

  /** The state of the segment and of its functions, as plain data. */
  saveState(): SegmentState {
    const places = this.#hierarchy.topology.places();
    return {
      version: SEGMENT_STATE_VERSION,
      configAddress: this.#configAddress >>> 0,
      functions: [...places].map(([place, fn]) => ({ place, state: fn.saveState() })),
    };
  }

  /**
   * Takes back what {@link PciSegment.saveState} gave. The same functions must be in the same places, whatever the
   * order in which they were put there. The state is checked before anything changes.
   *
   * @throws VpciError `VPCI_STATE` when the state is damaged or of other functions.
   */
  restoreState(state: unknown): void {
    const { topology } = this.#hierarchy;
    const { configAddress, functions } = loadSegmentState(state, topology.places());
    this.#configAddress = configAddress & CONFIG_ADDRESS_MASK;
    this.#hierarchy.restore(() => {
      // A listener may have taken one out meanwhile.
      for (const [fn, own] of functions) if (topology.has(fn)) fn.restoreState(own);
    });
  }

  // Methods, not closures: what a closure captures is allocated whenever its function is entered.
  #ecamReadAcross(offset: number, size: number): number {
    if (!(offset >= 0 && offset < this.ecamSize)) return allOnes(size);
    checkSize(size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.ecamReadAt(offset + i, 1);
    return value >>> 0;
  }

  #ecamWriteAcross(offset: number, size: number, value: number): void {
    checkSize(size);
    if (!(offset >= 0 && offset < this.ecamSize)) return;
    for (let i = 0; i < size; i++) this.ecamWriteAt(offset + i, 1, value >>> (8 * i));
  }

  #pioReadAcross(port: number, size: number): number {
    checkSize(size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = (value << 8) | this.pioRead(port + i, 1);
    return value >>> 0;
  }

  #decodeChanged(): void {
    this.#windows.invalidate();
    if (this.hears('decode')) this.emit('decode', { windows: this.windows() });
  }
}
