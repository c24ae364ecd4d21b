import * as ats from '../pci/ats.ts';
import { type EndpointSink, type EndpointState, NO_RID, type ResetKind } from '../pci/endpoint.ts';
import * as reg from '../pci/header.ts';
import * as pasid from '../pci/pasid.ts';
import type { BarDecoder } from './bar-decoder.ts';
import type { LatchOffsets } from './endpoint-latches.ts';
import type { FunctionEvents } from './function-events.ts';
import type { FunctionHost } from './function-host.ts';
import type { FunctionInterrupts } from './interrupts/function-interrupts.ts';
import type { PciFunction } from './pci-function.ts';
import { CONTROL_POWER_CONTROLLER } from './port/slot-registers.ts';

/** The emitter of a function, from the inside. */
export interface FunctionEmitter {
  hears(event: keyof FunctionEvents): boolean;
  emit<Name extends keyof FunctionEvents>(event: Name, payload: FunctionEvents[Name]): void;
}

/** What made a function tell its followers anything; undefined: the guest or the device, register by register. */
export type Cause = ResetKind | 'restored' | undefined;

/**
 * Those who follow a function: its vIOMMU, its segment, and listeners. Each is told what differs from what it was told
 * last, so that all of them end in the true state, whatever changed how much at once.
 */
export class Followers {
  /** The segment. */
  host: FunctionHost | undefined;
  /** The vIOMMU. */
  sink: EndpointSink | undefined;

  readonly #fn: PciFunction;
  readonly #state: EndpointState;
  readonly #bars: BarDecoder;
  readonly #interrupts: FunctionInterrupts;
  readonly #events: FunctionEmitter;
  readonly #peek: (offset: number) => number;
  // As they were told last.
  #command = 0;
  #powerState = 0;
  #pasid = 0;
  #ats = 0;
  #pri = 0;
  #slotControl = 0;
  #asserted = false;
  #assertedForHost = false;

  constructor(
    fn: PciFunction,
    bars: BarDecoder,
    interrupts: FunctionInterrupts,
    events: FunctionEmitter,
    peek: (offset: number) => number,
  ) {
    this.#fn = fn;
    this.#state = fn.endpointState;
    this.#bars = bars;
    this.#interrupts = interrupts;
    this.#events = events;
    this.#peek = peek;
  }

  /** Tells of everything that differs. The function holds its events meanwhile, so that listeners come last. */
  tell(latches: LatchOffsets, cause: Cause): void {
    const { port } = this.#fn;
    if (cause !== undefined && cause !== 'restored' && this.#events.hears('reset'))
      this.#events.emit('reset', { kind: cause });
    const moved = this.#bars.announce(
      this.#events.hears('bar') ? (bar) => this.#events.emit('bar', bar) : undefined,
    );
    this.#announcePin();
    const passesOn = this.#commandOrPowerDiffers() && port !== undefined;
    this.#tellSlot();
    this.#tellLatches(latches, cause);
    if (port !== undefined && cause === 'restored') this.host?.busNumbersChanged(this.#fn);
    else if (port !== undefined && cause !== undefined) this.host?.portReset(this.#fn);
    if (moved || passesOn) this.host?.decodeChanged(this.#fn);
    this.#tellHostOfPin();
  }

  /** Tells whether the pin is asserted. */
  tellPin(): void {
    this.#announcePin();
    this.#tellHostOfPin();
  }

  /** The function gets another requester ID: the vIOMMU is told, and listeners. */
  move(rid: number): void {
    const { sink } = this;
    const state = this.#state;
    const previousRid = state.rid;
    if (rid === previousRid) return;
    if (rid === NO_RID) sink?.detachEndpoint(state);
    state.rid = rid;
    if (previousRid === NO_RID) {
      try {
        sink?.attachEndpoint(state);
      } catch (error) {
        state.rid = NO_RID;
        throw error;
      }
    } else if (rid !== NO_RID) sink?.endpointMoved(state, previousRid);
    // The unit's listeners come before ours, and may have moved it on.
    if (state.rid === rid && this.#events.hears('rid')) this.#events.emit('rid', { rid, previousRid });
    // Its pin may have been asserted before anybody was there.
    if (rid !== NO_RID) this.tellPin();
  }

  /** Another vIOMMU takes over; `before`: the function shows what it may show there. */
  changeSink(sink: EndpointSink | undefined, before: () => void): void {
    const { rid } = this.#state;
    const previous = this.sink;
    this.sink = undefined;
    if (rid !== NO_RID) previous?.detachEndpoint(this.#state);
    before();
    // A listener of the unit before may have been faster.
    if (this.sink !== undefined) return;
    this.sink = sink;
    if (this.#state.rid !== NO_RID) sink?.attachEndpoint(this.#state);
  }

  /** The function is in nobody's hands any more. */
  leave(): void {
    this.move(NO_RID);
    this.sink = undefined;
    this.host = undefined;
    this.#assertedForHost = false;
  }

  #announcePin(): void {
    const { asserted, pin } = this.#interrupts;
    if (asserted === this.#asserted) return;
    this.#asserted = asserted;
    if (this.#events.hears('intx')) this.#events.emit('intx', { pin, asserted });
  }

  #tellHostOfPin(): void {
    const { asserted, pin } = this.#interrupts;
    if (asserted === this.#assertedForHost || this.host === undefined) return;
    this.#assertedForHost = asserted;
    this.host.pinChanged(this.#fn, pin, asserted);
  }

  #commandOrPowerDiffers(): boolean {
    const { powerState } = this.#fn;
    const command = this.#peek(reg.COMMAND) & 0xffff;
    const differs = command !== this.#command || powerState !== this.#powerState;
    if (command !== this.#command) {
      this.#command = command;
      if (this.#events.hears('command')) this.#events.emit('command', commandEvent(command));
    }
    if (powerState !== this.#powerState) {
      this.#powerState = powerState;
      if (this.#events.hears('power-state')) this.#events.emit('power-state', { state: powerState });
    }
    return differs;
  }

  #tellLatches(at: LatchOffsets, cause: Cause): void {
    const pasidControl = at.pasid === undefined ? 0 : this.#peek(at.pasid + pasid.PASID_CONTROL) >>> 16;
    const atsControl = at.ats === undefined ? 0 : this.#peek(at.ats + ats.ATS_CONTROL) >>> 16;
    const priControl = at.pri === undefined ? 0 : this.#peek(at.pri + ats.PRI_CONTROL) & 0xffff;
    const pasidDiffers = pasidControl !== this.#pasid;
    const atsDiffers = atsControl !== this.#ats;
    const priDiffers = priControl !== this.#pri;
    this.#pasid = pasidControl;
    this.#ats = atsControl;
    this.#pri = priControl;
    const events = this.#events;
    const state = this.#state;
    if (pasidDiffers && events.hears('pasid-control')) {
      const { pasidEnable: enable, executeEnable: execute, privilegedEnable: privileged } = state;
      events.emit('pasid-control', { enable, execute, privileged });
    }
    if (atsDiffers && events.hears('ats-control')) {
      const smallestTranslationUnit = atsControl & ats.ATS_SMALLEST_TRANSLATION_UNIT;
      events.emit('ats-control', { enable: state.atsEnable, smallestTranslationUnit });
    }
    if (priDiffers && events.hears('pri-control')) events.emit('pri-control', { enable: state.priEnable });
    const { sink } = this;
    if (sink === undefined || state.rid === NO_RID) return;
    if (cause === 'restored') sink.endpointChanged(state, 'restored');
    else if (cause !== undefined) sink.endpointReset(state, cause);
    else {
      if (pasidDiffers) sink.endpointChanged(state, 'pasid-control');
      if (atsDiffers) sink.endpointChanged(state, 'ats-control');
      if (priDiffers) sink.endpointChanged(state, 'pri-control');
    }
  }

  #tellSlot(): void {
    const control = this.#fn.port?.slotControl ?? 0;
    if (control === this.#slotControl) return;
    this.#slotControl = control;
    if (!this.#events.hears('slot-control')) return;
    this.#events.emit('slot-control', {
      powerOff: (control & CONTROL_POWER_CONTROLLER) !== 0,
      attentionIndicator: (control >>> 6) & 3,
      powerIndicator: (control >>> 8) & 3,
    });
  }
}

function commandEvent(command: number): FunctionEvents['command'] {
  return {
    io: (command & reg.COMMAND_IO_SPACE_ENABLE) !== 0,
    memory: (command & reg.COMMAND_MEMORY_SPACE_ENABLE) !== 0,
    busMaster: (command & reg.COMMAND_BUS_MASTER_ENABLE) !== 0,
    interruptDisable: (command & reg.COMMAND_INTERRUPT_DISABLE) !== 0,
  };
}
