import type { FunctionHost, PciFunction } from '../function/index.ts';
import { formatBdf } from '../pci/bdf.ts';
import { type EndpointSink, NO_RID, type ResetKind } from '../pci/endpoint.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { Seats } from './seats.ts';
import { lastDeviceBehind, type Plug, Topology } from './topology.ts';

/** Hears what happens to a hierarchy, after it happened. */
export interface HierarchyListener {
  /** BARs, windows, ports or requester IDs changed: other addresses may be claimed. */
  decodeChanged(): void;
  /** The interrupt pin (1..4) of a function rose or fell. */
  pinChanged(fn: PciFunction, pin: number, asserted: boolean): void;
}

/**
 * The functions of a segment and the ports between them: puts them in place and takes them out, and keeps requester
 * IDs, what answers configuration requests, and resets in line with what the guest does to the ports. Listeners may
 * change everything in the middle of it.
 */
export class Hierarchy {
  readonly topology: Topology = new Topology();
  readonly seats: Seats = new Seats();
  readonly #listener: HierarchyListener;
  readonly #host: FunctionHost;
  // Counts renumberings, so that one can see that a listener caused another.
  #renumberings = 0;
  // Bus numbers come one port at a time, and mean something when all are there.
  #isRestoring = false;
  // Everybody gets the same reset, once.
  #isResetting = false;

  constructor(listener: HierarchyListener) {
    this.#listener = listener;
    this.#host = {
      decodeChanged: (fn) => {
        if (fn.port !== undefined) this.#settleAnswers();
        listener.decodeChanged();
      },
      busNumbersChanged: () => {
        if (!this.#isRestoring) this.#renumber();
      },
      linkChanged: (port, down) => this.#linkChanged(port, down),
      portReset: (port) => this.#portReset(port),
      passesRequests: (fn) => {
        const port = this.topology.plugOf(fn)?.port;
        if (port === undefined) return true;
        return fn.endpointState.rid !== NO_RID && port.canIssue() && port.port?.isLinkEnabled === true;
      },
      pinChanged: (fn, pin, asserted) => listener.pinChanged(fn, pin, asserted),
    };
  }

  /**
   * Places `fn` at a fixed requester ID.
   *
   * @throws VpciError `VPCI_BDF_TAKEN`, or what `PciFunction.attach` or the sink throws; nothing has changed then.
   */
  add(rid: number, fn: PciFunction, sink: EndpointSink | undefined): void {
    const refuseTaken = (): void => {
      if (this.seats.get(rid) === undefined) return;
      throw new VpciError(
        'VPCI_BDF_TAKEN',
        `${formatBdf(rid)} has a function already: remove it first, or choose another address`,
      );
    };
    this.#attach(fn, sink, refuseTaken);
    this.topology.addFixed(rid, fn);
    this.#seat(rid, fn);
    try {
      fn.move(rid, this.#host);
    } catch (error) {
      this.#seat(rid, undefined);
      this.topology.delete(fn);
      fn.detach(this.#host);
      throw error;
    }
    // A port may come back with bus numbers and with functions behind it.
    this.#renumber();
  }

  /**
   * Plugs `fn` behind a port. The port's slot announces it as a hot-plug.
   *
   * @throws VpciError `VPCI_PLUG`, or what `PciFunction.attach` throws.
   */
  plug(plug: Plug, fn: PciFunction, sink: EndpointSink | undefined): void {
    this.#attach(fn, sink, () => this.#refusePlug(plug, fn));
    const { port } = plug;
    const isFirst = this.topology.behind(port).length === 0;
    this.topology.addPlugged(plug, fn);
    this.#settleCard(this.topology.cardOf(fn));
    this.#renumber();
    // A guest that has not looked at the port yet finds the slot filled; to others it is a hot-plug.
    if (this.topology.has(fn)) port.port?.setPresence(true, isFirst && port.touched);
  }

  /** Takes `fn`, which is in the topology, out. What is plugged behind it goes out of reach, and its pins fall. */
  remove(fn: PciFunction): void {
    this.#lowerPins(fn);
    // A listener may have been faster.
    if (!this.topology.has(fn)) return;
    const plug = this.topology.plugOf(fn);
    const card = this.topology.cardOf(fn).filter((one) => one !== fn);
    const { rid } = fn.endpointState;
    this.topology.delete(fn);
    if (rid !== NO_RID && this.seats.get(rid) === fn) this.#seat(rid, undefined);
    this.#settleCard([...card, fn]);
    fn.detach(this.#host);
    this.#renumber();
    if (plug !== undefined && this.topology.behind(plug.port).length === 0)
      plug.port.port?.setPresence(false, true);
  }

  /**
   * Puts functions behind other vIOMMUs, where they are; all are checked before the first one changes.
   *
   * @throws VpciError `VPCI_NO_FUNCTION` or `VPCI_VIOMMU_TOO_NARROW`.
   */
  reattach(units: readonly (readonly [fn: PciFunction, sink: EndpointSink | undefined])[]): void {
    for (const [fn, sink] of units) {
      if (!this.topology.has(fn)) throw noFunction('like this');
      fn.checkSink(sink);
    }
    for (const [fn, sink] of units) if (this.topology.has(fn)) fn.changeSink(sink, this.#host);
  }

  /** Resets every function. */
  reset(kind: ResetKind): void {
    const all = [...this.topology.all()];
    this.#isResetting = true;
    try {
      for (const fn of all) if (this.topology.has(fn)) fn.reset(kind);
    } finally {
      this.#isResetting = false;
      // Bus numbers and windows are gone.
      this.#renumber();
    }
  }

  /** Runs `restore`, in which functions take back states, and brings everything in line after it. */
  restore(restore: () => void): void {
    this.#isRestoring = true;
    try {
      restore();
    } finally {
      this.#isRestoring = false;
      for (const fn of this.topology.all()) fn.port?.settleLink();
      this.#renumber();
    }
  }

  /** A function made elsewhere must not get into the way of what its listeners do while it is attached. */
  #attach(fn: PciFunction, sink: EndpointSink | undefined, refuse: () => void): void {
    refuse();
    fn.attach({ rid: NO_RID, sink, host: this.#host });
    try {
      refuse();
    } catch (error) {
      fn.detach(this.#host);
      throw error;
    }
  }

  #refusePlug({ port, device, fn: number }: Plug, fn: PciFunction): void {
    const bridge = port.port;
    if (bridge === undefined || !this.topology.has(port)) {
      throw refusedPlug('plug takes a root port or switch port that is in this segment');
    }
    for (const above of this.topology.above(port)) {
      if (above === fn)
        throw refusedPlug('the port is behind the function that is plugged there: move it first');
    }
    const place = `device ${device}, function ${number}`;
    const last = lastDeviceBehind(bridge);
    if (!isWhole(device, last) || !isWhole(number, 7)) {
      throw refusedPlug(`${place} cannot be behind this port: devices 0 to ${last}, functions 0 to 7`);
    }
    for (const one of this.topology.behind(port)) {
      const plug = this.topology.plugOf(one);
      if (plug?.device === device && plug.fn === number)
        throw refusedPlug(`${place} behind this port is taken: remove what is there first`);
    }
  }

  /**
   * Brings the requester IDs in line with the bus numbers. A listener may change the topology meanwhile: then that
   * change brings everything in line, and this call is over.
   */
  #renumber(): void {
    const renumbering = ++this.#renumberings;
    const wanted = [...this.topology.requesterIds()].filter(
      ([fn, rid]) => fn.endpointState.rid !== rid || (rid !== NO_RID && this.seats.get(rid) !== fn),
    );
    for (const [fn] of wanted) {
      const { rid } = fn.endpointState;
      if (rid !== NO_RID && this.seats.get(rid) === fn) this.#seat(rid, undefined);
    }
    // Two functions may change places: first everybody leaves an address that another one gets.
    const targets = new Set(wanted.map(([, rid]) => rid));
    for (const [fn, rid] of wanted) {
      if (rid !== NO_RID && (fn.endpointState.rid === rid || !targets.has(fn.endpointState.rid))) continue;
      fn.move(NO_RID, this.#host);
      if (renumbering !== this.#renumberings) return;
    }
    for (const [fn, rid] of wanted) {
      if (rid !== NO_RID) this.#seat(rid, fn);
      fn.move(rid, this.#host);
      if (renumbering !== this.#renumberings) return;
    }
    this.#settleAnswers();
    this.#listener.decodeChanged();
  }

  #seat(rid: number, fn: PciFunction | undefined): void {
    const before = this.seats.get(rid);
    this.seats.set(rid, fn);
    if (fn !== undefined) this.seats.answer(rid, this.#isReachable(fn));
    if (before !== undefined && before !== fn) this.#showMultiFunction(before, 0);
    const slot = this.seats.slotOf(rid);
    for (const one of slot) this.#showMultiFunction(one, slot.length);
  }

  /** What shares a place behind a port will share a slot, even where no bus number leads there yet. */
  #settleCard(fns: readonly PciFunction[]): void {
    for (const fn of fns) {
      const { rid } = fn.endpointState;
      this.#showMultiFunction(fn, this.seats.get(rid) === fn ? this.seats.slotOf(rid).length : 0);
    }
  }

  /** Header type bit 7: `seated` functions, `fn` included, have its bus and device number. */
  #showMultiFunction(fn: PciFunction, seated: number): void {
    fn.setMultiFunction(Math.max(seated, this.topology.cardOf(fn).length) > 1, this.#host);
  }

  /** Ports let configuration requests through, or do not. */
  #settleAnswers(): void {
    for (const fn of this.topology.plugged()) {
      const { rid } = fn.endpointState;
      if (rid !== NO_RID && this.seats.get(rid) === fn) this.seats.answer(rid, this.#isReachable(fn));
    }
  }

  /** No port above is in D3hot (PCIe 5.3.1.4), and every link is up. */
  #isReachable(fn: PciFunction): boolean {
    for (const { powerState, port } of this.topology.above(fn))
      if (powerState !== 0 || port?.isLinkEnabled !== true) return false;
    return true;
  }

  /** The guest took a link down (Secondary Bus Reset, Link Disable), or lets it come up again. */
  #linkChanged(port: PciFunction, down: boolean): void {
    const changed = port.port?.settleLink() === true;
    this.#settleAnswers();
    // What is behind a link that goes down is reset (PCIe 6.6.1).
    if (down) this.#resetBehind(port);
    else this.#listener.decodeChanged();
    if (changed) port.port?.announceLink();
  }

  /** A reset of a port resets what is behind it (PCIe 6.6.1). */
  #portReset(port: PciFunction): void {
    port.port?.settleLink();
    if (!this.#isResetting) this.#resetBehind(port);
  }

  #resetBehind(port: PciFunction): void {
    for (const fn of this.topology.behind(port)) if (this.topology.has(fn)) fn.reset('bus');
    this.#renumber();
  }

  #lowerPins(fn: PciFunction): void {
    for (const one of this.topology.behind(fn)) this.#lowerPins(one);
    fn.setInterrupt(false);
  }
}

/** The refusal of a function that is not in the segment. */
export function noFunction(what: string): VpciError {
  return new VpciError('VPCI_NO_FUNCTION', `there is no function ${what} in the segment`);
}

function refusedPlug(why: string): VpciError {
  return new VpciError('VPCI_PLUG', why);
}

function isWhole(value: number, last: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= last;
}
