import { GuestMemory } from '../../memory/index.ts';
import type { Endpoint, EndpointState } from '../../pci/endpoint.ts';
import { PRG_INVALID_REQUEST, PRG_RESPONSE_FAILURE } from '../device-port.ts';
import type { PageRequestEvent } from '../events.ts';
import type { Probe } from '../explanation.ts';
import { NO_PASID } from '../access.ts';
import { type PageRequest, type PageRequestAnswer, parsePageRequest } from '../page-request.ts';
import { pasidArgument, ridOf } from '../request.ts';
import { TALLY_PAGE_REQUESTS, TALLY_PAGE_REQUESTS_REFUSED } from '../tally.ts';
import { Viommu } from '../viommu.ts';
import { Announcements } from './announcements.ts';
import { type CapabilityWords, capabilityWords } from './capabilities.ts';
import { Commands } from './commands.ts';
import { presentPasids, viewTranslation, type VtdTranslation } from './entry-view.ts';
import { EventRegisters, type SendInterrupt } from './event-registers.ts';
import { FaultLog } from './fault-log.ts';
import { VTD_REASONS } from './faults.ts';
import { Caches } from './invalidations.ts';
import { completeVtdOptions, type VtdConfiguration, type VtdOptions } from './options.ts';
import { decidePageRequest, PageRequestQueue, refusePageRequest } from './page-requests.ts';
import { InvalidationQueue } from './queues.ts';
import { RegisterFile } from './register-file.ts';
import { writeInvalidation } from './register-invalidation.ts';
import * as registers from './registers.ts';
import { rulesOf } from './rules.ts';
import { join } from './steps.ts';
import { LAST_RID } from './structures.ts';
import { loadVtdState, saveVtdState, type VtdIommuState } from './vtd-state.ts';
import { walkRequest } from './walk.ts';
import { Walk } from './walk-state.ts';

/** Guest memory that a unit waits for: a page of 4 KiB. */
export interface MissingMemory {
  /** Guest-physical address of the page. */
  readonly address: bigint;
  readonly size: number;
}

/**
 * An Intel VT-d remapping unit (VT-d 5.10): scalable and legacy mode, first, second and nested stage, queued
 * invalidation, page requests, fault recording. The guest configures it through 4 KiB of registers and tables
 * in its memory; see `docs/vtd.md`.
 *
 * With translation disabled, requests without PASID pass, and those with one are refused unless
 * `pasidWhenUnconfigured` is `architectural`.
 */
export class VtdIommu extends Viommu {
  readonly model = 'vtd' as const;
  /** Guest memory, as the unit sees it. */
  readonly memory: GuestMemory;

  readonly #configuration: VtdConfiguration;
  readonly #words: CapabilityWords;
  readonly #registers: RegisterFile;
  readonly #faultEvent: EventRegisters;
  readonly #completionEvent: EventRegisters;
  readonly #pageEvent: EventRegisters;
  readonly #faults: FaultLog;
  readonly #walk: Walk;
  readonly #caches: Caches;
  readonly #commands: Commands;
  readonly #queue: InvalidationQueue;
  readonly #pageQueue: PageRequestQueue;
  readonly #announcements: Announcements = new Announcements({
    endpoints: this.endpoints,
    hears: (event) => this.hears(event),
    emit: (event, payload) => this.emit(event, payload),
  });

  /** @throws VpciError `VPCI_PASID_WIDTH` or `VPCI_BAD_ARGUMENT` for options out of range, or that do not fit. */
  constructor(options: VtdOptions = {}) {
    const configuration = completeVtdOptions(options);
    super({ ...options, pasidWidth: configuration.pasidWidth }, VTD_REASONS);
    this.#configuration = configuration;
    this.memory = options.memory ?? new GuestMemory();
    this.#words = capabilityWords(configuration);
    this.#registers = new RegisterFile(options.registerBuffer ?? new ArrayBuffer(registers.REGISTER_BYTES));
    const send: SendInterrupt = (interrupt) => {
      if (this.hears('interrupt')) this.emit('interrupt', interrupt);
    };
    this.#faultEvent = new EventRegisters(this.#registers, registers.FECTL, 'fault', send);
    this.#completionEvent = new EventRegisters(
      this.#registers,
      registers.IECTL,
      'invalidation-completion',
      send,
    );
    this.#pageEvent = new EventRegisters(this.#registers, registers.PECTL, 'page-request', send);
    const { faultRecords, collapseFaults, features } = configuration;
    this.#faults = new FaultLog(this.#registers, this.#faultEvent, faultRecords, collapseFaults);
    const rules = rulesOf(configuration, this.pasidWhenUnconfigured === 'architectural');
    this.#walk = new Walk(rules, this.memory);
    this.#caches = new Caches(this.#walk, this.iotlb);
    this.#commands = new Commands(
      this.#caches,
      {
        maxAddressMask: configuration.maxAddressMask,
        pageSelectiveInvalidation: features.pageSelectiveInvalidation,
      },
      {
        invalidateDevice: (rid, invalidation) => this.invalidateAtc(rid, invalidation),
        respond: (rid, response) => this.sendPrgResponse(rid, response),
        pasidGone: (rid, pasid) => this.#announcements.pasid(rid, pasid),
        tablesGone: (rid, pasid) => this.#announcements.tables(rid, pasid),
        pagesGone: (pasid, first, last) => this.#announcements.pages(pasid, first, last),
        timedOut: (rid) => this.#registers.set(registers.IQERCD + 4, rid),
      },
    );
    this.#queue = new InvalidationQueue(
      this.#registers,
      this.memory,
      features,
      this.#faults,
      this.#completionEvent,
      {
        carryOut: (type, words) => this.#commands.carryOut(type, words),
        isPending: () => this.#announcements.isPending,
        settle: () => this.#settle(),
      },
    );
    this.#pageQueue = new PageRequestQueue(
      this.#registers,
      this.memory,
      this.#pageEvent,
      features.stopMarkers,
    );
    this.#powerOn();
  }

  /** Memory that the invalidation queue waits for; null when it does not. See {@link VtdIommu.resume}. */
  get missingMemory(): MissingMemory | null {
    const { missing } = this.#queue;
    if (missing === undefined) return null;
    return { address: join(missing.high, missing.low), size: 4096 };
  }

  /**
   * Goes on with the invalidation queue: after the memory it waited for was given, and after
   * {@link VtdIommu.restoreState}, once guest memory is there. Nothing happens when it has nothing to do.
   */
  resume(): void {
    this.#queue.run();
  }

  /**
   * Reads registers: any size at any offset. Bytes that no register has read as 0.
   */
  override readRegister(offset: number, size: 1 | 2 | 4): number {
    return this.#registers.read(offset, size);
  }

  /**
   * Writes a register. Registers are written as aligned words of 4 bytes (11.2); anything else is dropped, as
   * is what is written where no register is.
   */
  override writeRegister(offset: number, size: 1 | 2 | 4, value: number): void {
    if (size === 4 && (offset & 3) === 0 && offset >= 0 && offset < registers.REGISTER_BYTES) {
      this.#write(offset, value | 0);
      this.#settle();
    }
  }

  /**
   * Handles a Page Request Message: checks it, then puts a descriptor into the page request queue, where the
   * guest finds it; the answer comes by the device's `onPrgResponse`. A request that is refused and is the
   * last of its group gets Invalid Request, or Success when the queue is full; one of an unknown requester,
   * or while tables have to be fetched (`missing`), Response Failure.
   */
  override pageRequest(request: PageRequest): PageRequestAnswer {
    const parsed = parsePageRequest(request);
    const answer = this.#decidePageRequest(parsed);
    this.tally.add(answer.queued ? TALLY_PAGE_REQUESTS : TALLY_PAGE_REQUESTS_REFUSED);
    if (answer.queued && this.hears('page-request')) this.emit('page-request', parsed);
    return answer;
  }

  /**
   * What the guest's tables say about `target` and `pasid` (null: requests without one), read now, past all caches:
   * for a mirror of the tables in hardware. No fault is recorded.
   *
   * @throws VpciError `VPCI_REQUEST` for a bad RID, `VPCI_PASID` for what is no PASID.
   */
  viewTranslation(target: Endpoint | number, pasid: number | null): VtdTranslation {
    return viewTranslation(this.#walk, ridOf(target), pasidArgument(pasid));
  }

  /**
   * PASIDs of `target` that have a present entry in the guest's PASID table, ascending, valid or not; RID_PASID is
   * not among them. Undefined when there are more than `limit`, or the tables are in memory that has to be fetched.
   *
   * @throws VpciError `VPCI_REQUEST` for a bad RID.
   */
  presentPasids(target: Endpoint | number, limit: number): number[] | undefined {
    return presentPasids(this.#walk, ridOf(target), limit);
  }

  override reset(): void {
    super.reset();
    this.#powerOn();
    this.#everythingGone();
    this.#settle();
  }

  override saveState(): VtdIommuState {
    const { rootHigh, rootLow, mode, alternateRights } = this.#walk;
    return saveVtdState(this.#registers, this.#identity(), {
      rootHigh,
      rootLow,
      mode,
      alternateRights,
      faultIndex: this.#faults.index,
    });
  }

  override restoreState(state: unknown): void {
    const loaded = loadVtdState(state, this.#identity(), this.#configuration.faultRecords);
    this.#powerOn();
    // Registers that are 0 are not in the state, and power-on masks events.
    this.#registers.zero(registers.GCMD);
    for (const [offset, value] of loaded.registers) this.#registers.set(offset, value);
    this.#latch(loaded.latched.rootHigh, loaded.latched.rootLow, loaded.latched.mode);
    this.#walk.alternateRights = loaded.latched.alternateRights;
    this.#walk.enabled = this.#registers.has(registers.GSTS, registers.GCMD_TE);
    this.#faults.restart(loaded.latched.faultIndex);
    this.memory.forget();
    this.#everythingGone();
    this.#settle();
  }

  protected override walk(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
    _endpoint: EndpointState,
    probe: Probe,
  ): number {
    this.#walk.begin(rid, pasid, iovaHigh, iovaLow, access);
    return walkRequest(this.#walk, this.#faults, this.iotlb, out, probe);
  }

  #decidePageRequest(request: PageRequestEvent): PageRequestAnswer {
    const endpoint = this.endpoints.get(request.rid);
    if (endpoint === undefined || request.rid > LAST_RID) {
      return refusePageRequest(request, PRG_RESPONSE_FAILURE);
    }
    if (this.checkRequester(endpoint, request.rid, request.pasid ?? NO_PASID, undefined) !== 0) {
      return refusePageRequest(request, PRG_INVALID_REQUEST);
    }
    const answer = decidePageRequest(this.#walk, this.#faults, this.#pageQueue, request);
    if (answer !== undefined) return answer;
    return {
      ...refusePageRequest(request, PRG_RESPONSE_FAILURE),
      missing: join(this.memory.missHigh, this.memory.missLow),
    };
  }

  #identity(): readonly number[] {
    const { version, hostAddressWidth, collapseFaults } = this.#configuration;
    const architectural = this.pasidWhenUnconfigured === 'architectural';
    const words = [version, ...this.#words, hostAddressWidth, Number(collapseFaults), Number(architectural)];
    return words.map((value) => value >>> 0);
  }

  /** Registers and latches as after a reset (11.4). */
  #powerOn(): void {
    const file = this.#registers;
    file.zero(0);
    file.set(registers.VER, this.#configuration.version);
    file.set(registers.CAP, this.#words[0]);
    file.set(registers.CAP + 4, this.#words[1]);
    file.set(registers.ECAP, this.#words[2]);
    file.set(registers.ECAP + 4, this.#words[3]);
    this.#faultEvent.reset();
    if (this.#configuration.features.queuedInvalidation) this.#completionEvent.reset();
    if (this.#configuration.features.pageRequests) this.#pageEvent.reset();
    this.#faults.restart();
    this.#walk.enabled = false;
    this.#latch(0, 0, registers.TTM_LEGACY);
    this.#walk.alternateRights = false;
    this.#queue.enable(false);
  }

  #latch(high: number, low: number, mode: number): void {
    this.#walk.rootHigh = high;
    this.#walk.rootLow = low;
    this.#walk.mode = mode;
    this.#commands.legacy = mode === registers.TTM_LEGACY;
    this.#queue.setMode(mode);
    this.#caches.clear();
  }

  #write(offset: number, value: number): void {
    const file = this.#registers;
    const { features, faultRecords } = this.#configuration;
    if (offset >= registers.FRCD && offset < registers.FRCD + faultRecords * registers.FRCD_BYTES) {
      if ((offset & 0xc) === 0xc) this.#faults.writeRecord(offset, value);
      return;
    }
    if (this.#faultEvent.write(offset, value)) return;
    if (features.queuedInvalidation && this.#writeQueue(offset, value)) return;
    if (features.pageRequests && this.#writePageQueue(offset, value)) return;
    switch (offset) {
      case registers.GCMD:
        this.#command(value);
        break;
      case registers.RTADDR:
        file.set(offset, value & (~0xfff | registers.RTADDR_TTM | this.#ssirwe()));
        break;
      case registers.RTADDR + 4:
        file.set(offset, value);
        break;
      case registers.FSTS:
        this.#faults.writeStatus(value);
        // IQE and ITE held the queue up.
        this.#runQueue();
        break;
      default:
        if (this.#configuration.version < 0x60) writeInvalidation(file, this.#commands, offset, value);
    }
  }

  /** Descriptors that were fetched before may be others now. */
  #runQueue(): void {
    this.memory.forget();
    this.#queue.run();
  }

  #ssirwe(): number {
    return this.#configuration.features.secondStageIrIw ? registers.RTADDR_SSIRWE : 0;
  }

  /** GCMD: one-shot bits act when set, level bits when they change (11.4.4.1). */
  #command(value: number): void {
    const file = this.#registers;
    const changed = file.get(registers.GSTS) ^ value;
    if ((value & registers.GCMD_SRTP) !== 0) this.#setRootPointer();
    if ((changed & registers.GCMD_QIE) !== 0 && this.#configuration.features.queuedInvalidation) {
      const on = (value & registers.GCMD_QIE) !== 0;
      if (on) file.or(registers.GSTS, registers.GCMD_QIE);
      else file.clear(registers.GSTS, registers.GCMD_QIE);
      this.memory.forget();
      this.#queue.enable(on);
    }
    if ((changed & registers.GCMD_TE) === 0) return;
    const on = (value & registers.GCMD_TE) !== 0;
    if (on) file.or(registers.GSTS, registers.GCMD_TE);
    else file.clear(registers.GSTS, registers.GCMD_TE);
    this.#walk.enabled = on;
    this.#caches.clear();
    if (!on) this.#faults.restart();
    this.#everythingGone();
  }

  #setRootPointer(): void {
    const file = this.#registers;
    const low = file.get(registers.RTADDR);
    const mode = (low & registers.RTADDR_TTM) >>> registers.RTADDR_TTM_SHIFT;
    this.#latch(file.get(registers.RTADDR + 4), low & ~0xfff, mode);
    this.#walk.alternateRights = (low & registers.RTADDR_SSIRWE) !== 0;
    file.or(registers.GSTS, registers.GCMD_SRTP);
    this.#everythingGone();
  }

  /** Registers of the invalidation queue; false when `offset` is none of them. */
  #writeQueue(offset: number, value: number): boolean {
    const file = this.#registers;
    switch (offset) {
      case registers.IQT:
        file.set(offset, value & registers.IQ_OFFSET);
        this.#runQueue();
        return true;
      case registers.IQA:
        file.set(offset, value & (~0xfff | registers.IQA_QS | this.#wideDescriptors()));
        return true;
      case registers.IQA + 4:
        file.set(offset, value);
        return true;
      case registers.ICS:
        file.clear(offset, value & registers.ICS_IWC);
        if (!file.has(offset, registers.ICS_IWC)) this.#completionEvent.serviced();
        return true;
      default:
        return this.#completionEvent.write(offset, value);
    }
  }

  #wideDescriptors(): number {
    return this.#configuration.features.scalableMode ? registers.IQA_DW : 0;
  }

  /** Registers of the page request queue; false when `offset` is none of them. */
  #writePageQueue(offset: number, value: number): boolean {
    const file = this.#registers;
    switch (offset) {
      case registers.PQH:
      case registers.PQT:
        file.set(offset, value & registers.PQ_OFFSET);
        return true;
      case registers.PQA:
        file.set(offset, value & (~0xfff | registers.PQA_PQS));
        return true;
      case registers.PQA + 4:
        file.set(offset, value);
        return true;
      case registers.PRS:
        this.#pageQueue.writeStatus(value);
        return true;
      default:
        return this.#pageEvent.write(offset, value);
    }
  }

  /** Ends what a register write invalidated. */
  #settle(): void {
    this.#caches.settle();
    this.#announcements.flush();
  }

  #everythingGone(): void {
    this.#announcements.pasid('all', 'all');
    this.#announcements.tables('all', 'all');
  }
}
