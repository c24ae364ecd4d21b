import type { EndpointRegistry } from '../endpoint-registry.ts';
import type { ViommuEvents } from '../events.ts';

type Announced = 'pasid-invalidated' | 'tables-invalidated' | 'translation-invalidated';

/** The unit whose events these are. */
export interface AnnouncementHost {
  readonly endpoints: EndpointRegistry;
  readonly hears: (event: Announced) => boolean;
  readonly emit: <Name extends Announced>(event: Name, payload: ViommuEvents[Name]) => void;
}

/** Invalidations of single PASIDs in one go that are announced one by one; what follows is announced as all. */
const SINGLE_LIMIT = 1024;

const PAGE_SHIFT = 12n;

/**
 * Tells listeners what a guest invalidated. One write of the queue's tail orders thousands of invalidations, and a
 * listener that mirrors tables looks at all of them for each of everything: those wait for {@link Announcements.flush},
 * and are told once. The guest is told only then.
 */
export class Announcements {
  readonly #host: AnnouncementHost;
  // Requester IDs of which everything is void, and of which all tables are; kept until the flush.
  #functions = new Set<number | 'all'>();
  #tables = new Set<number | 'all'>();
  #singles = 0;

  constructor(host: AnnouncementHost) {
    this.#host = host;
  }

  /** Something is yet to be told. */
  get isPending(): boolean {
    return this.#functions.size > 0 || this.#tables.size > 0;
  }

  /** A PASID, or everything, of one requester (or of all) is void. */
  pasid(rid: number | 'all', pasid: number | 'all'): void {
    if (!this.#host.hears('pasid-invalidated') || this.#isTold(this.#functions, rid)) return;
    if (pasid === 'all' || !this.#mayTellOne()) {
      this.#functions.add(rid);
      return;
    }
    for (const one of this.#ridsOf(rid)) this.#host.emit('pasid-invalidated', { rid: one, pasid });
  }

  /** Context or PASID table entries of one requester (or of all) may be others now. */
  tables(rid: number | 'all', pasid: number | 'all'): void {
    if (!this.#host.hears('tables-invalidated') || this.#isTold(this.#tables, rid)) return;
    if (pasid === 'all' || !this.#mayTellOne()) this.#tables.add(rid);
    else this.#host.emit('tables-invalidated', { rid, pasid });
  }

  /** Pages `first`..`last` (4 KiB, both included) of a PASID are void, whoever uses it. */
  pages(pasid: number, first: number, last: number): void {
    if (!this.#host.hears('translation-invalidated') || this.#functions.has('all')) return;
    if (!this.#mayTellOne()) {
      this.#functions.add('all');
      return;
    }
    const iova = BigInt(first) << PAGE_SHIFT;
    const size = (BigInt(last - first) + 1n) << PAGE_SHIFT;
    for (const rid of this.#host.endpoints.rids()) {
      this.#host.emit('translation-invalidated', { rid, pasid, iova, size });
      // The traffic without PASID may go through the same entry, by RID_PASID.
      this.#host.emit('translation-invalidated', { rid, pasid: null, iova, size });
    }
  }

  /** Tells what is pending. */
  flush(): void {
    this.#singles = 0;
    if (!this.isPending) return;
    const [functions, tables] = [this.#functions, this.#tables];
    this.#functions = new Set();
    this.#tables = new Set();
    const rids = functions.has('all')
      ? this.#ridsOf('all')
      : [...functions].flatMap((rid) => this.#ridsOf(rid));
    for (const rid of rids) this.#host.emit('pasid-invalidated', { rid, pasid: 'all' });
    for (const rid of tables.has('all') ? (['all'] as const) : tables) {
      this.#host.emit('tables-invalidated', { rid, pasid: 'all' });
    }
  }

  #isTold(pending: ReadonlySet<number | 'all'>, rid: number | 'all'): boolean {
    // Of requesters that nobody stands behind there is nothing to tell, and a queue can name all 65,536.
    return pending.has('all') || (rid !== 'all' && this.#host.endpoints.get(rid) === undefined);
  }

  #mayTellOne(): boolean {
    this.#singles++;
    return this.#singles <= SINGLE_LIMIT;
  }

  #ridsOf(rid: number | 'all'): readonly number[] {
    if (rid === 'all') return this.#host.endpoints.rids();
    return this.#host.endpoints.get(rid) === undefined ? [] : [rid];
  }
}
