import type { FunctionEvents, PciFunction } from '../function/index.ts';
import { GuestMemory } from '../memory/index.ts';
import { formatBdf } from '../pci/bdf.ts';
import { createEndpointState, type Endpoint, type EndpointState } from '../pci/endpoint.ts';
import { VpciError } from '../pci/vpci-error.ts';
import { PciSegment } from '../segment/index.ts';
import type { Viommu } from '../viommu/index.ts';
import { TraceError } from './trace-error.ts';
import { hexOf } from './trace-values.ts';
import type { PhysicalRecorder } from './physical-recorder.ts';

/** An event as a trace shows it. */
export type TraceEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** A vIOMMU of the trace. */
interface Unit {
  readonly iommu: Viommu;
  /** Requester IDs it translates for; undefined for all. */
  readonly covers: ReadonlySet<number> | undefined;
}

interface PlacedFunction {
  readonly fn: PciFunction;
  readonly physical: PhysicalRecorder;
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

/** Everything that a trace has set up so far, and the events that came of it. */
export class TraceWorld {
  segment: PciSegment = new PciSegment();
  /** What the vIOMMUs of the trace see of guest memory. */
  readonly memory: GuestMemory = new GuestMemory();
  readonly #regions = new Map<number, ArrayBuffer>();

  readonly #functions = new Map<number, PlacedFunction>();
  readonly #ports = new Map<number, PciFunction>();
  readonly #endpoints = new Map<number, EndpointState>();
  readonly #units = new Map<string, Unit>();
  readonly #snapshots = new Map<string, SnapshotEntry>();
  #events: TraceEvent[] = [];
  #quiet = false;

  /** Another segment; ports and functions move into it. */
  replaceSegment(segment: PciSegment): void {
    this.#quietly(() => {
      for (const { fn } of this.#functions.values()) this.segment.remove(fn);
      for (const [rid, port] of this.#ports) segment.add(rid, this.segment.remove(port), null);
      this.segment = segment;
      for (const [rid, { fn }] of this.#functions) this.#place(rid, fn);
    });
  }

  /** Adds memory at `base`; memory that begins there is replaced. */
  addMemory(base: number, buffer: ArrayBuffer): void {
    if (this.memory.removeRegion(base)) this.#regions.delete(base);
    this.memory.addRegion({ base, buffer });
    this.#regions.set(base, buffer);
  }

  /** Places a root port at `rid`; functions added later on its secondary bus stand behind it. */
  addPort(rid: number, port: PciFunction): void {
    this.segment.add(rid, port, null);
    this.#ports.set(rid, port);
    this.#listen(rid, port);
  }

  /** Places `fn`, whose physical side is `physical`, at `rid`. */
  addFunction(rid: number, fn: PciFunction, physical: PhysicalRecorder): void {
    this.#place(rid, fn);
    this.#functions.set(rid, { fn, physical });
    this.#listen(rid, fn);
  }

  /** The function at `rid`. @throws TraceError `no-function`. */
  function(rid: number): PlacedFunction {
    const placed = this.#functions.get(rid);
    if (placed === undefined)
      throw new TraceError('no-function', `there is no function at ${formatBdf(rid)}`);
    return placed;
  }

  /** Takes the function at `rid` away. @throws TraceError `no-function`. */
  removeFunction(rid: number): void {
    this.segment.remove(this.function(rid).fn);
    this.#functions.delete(rid);
  }

  /** Declares a bare endpoint, in place of an earlier one at the same requester ID. */
  addEndpoint(state: EndpointState): void {
    const earlier = this.#endpoints.get(state.rid);
    if (earlier !== undefined) this.unitFor(state.rid)?.detachEndpoint(earlier);
    this.#endpoints.set(state.rid, state);
    this.unitFor(state.rid)?.attachEndpoint(state);
  }

  /** Who is at `rid`; a requester ID that nothing was said about is a bare endpoint of width 20. */
  endpoint(rid: number): Endpoint {
    const fn = this.#functions.get(rid)?.fn;
    if (fn !== undefined) return fn;
    const known = this.#endpoints.get(rid);
    if (known !== undefined) return { endpointState: known };
    const state = { ...createEndpointState(rid), pasidWidth: UNDECLARED_WIDTH };
    this.addEndpoint(state);
    return { endpointState: state };
  }

  /** Puts a vIOMMU in place; one of the same name is replaced, and the endpoints it covers come behind it. */
  addUnit(name: string, iommu: Viommu, covers: readonly number[] | undefined): void {
    const unit = { iommu, covers: covers === undefined ? undefined : new Set(covers) };
    this.#refuseNarrower(unit);
    this.#withoutUnits(() => {
      // The newest unit that covers a requester ID translates for it.
      this.#units.delete(name);
      this.#units.set(name, unit);
      if (name === '') this.#events = [];
    });
    const tag = name === '' ? {} : { name };
    iommu.on('fault', (event) =>
      this.note({ type: 'fault', ...tag, ...event, address: hexOf(event.address) }),
    );
    iommu.on('pasid-invalidated', (event) => this.note({ type: 'pasid-invalidated', ...tag, ...event }));
    iommu.on('translation-invalidated', (event) =>
      this.note({
        type: 'translation-invalidated',
        ...tag,
        ...event,
        iova: hexOf(event.iova),
        size: hexOf(event.size),
      }),
    );
    iommu.on('interrupt', (event) =>
      this.note({ type: 'interrupt', ...tag, ...event, address: hexOf(event.address) }),
    );
    iommu.on('page-request', (event) =>
      this.note({ type: 'page-request', ...tag, ...event, address: hexOf(event.address) }),
    );
  }

  /** The unit that translates for `rid`; undefined when there is none. */
  unitFor(rid: number): Viommu | undefined {
    const unit = [...this.#units.values()].findLast(({ covers }) => covers === undefined || covers.has(rid));
    return unit?.iommu;
  }

  /** The unit that `name` names; without a name, the one that there is. @throws TraceError `no-iommu`. */
  unit(name: string | undefined): Viommu {
    const [only, ...more] = this.#units.values();
    const unit =
      name === undefined
        ? (this.#units.get('') ?? (more.length === 0 ? only : undefined))
        : this.#units.get(name);
    if (unit !== undefined) return unit.iommu;
    if (name === undefined && more.length > 0) {
      throw new TraceError(
        'no-iommu',
        `there are several vIOMMUs: name one of ${[...this.#units.keys()].join(', ')}`,
      );
    }
    throw new TraceError(
      'no-iommu',
      name === undefined ? 'there is no vIOMMU yet' : `there is no vIOMMU "${name}"`,
    );
  }

  /** Adds an event to those that the next `events` op prints. */
  note(event: TraceEvent): void {
    // A finding of a move is news: the vIOMMU may have narrowed the PASID width.
    if (!this.#quiet || event.type === 'finding') this.#events.push(event);
  }

  /** The events since the last call. */
  takeEvents(): readonly TraceEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Keeps the state of everything under `name`. */
  snapshot(name: string): void {
    // Through JSON, as an embedder would store it.
    const state = {
      segment: this.segment.saveState(),
      units: [...this.#units].map(([unit, { iommu }]) => [unit, iommu.saveState()]),
    };
    const memory = [...this.#regions].map(([base, buffer]) => ({ base, content: buffer.slice(0) }));
    this.#snapshots.set(name, { devices: JSON.parse(JSON.stringify(state)), memory });
  }

  /** Takes back what {@link TraceWorld.snapshot} kept. @throws TraceError `no-snapshot`, VpciError `VPCI_STATE`. */
  restore(name: string): void {
    const { devices: state, memory = [] } = this.#snapshots.get(name) ?? {};
    if (!isSnapshot(state)) throw new TraceError('no-snapshot', `there is no snapshot "${name}"`);
    const units = state.units.map(([unit, saved]) => [this.unit(unit), saved] as const);
    this.segment.restoreState(state.segment);
    for (const { base, content } of memory) {
      const buffer = this.#regions.get(base);
      // Memory that was replaced by less keeps what fits.
      if (buffer !== undefined)
        new Uint8Array(buffer).set(
          new Uint8Array(content, 0, Math.min(content.byteLength, buffer.byteLength)),
        );
    }
    for (const [iommu, saved] of units) iommu.restoreState(saved);
  }

  /** Behind the port whose secondary bus `rid` is on, else at the fixed address. */
  #place(rid: number, fn: PciFunction): void {
    const iommu = this.unitFor(rid) ?? null;
    const port = [...this.#ports.values()].find(
      (one) => one.port?.secondary === rid >>> 8 && (rid & 0xf8) === 0,
    );
    if (port === undefined) this.segment.add(rid, fn, iommu);
    else this.segment.plug(port, fn, { fn: rid & 7, iommu });
  }

  #listen(rid: number, fn: PciFunction): void {
    const bdf = formatBdf(rid);
    const pass = (event: keyof FunctionEvents): void => {
      fn.on(event, (fields: object) => this.note({ type: event, bdf, ...fields }));
    };
    for (const event of PLAIN_EVENTS) pass(event);
    fn.on('bar', ({ address, size, ...bar }) =>
      this.note({ type: 'bar', bdf, ...bar, address: hexOf(address), size: hexOf(size) }),
    );
    fn.on('msi', ({ address, ...message }) =>
      this.note({ type: 'msi', bdf, ...message, address: hexOf(address) }),
    );
    fn.on('msi-route', ({ address, ...route }) =>
      this.note({ type: 'msi-route', bdf, ...route, address: hexOf(address) }),
    );
  }

  /** Runs `change` while nothing is attached, then attaches everything to the units there are then. */
  #withoutUnits(change: () => void): void {
    this.#quietly(() => {
      for (const { fn } of this.#functions.values()) this.segment.remove(fn);
      for (const [rid, state] of this.#endpoints) this.unitFor(rid)?.detachEndpoint(state);
      change();
      for (const [rid, { fn }] of this.#functions) this.#place(rid, fn);
      for (const [rid, state] of this.#endpoints) this.unitFor(rid)?.attachEndpoint(state);
    });
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

  /** A width that a guest has seen stays (design 4); better said before anything is moved. */
  #refuseNarrower({ iommu, covers }: Unit): void {
    for (const [rid, { fn }] of this.#functions) {
      if (covers?.has(rid) === false || !fn.touched || fn.pasid === undefined) continue;
      if (fn.pasid.width <= iommu.pasidWidth) continue;
      throw new VpciError(
        'VPCI_VIOMMU_TOO_NARROW',
        `the guest of ${formatBdf(rid)} has seen a PASID width of ${fn.pasid.width} bits, and this vIOMMU has ${iommu.pasidWidth}`,
      );
    }
  }
}

interface SnapshotEntry {
  /** Segment and units, as an embedder would store them. */
  readonly devices: unknown;
  readonly memory: readonly { readonly base: number; readonly content: ArrayBuffer }[];
}

interface Snapshot {
  readonly segment: unknown;
  readonly units: readonly (readonly [name: string, state: unknown])[];
}

function isSnapshot(state: unknown): state is Snapshot {
  return typeof state === 'object' && state !== null && 'segment' in state && 'units' in state;
}
