import type { Endpoint, EndpointState } from '../pci/endpoint.ts';
import { ACCESS_PRIVILEGED, accessKind, NO_PASID } from './access.ts';
import { Blocks } from './blocks.ts';
import { EndpointHost } from './endpoint-host.ts';
import { Explanation, type ExplanationStep, type Probe } from './explanation.ts';
import { checkFront } from './front.ts';
import { Iotlb, IOTLB_MISS } from './iotlb.ts';
import { completeOptions, type UnconfiguredPolicy, type ViommuOptions, type ViommuState } from './options.ts';
import type { PageRequest, PageRequestAnswer } from './page-request.ts';
import { REASON_BLOCKED } from './reason.ts';
import { checkHotRequest, type MemoryRequest, parseRequest, pasidArgument, ridOf } from './request.ts';
import {
  NO_CODE,
  OUT_CODE,
  OUT_REASON,
  OUT_WORDS,
  refuse,
  STATUS_PENDING,
  STATUS_UNSUPPORTED_REQUEST,
  word,
} from './result.ts';
import { Tally, TALLY_ACCEPTED, TALLY_PENDING, type ViommuCounters } from './tally.ts';
import { type Verdict, verdictOf } from './verdict.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const MISS = IOTLB_MISS;
const PENDING = STATUS_PENDING;
const UNSUPPORTED = STATUS_UNSUPPORTED_REQUEST;
const REASON = OUT_REASON;
const ACCEPTED_COUNT = TALLY_ACCEPTED;
const PENDING_COUNT = TALLY_PENDING;

const BLOCKED_STEP: ExplanationStep = {
  structure: 'block',
  address: null,
  raw: [],
  fields: {},
  check: 'the embedder has not blocked it',
  ok: false,
  spec: 'none',
};

/**
 * An IOMMU as the devices of a guest see it. Models differ in where the guest configures them; what is here
 * they share: the two doors for requests, the checks that come before any table, the IOTLB, the endpoints,
 * the counters and the events.
 *
 * Whatever a guest or a device does has a verdict; only a mistake of the embedding program throws. Neither
 * Bus Master Enable nor PASID Enable is looked at: both are the device's duty.
 */
export abstract class Viommu extends EndpointHost {
  /** Name of the model, as in the trace format. */
  abstract readonly model: string;
  readonly pasidWhenUnconfigured: UnconfiguredPolicy;
  /** Names of the reasons by the number in word 4 of a result; 0 is the empty one. */
  readonly reasons: readonly string[];

  protected readonly iotlb: Iotlb;

  readonly #blocks = new Blocks();

  /** @throws VpciError `VPCI_PASID_WIDTH` or `VPCI_BAD_ARGUMENT` for options out of range. */
  constructor(options: ViommuOptions, reasons: readonly string[]) {
    const { pasidWidth, pasidWhenUnconfigured, iotlbEntries } = completeOptions(options);
    super(pasidWidth, new Tally(reasons));
    this.pasidWhenUnconfigured = pasidWhenUnconfigured;
    this.reasons = reasons;
    this.iotlb = new Iotlb(iotlbEntries);
  }

  /**
   * The friendly door: decides one memory request.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for a request that could not be on a bus.
   */
  request(request: MemoryRequest): Verdict {
    const { rid, pasid, iovaHigh, iovaLow, access } = parseRequest(request);
    // Not a shared array: a listener may ask again before the verdict is read.
    const out = new Uint32Array(OUT_WORDS);
    return verdictOf(this.translate(rid, pasid, iovaHigh, iovaLow, access, out), out, this.reasons);
  }

  /**
   * Decides a request as {@link Viommu.request} would, and tells how. Changes nothing: no counter, no event,
   * no IOTLB entry.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for a request that could not be on a bus.
   */
  explain(request: MemoryRequest): Explanation {
    const hot = parseRequest(request);
    const out = new Uint32Array(OUT_WORDS);
    const steps: ExplanationStep[] = [];
    const code = this.#decide(hot.rid, hot.pasid, hot.iovaHigh, hot.iovaLow, hot.access, out, steps);
    return new Explanation(hot, steps, verdictOf(code < 0 ? code : code & 0xff, out, this.reasons));
  }

  /**
   * The hot door: decides one memory request without allocating.
   *
   * @param rid requester ID, 0..0xffffff, or -1 for a function that has none now, which is an unknown requester
   * @param pasid 0..0xfffff, or -1 for a request without one
   * @param iovaHigh bits 63:32 of the bus address, signed or unsigned; `| 0` keeps it from being boxed
   * @param iovaLow bits 31:0, likewise
   * @param access `ACCESS_*` bits
   * @param out receives the result, see `OUT_*`; at least 6 words. A listener that asks meanwhile needs another one
   * @returns `STATUS_*`; negative when there is no address
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for arguments out of range.
   */
  translate(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
  ): number {
    const status = this.iotlb.lookup(rid, pasid, iovaHigh, iovaLow, access, out);
    return status === MISS ? this.#answer(rid, pasid, iovaHigh, iovaLow, access, out) : status;
  }

  /**
   * Refuses whatever `target` sends with `pasid` (null: without one; `all`: everything) before any table is read, with
   * the reason `blocked` and without a fault that the guest sees: for a mirror whose host does not serve it. Page
   * requests get Invalid Request. A block belongs to the embedder: reset and restore leave it.
   *
   * @throws VpciError `VPCI_PASID`, or `VPCI_REQUEST` for a bad RID.
   */
  block(target: Endpoint | number, pasid: number | null | 'all'): void {
    const rid = ridOf(target);
    const number = pasid === 'all' ? pasid : pasidArgument(pasid);
    this.#blocks.add(rid, number);
    if (number === 'all') this.iotlb.invalidateRid(rid);
    else this.iotlb.invalidatePasid(rid, number);
  }

  /**
   * Takes a block away; with `all` the one of everything, which those of single PASIDs outlast.
   *
   * @throws VpciError as {@link Viommu.block}.
   */
  unblock(target: Endpoint | number, pasid: number | null | 'all'): void {
    this.#blocks.remove(ridOf(target), pasid === 'all' ? pasid : pasidArgument(pasid));
  }

  /**
   * True when `target` is blocked with `pasid` (null: without one).
   *
   * @throws VpciError as {@link Viommu.block}.
   */
  isBlocked(target: Endpoint | number, pasid: number | null): boolean {
    return this.#blocks.has(ridOf(target), pasidArgument(pasid));
  }

  /**
   * Handles a Page Request Message.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for what no message can carry.
   */
  abstract pageRequest(request: PageRequest): PageRequestAnswer;

  /**
   * Reads `size` bytes of the unit's registers at `offset`. A model without registers reads all-ones.
   */
  readRegister(_offset: number, size: 1 | 2 | 4): number {
    return size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1;
  }

  /** Writes `size` bytes of the unit's registers at `offset`. A model without registers drops it. */
  writeRegister(_offset: number, _size: 1 | 2 | 4, _value: number): void {}

  /** Reads 8 bytes of registers: as two reads of 4, the lower first. */
  readRegister64(offset: number): bigint {
    const low = BigInt(this.readRegister(offset, 4));
    return (BigInt(this.readRegister(offset + 4, 4)) << 32n) | low;
  }

  /** Writes 8 bytes of registers: as two writes of 4, the lower first. */
  writeRegister64(offset: number, value: bigint): void {
    this.writeRegister(offset, 4, Number(value & 0xffff_ffffn));
    this.writeRegister(offset + 4, 4, Number((value >> 32n) & 0xffff_ffffn));
  }

  /** What the unit did since the last reset, seen from the host. */
  counters(): ViommuCounters {
    return this.tally.counters(this.iotlb.hits);
  }

  /** Tells the unit the time, in milliseconds from any origin, never backwards. */
  tick(_now: number): void {}

  /** Power-on state: the model's own state, the IOTLB and the counters. Endpoints stay. */
  reset(): void {
    this.iotlb.invalidateAll();
    this.iotlb.clearHits();
    this.tally.clear();
  }

  /** The state that the guest configured, as plain data. Caches, counters and endpoints are not in it. */
  abstract saveState(): ViommuState;

  /**
   * Takes over a state that `saveState` returned, and drops all caches.
   *
   * @throws VpciError `VPCI_STATE` when it is none, or not for a unit with these options; nothing has changed.
   */
  abstract restoreState(state: unknown): void;

  /**
   * The model's own decision, after the checks that all models share. With a probe it notes every step there
   * and changes nothing.
   *
   * @returns a `STATUS_*` with the result in `out`, or {@link cacheable}.
   */
  protected abstract walk(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
    endpoint: EndpointState,
    probe: Probe,
  ): number;

  /** What comes before every table: the shared checks, and the embedder's blocks. 0, or a `REASON_*`. */
  protected checkRequester(
    endpoint: EndpointState | undefined,
    rid: number,
    pasid: number,
    probe: Probe,
  ): number {
    const reason = checkFront(endpoint, pasid, this.pasidWidth, probe);
    if (reason !== 0 || !this.#blocks.has(rid, pasid)) return reason;
    probe?.push(BLOCKED_STEP);
    return REASON_BLOCKED;
  }

  protected override endpointInvalidated(rid: number): void {
    this.iotlb.invalidateRid(rid);
  }

  #answer(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
  ): number {
    checkHotRequest(rid, pasid, iovaHigh, iovaLow, access, out);
    const code = this.#decide(rid, pasid, iovaHigh, iovaLow, access, out, undefined);
    if (code < 0) {
      if (code === PENDING) this.tally.add(PENDING_COUNT);
      else this.#refused(rid, pasid, iovaHigh, iovaLow, access, out);
      return code;
    }
    this.tally.add(ACCEPTED_COUNT);
    const status = code & 0xff;
    if (code !== status) this.iotlb.fill(rid, pasid, iovaHigh, iovaLow, code >>> 8, status, out);
    return status;
  }

  #decide(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
    probe: Probe,
  ): number {
    const endpoint = this.endpoints.get(rid);
    const reason = this.checkRequester(endpoint, rid, pasid, probe);
    if (endpoint === undefined || reason !== 0) return refuse(out, UNSUPPORTED, reason);
    return this.walk(rid, pasid, iovaHigh, iovaLow, access, out, endpoint, probe);
  }

  #refused(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
  ): void {
    const reason = word(out, REASON);
    this.tally.reject(reason);
    if (!this.hears('fault')) return;
    const code = word(out, OUT_CODE);
    this.emit('fault', {
      rid,
      pasid: pasid === NO_PASID ? null : pasid,
      address: (BigInt(iovaHigh >>> 0) << 32n) | BigInt(iovaLow >>> 0),
      access: accessKind(access),
      privileged: (access & ACCESS_PRIVILEGED) !== 0,
      reason: this.reasons[reason] ?? '',
      ...(code === NO_CODE ? {} : { code }),
    });
  }
}
