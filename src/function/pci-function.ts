import { type Owner, VirtualConfigSpace } from '../config/index.ts';
import {
  createEndpointState,
  type Endpoint,
  type EndpointSink,
  type EndpointState,
  type ResetKind,
  NO_RID,
} from '../pci/endpoint.ts';
import type { Finding } from '../pci/finding.ts';
import * as reg from '../pci/header.ts';
import { TypedEmitter } from '../pci/typed-emitter.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { BarDecoder, type DecodedBar } from './bar-decoder.ts';
import { type PasidCapability, type PowerCapability, powerCapabilities } from './capabilities/index.ts';
import { latchOffsets, type LatchOffsets, settleLatches, showLatches } from './endpoint-latches.ts';
import { type Cause, Followers, type FunctionEmitter } from './followers.ts';
import type { FunctionEvents } from './function-events.ts';
import type { FunctionHooks } from './function-hooks.ts';
import type { FunctionHost, Placement } from './function-host.ts';
import { type FunctionRecipe, functionView } from './function-recipe.ts';
import {
  checkFunctionState,
  FUNCTION_STATE_VERSION,
  type FunctionState,
  shownDword,
} from './function-state.ts';
import type { GuestView } from './guest-layout.ts';
import type { PlannedCapability } from './guest-plan.ts';
import { FunctionInterrupts } from './interrupts/function-interrupts.ts';
import { messageEvents } from './message-events.ts';
import { type BridgePort, bridgePort } from './port/bridge-port.ts';

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
  readonly endpointState: EndpointState = createEndpointState(NO_RID);

  readonly #recipe: FunctionRecipe;
  readonly #space: GuestConfigSpace;
  readonly #bars: BarDecoder;
  readonly #interrupts: FunctionInterrupts;
  readonly #powers: readonly PowerCapability[];
  /** The downstream side, when the function is a root port or a switch port of ours. */
  readonly port: BridgePort | undefined;
  readonly #followers: Followers;
  #view: ViewInForce;
  #pasid: PasidCapability | undefined;
  #latches: LatchOffsets = latchOffsets([]);
  // As the segment said; until then as the registers read.
  #multiFunction: boolean | undefined;
  #placed = false;

  /** @internal Use `createFunction`. */
  constructor(recipe: FunctionRecipe) {
    super();
    this.#recipe = recipe;
    const { shadow, ...view } = functionView(recipe, undefined);
    this.#view = view;
    const { layout } = view;
    const { image, bars } = recipe;
    const events: FunctionEmitter = {
      hears: (event) => this.hears(event),
      emit: (event, payload) => this.emit(event, payload),
    };
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
    this.#interrupts = new FunctionInterrupts(
      view.plan.standard,
      this.#space,
      (offset) => image.space.read(offset, 4),
      messageEvents(events, () => this.canIssue()),
    );
    this.port = bridgePort(image, this.#space, () => {
      if (!this.triggerMessage(0)) this.setInterrupt(true);
    });
    this.#followers = new Followers(this, this.#bars, this.#interrupts, events, (offset) =>
      this.#space.peek(offset),
    );
    this.#adopt(view);
    this.#changed();
    this.#interrupts.settleMessages();
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
    const power = this.#powers[0];
    return power === undefined ? 0 : this.#space.peek(power.controlStatus) & 3;
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
    return this.#bars.read(bar, offset, size);
  }

  /** The guest writes the low `size` (1, 2 or 4) bytes of `value` at `offset` of BAR `bar`. */
  barWrite(bar: number, offset: number, size: number, value: number): void {
    const { msiX } = this.#interrupts;
    if (msiX?.covers(bar, offset, size) === true) {
      this.hold();
      msiX.write(bar, offset, size, value);
      this.release();
    } else this.#bars.write(bar, offset, size, value);
  }

  /**
   * Shows the slot as one with several functions, or not (header type bit 7). In a segment, that alone does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  setMultiFunction(on: boolean, host?: FunctionHost): void {
    this.#refuseStranger(host);
    this.#multiFunction = on;
    this.#settle();
  }

  /** Interrupt Pin: 1..4 for INTA..INTD, 0 for none. */
  get interruptPin(): number {
    return this.#interrupts.pin;
  }

  /** The device drives its interrupt line. The `intx` event says what the bus sees of it. */
  setInterrupt(level: boolean): void {
    this.hold();
    this.#interrupts.setLevel(level);
    this.#interrupts.settlePin(this.powerState === 0);
    this.#followers.tellPin();
    this.release();
  }

  /**
   * The device asks for interrupt `vector` by MSI-X or MSI, whichever the guest enabled; a masked vector becomes
   * pending. False when neither is enabled or the vector does not exist.
   */
  triggerMessage(vector: number): boolean {
    this.hold();
    const exists = this.#interrupts.trigger(vector);
    this.release();
    return exists;
  }

  /**
   * True when the function may issue a memory request now, with `pasid` (20 bits) or without: it is in D0, Bus
   * Master Enable is set, here and in the ports above (PCIe 7.5.1.1.3), and for a PASID also PASID Enable, and the
   * PASID fits the width. A device model asks this; the vIOMMU never does.
   */
  canIssue(pasid?: number | null): boolean {
    if ((this.#space.peek(reg.COMMAND) & reg.COMMAND_BUS_MASTER_ENABLE) === 0 || this.powerState !== 0)
      return false;
    if (this.#followers.host?.passesRequests(this) === false) return false;
    if (pasid === undefined || pasid === null) return true;
    return this.endpointState.pasidEnable && pasid >= 0 && pasid < 2 ** this.endpointState.pasidWidth;
  }

  /**
   * Resets the function as FLR (PCIe 6.6.2) or a reset of its bus does: what a guest can write takes its reset
   * value, sticky bits keep theirs. Nothing is written to the physical function: on the `reset` event the
   * embedder resets that too (`VFIO_DEVICE_RESET`). After `reset` come the events of everything that it changed.
   */
  reset(kind: ResetKind): void {
    this.#space.reset(kind === 'flr');
    this.#interrupts.reset();
    this.#changed(kind);
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
    this.#heldBack(() => {
      this.#limitPasid(sink);
      this.#followers.sink = sink;
      this.#followers.host = host;
      try {
        this.#followers.move(rid);
      } catch (error) {
        this.detach(host);
        throw error;
      }
    });
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
    if (sink === this.#followers.sink) return;
    this.checkSink(sink);
    this.#heldBack(() => this.#followers.changeSink(sink, () => this.#limitPasid(sink)));
  }

  /**
   * Gives the function another requester ID (16 bits), or -1 while no bus number leads to it. In a segment, that alone
   * does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  move(rid: number, host?: FunctionHost): void {
    this.#refuseStranger(host);
    this.#heldBack(() => this.#followers.move(rid));
  }

  /**
   * Takes the function out of its place. In a segment, that alone does it.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when somebody else does.
   */
  detach(host?: FunctionHost): void {
    this.#refuseStranger(host);
    this.#heldBack(() => this.#followers.leave());
    this.#placed = false;
  }

  /**
   * What a guest can change, as plain data: the virtual registers, and the bits of known ones that its writes reach on
   * the physical side (Device Control). Not what stands in `passthroughRanges`, nor anything else that the device
   * keeps: that is its own state, and the embedder's to move.
   */
  saveState(): FunctionState {
    return {
      version: FUNCTION_STATE_VERSION,
      size: this.size,
      id: this.#id,
      pasid: this.#pasid === undefined ? null : { ...this.#pasid },
      touched: this.#space.touched,
      registers: this.#space.saveRegisters(),
      interrupts: this.#interrupts.saveState(),
    };
  }

  /** Refuses what {@link PciFunction.restoreState} would. @throws VpciError `VPCI_STATE`. */
  checkState(state: unknown): void {
    this.#checked(state);
  }

  /**
   * Takes back what {@link PciFunction.saveState} gave. The function must have been made alike. Bits that reach the
   * physical side are written there where they are otherwise, as the guest's write would. Events tell what is not as
   * it was before, so that whoever follows them knows the restored state.
   *
   * @throws VpciError `VPCI_STATE` when `state` is damaged or of a function that shows something else.
   */
  restoreState(state: unknown): void {
    const { registers, touched, interrupts } = this.#checked(state);
    this.#heldBack(() => {
      this.#space.restoreRegisters(registers);
      this.#space.touched = touched;
      this.#interrupts.restoreState(interrupts);
      this.#changed('restored');
    });
  }

  #checked(state: unknown): ReturnType<typeof checkFunctionState> {
    const [size, id, pasid] = [this.size, this.#id, this.#pasid];
    return checkFunctionState(state, { size, id, pasid, space: this.#space, interrupts: this.#interrupts });
  }

  /** Vendor and Device ID at power-on; a device that is gone has no others. */
  get #id(): number {
    return shownDword(this.#view.layout, this.#space, this.#recipe.image.space, reg.VENDOR_ID);
  }

  #hooks(): FunctionHooks {
    return {
      initiateReset: (kind) => this.reset(kind),
      registersChanged: () => this.#changed(),
      busNumbersChanged: () => this.#followers.host?.busNumbersChanged(this),
      windowChanged: () => this.#followers.host?.decodeChanged(this),
      linkChanged: (down) => this.#followers.host?.linkChanged(this, down),
      slotControlWritten: (previous) =>
        this.#heldBack(() => {
          this.port?.slotWritten(previous);
          if (this.port?.interruptPending === false) this.#interrupts.setLevel(false);
          this.#changed();
        }),
      msiChanged: () => this.#changed(undefined, this.#interrupts.msi),
      msiXChanged: () => this.#changed(undefined, this.#interrupts.msiX),
      powerStateWritten: (offset, previous, state) => {
        const power = this.#powers.find(({ controlStatus }) => controlStatus === offset);
        // A write of a state that does not exist is discarded (PCIe 7.5.2.2).
        if (power?.states.includes(state) !== true) this.#space.poke(offset, 3, previous);
        else if (power !== this.#powers[0]) return;
        else if (previous === 3 && state === 0 && !power.keepsStateInD3) this.reset('d3hot');
        else this.#changed();
      },
    };
  }

  /** Holds events back until `change` is complete. */
  #heldBack(change: () => void): void {
    this.hold();
    try {
      change();
    } finally {
      this.release();
    }
  }

  /** Registers changed: first all that follows from them does, then everybody who follows the function is told. */
  #changed(cause?: Cause, messages?: { settle(): void }): void {
    this.hold();
    try {
      messages?.settle();
      this.#settle();
      this.#followers.tell(this.#latches, cause);
      if (cause !== undefined) this.#interrupts.settleMessages();
      this.#interrupts.deliver();
    } finally {
      this.release();
    }
  }

  /** Brings what follows from the registers in line with them, and the registers with what the device has. */
  #settle(): void {
    if (this.#multiFunction !== undefined) {
      const bit = reg.HEADER_TYPE_MULTI_FUNCTION << 16;
      this.#space.poke(reg.HEADER_TYPE, bit, this.#multiFunction ? bit : 0);
    }
    this.port?.settle();
    settleLatches(this.endpointState, this.#latches, this.#space);
    this.#bars.refresh(this.powerState === 0);
    this.#interrupts.settlePin(this.powerState === 0);
  }

  /** The segment that the function is in is the only one that moves it about. */
  #refuseStranger(host: FunctionHost | undefined): void {
    if (host === this.#followers.host) return;
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
    this.#changed();
    for (const finding of view.findings) {
      if (!before.has(finding.message) && this.hears('finding')) this.emit('finding', finding);
    }
  }

  #adopt(view: ViewInForce): void {
    this.#view = view;
    const at = latchOffsets(view.plan.extended);
    this.#latches = at;
    this.#pasid =
      view.pasid === undefined || at.pasid === undefined ? undefined : { offset: at.pasid, ...view.pasid };
    showLatches(this.endpointState, at, this.#pasid);
  }
}
