import { type Owner, VirtualConfigSpace } from '../config/index.ts';
import * as ats from '../pci/ats.ts';
import * as id from '../pci/capability-ids.ts';
import {
  createEndpointState,
  type Endpoint,
  type EndpointSink,
  type EndpointState,
  type ResetKind,
} from '../pci/endpoint.ts';
import type { Finding } from '../pci/finding.ts';
import * as reg from '../pci/header.ts';
import { TypedEmitter } from '../pci/typed-emitter.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { BarDecoder, type DecodedBar } from './bar-decoder.ts';
import { type PowerCapability, powerCapabilities, type ShownPasid } from './capabilities/index.ts';
import { type LatchOffsets, latchPasid, readLatches } from './endpoint-latches.ts';
import type { FunctionEvents } from './function-events.ts';
import type { FunctionHooks } from './function-hooks.ts';
import type { FunctionHost, Placement } from './function-host.ts';
import { type FunctionRecipe, functionView } from './function-recipe.ts';
import { checkFunctionState, FUNCTION_STATE_VERSION, type FunctionState } from './function-state.ts';
import type { GuestView } from './guest-layout.ts';
import type { PlannedCapability } from './guest-plan.ts';
import { FunctionInterrupts } from './interrupts/function-interrupts.ts';
import { MESSAGE_ADDRESS_LIMIT } from './interrupts/interrupt-types.ts';
import { type BridgePort, bridgePort } from './port/bridge-port.ts';
import { CONTROL_POWER_CONTROLLER } from './port/slot-registers.ts';

/** A PASID capability as the guest sees it. */
export interface PasidCapability extends ShownPasid {
  /** Config-space offset in bytes. Migration ABI: the same inputs give the same offset, and snapshots record it. */
  readonly offset: number;
}

/** The registers of a function as its guest sees them. */
export type GuestConfigSpace = VirtualConfigSpace<FunctionHooks>;

/** The view in force; its initial values are in the registers and not kept twice. */
type ViewInForce = Omit<GuestView, 'shadow'>;

/**
 * What a guest sees as one PCI function. Made by `createFunction`; placed at a requester ID by a segment, or
 * driven directly through {@link PciFunction.read} and {@link PciFunction.write}.
 */
export class PciFunction extends TypedEmitter<FunctionEvents> implements Endpoint {
  /** What a vIOMMU may know about this function. `rid` is -1 until it is placed. */
  readonly endpointState: EndpointState = createEndpointState(-1);

  readonly #recipe: FunctionRecipe;
  readonly #space: GuestConfigSpace;
  readonly #bars: BarDecoder;
  readonly #interrupts: FunctionInterrupts;
  readonly #powers: readonly PowerCapability[];
  readonly #power: PowerCapability | undefined;
  /** The downstream side, when the function is a root port or a switch port of ours. */
  readonly port: BridgePort | undefined;
  #view: ViewInForce;
  #pasid: PasidCapability | undefined;
  #latches: LatchOffsets = { pasid: undefined, ats: undefined, pri: undefined };
  #sink: EndpointSink | undefined;
  #host: FunctionHost | undefined;
  #placed = false;

  /** @internal Use `createFunction`. */
  constructor(recipe: FunctionRecipe) {
    super();
    this.#recipe = recipe;
    const { shadow, ...view } = functionView(recipe, undefined);
    this.#view = view;
    const { layout } = view;
    const { image, bars } = recipe;
    this.#space = new VirtualConfigSpace(
      this.#hooks(),
      layout,
      shadow,
      recipe.physical,
      recipe.buffer ?? new ArrayBuffer(layout.size),
      (offset, size, value) => {
        if (this.hears('host-write')) this.emit('host-write', { offset, size, value });
      },
    );
    this.#bars = new BarDecoder(bars, (offset) => this.#space.peek(offset));
    this.#powers = powerCapabilities(view.plan.standard, image.space);
    this.#power = this.#powers[0];
    this.#interrupts = new FunctionInterrupts(
      view.plan.standard,
      this.#space,
      (offset) => image.space.read(offset, 4),
      {
        send: (kind, vector, low, high, data) => {
          const address = high * 2 ** 32 + low;
          // A message is a memory write of the function (PCIe 7.5.1.1.3).
          if (address < MESSAGE_ADDRESS_LIMIT && this.canIssue() && this.hears('msi'))
            this.emit('msi', { kind, vector, address, data });
        },
        route: (kind, vector, low, high, data, enabled) => {
          if (!this.hears('msi-route')) return;
          this.emit('msi-route', { kind, vector, address: high * 2 ** 32 + low, data, enabled });
        },
      },
      (pin, asserted) => {
        this.#host?.pinChanged(this, pin, asserted);
        if (this.hears('intx')) this.emit('intx', { pin, asserted });
      },
    );
    this.port = bridgePort(image, this.#space, () => {
      if (!this.#interrupts.trigger(0)) this.#interrupts.setLevel(true);
    });
    this.#adopt(view);
    this.#refreshDecode();
  }

  /** Bytes of the guest's configuration space: 256 or 4096. */
  get size(): number {
    return this.#view.layout.size;
  }

  /** The PASID capability shown, or undefined when there is none. */
  get pasid(): PasidCapability | undefined {
    return this.#pasid;
  }

  /** What was met in the configuration space and dealt with. */
  get findings(): readonly Finding[] {
    return this.#view.findings;
  }

  /** The guest's standard chain, in its order. */
  get capabilities(): readonly PlannedCapability[] {
    return this.#view.plan.standard;
  }

  /** The guest's extended chain, in its order. */
  get extendedCapabilities(): readonly PlannedCapability[] {
    return this.#view.plan.extended;
  }

  /** Who owns which bytes; gaps belong to nobody, read 0 and drop writes. */
  get owners(): readonly Owner[] {
    return this.#view.layout.owners;
  }

  /** The registers as the guest sees them: what a segment routes accesses to. */
  get space(): GuestConfigSpace {
    return this.#space;
  }

  /** True once the guest has accessed the function's configuration space. */
  get touched(): boolean {
    return this.#space.touched;
  }

  /** The BARs that were described, and where each decodes now. */
  get bars(): readonly DecodedBar[] {
    return this.#bars.decoded();
  }

  /** Power state that the guest set: 0 for D0 to 3 for D3hot. A function without power management is in D0. */
  get powerState(): number {
    return this.#power === undefined ? 0 : this.#space.peek(this.#power.controlStatus) & 3;
  }

  /** Little-endian value of `size` (1, 2 or 4) bytes at `offset`, at any alignment; all-ones past the end. */
  read(offset: number, size: number): number {
    return this.#space.read(offset, size);
  }

  /** The guest writes the low `size` (1, 2 or 4) bytes of `value` at `offset`, at any alignment. */
  write(offset: number, size: number, value: number): void {
    this.#space.write(offset, size, value);
  }

  /** Fills `bytes` with what the guest reads from `offset` on. */
  readInto(offset: number, bytes: Uint8Array): void {
    this.#space.readInto(offset, bytes);
  }

  /** Fills `bytes` with what a guest would read from `offset` on, without counting as the guest's first access. */
  inspectInto(offset: number, bytes: Uint8Array): void {
    this.#space.inspectInto(offset, bytes);
  }

  /** The guest writes `bytes` from `offset` on. */
  writeFrom(offset: number, bytes: Uint8Array): void {
    this.#space.writeFrom(offset, bytes);
  }

  /**
   * The guest reads `size` (1, 2 or 4) bytes at `offset` of BAR `bar`: from the MSI-X table, else from the BAR's
   * `read`; all-ones when there is neither.
   */
  barRead(bar: number, offset: number, size: number): number {
    const { msiX } = this.#interrupts;
    if (msiX?.covers(bar, offset, size) === true) return msiX.read(bar, offset, size);
    const read = this.#bars.bars.find(({ index }) => index === bar)?.read;
    return read === undefined ? allOnes(size) : (read(offset, size) & allOnes(size)) >>> 0;
  }

  /** The guest writes the low `size` (1, 2 or 4) bytes of `value` at `offset` of BAR `bar`. */
  barWrite(bar: number, offset: number, size: number, value: number): void {
    const { msiX } = this.#interrupts;
    if (msiX?.covers(bar, offset, size) === true) msiX.write(bar, offset, size, value);
    else this.#bars.bars.find(({ index }) => index === bar)?.write?.(offset, size, value);
  }

  /**
   * Shows the slot as one with several functions, or not (header type bit 7). In a segment, that alone does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  setMultiFunction(on: boolean, host?: FunctionHost): void {
    this.#refuseStranger(host);
    const bit = reg.HEADER_TYPE_MULTI_FUNCTION << 16;
    this.#space.poke(reg.HEADER_TYPE, bit, on ? bit : 0);
  }

  /** Interrupt Pin: 1..4 for INTA..INTD, 0 for none. */
  get interruptPin(): number {
    return this.#interrupts.pin;
  }

  /** The device drives its interrupt line. The `intx` event says what the bus sees of it. */
  setInterrupt(level: boolean): void {
    this.#interrupts.setLevel(level);
  }

  /**
   * The device asks for interrupt `vector` by MSI-X or MSI, whichever the guest enabled; a masked vector becomes
   * pending. False when neither is enabled or the vector does not exist.
   */
  triggerMessage(vector: number): boolean {
    return this.#interrupts.trigger(vector);
  }

  /**
   * True when the function may issue a memory request now, with `pasid` (20 bits) or without: it is in D0, Bus
   * Master Enable is set, here and in the ports above (PCIe 7.5.1.1.3), and for a PASID also PASID Enable, and the
   * PASID fits the width. A device model asks this; the vIOMMU never does.
   */
  canIssue(pasid?: number | null): boolean {
    if ((this.#space.peek(reg.COMMAND) & reg.COMMAND_BUS_MASTER_ENABLE) === 0 || this.powerState !== 0)
      return false;
    if (this.#host?.passesRequests(this) === false) return false;
    if (pasid === undefined || pasid === null) return true;
    return this.endpointState.pasidEnable && pasid >= 0 && pasid < 2 ** this.endpointState.pasidWidth;
  }

  /**
   * Resets the function as FLR (PCIe 6.6.2) or a reset of its bus does: what a guest can write takes its reset
   * value, sticky bits keep theirs. Nothing is written to the physical function: on the `reset` event the
   * embedder resets that too (`VFIO_DEVICE_RESET`).
   */
  reset(kind: ResetKind): void {
    this.#space.reset(kind === 'flr');
    this.#interrupts.reset();
    this.#readLatches();
    this.#refreshDecode();
    if (this.port !== undefined) this.#host?.portReset(this);
    this.#sink?.endpointReset(this.endpointState, kind);
    if (this.hears('reset')) this.emit('reset', { kind });
  }

  /**
   * Places the function; a segment calls this. Without guest access so far, the PASID width shown becomes the
   * smallest of the host's, the vIOMMU's and the embedder's; afterwards it stays, and a narrower vIOMMU is refused.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when it is placed already, `VPCI_VIOMMU_TOO_NARROW`.
   */
  attach({ rid, sink, host }: Placement): void {
    if (this.#placed) {
      throw new VpciError(
        'VPCI_FUNCTION_ATTACHED',
        'the function is in a segment already: remove it there first',
      );
    }
    this.checkSink(sink);
    this.#placed = true;
    this.#sink = sink;
    this.#host = host;
    this.#limitPasid(sink);
    try {
      this.move(rid, host);
    } catch (error) {
      this.detach(host);
      throw error;
    }
  }

  /**
   * Refuses a vIOMMU that is narrower than the PASID width that the guest has seen.
   *
   * @throws VpciError `VPCI_VIOMMU_TOO_NARROW`.
   */
  checkSink(sink: EndpointSink | undefined): void {
    const limit = sink?.pasidWidth;
    if (!this.#space.touched || limit === undefined || limit >= (this.#pasid?.width ?? 0)) return;
    throw new VpciError(
      'VPCI_VIOMMU_TOO_NARROW',
      `the guest has seen a PASID width of ${this.#pasid?.width} bits, and this vIOMMU has ${limit}: attach the function before its first access`,
    );
  }

  /**
   * Puts the function behind another vIOMMU where it is; `undefined` stands for none.
   *
   * @throws VpciError as {@link PciFunction.checkSink}, or `VPCI_FUNCTION_ATTACHED` when another segment has it.
   */
  changeSink(sink: EndpointSink | undefined, host?: FunctionHost): void {
    this.#refuseStranger(host);
    if (sink === this.#sink) return;
    this.checkSink(sink);
    if (this.endpointState.rid !== -1) this.#sink?.detachEndpoint(this.endpointState);
    this.#sink = sink;
    this.#limitPasid(sink);
    // A listener may have been faster.
    if (this.endpointState.rid !== -1 && this.#sink === sink) sink?.attachEndpoint(this.endpointState);
  }

  /**
   * Gives the function another requester ID (16 bits), or -1 while no bus number leads to it. In a segment, that alone
   * does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  move(rid: number, host?: FunctionHost): void {
    this.#refuseStranger(host);
    const state = this.endpointState;
    const previousRid = state.rid;
    if (rid === previousRid) return;
    const sink = this.#sink;
    if (rid === -1) sink?.detachEndpoint(state);
    state.rid = rid;
    if (previousRid === -1) {
      try {
        sink?.attachEndpoint(state);
      } catch (error) {
        state.rid = -1;
        throw error;
      }
    } else if (rid !== -1) sink?.endpointMoved(state, previousRid);
    // The unit's listeners come before ours, and may have moved it on.
    if (state.rid === rid && this.hears('rid')) this.emit('rid', { rid, previousRid });
  }

  /**
   * Takes the function out of its place. In a segment, that alone does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  detach(host?: FunctionHost): void {
    this.move(-1, host);
    this.#sink = undefined;
    this.#host = undefined;
    this.#placed = false;
  }

  /** What a guest can change, as plain data. */
  saveState(): FunctionState {
    return {
      version: FUNCTION_STATE_VERSION,
      size: this.size,
      pasid: this.#pasid === undefined ? null : { ...this.#pasid },
      touched: this.#space.touched,
      registers: this.#space.saveRegisters(),
      interrupts: this.#interrupts.saveState(),
    };
  }

  /** Refuses what {@link PciFunction.restoreState} would. @throws VpciError `VPCI_STATE`. */
  checkState(state: unknown): void {
    checkFunctionState(state, this.size, this.#pasid);
  }

  /**
   * Takes back what {@link PciFunction.saveState} gave. The function must have been made alike.
   *
   * @throws VpciError `VPCI_STATE` when `state` is damaged or of a function that shows something else.
   */
  restoreState(state: unknown): void {
    const checked = checkFunctionState(state, this.size, this.#pasid);
    this.#space.restoreRegisters(checked.registers);
    this.#space.touched = checked.touched;
    this.#interrupts.restoreState(checked.interrupts);
    this.#readLatches();
    this.#refreshDecode();
    if (this.port !== undefined) this.#host?.busNumbersChanged(this);
    if (this.endpointState.rid !== -1) this.#sink?.endpointChanged(this.endpointState, 'restored');
  }

  #hooks(): FunctionHooks {
    return {
      initiateReset: (kind) => this.reset(kind),
      commandChanged: () => this.#commandChanged(),
      decodeChanged: () => this.#refreshDecode(),
      busNumbersChanged: () => this.#host?.busNumbersChanged(this),
      windowChanged: () => this.#host?.decodeChanged(this),
      linkChanged: (down) => this.#host?.linkChanged(this, down),
      slotControlWritten: (previous, control) => this.#slotControlWritten(previous, control),
      msiWritten: () => {
        this.#interrupts.msi?.written();
        this.#interrupts.settlePin();
      },
      msiXWritten: () => {
        this.#interrupts.msiX?.controlWritten();
        this.#interrupts.settlePin();
      },
      powerStateWritten: (offset, previous, state) => this.#powerStateWritten(offset, previous, state),
      pasidControlChanged: (control) => this.#pasidControlChanged(control),
      atsControlChanged: (control) => this.#atsControlChanged(control),
      priControlChanged: () => this.#priControlChanged(),
    };
  }

  /** The segment that the function is in is the only one that moves it about. */
  #refuseStranger(host: FunctionHost | undefined): void {
    if (host === this.#host) return;
    throw new VpciError(
      'VPCI_FUNCTION_ATTACHED',
      'the function is in a segment, which alone may do this: use its add, plug, remove and reattach',
    );
  }

  /** Shows no more than the vIOMMU has, as long as the guest has not looked. */
  #limitPasid(sink: EndpointSink | undefined): void {
    if (this.#space.touched) return;
    const limit = sink?.pasidWidth;
    const before = new Set(this.#view.findings.map(({ message }) => message));
    const { shadow, ...view } = functionView(this.#recipe, limit);
    this.#space.install(view.layout, shadow);
    this.#adopt(view);
    this.#refreshDecode();
    for (const finding of view.findings) {
      if (!before.has(finding.message) && this.hears('finding')) this.emit('finding', finding);
    }
  }

  #adopt(view: ViewInForce): void {
    this.#view = view;
    const at = (capability: number): number | undefined =>
      view.plan.extended.find((one) => one.id === capability && one.synthesized)?.offset;
    const offset = at(id.EXT_CAP_PASID);
    this.#latches = { pasid: offset, ats: at(id.EXT_CAP_ATS), pri: at(id.EXT_CAP_PAGE_REQUEST) };
    this.#pasid = view.pasid === undefined || offset === undefined ? undefined : { offset, ...view.pasid };
    const state = this.endpointState;
    state.pasidWidth = this.#pasid?.width ?? 0;
    state.execute = this.#pasid?.execute ?? false;
    state.privileged = this.#pasid?.privileged ?? false;
    state.ats = this.#latches.ats !== undefined;
    state.pri = this.#latches.pri !== undefined;
    this.#readLatches();
  }

  #readLatches(): void {
    readLatches(this.endpointState, this.#latches, (register) => this.#space.peek(register));
    // Nothing is outstanding in a model without a device: Stopped follows Enable at once (PCIe 10.5.2.3).
    const { pri } = this.#latches;
    if (pri === undefined) return;
    this.#space.poke(
      pri + ats.PRI_CONTROL,
      ats.PRI_STOPPED << 16,
      this.endpointState.priEnable ? 0 : ats.PRI_STOPPED << 16,
    );
  }

  #refreshDecode(): void {
    if (this.#bars.bars.length === 0 || !this.#bars.refresh(this.powerState === 0)) return;
    this.#host?.decodeChanged(this);
    this.#bars.announce((bar) => {
      if (this.hears('bar')) this.emit('bar', bar);
    });
  }

  #commandChanged(): void {
    this.#refreshDecode();
    if (this.port !== undefined) this.#host?.decodeChanged(this);
    this.#interrupts.settlePin();
    if (!this.hears('command')) return;
    const command = this.#space.peek(reg.COMMAND);
    this.emit('command', {
      io: (command & reg.COMMAND_IO_SPACE_ENABLE) !== 0,
      memory: (command & reg.COMMAND_MEMORY_SPACE_ENABLE) !== 0,
      busMaster: (command & reg.COMMAND_BUS_MASTER_ENABLE) !== 0,
      interruptDisable: (command & reg.COMMAND_INTERRUPT_DISABLE) !== 0,
    });
  }

  #powerStateWritten(offset: number, previous: number, state: number): void {
    const power = this.#powers.find(({ controlStatus }) => controlStatus === offset);
    if (power?.states.includes(state) !== true) {
      // A write of a state that does not exist is discarded (PCIe 7.5.2.2).
      this.#space.poke(offset, 3, previous);
      return;
    }
    if (previous === state || power !== this.#power) return;
    if (previous === 3 && state === 0 && !power.keepsStateInD3) this.reset('d3hot');
    this.#refreshDecode();
    if (this.port !== undefined) this.#host?.decodeChanged(this);
    if (this.hears('power-state')) this.emit('power-state', { state });
  }

  #slotControlWritten(previous: number, control: number): void {
    this.port?.slotWritten(previous);
    if (this.port?.interruptPending === false) this.#interrupts.setLevel(false);
    if (previous === control || !this.hears('slot-control')) return;
    this.emit('slot-control', {
      powerOff: (control & CONTROL_POWER_CONTROLLER) !== 0,
      attentionIndicator: (control >>> 6) & 3,
      powerIndicator: (control >>> 8) & 3,
    });
  }

  #pasidControlChanged(control: number): void {
    const state = this.endpointState;
    latchPasid(state, control);
    if (state.rid !== -1) this.#sink?.endpointChanged(state, 'pasid-control');
    if (!this.hears('pasid-control')) return;
    const { pasidEnable: enable, executeEnable: execute, privilegedEnable: privileged } = state;
    this.emit('pasid-control', { enable, execute, privileged });
  }

  #atsControlChanged(control: number): void {
    const enable = (control & ats.ATS_ENABLE) !== 0;
    this.endpointState.atsEnable = enable;
    if (this.endpointState.rid !== -1) this.#sink?.endpointChanged(this.endpointState, 'ats-control');
    if (!this.hears('ats-control')) return;
    this.emit('ats-control', {
      enable,
      smallestTranslationUnit: control & ats.ATS_SMALLEST_TRANSLATION_UNIT,
    });
  }

  #priControlChanged(): void {
    this.#readLatches();
    const enable = this.endpointState.priEnable;
    if (this.endpointState.rid !== -1) this.#sink?.endpointChanged(this.endpointState, 'pri-control');
    if (this.hears('pri-control')) this.emit('pri-control', { enable });
  }
}

function allOnes(size: number): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}
