import type { AtcAnswer, AtcInvalidation, PrgResponse, PrgResponseCode } from '../device-port.ts';
import * as descriptors from './descriptors.ts';
import {
  type Caches,
  GRANULARITY_DOMAIN,
  GRANULARITY_GLOBAL,
  GRANULARITY_SELECTIVE,
  maskedRids,
} from './invalidations.ts';
import { DESCRIPTOR_DONE, DESCRIPTOR_INVALID, DESCRIPTOR_TIMEOUT } from './queues.ts';

/** Granularities of PASID-cache and PASID-based IOTLB invalidation (6.5.2.2, 6.5.2.4). */
const PASID_CACHE_DOMAIN = 0;
const PASID_CACHE_PASID = 1;
const PASID_CACHE_GLOBAL = 3;
const PASID_IOTLB_ALL = 2;
const PASID_IOTLB_PAGE = 3;

const PAGES = 2 ** 52;
const EVERYTHING = 0x1_0000_0000_0000_0000n;

/** What invalidations reach outside the unit. */
export interface CommandHost {
  /** Invalidates a device's translation cache. */
  readonly invalidateDevice: (rid: number, invalidation: AtcInvalidation) => AtcAnswer;
  /** Answers a page request group. */
  readonly respond: (rid: number, response: PrgResponse) => void;
  /** Says that a PASID, or everything, of one requester (or of all) is void. */
  readonly pasidGone: (rid: number | 'all', pasid: number | 'all') => void;
  /** Says that context or PASID table entries of one requester (or of all) may be others now. */
  readonly tablesGone: (rid: number | 'all', pasid: number | 'all') => void;
  /** Says that pages `first`..`last` of a PASID are void, whoever uses it. */
  readonly pagesGone: (pasid: number, first: number, last: number) => void;
  /** Notes the source ID of a device that did not answer. */
  readonly timedOut: (rid: number) => void;
}

/** What the unit's options say about invalidations. */
export interface CommandOptions {
  readonly maxAddressMask: number;
  readonly pageSelectiveInvalidation: boolean;
}

/** Invalidations and responses: what descriptors, or registers, ask for. */
export class Commands {
  readonly #caches: Caches;
  readonly #options: CommandOptions;
  readonly #host: CommandHost;
  /** The unit is in legacy mode. */
  legacy = true;

  constructor(caches: Caches, options: CommandOptions, host: CommandHost) {
    this.#caches = caches;
    this.#options = options;
    this.#host = host;
  }

  /** Carries out a descriptor whose reserved bits are 0; returns `DESCRIPTOR_*`. */
  carryOut(type: number, words: Int32Array): number {
    const word0 = words[0] ?? 0;
    const word1 = words[1] ?? 0;
    const word2 = words[2] ?? 0;
    const word3 = words[3] ?? 0;
    const granularity = (word0 & descriptors.GRANULARITY) >>> descriptors.GRANULARITY_SHIFT;
    const upper = word0 >>> descriptors.UPPER_SHIFT;
    const pasid = word1 & descriptors.WORD1_PASID;
    switch (type) {
      case descriptors.TYPE_CONTEXT_CACHE:
        return this.contextCache(granularity, upper, word1 & 0xffff, word1 >>> descriptors.CONTEXT1_FM_SHIFT);
      case descriptors.TYPE_IOTLB:
        return this.iotlb(granularity, upper, word2 & descriptors.IOTLB2_AM, word3, word2);
      case descriptors.TYPE_PASID_IOTLB:
        return this.#pasidIotlb(granularity, upper, pasid, word2 & descriptors.IOTLB2_AM, word3, word2);
      case descriptors.TYPE_PASID_CACHE:
        return this.#pasidCache(granularity, upper, pasid);
      case descriptors.TYPE_DEVICE_TLB: {
        const sized = (word2 & descriptors.DEVICE_TLB2_S) !== 0;
        return this.#deviceTlb(word1 & 0xffff, null, false, sized, word3, word2);
      }
      case descriptors.TYPE_PASID_DEVICE_TLB: {
        const sized = (word2 & descriptors.PASID_DEVICE_TLB2_S) !== 0;
        const global = (word2 & descriptors.PASID_DEVICE_TLB2_G) !== 0;
        return this.#deviceTlb(upper, pasid, global, sized, word3, word2);
      }
      case descriptors.TYPE_PAGE_GROUP_RESPONSE:
        return this.#respond(word0, upper, pasid, word2);
      default:
        return DESCRIPTOR_INVALID;
    }
  }

  /** Invalidates context entries (6.5.2.1). */
  contextCache(granularity: number, domain: number, source: number, functionMask: number): number {
    switch (granularity) {
      case GRANULARITY_GLOBAL:
        this.#caches.clear();
        break;
      case GRANULARITY_DOMAIN:
        this.#caches.contextDomain(domain, this.legacy);
        break;
      case GRANULARITY_SELECTIVE:
        this.#caches.contextDevice(source, functionMask);
        for (const rid of maskedRids(source, functionMask)) this.#entriesGone(rid, 'all');
        return DESCRIPTOR_DONE;
      default:
        return DESCRIPTOR_INVALID;
    }
    this.#entriesGone('all', 'all');
    return DESCRIPTOR_DONE;
  }

  /** Invalidates translations of a domain (6.5.2.3). */
  iotlb(granularity: number, domain: number, mask: number, high: number, low: number): number {
    const wholeDomain =
      granularity === GRANULARITY_DOMAIN ||
      (granularity === GRANULARITY_SELECTIVE && !this.#options.pageSelectiveInvalidation);
    if (granularity === GRANULARITY_GLOBAL) this.#caches.allTranslations();
    else if (wholeDomain) this.#caches.domain(domain);
    else if (granularity === GRANULARITY_SELECTIVE) {
      if (mask > this.#options.maxAddressMask) return DESCRIPTOR_INVALID;
      const first = firstPage(high, low, mask);
      this.#caches.domainPages(domain, first, first + 2 ** mask - 1);
    } else return DESCRIPTOR_INVALID;
    this.#host.pasidGone('all', 'all');
    return DESCRIPTOR_DONE;
  }

  #pasidIotlb(
    granularity: number,
    domain: number,
    pasid: number,
    mask: number,
    high: number,
    low: number,
  ): number {
    let first = 0;
    let last = PAGES - 1;
    if (granularity === PASID_IOTLB_PAGE) {
      if (mask > this.#options.maxAddressMask) return DESCRIPTOR_INVALID;
      first = firstPage(high, low, mask);
      last = first + 2 ** mask - 1;
    } else if (granularity !== PASID_IOTLB_ALL) return DESCRIPTOR_INVALID;
    this.#caches.pasidPages(domain, pasid, first, last);
    this.#host.pagesGone(pasid, first, last);
    return DESCRIPTOR_DONE;
  }

  #entriesGone(rid: number | 'all', pasid: number | 'all'): void {
    this.#host.pasidGone(rid, pasid);
    this.#host.tablesGone(rid, pasid);
  }

  #pasidCache(granularity: number, domain: number, pasid: number): number {
    switch (granularity) {
      case PASID_CACHE_DOMAIN:
        this.#caches.pasidEntries(domain, -1);
        this.#entriesGone('all', 'all');
        return DESCRIPTOR_DONE;
      case PASID_CACHE_PASID:
        this.#caches.pasidEntries(domain, pasid);
        this.#entriesGone('all', pasid);
        return DESCRIPTOR_DONE;
      case PASID_CACHE_GLOBAL:
        this.#caches.allPasidEntries();
        this.#entriesGone('all', 'all');
        return DESCRIPTOR_DONE;
      default:
        return DESCRIPTOR_INVALID;
    }
  }

  #deviceTlb(
    rid: number,
    pasid: number | null,
    global: boolean,
    sized: boolean,
    high: number,
    low: number,
  ): number {
    const range = deviceRange(high, low, sized);
    const answer = this.#host.invalidateDevice(rid, { pasid, ...(global ? { global } : {}), ...range });
    if (answer === 'complete') return DESCRIPTOR_DONE;
    this.#host.timedOut(rid);
    return DESCRIPTOR_TIMEOUT;
  }

  #respond(word0: number, rid: number, pasid: number, word2: number): number {
    const code = (word0 & descriptors.RESPONSE_CODE) >>> descriptors.RESPONSE_CODE_SHIFT;
    const prgi = (word2 & descriptors.RESPONSE2_PRGI) >>> descriptors.RESPONSE2_PRGI_SHIFT;
    this.#host.respond(rid, {
      pasid: (word0 & descriptors.RESPONSE_PP) === 0 ? null : pasid,
      prgi,
      response: responseCode(code),
    });
    return DESCRIPTOR_DONE;
  }
}

/** Codes that PCIe does not know mean Response Failure (PCIe 10.4.2.1). */
function responseCode(code: number): PrgResponseCode {
  return code === 0 || code === 1 ? code : 15;
}

/** First page of the block of 2^mask pages around an address. */
function firstPage(high: number, low: number, mask: number): number {
  const page = (high >>> 0) * 2 ** 20 + (low >>> 12);
  return page - (page % 2 ** mask);
}

/** The range of a device-TLB descriptor: with S, the first zero bit from bit 12 up tells its size. */
function deviceRange(high: number, low: number, sized: boolean): { address: bigint; size: bigint } {
  const address = ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) & ~0xfffn;
  if (!sized) return { address, size: 0x1000n };
  let bit = 0x1000n;
  while (bit < EVERYTHING && (address & bit) !== 0n) bit <<= 1n;
  const size = bit << 1n;
  if (size >= EVERYTHING) return { address: 0n, size: EVERYTHING };
  return { address: address & ~(size - 1n), size };
}
