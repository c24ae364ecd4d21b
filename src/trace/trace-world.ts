import type { FunctionEvents, PciFunction } from '../function/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import { formatBdf } from '../pci/bdf.ts';
import { createEndpointState, type Endpoint, type EndpointState } from '../pci/endpoint.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { PciSegment } from '../segment/index.ts';
import type { Viommu } from '../viommu/index.ts';
import { EventLog, type TraceEvent } from './event-log.ts';
import { GuestRam, type RamCopy } from './guest-ram.ts';
import type { PhysicalRecorder } from './physical-recorder.ts';
import { TraceError } from './trace-error.ts';
import { hexOf } from './trace-values.ts';
import { UnitTable } from './unit-table.ts';

/** A function of the trace. */
interface PlacedFunction {
  readonly fn: PciFunction;
  readonly physical: PhysicalRecorder;
  /** The port it is plugged behind; undefined at a fixed address. */
  readonly port: PciFunction | undefined;
}

/** Who sends a request, and the vIOMMU that translates for it. */
export interface Requester {
  readonly endpoint: Endpoint;
  readonly unit: Viommu | undefined;
}

/** What a `snapshot` keeps. */
interface Snapshot {
  /** Segment and units as JSON, as an embedder would store them. */
  readonly devices: string;
  readonly ram: readonly RamCopy[];
}

/** Events of functions whose fields a trace shows as they are. */
const PLAIN_EVENTS = [
  'pasid-control',
  'ats-control',
  'pri-control',
  'reset',
  'command',
  'power-state',
  'intx',
  'finding',
  'host-write',
  'rid',
  'slot-control',
] as const;

/** PASID width of an endpoint that nothing was said about. */
const UNDECLARED_WIDTH = 20;

/**
 * Everything that a trace has set up so far, and the events that came of it. Functions and endpoints go by the
 * requester ID with which the trace added them, wherever the guest's bus numbers have taken them meanwhile.
 */
export class TraceWorld {
  segment: PciSegment = new PciSegment();
  readonly ram: GuestRam = new GuestRam();
  readonly events: EventLog = new EventLog();
  readonly #functions = new Map<number, PlacedFunction>();
  readonly #added = new Map<PciFunction, number>();
  readonly #ports = new Map<number, PciFunction>();
  readonly #endpoints = new Map<number, EndpointState>();
  readonly #snapshots = new Map<string, Snapshot>();
  #units = new UnitTable();
  #quiet = false;

  /** What the vIOMMUs of the trace see of guest memory. */
  get memory(): GuestMemory {
    return this.ram.memory;
  }

  /** Another segment; ports and functions move into it, each to the place that it has. */
  replaceSegment(segment: PciSegment): void {
    this.#quietly(() => {
      for (const { fn } of this.#functions.values()) this.segment.remove(fn);
      for (const [rid, port] of this.#ports) segment.add(rid, this.segment.remove(port), null);
      this.segment = segment;
      for (const [rid, { fn, port }] of this.#functions) this.#place(rid, fn, port);
    });
  }

  /** Places a root port at `rid`; functions added later on its secondary bus stand behind it. */
  addPort(rid: number, port: PciFunction): void {
    this.#refuseAgain(rid);
    this.segment.add(rid, port, null);
    this.#ports.set(rid, port);
    this.#listen(rid, port);
  }

  /** Places `fn`, whose physical side is `physical`, at `rid`: behind the port whose secondary bus it is on. */
  addFunction(rid: number, fn: PciFunction, physical: PhysicalRecorder): void {
    this.#refuseAgain(rid);
    const port = [...this.#ports.values()].find(
      (one) => one.port?.secondary === rid >>> 8 && (rid & 0xf8) === 0,
    );
    this.#place(rid, fn, port);
    this.#functions.set(rid, { fn, physical, port });
    this.#added.set(fn, rid);
    this.#listen(rid, fn);
  }

  /** The function that was added at `rid`. @throws TraceError `no-function`. */
  function(rid: number): PlacedFunction {
    const placed = this.#functions.get(rid);
    if (placed === undefined)
      throw new TraceError('no-function', `no function was added at ${formatBdf(rid)}`);
    return placed;
  }

  /** Takes the function that was added at `rid` away. @throws TraceError `no-function`. */
  removeFunction(rid: number): void {
    const { fn } = this.function(rid);
    this.segment.remove(fn);
    this.#functions.delete(rid);
    this.#added.delete(fn);
  }

  /** Declares a bare endpoint, in place of an earlier one at the same requester ID. */
  addEndpoint(state: EndpointState): void {
    const unit = this.#units.for(state.rid);
    const earlier = this.#endpoints.get(state.rid);
    if (earlier !== undefined) unit?.detachEndpoint(earlier);
    this.#endpoints.set(state.rid, state);
    unit?.attachEndpoint(state);
  }

  /** The function that was added at `rid` as a requester. @throws TraceError `no-function`. */
  requester(rid: number): Requester {
    return { endpoint: this.function(rid).fn, unit: this.#units.for(rid) };
  }

  /**
   * Whoever has the requester ID `rid` now: a function, or a bare endpoint. Where nothing was said about it, that has a
   * width of 20.
   */
  requesterWith(rid: number): Requester {
    const fn = rid > 0xffff ? undefined : this.segment.function(rid);
    const added = fn && this.#added.get(fn);
    if (fn !== undefined && added !== undefined) return { endpoint: fn, unit: this.#units.for(added) };
    const endpointState = this.#endpoints.get(rid) ?? {
      ...createEndpointState(rid),
      pasidWidth: UNDECLARED_WIDTH,
    };
    if (!this.#endpoints.has(rid)) this.addEndpoint(endpointState);
    return { endpoint: { endpointState }, unit: this.#units.for(rid) };
  }

  /**
   * Puts a vIOMMU in place; one of the same name is replaced, and what it covers comes behind it.
   *
   * @throws VpciError `VPCI_VIOMMU_TOO_NARROW` for a function whose guest has seen more; nothing has changed then.
   */
  addUnit(name: string, iommu: Viommu, covers: readonly number[] | undefined): void {
    const before = this.#units;
    const units = before.with(name, iommu, covers);
    this.#refuseNarrower(units);
    if (name === '') this.events.clear();
    // The newest unit that covers a requester ID translates for it.
    this.#units = units;
    this.#quietly(() => {
      this.segment.reattach([...this.#functions].map(([rid, { fn }]) => [fn, units.for(rid) ?? null]));
      for (const [rid, state] of this.#endpoints) {
        const [old, now] = [before.for(rid), units.for(rid)];
        if (old === now) continue;
        old?.detachEndpoint(state);
        now?.attachEndpoint(state);
      }
    });
    this.#listenTo(name, iommu);
  }

  /** The unit that `name` names; without a name, the one that there is. @throws TraceError `no-iommu`. */
  unit(name: string | undefined): Viommu {
    return this.#units.named(name);
  }

  /** Keeps the state of everything under `name`. @throws TraceError `bad-field` when that is too much. */
  snapshot(name: string): void {
    const devices = JSON.stringify({
      segment: this.segment.saveState(),
      units: [...this.#units.all()].map(([unit, iommu]) => [unit, iommu.saveState()]),
    });
    this.#snapshots.set(name, { devices, ram: this.ram.copy(name, devices.length) });
  }

  /**
   * Takes back what {@link TraceWorld.snapshot} kept.
   *
   * @throws TraceError `no-snapshot`, `no-iommu`, VpciError `VPCI_STATE`; nothing has changed then.
   */
  restore(name: string): void {
    const kept = this.#snapshots.get(name);
    const state: unknown = kept === undefined ? undefined : JSON.parse(kept.devices);
    if (kept === undefined || !isDevices(state))
      throw new TraceError('no-snapshot', `there is no snapshot "${name}"`);
    const units = state.units.map(([unit, saved]) => [this.unit(unit), saved] as const);
    const before = units.map(([iommu]) => [iommu, iommu.saveState()] as const);
    const segment = this.segment.saveState();
    this.segment.restoreState(state.segment);
    try {
      for (const [iommu, saved] of units) iommu.restoreState(saved);
    } catch (error) {
      // Another model stands under the name.
      this.#quietly(() => this.segment.restoreState(segment));
      for (const [iommu, saved] of before) iommu.restoreState(saved);
      throw error;
    }
    this.ram.putBack(kept.ram);
  }

  #place(rid: number, fn: PciFunction, port: PciFunction | undefined): void {
    const iommu = this.#units.for(rid) ?? null;
    if (port === undefined) this.segment.add(rid, fn, iommu);
    else this.segment.plug(port, fn, { fn: rid & 7, iommu });
  }

  /** A function that moved on leaves its address to others, but not its name. */
  #refuseAgain(rid: number): void {
    if (!this.#functions.has(rid) && !this.#ports.has(rid)) return;
    throw new VpciError(
      'VPCI_BDF_TAKEN',
      `a function was added at ${formatBdf(rid)} already: remove it first, or choose another address`,
    );
  }

  #note(event: TraceEvent): void {
    // A finding of a move is news: the vIOMMU may have narrowed the PASID width.
    if (!this.#quiet || event.type === 'finding') this.events.note(event);
  }

  #listen(rid: number, fn: PciFunction): void {
    const bdf = formatBdf(rid);
    const pass = (event: keyof FunctionEvents): void => {
      fn.on(event, (fields: object) => this.#note({ type: event, bdf, ...fields }));
    };
    for (const event of PLAIN_EVENTS) pass(event);
    fn.on('bar', ({ address, size, ...bar }) =>
      this.#note({ type: 'bar', bdf, ...bar, address: hexOf(address), size: hexOf(size) }),
    );
    fn.on('msi', ({ address, ...message }) =>
      this.#note({ type: 'msi', bdf, ...message, address: hexOf(address) }),
    );
    fn.on('msi-route', ({ address, ...route }) =>
      this.#note({ type: 'msi-route', bdf, ...route, address: hexOf(address) }),
    );
  }

  #listenTo(name: string, iommu: Viommu): void {
    const tag = name === '' ? {} : { name };
    iommu.on('fault', (event) =>
      this.#note({ type: 'fault', ...tag, ...event, address: hexOf(event.address) }),
    );
    iommu.on('pasid-invalidated', (event) => this.#note({ type: 'pasid-invalidated', ...tag, ...event }));
    iommu.on('translation-invalidated', (event) =>
      this.#note({
        type: 'translation-invalidated',
        ...tag,
        ...event,
        iova: hexOf(event.iova),
        size: hexOf(event.size),
      }),
    );
    iommu.on('interrupt', (event) =>
      this.#note({ type: 'interrupt', ...tag, ...event, address: hexOf(event.address) }),
    );
    iommu.on('page-request', (event) =>
      this.#note({ type: 'page-request', ...tag, ...event, address: hexOf(event.address) }),
    );
  }

  /** What moves functions about for the trace's own ends is nothing that happened. */
  #quietly(change: () => void): void {
    this.#quiet = true;
    try {
      change();
    } finally {
      this.#quiet = false;
    }
  }

  /** A width that a guest has seen stays (design 4). */
  #refuseNarrower(units: UnitTable): void {
    for (const [rid, { fn }] of this.#functions) {
      const width = units.for(rid)?.pasidWidth ?? Number.POSITIVE_INFINITY;
      if (!fn.touched || fn.pasid === undefined || fn.pasid.width <= width) continue;
      throw new VpciError(
        'VPCI_VIOMMU_TOO_NARROW',
        `the guest of ${formatBdf(rid)} has seen a PASID width of ${fn.pasid.width} bits, and its vIOMMU would have ${width}`,
      );
    }
  }
}

interface Devices {
  readonly segment: unknown;
  readonly units: readonly (readonly [name: string, state: unknown])[];
}

function isDevices(state: unknown): state is Devices {
  return typeof state === 'object' && state !== null && 'segment' in state && 'units' in state;
}
