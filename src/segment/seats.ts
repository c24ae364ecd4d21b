import type { GuestConfigSpace, PciFunction } from '../function/index.ts';

const RIDS = 0x10000;
const BUSES = 0x100;

/** Who is at each requester ID, and whose registers answer there. */
export class Seats {
  /**
   * The registers that answer, by requester ID: a dense array is the fastest map there is from 16 bits to an object,
   * at any number of functions. Only {@link Seats.set} and {@link Seats.answer} write it.
   */
  readonly spaces: (GuestConfigSpace | undefined)[] = new Array<GuestConfigSpace | undefined>(RIDS).fill(
    undefined,
  );
  readonly #functions = new Array<PciFunction | undefined>(RIDS).fill(undefined);
  // Functions on each bus, so that nobody has to look at 65,536 seats for one.
  readonly #onBus = new Uint16Array(BUSES);

  /** The function at `rid`. */
  get(rid: number): PciFunction | undefined {
    return this.#functions[rid];
  }

  /** Puts `fn` at `rid`, or nobody; it does not answer yet. */
  set(rid: number, fn: PciFunction | undefined): void {
    const change = Number(fn !== undefined) - Number(this.#functions[rid] !== undefined);
    this.#onBus[rid >>> 8] = (this.#onBus[rid >>> 8] ?? 0) + change;
    this.#functions[rid] = fn;
    this.spaces[rid] = undefined;
  }

  /** The function at `rid` answers configuration requests from now on, or is silent. */
  answer(rid: number, answers: boolean): void {
    this.spaces[rid] = answers ? this.#functions[rid]?.space : undefined;
  }

  /** Everybody, by requester ID. */
  *entries(): Generator<readonly [rid: number, fn: PciFunction]> {
    for (let bus = 0; bus < BUSES; bus++) {
      let left = this.#onBus[bus] ?? 0;
      for (let rid = bus << 8; left > 0 && rid < (bus + 1) << 8; rid++) {
        const fn = this.#functions[rid];
        if (fn === undefined) continue;
        left--;
        yield [rid, fn];
      }
    }
  }

  /** Functions with the bus and device number of `rid`. */
  slotOf(rid: number): PciFunction[] {
    const first = rid & ~7;
    return this.#functions.slice(first, first + 8).filter((fn) => fn !== undefined);
  }
}
