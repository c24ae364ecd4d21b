import type { BridgePort, PciFunction } from '../function/index.ts';
import { formatBdf } from '../pci/bdf.ts';
import { NO_RID } from '../pci/endpoint.ts';
import { DEVICE_TYPE_UPSTREAM_PORT } from '../pci/express.ts';

/** A function's fixed place behind a port: device and function number. */
export interface Plug {
  readonly port: PciFunction;
  /** 0..31; 0 unless the port is the upstream port of a switch. */
  readonly device: number;
  /** 0..7. */
  readonly fn: number;
}

/**
 * Where functions hang: at fixed requester IDs, or under (port, device, function). The requester ID of the latter
 * follows from the bus numbers that the guest programs, and a function is out of reach while they lead nowhere.
 */
export class Topology {
  readonly #fixed = new Map<PciFunction, number>();
  readonly #plugs = new Map<PciFunction, Plug>();
  readonly #behind = new Map<PciFunction, readonly PciFunction[]>();

  addFixed(rid: number, fn: PciFunction): void {
    this.#fixed.set(fn, rid);
  }

  addPlugged(plug: Plug, fn: PciFunction): void {
    this.#plugs.set(fn, plug);
    this.#behind.set(
      plug.port,
      [...this.behind(plug.port), fn].toSorted((a, b) => this.#numberOf(a) - this.#numberOf(b)),
    );
  }

  /** Forgets `fn`. */
  delete(fn: PciFunction): void {
    this.#fixed.delete(fn);
    const plug = this.#plugs.get(fn);
    if (plug === undefined) return;
    this.#plugs.delete(fn);
    const behind = this.behind(plug.port).filter((one) => one !== fn);
    if (behind.length === 0) this.#behind.delete(plug.port);
    else this.#behind.set(plug.port, behind);
  }

  /** True when `fn` is in this topology. */
  has(fn: PciFunction): boolean {
    return this.#plugs.has(fn) || this.#fixed.has(fn);
  }

  /** Every function, those out of reach included, in no particular order. */
  *all(): Generator<PciFunction> {
    yield* this.#fixed.keys();
    yield* this.#plugs.keys();
  }

  /** Every function behind a port. */
  plugged(): Iterable<PciFunction> {
    return this.#plugs.keys();
  }

  /** Where `fn` is plugged; undefined when it has a fixed requester ID. */
  plugOf(fn: PciFunction): Plug | undefined {
    return this.#plugs.get(fn);
  }

  /** What is plugged behind `port`, by device and function number. */
  behind(port: PciFunction): readonly PciFunction[] {
    return this.#behind.get(port) ?? [];
  }

  /** The ports above `fn`, the nearest first. */
  *above(fn: PciFunction): Generator<PciFunction> {
    for (let plug = this.#plugs.get(fn); plug !== undefined; plug = this.#plugs.get(plug.port))
      yield plug.port;
  }

  /** True while `fn` and every port above it are in place. */
  isConnected(fn: PciFunction): boolean {
    let top = fn;
    for (const port of this.above(fn)) top = port;
    return this.has(top);
  }

  /** Functions that are plugged behind the same port as the same device as `fn`, itself included; none when it is fixed. */
  cardOf(fn: PciFunction): PciFunction[] {
    const plug = this.#plugs.get(fn);
    if (plug === undefined) return [];
    return this.behind(plug.port).filter((one) => this.#plugs.get(one)?.device === plug.device);
  }

  /**
   * Every function by its place, which no guest changes: the fixed address, and device and function number behind each
   * port on the way down (`00:01.0/00.0`). What hangs behind a port that was taken out begins with `-`.
   */
  places(): Map<string, PciFunction> {
    const places = new Map<string, PciFunction>();
    for (const fn of this.all()) {
      const path = this.#pathOf(fn);
      let place = path;
      for (let i = 2; places.has(place); i++) place = `${path}#${i}`;
      places.set(place, fn);
    }
    return places;
  }

  /** The requester ID of every plugged function, as the bus numbers are now; -1 for those out of reach. */
  requesterIds(): Map<PciFunction, number> {
    const rids = new Map<PciFunction, number>();
    for (const fn of this.#plugs.keys()) rids.set(fn, NO_RID);
    if (rids.size === 0) return rids;
    const taken = new Set(this.#fixed.values());
    // Where bus numbers clash, the order in which functions came must not decide: a state is restored elsewhere.
    const ports = [...this.#fixed].filter(([fn]) => fn.port !== undefined).toSorted(([, a], [, b]) => a - b);
    for (const [fn, rid] of ports) {
      if (fn.port !== undefined) this.#number(fn, fn.port, (rid >>> 8) + 1, 0xff, taken, rids);
    }
    return rids;
  }

  #numberOf(fn: PciFunction): number {
    const plug = this.#plugs.get(fn);
    return plug === undefined ? -1 : (plug.device << 3) | plug.fn;
  }

  #pathOf(fn: PciFunction): string {
    const plug = this.#plugs.get(fn);
    if (plug === undefined) {
      const rid = this.#fixed.get(fn);
      return rid === undefined ? '-' : formatBdf(rid);
    }
    const device = plug.device.toString(16).padStart(2, '0');
    return `${this.#pathOf(plug.port)}/${device}.${plug.fn}`;
  }

  /** Gives what is behind `port` its requester IDs; only buses `first` to `last` reach the port. */
  #number(
    port: PciFunction,
    { secondary, subordinate }: BridgePort,
    first: number,
    last: number,
    taken: Set<number>,
    rids: Map<PciFunction, number>,
  ): void {
    if (secondary < first || secondary > last) return;
    for (const fn of this.behind(port)) {
      const plug = this.#plugs.get(fn);
      if (plug === undefined) continue;
      const rid = (secondary << 8) | (plug.device << 3) | plug.fn;
      // A function that stands at a fixed place keeps it.
      if (taken.has(rid)) continue;
      taken.add(rid);
      rids.set(fn, rid);
      if (fn.port !== undefined) {
        this.#number(fn, fn.port, secondary + 1, Math.min(last, subordinate), taken, rids);
      }
    }
  }
}

/** Device numbers that exist behind `port`: a link has device 0 only, a switch one for each downstream port. */
export function lastDeviceBehind({ deviceType }: BridgePort): number {
  return deviceType === DEVICE_TYPE_UPSTREAM_PORT ? 31 : 0;
}
