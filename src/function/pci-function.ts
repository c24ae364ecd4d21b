import { type Owner, VirtualConfigSpace } from '../config/index.ts';
import { ATS_ENABLE, PRI_ENABLE, PRI_STOPPED } from '../pci/ats.ts';
import * as id from '../pci/capability-ids.ts';
import {
  createEndpointState,
  type Endpoint,
  type EndpointSink,
  type EndpointState,
  type ResetKind,
} from '../pci/endpoint.ts';
import type { Finding } from '../pci/finding.ts';
import { COMMAND, COMMAND_BUS_MASTER_ENABLE } from '../pci/header.ts';
import {
  PASID_CONTROL,
  PASID_ENABLE,
  PASID_EXECUTE_PERMISSION_ENABLE,
  PASID_PRIVILEGED_MODE_ENABLE,
} from '../pci/pasid.ts';
import { TypedEmitter } from '../pci/typed-emitter.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { ShownPasid } from './capabilities/index.ts';
import type { FunctionEvents } from './function-events.ts';
import type { FunctionHooks } from './function-hooks.ts';
import { type FunctionRecipe, functionView } from './function-recipe.ts';
import { checkFunctionState, FUNCTION_STATE_VERSION, type FunctionState } from './function-state.ts';
import type { GuestView } from './guest-layout.ts';
import type { PlannedCapability } from './guest-plan.ts';

/** A PASID capability as the guest sees it. */
export interface PasidCapability extends ShownPasid {
  /** Config-space offset in bytes. Migration ABI: the same inputs give the same offset, and snapshots record it. */
  readonly offset: number;
}

/**
 * What a guest sees as one PCI function. Made by `createFunction`; placed at a requester ID by a segment, or
 * driven directly through {@link PciFunction.read} and {@link PciFunction.write}.
 */
export class PciFunction extends TypedEmitter<FunctionEvents> implements Endpoint {
  /** What a vIOMMU may know about this function. `rid` is -1 until it is placed. */
  readonly endpointState: EndpointState = createEndpointState(-1);

  readonly #recipe: FunctionRecipe;
  readonly #space: VirtualConfigSpace<FunctionHooks>;
  #view: Omit<GuestView, 'shadow'>;
  #pasid: PasidCapability | undefined;
  #sink: EndpointSink | undefined;
  #attached = false;

  /** @internal Use `createFunction`. */
  constructor(recipe: FunctionRecipe) {
    super();
    this.#recipe = recipe;
    const { shadow, ...view } = functionView(recipe, undefined);
    const { layout } = view;
    this.#view = view;
    // An arrow a function, not a closure an access.
    const hooks: FunctionHooks = {
      initiateReset: (kind) => this.reset(kind),
      pasidControlChanged: (control) => this.#pasidControlChanged(control),
      atsControlChanged: (control) => this.#atsControlChanged(control),
      priControlChanged: (control, offset) => this.#priControlChanged(control, offset),
    };
    this.#space = new VirtualConfigSpace(
      hooks,
      layout,
      shadow,
      recipe.image.physical,
      recipe.buffer ?? new ArrayBuffer(layout.size),
      (offset, size, value) => {
        if (this.hears('host-write')) this.emit('host-write', { offset, size, value });
      },
    );
    this.#adopt(view);
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

  /** The guest writes `bytes` from `offset` on. */
  writeFrom(offset: number, bytes: Uint8Array): void {
    this.#space.writeFrom(offset, bytes);
  }

  /**
   * True when the function may issue a memory request now, with `pasid` (20 bits) or without: Bus Master Enable
   * is set, and for a PASID also PASID Enable, and the PASID fits the width. A device model asks this; the
   * vIOMMU never does.
   */
  canIssue(pasid?: number | null): boolean {
    if ((this.#space.peek(COMMAND) & COMMAND_BUS_MASTER_ENABLE) === 0) return false;
    if (pasid === undefined || pasid === null) return true;
    return this.endpointState.pasidEnable && pasid >= 0 && pasid < 2 ** this.endpointState.pasidWidth;
  }

  /**
   * Resets the function as FLR (PCIe 6.6.2) or a reset of its bus does: what a guest can write takes its reset
   * value, sticky bits keep theirs. Nothing is written to the physical function: on the `reset` event the
   * embedder resets that too (`VFIO_DEVICE_RESET`).
   */
  reset(kind: ResetKind): void {
    this.#space.reset();
    this.#readLatches();
    this.#sink?.endpointReset(this.endpointState, kind);
    if (this.hears('reset')) this.emit('reset', { kind });
  }

  /**
   * Places the function at requester ID `rid` behind `sink`, the vIOMMU it is translated by; a segment calls
   * this. Without guest access so far, the PASID width shown becomes the smallest of the host's, the vIOMMU's and the
   * embedder's; afterwards it stays, and a narrower vIOMMU is refused.
   *
   * @throws VpciError `VPCI_FUNCTION_ATTACHED` when it is placed already, `VPCI_VIOMMU_TOO_NARROW`.
   */
  attach(rid: number, sink: EndpointSink | undefined): void {
    if (this.#attached) {
      throw new VpciError(
        'VPCI_FUNCTION_ATTACHED',
        'the function is in a segment already: remove it there first',
      );
    }
    this.#limitPasid(sink);
    this.endpointState.rid = rid;
    this.#attached = true;
    this.#sink = sink;
    sink?.attachEndpoint(this.endpointState);
  }

  /** Takes the function out of its place. */
  detach(): void {
    this.#sink?.detachEndpoint(this.endpointState);
    this.#sink = undefined;
    this.#attached = false;
    this.endpointState.rid = -1;
  }

  /** What a guest can change, as plain data. */
  saveState(): FunctionState {
    return {
      version: FUNCTION_STATE_VERSION,
      size: this.size,
      pasid: this.#pasid === undefined ? null : { ...this.#pasid },
      touched: this.#space.touched,
      registers: this.#space.saveRegisters(),
    };
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
    this.#readLatches();
    this.#sink?.endpointChanged(this.endpointState, 'restored');
  }

  #limitPasid(sink: EndpointSink | undefined): void {
    const limit = sink?.pasidWidth;
    if (this.#space.touched) {
      if (limit !== undefined && this.#pasid !== undefined && limit < this.#pasid.width) {
        throw new VpciError(
          'VPCI_VIOMMU_TOO_NARROW',
          `the guest has seen a PASID width of ${this.#pasid.width} bits, and this vIOMMU has ${limit}: attach the function before its first access`,
        );
      }
      return;
    }
    const before = new Set(this.#view.findings.map(({ message }) => message));
    const { shadow, ...view } = functionView(this.#recipe, limit);
    this.#space.install(view.layout, shadow);
    this.#adopt(view);
    for (const finding of view.findings) {
      if (!before.has(finding.message) && this.hears('finding')) this.emit('finding', finding);
    }
  }

  #adopt(view: Omit<GuestView, 'shadow'>): void {
    this.#view = view;
    const { extended } = view.plan;
    const { pasid } = view;
    const offset = extended.find((one) => one.id === id.EXT_CAP_PASID && one.synthesized)?.offset;
    this.#pasid = pasid === undefined || offset === undefined ? undefined : { offset, ...pasid };
    const state = this.endpointState;
    state.pasidWidth = this.#pasid?.width ?? 0;
    state.execute = this.#pasid?.execute ?? false;
    state.privileged = this.#pasid?.privileged ?? false;
    state.ats = this.#synthesized(id.EXT_CAP_ATS) !== undefined;
    state.pri = this.#synthesized(id.EXT_CAP_PAGE_REQUEST) !== undefined;
    this.#readLatches();
  }

  #synthesized(capability: number): number | undefined {
    return this.#view.plan.extended.find((one) => one.id === capability && one.synthesized)?.offset;
  }

  /** The latches of the endpoint state, from the registers they mirror. */
  #readLatches(): void {
    const pasid = this.#pasid?.offset;
    const ats = this.#synthesized(id.EXT_CAP_ATS);
    const pri = this.#synthesized(id.EXT_CAP_PAGE_REQUEST);
    this.#latchPasid(pasid === undefined ? 0 : this.#space.peek(pasid + PASID_CONTROL) >>> 16);
    this.endpointState.atsEnable =
      ats !== undefined && ((this.#space.peek(ats + 4) >>> 16) & ATS_ENABLE) !== 0;
    this.endpointState.priEnable = pri !== undefined && (this.#space.peek(pri + 4) & PRI_ENABLE) !== 0;
  }

  #latchPasid(control: number): void {
    const state = this.endpointState;
    state.pasidEnable = (control & PASID_ENABLE) !== 0;
    state.executeEnable = (control & PASID_EXECUTE_PERMISSION_ENABLE) !== 0;
    state.privilegedEnable = (control & PASID_PRIVILEGED_MODE_ENABLE) !== 0;
  }

  #pasidControlChanged(control: number): void {
    this.#latchPasid(control);
    const state = this.endpointState;
    this.#sink?.endpointChanged(state, 'pasid-control');
    if (!this.hears('pasid-control')) return;
    const { pasidEnable: enable, executeEnable: execute, privilegedEnable: privileged } = state;
    this.emit('pasid-control', { enable, execute, privileged });
  }

  #atsControlChanged(control: number): void {
    this.endpointState.atsEnable = (control & ATS_ENABLE) !== 0;
    this.#sink?.endpointChanged(this.endpointState, 'ats-control');
  }

  #priControlChanged(control: number, offset: number): void {
    const enabled = (control & PRI_ENABLE) !== 0;
    this.endpointState.priEnable = enabled;
    // Nothing is outstanding in a model without a device: Stopped follows Enable at once (PCIe 10.5.2.3).
    this.#space.poke(offset, PRI_STOPPED << 16, enabled ? 0 : PRI_STOPPED << 16);
    this.#sink?.endpointChanged(this.endpointState, 'pri-control');
  }
}
