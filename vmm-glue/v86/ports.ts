import type { PortEntry } from './machine.ts';

/** How the I/O ports of a stretch answer; `size` is 1, 2 or 4, values are unsigned. */
export interface PortHandler {
  read(port: number, size: number): number;
  write(port: number, size: number, value: number): void;
}

interface Claim {
  readonly ours: PortEntry;
  readonly previous: PortEntry;
}

/** The I/O ports taken over from v86, and what was there before. */
export class PortClaims {
  readonly #ports: PortEntry[];
  readonly #claims = new Map<number, Claim>();

  constructor(ports: PortEntry[]) {
    this.#ports = ports;
  }

  /** True when `port` is taken over. */
  has(port: number): boolean {
    return this.#claims.has(port);
  }

  /** The ports that are taken over. */
  claimed(): number[] {
    return [...this.#claims.keys()];
  }

  /** v86's own entry at `port`, taken over or not. */
  previous(port: number): PortEntry | undefined {
    return this.#claims.get(port)?.previous ?? this.#ports[port];
  }

  /** Lets `handler` answer at `port` for every access that begins there. */
  claim(port: number, handler: PortHandler): void {
    const previous = this.#ports[port];
    if (previous === undefined || this.#claims.has(port)) return;
    const ours: PortEntry = {
      ...previous,
      read8: () => handler.read(port, 1),
      read16: () => handler.read(port, 2),
      read32: () => handler.read(port, 4) | 0,
      write8: (value) => handler.write(port, 1, value & 0xff),
      write16: (value) => handler.write(port, 2, value & 0xffff),
      write32: (value) => handler.write(port, 4, value >>> 0),
    };
    this.#ports[port] = ours;
    this.#claims.set(port, { ours, previous });
  }

  /** Puts v86's own entry back at `port`, unless something else took the port over since. */
  release(port: number): void {
    const claim = this.#claims.get(port);
    if (claim === undefined) return;
    this.#claims.delete(port);
    if (this.#ports[port] === claim.ours) this.#ports[port] = claim.previous;
  }

  /** Puts back all of v86's entries. */
  releaseAll(): void {
    for (const port of this.claimed()) this.release(port);
  }
}
