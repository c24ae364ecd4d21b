import type { Endpoint, EndpointState } from '../../pci/endpoint.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import { NO_PASID } from '../access.ts';
import {
  PRG_INVALID_REQUEST,
  PRG_RESPONSE_FAILURE,
  type PrgResponse,
  type PrgResponseCode,
} from '../device-port.ts';
import type { PageRequestEvent } from '../events.ts';
import type { Probe } from '../explanation.ts';
import type { ViommuOptions } from '../options.ts';
import { isStopMarker, type PageRequest, type PageRequestAnswer, parsePageRequest } from '../page-request.ts';
import { pasidArgument, ridOf } from '../request.ts';
import { TALLY_PAGE_REQUESTS, TALLY_PAGE_REQUESTS_REFUSED } from '../tally.ts';
import { Viommu } from '../viommu.ts';
import { type Mapping, type MappingRange, parseMapping, parseRange, toMapping } from './mapping.ts';
import { TABLE_REASONS } from './reasons.ts';
import { loadTables, saveTables, type TableIommuState } from './table-state.ts';
import { pasidCount, Tables } from './tables.ts';
import { type TableRules, tableRules, walkTables } from './walk.ts';

/** Options of a {@link TableIommu}. */
export interface TableIommuOptions extends ViommuOptions {
  /** Bits of a bus address, 12..64. Default 48. */
  readonly addressWidth?: number;
}

const EVERYTHING = 0x1_0000_0000_0000_0000n;

/**
 * The architecture-neutral vIOMMU: the embedder configures it by calls, where the other models are configured
 * by the guest through registers and memory. Address spaces belong to a (requester ID, PASID), or to a
 * requester ID's traffic without PASID; like the tables of a real unit they stay with the requester ID when
 * the function behind it moves or goes, until they are detached.
 *
 * Requests are rejected until their (requester ID, PASID) is attached and the address mapped.
 */
export class TableIommu extends Viommu {
  readonly model = 'table' as const;
  /** Bits of a bus address, 12..64. */
  readonly addressWidth: number;

  readonly #rules: TableRules;
  readonly #widthPages: number;
  #tables: Tables = new Tables();

  /** @throws VpciError `VPCI_PASID_WIDTH` or `VPCI_BAD_ARGUMENT` for options out of range. */
  constructor(options: TableIommuOptions = {}) {
    super(options, TABLE_REASONS);
    const { addressWidth = 48 } = options;
    if (!Number.isInteger(addressWidth) || addressWidth < 12 || addressWidth > 64) {
      throw new VpciError('VPCI_BAD_ARGUMENT', `addressWidth is ${addressWidth}: give 12 to 64 bits`);
    }
    this.addressWidth = addressWidth;
    this.#widthPages = 2 ** (addressWidth - 12);
    this.#rules = tableRules(this.pasidWidth, addressWidth, this.pasidWhenUnconfigured === 'architectural');
  }

  /**
   * Gives the requests of `target` with `pasid` (null or absent: those without one) an address space, empty
   * at first. One that is there already stays.
   *
   * @throws VpciError `VPCI_PASID` for a PASID that the unit's width does not cover, `VPCI_REQUEST` for a bad RID.
   */
  attach(target: Endpoint | number, pasid?: number | null): void {
    const rid = ridOf(target);
    const number = this.#checkedPasid(pasid);
    if (this.#tables.of(rid)?.has(number) === true) return;
    this.#tables.attach(rid, number);
    this.#announceTables(rid, number);
  }

  /**
   * True when `target` has an address space for `pasid` (null: for requests without one).
   *
   * @throws VpciError `VPCI_REQUEST` for a bad RID, `VPCI_PASID` for what is no PASID.
   */
  isAttached(target: Endpoint | number, pasid: number | null): boolean {
    return this.#tables.of(ridOf(target))?.has(pasidArgument(pasid)) === true;
  }

  /**
   * Takes the address space of `target` and `pasid` away, with its mappings; nothing when there is none.
   * Devices drop their translations first, then `pasid-invalidated` is emitted (`translation-invalidated`
   * with pasid null for the traffic without one).
   *
   * @throws VpciError as {@link TableIommu.attach}.
   */
  detach(target: Endpoint | number, pasid?: number | null): void {
    const rid = ridOf(target);
    const number = this.#checkedPasid(pasid);
    if (!this.#tables.detach(rid, number)) return;
    this.iotlb.invalidatePasid(rid, number);
    this.invalidateAtc(rid, { pasid: orNull(number), address: 0n, size: EVERYTHING });
    if (number === NO_PASID) this.#announceRange(rid, number, 0n, EVERYTHING);
    else if (this.hears('pasid-invalidated')) this.emit('pasid-invalidated', { rid, pasid: number });
    this.#announceTables(rid, number);
  }

  /**
   * Takes everything of `target` away; emits `pasid-invalidated` with `all` when there was something.
   *
   * @throws VpciError `VPCI_REQUEST` for a bad RID.
   */
  detachAll(target: Endpoint | number): void {
    const rid = ridOf(target);
    const pasids = this.#tables.detachAll(rid);
    this.iotlb.invalidateRid(rid);
    this.#announceAll(rid, pasids);
    if (pasids.length > 0) this.#announceTables(rid, 'all');
  }

  /**
   * Maps a range for `target` and `pasid` (null: the traffic without one).
   *
   * @throws VpciError `VPCI_IOMMU_MAP` when that is not attached, the range is empty, not aligned to 4 KiB,
   *   beyond the address width or overlaps a mapping, or the permissions are none of `rwxp`.
   */
  map(target: Endpoint | number, pasid: number | null | undefined, mapping: Mapping): void {
    const rid = ridOf(target);
    const number = pasidArgument(pasid);
    const space = this.#tables.space(rid, number);
    const parsed = parseMapping(mapping, this.#widthPages);
    if (space.insert(parsed)) {
      if (this.hears('mapped')) this.emit('mapped', { rid, pasid: orNull(number), ...toMapping(parsed) });
      return;
    }
    throw new VpciError(
      'VPCI_IOMMU_MAP',
      `the range at IOVA 0x${(parsed.first * 4096).toString(16)} overlaps a mapping: unmap that one first`,
    );
  }

  /**
   * Unmaps whatever is mapped in a range, splitting mappings that reach beyond it. Devices drop their
   * translations first, then `translation-invalidated` is emitted.
   *
   * @throws VpciError `VPCI_IOMMU_MAP` when that is not attached, or the range is empty, not aligned to 4 KiB
   *   or beyond the address width.
   */
  unmap(target: Endpoint | number, pasid: number | null | undefined, range: MappingRange): void {
    const rid = ridOf(target);
    const number = pasidArgument(pasid);
    const space = this.#tables.space(rid, number);
    const { first, end } = parseRange(range, this.#widthPages);
    const touched = space.remove(first, end);
    if (touched === undefined) return;
    // All of a mapping that was cut: what is left of it may have a smaller page size now.
    this.iotlb.invalidateRange(rid, number, touched.first, touched.end - 1);
    const iova = BigInt(range.iova);
    const size = BigInt(range.size);
    this.invalidateAtc(rid, { pasid: orNull(number), address: iova, size });
    this.#announceRange(rid, number, iova, size);
  }

  /**
   * Handles a Page Request Message: hands it to the listeners of `page-request`, who answer its group with
   * {@link TableIommu.respond}. It is refused at once with Invalid Request when the PASID (or the traffic
   * without one) is not attached or the endpoint shows no PRI, and with Response Failure when nobody listens
   * or the requester is unknown; only the last request of a group gets that response, and a stop marker none.
   */
  override pageRequest(request: PageRequest): PageRequestAnswer {
    const parsed = parsePageRequest(request);
    const refusal = this.#refusePageRequest(parsed);
    if (refusal === undefined) {
      this.tally.add(TALLY_PAGE_REQUESTS);
      this.emit('page-request', parsed);
      return { queued: true };
    }
    this.tally.add(TALLY_PAGE_REQUESTS_REFUSED);
    if (!parsed.last || isStopMarker(parsed)) return { queued: false };
    return {
      queued: false,
      response: refusal,
      ...(parsed.pasid === null ? {} : { pasid: parsed.pasid }),
    };
  }

  /**
   * Answers a group of page requests.
   *
   * @returns false when no device of `target` takes the answer.
   * @throws VpciError `VPCI_PASID`, or `VPCI_REQUEST` for a PRG index or response code that there is not.
   */
  respond(target: Endpoint | number, answer: PrgResponse): boolean {
    const { prgi, response } = answer;
    if (!Number.isInteger(prgi) || prgi < 0 || prgi > 511) {
      throw new VpciError('VPCI_REQUEST', `PRG index ${prgi}: give a whole number of 0..511`);
    }
    if (!RESPONSES.has(response)) {
      throw new VpciError('VPCI_REQUEST', `PRG response ${response}: use 0, 1 or 15 (PCIe 10.4.2)`);
    }
    const pasid = orNull(pasidArgument(answer.pasid));
    return this.sendPrgResponse(ridOf(target), { pasid, prgi, response });
  }

  override reset(): void {
    super.reset();
    this.#replaceTables(new Tables());
  }

  override saveState(): TableIommuState {
    return saveTables(this.#tables, this);
  }

  override restoreState(state: unknown): void {
    this.#replaceTables(loadTables(state, this));
  }

  protected override walk(
    rid: number,
    pasid: number,
    iovaHigh: number,
    iovaLow: number,
    access: number,
    out: Uint32Array,
    endpoint: EndpointState,
    probe: Probe,
  ): number {
    const attachments = this.#tables.of(rid);
    return walkTables(this.#rules, attachments, endpoint, pasid, iovaHigh, iovaLow, access, out, probe);
  }

  #refusePageRequest({ rid, pasid }: PageRequestEvent): PrgResponseCode | undefined {
    const endpoint = this.endpoints.get(rid);
    if (endpoint === undefined) return PRG_RESPONSE_FAILURE;
    const number = pasid ?? NO_PASID;
    const passes = endpoint.pri && this.checkRequester(endpoint, rid, number, undefined) === 0;
    if (!passes || this.#tables.of(rid)?.has(number) !== true) return PRG_INVALID_REQUEST;
    return this.hears('page-request') ? undefined : PRG_RESPONSE_FAILURE;
  }

  #replaceTables(tables: Tables): void {
    const old = this.#tables;
    this.#tables = tables;
    this.iotlb.invalidateAll();
    for (const rid of old.rids()) this.#announceAll(rid, old.detachAll(rid));
    this.#announceTables('all', 'all');
  }

  #announceTables(rid: number | 'all', pasid: number | 'all'): void {
    if (!this.hears('tables-invalidated')) return;
    this.emit('tables-invalidated', { rid, pasid: pasid === 'all' ? pasid : orNull(pasid) });
  }

  #announceAll(rid: number, pasids: readonly number[]): void {
    if (pasids.length === 0) return;
    for (const pasid of pasids) {
      this.invalidateAtc(rid, { pasid: orNull(pasid), address: 0n, size: EVERYTHING });
    }
    if (this.hears('pasid-invalidated')) this.emit('pasid-invalidated', { rid, pasid: 'all' });
  }

  #announceRange(rid: number, pasid: number, iova: bigint, size: bigint): void {
    if (!this.hears('translation-invalidated')) return;
    this.emit('translation-invalidated', { rid, pasid: orNull(pasid), iova, size });
  }

  #checkedPasid(pasid: number | null | undefined): number {
    const number = pasidArgument(pasid);
    if (number === NO_PASID || number < pasidCount(this.pasidWidth)) return number;
    throw new VpciError(
      'VPCI_PASID',
      `PASID 0x${number.toString(16)} does not fit the ${this.pasidWidth} bits of this unit: raise its pasidWidth`,
    );
  }
}

const RESPONSES: ReadonlySet<number> = new Set([0, PRG_INVALID_REQUEST, PRG_RESPONSE_FAILURE]);

function orNull(pasid: number): number | null {
  return pasid === NO_PASID ? null : pasid;
}
