import { type Endpoint, TypedEmitter, VpciError } from '../../../src/index.ts';
import type { GuestMemoryRegion } from '../../../src/memory/index.ts';
import type { EndpointEvent, ViommuEvents } from '../../../src/viommu/events.ts';
import { TableIommu } from '../../../src/viommu/table/index.ts';
import type { Viommu } from '../../../src/viommu/index.ts';
import { VtdIommu } from '../../../src/viommu/vtd/index.ts';
import { GuestRam } from '../guest-ram.ts';
import { IommufdObjects } from '../iommufd-objects.ts';
import { IOMMU_HWPT_ALLOC_PASID } from '../structs/index.ts';
import type { VfioDevice } from '../vfio-device.ts';
import type { MirrorEvents, MirrorFailure } from './events.ts';
import { PageRequestRelay } from './page-request-relay.ts';
import type { MirrorFailureReason, MirrorSource, Wanted } from './source.ts';
import { checkCachingMode, nestingHost, unsupportedModel } from './supported.ts';
import { TableSource } from './table-source.ts';
import { VtdSource } from './vtd-source.ts';

/** What an {@link IommufdMirror} connects. */
export interface IommufdMirrorOptions {
  /** The device, opened by cdev. */
  readonly device: VfioDevice;
  /** A `TableIommu` or a `VtdIommu`. */
  readonly iommu: Viommu;
  /** The function of the device, behind `iommu`. */
  readonly endpoint: Endpoint;
  /** All of guest memory that the device may reach, each region on whole pages of this process. */
  readonly memory: readonly GuestMemoryRegion[];
  /**
   * Of a `VtdIommu`: while the guest has translation off, the device reaches all of guest memory, as on a machine whose
   * IOMMU is off. Default false: nothing is attached until the guest switched it on.
   */
  readonly bypass?: boolean | undefined;
  /** PASIDs that a guest may have at most. Default 1024. */
  readonly maxPasids?: number | undefined;
}

interface Slot {
  readonly key: string;
  readonly hwpt: number;
  /** It is destroyed when it is not used any more. */
  readonly own: boolean;
  /** A guest's tables: what the hardware knows of them has to be invalidated. */
  readonly nested: boolean;
}

/** Key of the page table that maps nothing, for requests without PASID while only PASIDs are configured. */
const EMPTY = 'empty';

const FOLLOWED: ReadonlySet<EndpointEvent['change']> = new Set([
  'pri-control',
  'restored',
  'flr',
  'bus',
  'd3hot',
] as const);

/**
 * Keeps the page tables that a host gives a device in step with a vIOMMU model: PASIDs that the guest configured are
 * attached in an iommufd, and detached when they go. Whatever the host refuses is an event `failure`, and the model
 * refuses that PASID until it is configured anew.
 *
 * With a `TableIommu` each address space is one of the host, with the same mappings. With a `VtdIommu` the hardware
 * walks the guest's own first-stage tables; it needs a VT-d host with nested translation.
 */
export class IommufdMirror extends TypedEmitter<MirrorEvents> {
  readonly #device: VfioDevice;
  readonly #iommu: Viommu;
  readonly #endpoint: Endpoint;
  readonly #objects: IommufdObjects;
  readonly #source: MirrorSource;
  readonly #relay: PageRequestRelay;
  readonly #slots = new Map<number | null, Slot>();
  readonly #failures = new Map<number | null | 'all', MirrorFailure>();
  readonly #ends: (() => void)[] = [];
  #empty: number | undefined;
  #rid: number;
  #present = true;
  #pri: boolean;

  /**
   * Attaches what the guest has configured by now, and follows from then on.
   *
   * @throws VpciError `VPCI_UNSUPPORTED` when the host cannot mirror this model, and says what is missing;
   *   `VPCI_MEMORY` for memory that is not page-aligned, `VPCI_REQUEST` when `endpoint` is not behind `iommu`.
   */
  constructor(options: IommufdMirrorOptions) {
    super();
    const { device, iommu, endpoint, memory, bypass = false, maxPasids = 1024 } = options;
    this.#device = device;
    this.#iommu = iommu;
    this.#endpoint = endpoint;
    this.#rid = endpoint.endpointState.rid;
    this.#pri = endpoint.endpointState.priEnable;
    this.#objects = new IommufdObjects(device);
    const rid = (): number => this.#rid;
    if (iommu instanceof TableIommu) {
      const source = new TableSource(iommu, rid, this.#objects, new GuestRam(device.native, memory));
      this.#source = source;
      this.#followTable(source);
    } else if (iommu instanceof VtdIommu) {
      checkCachingMode(iommu);
      const { erratum772415 } = nestingHost(device);
      // Under nested translation such a host cannot keep read-only memory from being written.
      const reachable = erratum772415 ? memory.filter(({ readOnly }) => readOnly !== true) : memory;
      const ram = new GuestRam(device.native, reachable);
      const source = new VtdSource(iommu, rid, this.#objects, ram, bypass, maxPasids);
      this.#source = source;
      this.#followVtd(source);
    } else throw unsupportedModel(iommu.model);
    this.#relay = new PageRequestRelay(this.#objects, device.native, (request) =>
      iommu.pageRequest({ ...request, rid: this.#rid }),
    );
    this.#connect();
    this.#on('endpoint', (event) => this.#endpointChanged(event));
    this.#lookOver();
  }

  /** What the host has attached, PASIDs ascending and null, the requests without one, first. */
  get attached(): readonly (number | null)[] {
    const mine = [...this.#slots].filter(([, { key }]) => key !== EMPTY).map(([pasid]) => pasid);
    return mine.toSorted((left, right) => (left ?? -1) - (right ?? -1));
  }

  /** What the host does not have although the model does, and why. */
  get failures(): readonly MirrorFailure[] {
    return [...this.#failures.values()];
  }

  /** Detaches everything and follows no more; the model's blocks go. Close it before the device. */
  close(): void {
    for (const end of this.#ends.splice(0)) end();
    if (this.#present) this.#iommu.connectDevice(this.#rid, {});
    this.#leave();
    this.#source.close();
    this.#relay.close();
    if (this.#empty !== undefined) this.#objects.destroy(this.#empty);
    this.#empty = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #followTable(source: TableSource): void {
    this.#on('tables-invalidated', ({ rid, pasid }) => {
      if (!this.#isMine(rid)) return;
      if (pasid === 'all') {
        // Nothing that was mirrored holds, not even by the same name.
        this.#dropAll();
        this.#lookOver();
      } else {
        source.changed(pasid);
        this.#sync(pasid);
      }
    });
    this.#on('mapped', (event) => {
      if (event.rid === this.#rid) this.#try(event.pasid, () => source.map(event));
    });
    this.#on('translation-invalidated', ({ rid, pasid, iova, size }) => {
      if (rid === this.#rid) this.#try(pasid, () => source.unmap(pasid, iova, size));
    });
  }

  #followVtd(source: VtdSource): void {
    this.#on('tables-invalidated', ({ rid, pasid }) => {
      if (!this.#isMine(rid)) return;
      if (pasid === 'all' || this.#failures.has('all')) {
        this.#lookOver();
        return;
      }
      // Requests without PASID go by the entry of RID_PASID.
      this.#sync(null);
      if (pasid !== null) this.#sync(pasid);
    });
    this.#on('translation-invalidated', ({ rid, pasid, iova, size }) => {
      // The one without PASID is told too, whether it goes by that entry or not.
      if (!this.#isMine(rid) || pasid === null) return;
      this.#invalidate(pasid, iova, size);
      const byEntry = this.#slots.get(null)?.nested === true && source.ridPasid() === pasid;
      if (byEntry) this.#invalidate(null, iova, size);
    });
    this.#on('pasid-invalidated', ({ rid, pasid }) => {
      if (!this.#isMine(rid)) return;
      // The requests without PASID may go by that entry.
      const slots = pasid === 'all' ? this.#slots.keys() : [null, pasid];
      for (const one of slots) this.#invalidate(one, 0n, 'all');
    });
  }

  #isMine(rid: number | 'all'): boolean {
    return this.#present && (rid === 'all' || rid === this.#rid);
  }

  #on<Name extends keyof ViommuEvents>(event: Name, listener: (payload: ViommuEvents[Name]) => void): void {
    this.#iommu.on(event, listener);
    this.#ends.push(() => this.#iommu.off(event, listener));
  }

  #connect(): void {
    this.#iommu.connectDevice(this.#rid, {
      // The host's own invalidations reach the device's translations too.
      onAtcInvalidate: () => 'complete',
      onPrgResponse: (response) => this.#relay.respond(response),
    });
  }

  #endpointChanged({ rid, change, previousRid }: EndpointEvent): void {
    const { endpointState } = this.#endpoint;
    if (change === 'detached') {
      if (!this.#present || rid !== this.#rid) return;
      this.#leave();
    } else if (rid !== endpointState.rid) {
      return;
    } else if (change === 'attached' || (change === 'moved' && previousRid !== undefined)) {
      if (this.#present) this.#leave();
      this.#rid = rid;
      this.#present = true;
      this.#pri = endpointState.priEnable;
      this.#connect();
      this.#lookOver();
    } else if (this.#present && FOLLOWED.has(change) && endpointState.priEnable !== this.#pri) {
      this.#pri = endpointState.priEnable;
      this.#lookOver();
    }
  }

  /** The function is not behind its requester ID any more. */
  #leave(): void {
    for (const pasid of this.#failures.keys()) this.#pardon(pasid);
    // From now on somebody else may be behind the requester ID, with blocks of its own.
    this.#present = false;
    this.#dropAll();
    this.#failures.clear();
  }

  /** Looks at everything that the guest configured. */
  #lookOver(): void {
    const pasids = this.#source.pasids();
    if (pasids === undefined) {
      this.#tooMany();
      return;
    }
    this.#pardon('all');
    const there = new Set<number | null>(pasids);
    for (const pasid of [...this.#slots.keys(), ...this.#failures.keys()]) {
      if (pasid !== null && pasid !== 'all' && !there.has(pasid)) this.#sync(pasid);
    }
    this.#sync(null);
    for (const pasid of pasids) this.#sync(pasid);
  }

  #tooMany(): void {
    this.#dropAll();
    this.#failed(
      'all',
      'too-many',
      new VpciError(
        'VPCI_UNSUPPORTED',
        `the guest configured more PASIDs for ${this.#device.subject} than maxPasids, or in memory that cannot be reached: raise maxPasids`,
      ),
    );
  }

  /** Makes the host have for `pasid` what the model has. */
  #sync(pasid: number | null): void {
    this.#pardon(pasid);
    let reason: MirrorFailureReason = 'host';
    try {
      const wanted = this.#source.wanted(pasid);
      if (wanted.kind === 'nothing') this.#drop(pasid);
      else if (wanted.kind === 'refused') {
        ({ reason } = wanted);
        throw wanted.error;
      } else this.#attach(pasid, wanted);
    } catch (error) {
      this.#giveUp(pasid, reason, error);
    }
  }

  #attach(pasid: number | null, wanted: Extract<Wanted, { kind: 'own' | 'shared' }>): void {
    const own = wanted.kind === 'own';
    const key = own ? `${wanted.key}${this.#pri ? ', page requests' : ''}` : `shared ${wanted.hwpt}`;
    if (this.#slots.get(pasid)?.key === key) return;
    if (pasid !== null && !this.#slots.has(null)) this.#attachEmpty();
    const hwpt = own
      ? this.#objects.allocHwpt({ ...wanted.hwpt, faultId: this.#pri ? this.#relay.id : undefined })
      : wanted.hwpt;
    const nested = own && wanted.hwpt.vtdS1 !== undefined;
    const replaced = this.#put(pasid, { key, hwpt, own, nested });
    if (this.hears('attached')) this.emit('attached', { pasid, hwpt, replaced });
  }

  /** Requests without PASID come first in the host, with a page table that takes PASIDs; this one refuses them. */
  #attachEmpty(): void {
    if (this.#slots.get(null)?.key === EMPTY) return;
    this.#empty ??= this.#objects.allocIoas();
    const hwpt = this.#objects.allocHwpt({ parent: this.#empty, flags: IOMMU_HWPT_ALLOC_PASID });
    this.#put(null, { key: EMPTY, hwpt, own: true, nested: false });
  }

  /** Attaches, or replaces, and destroys what nobody uses then; true when it replaced. */
  #put(pasid: number | null, slot: Slot): boolean {
    const old = this.#slots.get(pasid);
    try {
      this.#objects.attach(slot.hwpt, pasid);
    } catch (error) {
      if (slot.own) this.#objects.destroy(slot.hwpt);
      throw error;
    }
    this.#slots.set(pasid, slot);
    if (old?.own === true) this.#objects.destroy(old.hwpt);
    if (old !== undefined) this.#relay.forget(pasid);
    return old !== undefined && old.key !== EMPTY;
  }

  /** Detaches `pasid`; nothing when it is not attached. */
  #drop(pasid: number | null): void {
    const slot = this.#slots.get(pasid);
    if (slot === undefined || (pasid === null && slot.key === EMPTY)) this.#source.forget(pasid);
    else if (pasid === null && this.#slots.size > 1) this.#dropRid();
    else this.#detach(pasid, slot);
    const only = this.#slots.get(null);
    if (this.#slots.size === 1 && only?.key === EMPTY) this.#detach(null, only);
  }

  /** PASIDs stay only beside a page table that takes them. */
  #dropRid(): void {
    try {
      this.#attachEmpty();
      this.#source.forget(null);
      if (this.hears('detached')) this.emit('detached', { pasid: null });
    } catch (error) {
      for (const pasid of this.#slots.keys()) {
        if (pasid !== null) this.#giveUp(pasid, 'host', error);
      }
      const slot = this.#slots.get(null);
      if (slot !== undefined) this.#detach(null, slot);
    }
  }

  #detach(pasid: number | null, slot: Slot): void {
    try {
      this.#objects.detach(pasid);
    } catch (error) {
      // It stays in the host; the next change, or closing, tries again.
      this.#source.forget(pasid);
      this.#failed(pasid, 'host', error);
      return;
    }
    this.#slots.delete(pasid);
    if (slot.own) this.#objects.destroy(slot.hwpt);
    this.#source.forget(pasid);
    this.#relay.forget(pasid);
    // Last: a listener may configure the PASID anew.
    if (slot.key !== EMPTY && this.hears('detached')) this.emit('detached', { pasid });
  }

  /** PASIDs before the requests without one. */
  #dropAll(): void {
    for (const pasid of this.#slots.keys()) if (pasid !== null) this.#drop(pasid);
    this.#drop(null);
  }

  #invalidate(pasid: number | null, address: bigint, size: bigint | 'all'): void {
    const slot = this.#slots.get(pasid);
    if (slot?.nested !== true) return;
    const pages = size === 'all' || size >= 1n << 64n ? 'all' : size >> 12n;
    this.#try(pasid, () => this.#objects.invalidate(slot.hwpt, address, pages));
  }

  #try(pasid: number | null, change: () => void): void {
    try {
      change();
    } catch (error) {
      this.#giveUp(pasid, 'host', error);
    }
  }

  /** The host does not have `pasid` as the model does: it does not get it at all. */
  #giveUp(pasid: number | null, reason: MirrorFailureReason, error: unknown): void {
    const failure = this.#note(pasid, reason, error);
    this.#drop(pasid);
    // Last: a listener may configure the PASID anew.
    if (this.hears('failure')) this.emit('failure', failure);
  }

  #failed(pasid: number | null | 'all', reason: MirrorFailureReason, error: unknown): void {
    const failure = this.#note(pasid, reason, error);
    if (this.hears('failure')) this.emit('failure', failure);
  }

  #note(pasid: number | null | 'all', reason: MirrorFailureReason, error: unknown): MirrorFailure {
    if (!(error instanceof VpciError)) throw error;
    const unsupported = reason === 'host' && error.code === 'VPCI_UNSUPPORTED';
    const failure: MirrorFailure = { pasid, reason: unsupported ? 'unsupported' : reason, error };
    this.#failures.set(pasid, failure);
    if (this.#present) this.#iommu.block(this.#rid, pasid);
    return failure;
  }

  #pardon(pasid: number | null | 'all'): void {
    if (this.#failures.delete(pasid) && this.#present) this.#iommu.unblock(this.#rid, pasid);
  }
}
