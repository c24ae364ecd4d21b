import { createFunction, type PciFunction, PciSegment, TypedEmitter } from '../../src/index.ts';
import { type AtcInvalidation, PRG_SUCCESS, type PrgResponse, type Verdict } from '../../src/viommu/index.ts';
import { VfioUserDevice } from '../vfio-user/index.ts';
import type { EngineOrder, EngineOutcome, EnginePageRequest, EngineResult } from './engine-order.ts';
import { EngineRegisters } from './engine-register-file.ts';
import type { RemappingUnit } from './remapping-unit.ts';
import { TranslationCache } from './translation-cache.ts';

/** Events of a {@link RequestEngine}, in the order in which things happen. */
export interface EngineEvents {
  request: EngineResult;
  'atc-invalidated': AtcInvalidation;
  'page-request': EnginePageRequest;
  'page-response': PrgResponse;
}

/** Options of a {@link RequestEngine}. */
export interface EngineOptions {
  /** Bits of PASID, 0 to 20; 0: no PASID capability. Default 16. */
  readonly pasidWidth?: number;
  /** It has ATS, and a translation cache. Default false. */
  readonly ats?: boolean;
  /** It has PRI. Default false. */
  readonly pri?: boolean;
  /** Where the guest sees it. Default `01:00.0`. */
  readonly bdf?: string;
}

interface Ending {
  readonly outcome: EngineOutcome;
  readonly verdict: Verdict | undefined;
  readonly data: Uint8Array;
}

/** Times that a page is asked for before the request is given up. */
const PAGE_ATTEMPTS = 4;
const PRG_INDICES = 512;
const RIGHTS = { read: 'r', write: 'w', execute: 'x', translate: 'r' } as const;
const NOTHING = new Uint8Array();

/**
 * A PCI function that sends the memory requests which guest software orders through its registers
 * (`engine-registers.ts`), past a remapping unit into the memory of the client, and tells how each ended. Serve
 * {@link RequestEngine.device}.
 */
export class RequestEngine extends TypedEmitter<EngineEvents> {
  readonly function: PciFunction;
  readonly device: VfioUserDevice;
  /** The segment that the function is in, behind the unit. */
  readonly segment: PciSegment;
  readonly #unit: RemappingUnit;
  readonly #registers = new EngineRegisters((order) => this.order(order));
  readonly #cache = new TranslationCache();
  /** Who waits for the answer to a page request, by its index. */
  readonly #waiting = new Map<number, (response: PrgResponse | undefined) => void>();
  #nextPrgi = 0;

  /** @throws VpciError as `createFunction` and `PciSegment.add` do. */
  constructor(unit: RemappingUnit, options: EngineOptions = {}) {
    super();
    const { pasidWidth = 16, ats = false, pri = false, bdf = '01:00.0' } = options;
    this.#unit = unit;
    this.function = createFunction({
      vendorId: 0x1b36,
      deviceId: 0x00f7,
      // Processing accelerator.
      classCode: 0x120000,
      pasid: { width: pasidWidth, execute: true, privileged: true },
      ats,
      pri,
      bars: [
        {
          index: 0,
          size: 0x1000,
          read: (offset, size) => this.#registers.read(offset, size),
          write: (offset, size, value) => this.#registers.write(offset, size, value),
        },
      ],
    });
    this.device = new VfioUserDevice(this.function);
    this.segment = new PciSegment({ iommu: unit.iommu });
    this.segment.add(bdf, this.function);
    unit.iommu.connectDevice(this.function, {
      onAtcInvalidate: (invalidation) => {
        this.#cache.invalidate(invalidation);
        if (this.hears('atc-invalidated')) this.emit('atc-invalidated', invalidation);
        return 'complete';
      },
      onPrgResponse: (response) => this.#answered(response),
    });
    this.function.on('reset', () => this.#reset());
  }

  /**
   * Sends a request, as the guest orders it through the registers.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for what no bus can carry.
   */
  async order(order: EngineOrder): Promise<EngineResult> {
    const result = { order, ...(await this.#carryOut(order)) };
    if (this.hears('request')) this.emit('request', result);
    return result;
  }

  async #carryOut(order: EngineOrder): Promise<Ending> {
    if (!this.#maySend(order)) return { outcome: 'not-sent', verdict: undefined, data: NOTHING };
    const verdict = await this.#translate(order);
    if (verdict.status === 'translated' || verdict.status === 'bypass') {
      return await this.#transfer(order, verdict, verdict.address);
    }
    const translated = verdict.status === 'ats' && verdict.address !== undefined;
    const refused = verdict.status === 'pending' ? 'no-memory' : 'rejected';
    return { outcome: translated ? 'done' : refused, verdict, data: NOTHING };
  }

  #maySend({ pasid, kind, ats = false, pri = false, force = false }: EngineOrder): boolean {
    if (force) return true;
    const { atsEnable, priEnable } = this.function.endpointState;
    const usesAts = ats || kind === 'translate';
    return this.function.canIssue(pasid) && (!usesAts || atsEnable) && (!pri || priEnable);
  }

  /** What the unit says in the end: with ATS about the translated request, when it comes to that. */
  async #translate(order: EngineOrder): Promise<Verdict> {
    const { kind, pasid, address, privileged = false, ats = false, pri = false } = order;
    if (kind === 'translate') return await this.#ask(order, 'translation', address);
    if (!ats) return await this.#ask(order, 'untranslated', address);
    for (let attempt = 1; ; attempt++) {
      const held = this.#cache.find(pasid, privileged, address, RIGHTS[kind]);
      if (held !== undefined) {
        return await this.#ask(order, 'translated', held.address + (address - held.page));
      }
      const verdict = await this.#ask(order, 'translation', address);
      if (verdict.status !== 'ats') return verdict;
      if (this.#hold(order, verdict)) continue;
      if (!pri || attempt > PAGE_ATTEMPTS || !(await this.#requestPage(order))) return verdict;
    }
  }

  /** Keeps a translation; true when it has the right that the order needs. */
  #hold(
    { kind, pasid, address, privileged = false }: EngineOrder,
    verdict: Extract<Verdict, { status: 'ats' }>,
  ): boolean {
    const { address: to, pageSize: size, permissions } = verdict;
    if (to === undefined || size === undefined) return false;
    this.#cache.add({
      pasid,
      privileged,
      page: address - (address % size),
      size,
      address: to - (to % size),
      permissions,
    });
    return permissions.includes(RIGHTS[kind]);
  }

  async #ask(
    { kind, pasid, privileged = false, data }: EngineOrder,
    at: 'untranslated' | 'translation' | 'translated',
    address: bigint,
  ): Promise<Verdict> {
    // A Translation Request is a read; it says by No Write what it does not need. A translated request has no PASID
    // unless the function was allowed to (PCIe 6.20.2), which no register of this one can do.
    const translated = at === 'translated';
    const reads = kind === 'translate' || (at === 'translation' && kind === 'write');
    return await this.#unit.request({
      endpoint: this.function,
      pasid: translated ? null : pasid,
      address,
      access: reads || (translated && kind === 'execute') ? 'read' : kind,
      size: data.length,
      privileged: privileged && !translated,
      noWrite: at === 'translation' && kind !== 'write',
      at,
    });
  }

  async #transfer({ kind, data }: EngineOrder, verdict: Verdict, address: bigint): Promise<Ending> {
    if (kind === 'write') {
      const done = await this.device.write(address, data);
      return { outcome: done ? 'done' : 'no-memory', verdict, data: done ? data : NOTHING };
    }
    const bytes = await this.device.read(address, data.length);
    return { outcome: bytes === undefined ? 'no-memory' : 'done', verdict, data: bytes ?? NOTHING };
  }

  /** Asks for the page of an order; true when the guest gave it. */
  async #requestPage({ kind, pasid, address, privileged = false }: EngineOrder): Promise<boolean> {
    const prgi = this.#nextPrgi;
    this.#nextPrgi = (prgi + 1) % PRG_INDICES;
    const response = new Promise<PrgResponse | undefined>((resolve) => {
      this.#waiting.set(prgi, resolve);
    });
    const { queued } = await this.#unit.pageRequest({
      endpoint: this.function,
      pasid,
      address,
      read: kind !== 'write',
      write: kind === 'write',
      execute: kind === 'execute',
      privileged,
      last: true,
      prgi,
    });
    if (this.hears('page-request')) {
      this.emit('page-request', { pasid, prgi, address: address & ~0xfffn, queued });
    }
    if (!queued) this.#waiting.delete(prgi);
    return queued && (await response)?.response === PRG_SUCCESS;
  }

  #answered(response: PrgResponse): void {
    if (this.hears('page-response')) this.emit('page-response', response);
    this.#waiting.get(response.prgi)?.(response);
    this.#waiting.delete(response.prgi);
  }

  #reset(): void {
    this.#registers.reset();
    this.#cache.clear();
    for (const give of this.#waiting.values()) give(undefined);
    this.#waiting.clear();
  }
}
