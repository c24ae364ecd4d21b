import { formatBdf, type PciSegment } from '../../src/index.ts';

/** A guest that numbers buses as Linux does (`pci_scan_bridge_extend`): zero first, then the number, limit last. */
export class Enumeration {
  /** Vendor and device ID by address, in the order in which they were found. */
  readonly found: Map<string, number> = new Map<string, number>();
  #lastBus = 0;
  readonly #segment: PciSegment;

  constructor(segment: PciSegment) {
    this.#segment = segment;
    this.#scanBus(0);
  }

  #scanBus(bus: number): void {
    const bridges: number[] = [];
    for (let device = 0; device < 32; device++) {
      for (let fn = 0; fn < 8; fn++) {
        const rid = (bus << 8) | (device << 3) | fn;
        const id = this.#read(rid, 0, 4);
        if (id === 0xffffffff) {
          if (fn === 0) break;
          continue;
        }
        this.found.set(formatBdf(rid), id);
        const headerType = this.#read(rid, 0x0e, 1);
        if ((headerType & 0x7f) === 1) bridges.push(rid);
        if (fn === 0 && (headerType & 0x80) === 0) break;
      }
    }
    for (const bridge of bridges) this.#scanBridge(bridge, bus);
  }

  #scanBridge(bridge: number, primary: number): void {
    const latency = this.#read(bridge, 0x18, 4) & 0xff000000;
    this.#write(bridge, 0x18, 4, latency);
    const secondary = ++this.#lastBus;
    this.#write(bridge, 0x18, 4, latency | primary | (secondary << 8) | (0xff << 16));
    this.#scanBus(secondary);
    this.#write(bridge, 0x1a, 1, this.#lastBus);
  }

  #read(rid: number, register: number, size: number): number {
    return this.#segment.ecamRead(this.#segment.ecamAddress(rid) + register, size);
  }

  #write(rid: number, register: number, size: number, value: number): void {
    this.#segment.ecamWrite(this.#segment.ecamAddress(rid) + register, size, value);
  }
}
