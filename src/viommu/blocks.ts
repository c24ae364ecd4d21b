/** Stands for everything of a requester ID, among its PASIDs and {@link NO_PASID}. */
const EVERYTHING = -2;

/** Requester IDs and PASIDs that an embedder blocked. */
export class Blocks {
  readonly #byRid = new Map<number, Set<number>>();

  /** True when (`rid`, `pasid`) is blocked, by itself or with everything; -1 is the traffic without PASID. */
  has(rid: number, pasid: number): boolean {
    if (this.#byRid.size === 0) return false;
    const pasids = this.#byRid.get(rid);
    return pasids !== undefined && (pasids.has(pasid) || pasids.has(EVERYTHING));
  }

  /** Blocks (`rid`, `pasid`), or everything. */
  add(rid: number, pasid: number | 'all'): void {
    const pasids = this.#byRid.get(rid) ?? new Set<number>();
    this.#byRid.set(rid, pasids);
    pasids.add(pasid === 'all' ? EVERYTHING : pasid);
  }

  /** Takes the block of (`rid`, `pasid`) away, or that of everything; those of single PASIDs outlast it. */
  remove(rid: number, pasid: number | 'all'): void {
    const pasids = this.#byRid.get(rid);
    pasids?.delete(pasid === 'all' ? EVERYTHING : pasid);
    if (pasids?.size === 0) this.#byRid.delete(rid);
  }
}
