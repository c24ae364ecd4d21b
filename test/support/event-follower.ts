import type { MsiRouteEvent, PciFunction } from '../../src/index.ts';

// Somebody who knows a function by its events alone, and what it ought to know.

const BARS = [0, 1, 2, 3, 4, 5, 6] as const;

/** What the events of a function told so far, beginning with what there was at the start. */
export class EventFollower {
  command: unknown;
  pasid: unknown;
  ats: unknown;
  pri: unknown;
  power: number;
  asserted = false;
  readonly bars = new Map<number, string>();
  /** Vectors that may fire; `msi` and `msi-x` apart. */
  readonly routes = new Map<string, string>();

  constructor(fn: PciFunction) {
    const truth = truthOf(fn);
    this.command = truth.command;
    this.pasid = truth.pasid;
    this.ats = truth.ats;
    this.pri = truth.pri;
    this.power = truth.power;
    this.asserted = truth.asserted;
    for (const [index, where] of truth.bars) this.bars.set(index, where);
    for (const [vector, message] of truth.routes) this.routes.set(vector, message);
    fn.on('command', (event) => (this.command = event));
    fn.on('pasid-control', (event) => (this.pasid = event));
    fn.on('ats-control', (event) => (this.ats = event));
    fn.on('pri-control', (event) => (this.pri = event));
    fn.on('power-state', ({ state }) => (this.power = state));
    fn.on('intx', ({ asserted }) => (this.asserted = asserted));
    fn.on('bar', ({ index, address, enabled }) => this.bars.set(index, enabled ? address.toString(16) : '-'));
    fn.on('msi-route', (route) => this.#routed(route));
  }

  /** What it knows, in the shape of {@link truthOf}. */
  get known(): ReturnType<typeof truthOf> {
    const { command, pasid, ats, pri, power, asserted, bars, routes } = this;
    return { command, pasid, ats, pri, power, asserted, bars: sorted(bars), routes: sorted(routes) };
  }

  #routed({ kind, vector, address, data, enabled }: MsiRouteEvent): void {
    const name = `${kind} ${vector}`;
    if (enabled) this.routes.set(name, `${address.toString(16)}:${data.toString(16)}`);
    else this.routes.delete(name);
  }
}

/** The same, read from the registers of `fn`, without touching it. */
export function truthOf(fn: PciFunction): {
  command: unknown;
  pasid: unknown;
  ats: unknown;
  pri: unknown;
  power: number;
  asserted: boolean;
  bars: [number, string][];
  routes: [string, string][];
} {
  const bytes = new DataView(new ArrayBuffer(fn.size));
  fn.inspectInto(0, new Uint8Array(bytes.buffer));
  const extended = (id: number): number | undefined =>
    fn.extendedCapabilities.find((one) => one.id === id && one.synthesized)?.offset;
  const standard = (id: number): number | undefined => fn.capabilities.find((one) => one.id === id)?.offset;
  const word = (offset: number | undefined, register: number): number =>
    offset === undefined ? 0 : bytes.getUint16(offset + register, true);
  const bit = (value: number, mask: number): boolean => (value & mask) !== 0;
  const command = bytes.getUint16(4, true);
  const pasid = word(extended(0x1b), 6);
  const ats = word(extended(0x0f), 6);
  const power = word(standard(0x01), 4) & 3;
  const msi = word(standard(0x05), 2);
  const msiX = word(standard(0x11), 2);
  const usesMessages = bit(msi, 1) || bit(msiX, 0x8000);
  const pin = fn.interruptPin;
  const level = bit(bytes.getUint16(6, true), 0x0008);
  return {
    command: {
      io: bit(command, 1),
      memory: bit(command, 2),
      busMaster: bit(command, 4),
      interruptDisable: bit(command, 0x400),
    },
    pasid: { enable: bit(pasid, 1), execute: bit(pasid, 2), privileged: bit(pasid, 4) },
    ats: { enable: bit(ats, 0x8000), smallestTranslationUnit: ats & 0x1f },
    pri: { enable: bit(word(extended(0x13), 4), 1) },
    power,
    asserted: level && pin !== 0 && !bit(command, 0x400) && !usesMessages && power === 0,
    bars: BARS.map((index): [number, string] => {
      const bar = fn.bars.find((one) => one.index === index);
      return [index, bar?.enabled === true ? bar.address.toString(16) : '-'];
    }).filter(([index]) => fn.bars.some((one) => one.index === index)),
    routes: sorted(
      new Map([...msiRoutes(bytes, standard(0x05), msi), ...msiXRoutes(fn, bytes, standard(0x11), msiX)]),
    ),
  };
}

/** MSI with 64-bit addresses and masks, the form of `msiCapability`. */
function msiRoutes(bytes: DataView, at: number | undefined, control: number): [string, string][] {
  if (at === undefined || (control & 1) === 0) return [];
  const vectors = 1 << Math.min((control >>> 4) & 7, (control >>> 1) & 7);
  const address = bytes.getUint32(at + 8, true) * 2 ** 32 + bytes.getUint32(at + 4, true);
  const data = bytes.getUint16(at + 12, true);
  const mask = bytes.getUint32(at + 16, true);
  return Array.from({ length: vectors }, (_, vector) => vector)
    .filter((vector) => (mask & (1 << vector)) === 0)
    .map((vector) => [
      `msi ${vector}`,
      `${address.toString(16)}:${((data & ~(vectors - 1)) | vector).toString(16)}`,
    ]);
}

function msiXRoutes(
  fn: PciFunction,
  bytes: DataView,
  at: number | undefined,
  control: number,
): [string, string][] {
  if (at === undefined || (control & 0xc000) !== 0x8000) return [];
  const location = bytes.getUint32(at + 4, true);
  const read = (vector: number, field: number): number =>
    fn.barRead(location & 7, (location & ~7) + 16 * vector + field, 4);
  return Array.from({ length: (control & 0x7ff) + 1 }, (_, vector) => vector)
    .filter((vector) => (read(vector, 12) & 1) === 0)
    .map((vector) => [
      `msi-x ${vector}`,
      `${(read(vector, 4) * 2 ** 32 + read(vector, 0)).toString(16)}:${read(vector, 8).toString(16)}`,
    ]);
}

function sorted<Key extends number | string>(map: ReadonlyMap<Key, string>): [Key, string][] {
  return [...map].toSorted(([left], [right]) => (left < right ? -1 : 1));
}
