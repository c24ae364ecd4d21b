/** Requests that a walk accepted. */
export const TALLY_ACCEPTED = 0;
/** Requests that were refused. */
export const TALLY_REJECTED = 1;
/** Requests that could not be decided because guest memory was not at hand. */
export const TALLY_PENDING = 2;
/** Page requests that were handed on. */
export const TALLY_PAGE_REQUESTS = 3;
/** Page requests that were refused. */
export const TALLY_PAGE_REQUESTS_REFUSED = 4;
/** ATS invalidations sent to devices. */
export const TALLY_ATC_INVALIDATIONS = 5;
/** ATS invalidations that timed out. */
export const TALLY_ATC_TIMEOUTS = 6;
const FIRST_REASON = 7;
// Not exported, and so folded into the code that uses it (see result.ts).
const REJECTED = TALLY_REJECTED;

/** Counters of a unit on the host's side. Exact to 2^53; adding one allocates nothing. */
export interface ViommuCounters {
  /** Requests that got an address, from the IOTLB or a walk; ATS answers without rights among them. */
  readonly accepted: number;
  readonly rejected: number;
  /** Rejected requests by reason. */
  readonly rejectedBy: Readonly<Record<string, number>>;
  /** Requests that were not decided because guest memory was not at hand. */
  readonly pending: number;
  readonly iotlbHits: number;
  /** Requests that a walk had to answer. */
  readonly iotlbMisses: number;
  readonly pageRequests: number;
  readonly pageRequestsRefused: number;
  readonly atcInvalidations: number;
  readonly atcTimeouts: number;
}

/** The counters themselves: one double per slot, so that none is ever boxed. */
export class Tally {
  readonly #slots: Float64Array;
  readonly #reasons: readonly string[];

  constructor(reasons: readonly string[]) {
    this.#slots = new Float64Array(FIRST_REASON + reasons.length);
    this.#reasons = reasons;
  }

  /** Adds one to `TALLY_*`. */
  add(slot: number): void {
    this.#slots[slot] = this.#get(slot) + 1;
  }

  /** Adds one rejected request with the reason of that index. */
  reject(reason: number): void {
    this.add(REJECTED);
    this.add(FIRST_REASON + reason);
  }

  /** Sets all to 0. */
  clear(): void {
    this.#slots.fill(0);
  }

  /** The counters as plain data, with the `hits` of the IOTLB; reasons that never occurred are left out. */
  counters(hits: number): ViommuCounters {
    const rejectedBy: Record<string, number> = {};
    for (const [index, name] of this.#reasons.entries()) {
      const count = this.#get(FIRST_REASON + index);
      if (count > 0) rejectedBy[name] = count;
    }
    const walked = this.#get(TALLY_ACCEPTED);
    const rejected = this.#get(TALLY_REJECTED);
    const pending = this.#get(TALLY_PENDING);
    return {
      accepted: hits + walked,
      rejected,
      rejectedBy,
      pending,
      iotlbHits: hits,
      iotlbMisses: walked + rejected + pending,
      pageRequests: this.#get(TALLY_PAGE_REQUESTS),
      pageRequestsRefused: this.#get(TALLY_PAGE_REQUESTS_REFUSED),
      atcInvalidations: this.#get(TALLY_ATC_INVALIDATIONS),
      atcTimeouts: this.#get(TALLY_ATC_TIMEOUTS),
    };
  }

  #get(slot: number): number {
    return this.#slots[slot] ?? 0;
  }
}
