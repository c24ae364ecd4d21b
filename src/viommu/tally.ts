/** Requests that the IOTLB answered. */
export const TALLY_HITS = 0;
/** Requests that a walk accepted. */
export const TALLY_ACCEPTED = 1;
/** Requests that were refused. */
export const TALLY_REJECTED = 2;
/** Requests that could not be decided because guest memory was not at hand. */
export const TALLY_PENDING = 3;
/** Page requests that were handed on. */
export const TALLY_PAGE_REQUESTS = 4;
/** Page requests that were refused. */
export const TALLY_PAGE_REQUESTS_REFUSED = 5;
/** ATS invalidations sent to devices. */
export const TALLY_ATC_INVALIDATIONS = 6;
/** ATS invalidations that timed out. */
export const TALLY_ATC_TIMEOUTS = 7;
const FIRST_REASON = 8;

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
  readonly #slots: DataView;
  readonly #reasons: readonly string[];

  constructor(reasons: readonly string[]) {
    this.#slots = new DataView(new ArrayBuffer((FIRST_REASON + reasons.length) * 8));
    this.#reasons = reasons;
  }

  /** Adds one to `TALLY_*`. */
  add(slot: number): void {
    this.#slots.setFloat64(slot * 8, this.#get(slot) + 1, true);
  }

  /** Adds one rejected request with the reason of that index. */
  reject(reason: number): void {
    this.add(TALLY_REJECTED);
    this.add(FIRST_REASON + reason);
  }

  /** Sets all to 0. */
  clear(): void {
    new Uint8Array(this.#slots.buffer).fill(0);
  }

  /** The counters as plain data; reasons that never occurred are left out. */
  counters(): ViommuCounters {
    const rejectedBy: Record<string, number> = {};
    for (const [index, name] of this.#reasons.entries()) {
      const count = this.#get(FIRST_REASON + index);
      if (count > 0) rejectedBy[name] = count;
    }
    const hits = this.#get(TALLY_HITS);
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
    return this.#slots.getFloat64(slot * 8, true);
  }
}
