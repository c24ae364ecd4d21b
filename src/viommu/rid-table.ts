const LEAF_BITS = 12;
const LEAF = 0x1000;
const LEAF_MASK = 0xfff;

/**
 * A map from requester IDs of up to 24 bits, as two levels of 4096: few loads to look up, and memory for the
 * ranges of 16 buses that are used only.
 */
export class RidTable<Value> {
  readonly #leaves: ((Value | undefined)[] | undefined)[] = emptyLeaf();
  readonly #used: Uint16Array = new Uint16Array(LEAF);

  /** The value of `rid` (0..0xffffff), or undefined. */
  get(rid: number): Value | undefined {
    return this.#leaves[rid >>> LEAF_BITS]?.[rid & LEAF_MASK];
  }

  /** Gives `rid` (0..0xffffff) a value. */
  set(rid: number, value: Value): void {
    const number = rid >>> LEAF_BITS;
    const leaf = this.#leaves[number] ?? emptyLeaf<Value>();
    this.#leaves[number] = leaf;
    if (leaf[rid & LEAF_MASK] === undefined) this.#count(number, 1);
    leaf[rid & LEAF_MASK] = value;
  }

  /** Takes the value of `rid` away, and the memory of a range that has none any more. */
  delete(rid: number): void {
    const number = rid >>> LEAF_BITS;
    const leaf = this.#leaves[number];
    if (leaf?.[rid & LEAF_MASK] === undefined) return;
    leaf[rid & LEAF_MASK] = undefined;
    if (this.#count(number, -1) === 0) this.#leaves[number] = undefined;
  }

  /** All `[rid, value]`, by ascending requester ID. */
  *entries(): Generator<[number, Value]> {
    for (const [number, leaf] of this.#leaves.entries()) {
      if (leaf === undefined) continue;
      for (const [index, value] of leaf.entries()) {
        if (value !== undefined) yield [(number << LEAF_BITS) | index, value];
      }
    }
  }

  #count(leaf: number, change: number): number {
    const used = (this.#used[leaf] ?? 0) + change;
    this.#used[leaf] = used;
    return used;
  }
}

// Filled, so that V8 keeps it a plain array: a sparse one is a dictionary, ten times slower.
function emptyLeaf<Value>(): (Value | undefined)[] {
  return new Array<Value | undefined>(LEAF).fill(undefined);
}
