/**
 * A map from requester IDs of up to 24 bits, as three levels of 256: three loads to look up, and memory for
 * the buses that are used only.
 */
export class RidTable<Value> {
  readonly #root: Level<Level<Level<Value>>> = new Level();

  /** The value of `rid` (0..0xffffff), or undefined. */
  get(rid: number): Value | undefined {
    return this.#root.slots[rid >>> 16]?.slots[(rid >>> 8) & 0xff]?.slots[rid & 0xff];
  }

  /** Gives `rid` (0..0xffffff) a value. */
  set(rid: number, value: Value): void {
    const domain = this.#root.slots[rid >>> 16] ?? this.#root.put(rid >>> 16, new Level<Level<Value>>());
    const number = (rid >>> 8) & 0xff;
    const bus = domain.slots[number] ?? domain.put(number, new Level<Value>());
    bus.put(rid & 0xff, value);
  }

  /** Takes the value of `rid` away, and levels that are empty then. */
  delete(rid: number): void {
    const domain = this.#root.slots[rid >>> 16];
    const bus = domain?.slots[(rid >>> 8) & 0xff];
    if (domain === undefined || bus === undefined) return;
    bus.take(rid & 0xff);
    if (bus.used === 0) domain.take((rid >>> 8) & 0xff);
    if (domain.used === 0) this.#root.take(rid >>> 16);
  }

  /** All `[rid, value]`, by ascending requester ID. */
  *entries(): Generator<[number, Value]> {
    for (const [domainNumber, domain] of this.#root.slots.entries()) {
      if (domain === undefined) continue;
      for (const [busNumber, bus] of domain.slots.entries()) {
        if (bus === undefined) continue;
        for (const [devfn, value] of bus.slots.entries()) {
          if (value !== undefined) yield [(domainNumber << 16) | (busNumber << 8) | devfn, value];
        }
      }
    }
  }
}

class Level<Slot> {
  readonly slots: (Slot | undefined)[] = new Array<Slot | undefined>(256).fill(undefined);
  used = 0;

  put(index: number, slot: Slot): Slot {
    if (this.slots[index] === undefined) this.used++;
    this.slots[index] = slot;
    return slot;
  }

  take(index: number): void {
    if (this.slots[index] !== undefined) this.used--;
    this.slots[index] = undefined;
  }
}
