import type { MemoryRequest } from '../../../src/viommu/request.ts';
import type { Verdict } from '../../../src/viommu/verdict.ts';

interface Page {
  /** Which mapping the page belongs to: one number for each that was made or left over by a cut. */
  readonly piece: number;
  readonly target: number;
  readonly permissions: string;
}

type Space = Map<number, Page>;

export interface ReferenceEndpoint {
  pasidWidth: number;
  ats: boolean;
}

/** The table model once more, page by page and as slow as it likes: what `TableIommu` is compared with. */
export class Reference {
  readonly endpoints = new Map<number, ReferenceEndpoint>();
  readonly #spaces = new Map<string, Space>();
  readonly #architectural: boolean;
  readonly #widthPages: number;
  readonly #pasidWidth: number;
  #pieces = 0;

  constructor(architectural: boolean, addressWidth: number, pasidWidth: number) {
    this.#architectural = architectural;
    this.#widthPages = 2 ** (addressWidth - 12);
    this.#pasidWidth = pasidWidth;
  }

  attached(rid: number, pasid: number | null): boolean {
    return this.#spaces.has(`${rid}/${pasid}`);
  }

  attach(rid: number, pasid: number | null): void {
    if (!this.attached(rid, pasid)) this.#spaces.set(`${rid}/${pasid}`, new Map());
  }

  detach(rid: number, pasid: number | null): void {
    this.#spaces.delete(`${rid}/${pasid}`);
  }

  detachAll(rid: number): void {
    for (const key of this.#spaces.keys()) if (key.startsWith(`${rid}/`)) this.#spaces.delete(key);
  }

  /** False when it overlaps. */
  map(
    rid: number,
    pasid: number | null,
    first: number,
    target: number,
    pages: number,
    permissions: string,
  ): boolean {
    const space = this.#spaces.get(`${rid}/${pasid}`);
    if (space === undefined) throw new Error('not attached');
    for (let page = first; page < first + pages; page++) if (space.has(page)) return false;
    const piece = this.#pieces++;
    for (let at = 0; at < pages; at++) space.set(first + at, { piece, target: target + at, permissions });
    return true;
  }

  unmap(rid: number, pasid: number | null, first: number, pages: number): void {
    const space = this.#spaces.get(`${rid}/${pasid}`);
    if (space === undefined) throw new Error('not attached');
    const cut = new Set<number>();
    for (let page = first; page < first + pages; page++) {
      const entry = space.get(page);
      if (entry !== undefined) cut.add(entry.piece);
      space.delete(page);
    }
    // What is left behind the hole is a mapping of its own.
    const renamed = new Map([...cut].map((piece) => [piece, this.#pieces++]));
    for (const [page, entry] of space) {
      const piece = renamed.get(entry.piece);
      if (page >= first && piece !== undefined) space.set(page, { ...entry, piece });
    }
  }

  request(request: MemoryRequest): Verdict {
    const { rid = -1, access, privileged = false, at = 'untranslated', noWrite = false } = request;
    const pasid = request.pasid ?? null;
    const address = BigInt(request.address);
    const reject = (reason: string): Verdict => ({ status: 'unsupported-request', reason });
    const endpoint = this.endpoints.get(rid);
    if (endpoint === undefined) return reject('unknown-requester');
    if (pasid !== null) {
      if (endpoint.pasidWidth === 0 || this.#pasidWidth === 0) return reject('pasid-not-supported');
      if (pasid >= 2 ** Math.min(endpoint.pasidWidth, this.#pasidWidth)) return reject('pasid-beyond-width');
    }
    if (pasid === null && access === 'execute') return reject('execute-without-pasid');
    if (pasid === null && privileged) return reject('privileged-without-pasid');
    if (at !== 'untranslated' && !endpoint.ats) return reject('ats-not-supported');
    if (at === 'translated' && pasid !== null && !this.#architectural) return reject('translated-with-pasid');
    const configured = [...this.#spaces.keys()].some((key) => key.startsWith(`${rid}/`));
    if (!configured && this.#architectural && at !== 'translation') return { status: 'bypass', address };
    if (at === 'translated') return configured ? { status: 'bypass', address } : reject('not-attached');
    const space = this.#spaces.get(`${rid}/${pasid}`);
    if (space === undefined) return reject(pasid === null ? 'not-attached' : 'pasid-not-attached');
    const fail = (reason: string): Verdict =>
      at === 'translation' ? { status: 'ats', permissions: '', reason } : reject(reason);
    const page = Number(address >> 12n);
    if (page >= this.#widthPages) return fail('address-beyond-width');
    const entry = space.get(page);
    if (entry === undefined) return fail('not-mapped');
    const has = (letter: string): boolean => entry.permissions.includes(letter);
    if (has('p') && !privileged) return fail('privileged-only');
    const where = {
      address: (BigInt(entry.target) << 12n) | (address & 0xfffn),
      pageSize: BigInt(pageSize(space, page, entry)),
    };
    if (at === 'translation') {
      const rights = [
        has('r') ? 'r' : '',
        has('w') && !noWrite ? 'w' : '',
        has('r') && has('x') && access === 'execute' ? 'x' : '',
      ].join('');
      if (rights === '') return fail('no-read-permission');
      return { status: 'ats', ...where, permissions: privileged ? `${rights}p` : rights };
    }
    if (access !== 'write' && !has('r')) return reject('no-read-permission');
    if ((access === 'write' || access === 'atomic') && !has('w')) return reject('no-write-permission');
    if (access === 'execute' && !has('x')) return reject('no-execute-permission');
    return { status: 'translated', ...where, permissions: entry.permissions };
  }
}

function pageSize(space: Space, page: number, entry: Page): number {
  const start = page - (page % 512);
  const target = entry.target - (page - start);
  if (target % 512 !== 0) return 4096;
  for (let at = start; at < start + 512; at++) {
    const other = space.get(at);
    if (other === undefined || other.piece !== entry.piece) return 4096;
  }
  return 512 * 4096;
}
