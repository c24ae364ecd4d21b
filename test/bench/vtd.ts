// The hot door of the VT-d model, on the built package.
import { runInThisContext } from 'node:vm';
import { createEndpointState } from 'vpci';
import { ACCESS_READ, GuestMemory, OUT_ADDRESS_LOW, OUT_WORDS, STATUS_TRANSLATED, VtdIommu } from 'vpci/vtd';
import type { BenchRow } from './row.ts';

const RID = 0x0100;
const REQUESTS = 4096;
const PAGE = 0x1000;
const ROOT = 0x1000;
const CONTEXTS = 0x2000;
const DIRECTORY = 0x2_0000;
const FIRST_TABLE = 0x10_0000;

export const rows: BenchRow[] = [
  {
    name: 'VT-d, IOTLB hit',
    budgetNs: 15,
    allocationFree: true,
    make: () => run(new Guest(4, 128, 'first'), 4, 128, { hits: true }),
  },
  {
    name: 'VT-d, miss: PASID lookup + 4 levels',
    budgetNs: 150,
    allocationFree: true,
    make: () => run(new Guest(64, 1024, 'first'), 64, 1024, { hits: false }),
  },
  {
    name: 'VT-d, miss: nested 4 × 4',
    budgetNs: 1000,
    allocationFree: true,
    make: () => run(new Guest(64, 1024, 'nested'), 64, 1024, { hits: false }),
  },
  {
    name: 'VT-d, reject: PASID entry not present',
    budgetNs: 60,
    allocationFree: true,
    make: () => {
      const guest = new Guest(4, 128, 'first');
      return run(guest, 4, 128, { rejected: true, firstPasid: 8 });
    },
  },
  {
    name: 'VT-d, miss over 2^20 PASIDs: PASID lookup + 4 levels',
    budgetNs: 1000,
    allocationFree: true,
    make: () => run(new Guest(2 ** 20, 1, 'first'), 2 ** 20, 1, { hits: false }),
  },
];

interface Expected {
  readonly hits?: boolean;
  readonly rejected?: boolean;
  readonly firstPasid?: number;
}

/** Guest memory with tables for `pages` pages in each of `pasids` PASIDs, and a unit that uses them. */
class Guest {
  readonly unit: VtdIommu;
  readonly #words: Uint32Array;
  #next = FIRST_TABLE;

  constructor(pasids: number, pages: number, kind: 'first' | 'nested') {
    const tables = Math.ceil(pasids / 64) + (pages > 1 ? pasids * (3 + Math.ceil(pages / 512)) : 4) + 600;
    const bytes = new ArrayBuffer(FIRST_TABLE + tables * PAGE);
    this.#words = new Uint32Array(bytes);
    this.unit = new VtdIommu({ memory: new GuestMemory([{ base: 0, buffer: bytes }]) });
    this.unit.attachEndpoint(Object.assign(createEndpointState(RID), { pasidWidth: 20 }));
    this.#store(ROOT + 16, CONTEXTS | 1);
    // P, PASIDE, PDTS = 7; RID_PASID is one that no request has.
    this.#store(CONTEXTS, DIRECTORY | 0x0e09);
    this.#store(CONTEXTS + 8, 0xf_ffff);
    const second = kind === 'nested' ? this.#secondStage(bytes.byteLength) : 0;
    const shared = pages === 1 ? this.#firstStage(1) : 0;
    for (let pasid = 0; pasid < pasids; pasid++) {
      const table = shared === 0 ? this.#firstStage(pages) : shared;
      const at = this.#pasidEntry(pasid);
      // P, AW = 48 bits, PGTT; DID 1, PWSNP.
      this.#store(at, second | (kind === 'nested' ? 0xc9 : 0x49));
      this.#store(at + 8, 0x80_0001);
      this.#store(at + 16, table);
    }
    this.unit.writeRegister(0x20, 4, ROOT | 0x400);
    this.unit.writeRegister(0x18, 4, 0x4000_0000);
    this.unit.writeRegister(0x18, 4, 0x8000_0000);
  }

  #store(at: number, value: number): void {
    this.#words[at >>> 2] = value;
  }

  #load(at: number): number {
    return this.#words[at >>> 2] ?? 0;
  }

  #page(): number {
    const page = this.#next;
    this.#next += PAGE;
    if (this.#next > this.#words.byteLength) throw new Error('too little memory for the tables');
    return page;
  }

  #pasidEntry(pasid: number): number {
    const at = DIRECTORY + (pasid >>> 6) * 8;
    if (this.#load(at) === 0) this.#store(at, this.#page() | 1);
    return (this.#load(at) & ~0xfff) + (pasid & 63) * 64;
  }

  #firstStage(pages: number): number {
    const table = this.#page();
    // P, R/W, U/S, A, D: nothing to set.
    for (let page = 0; page < pages; page++) this.#map(table, iovaOf(page), (page ^ 1) * PAGE, 0x67);
    return table;
  }

  /** All memory at its own address, in pages of 4 KiB. */
  #secondStage(bytes: number): number {
    const table = this.#page();
    for (let at = 0; at < bytes; at += PAGE) this.#map(table, at, at, 0x3);
    return table;
  }

  #map(table: number, iova: number, target: number, bits: number): void {
    let at = table;
    for (let level = 4; level > 1; level--) {
      const entry = at + (Math.floor(iova / 2 ** (3 + 9 * level)) % 512) * 8;
      if (this.#load(entry) === 0) this.#store(entry, this.#page() | bits);
      at = this.#load(entry) & ~0xfff;
    }
    this.#store(at + (Math.floor(iova / PAGE) % 512) * 8, target | bits);
  }
}

/** Above 4 GiB, and with bit 31 set in every second page: halves that would be boxed if they were unsigned. */
function iovaOf(page: number): number {
  return 0x5_0000_0000 + (page % 2) * 0x8000_0000 + page * PAGE;
}

function run(
  guest: Guest,
  pasids: number,
  pages: number,
  { hits, rejected = false, firstPasid = 0 }: Expected,
): (iterations: number) => number {
  const { unit } = guest;
  const out = new Uint32Array(OUT_WORDS);
  const requests = randomRequests(firstPasid, pasids, pages);
  const length = requests.length;
  for (let at = 0; at < length; at += 3) {
    const status = unit.translate(
      RID,
      requests[at] ?? 0,
      requests[at + 1] ?? 0,
      requests[at + 2] ?? 0,
      ACCESS_READ,
      out,
    );
    if (rejected ? status >= 0 : status !== STATUS_TRANSLATED) throw new Error(`status ${status}`);
  }
  const work = (iterations: number): number => {
    let checksum = 0;
    let at = 0;
    for (let times = 0; times < iterations; times++) {
      const door = doors[times & 7] ?? stop;
      const status = door(unit, requests[at] ?? 0, requests[at + 1] ?? 0, requests[at + 2] ?? 0, out);
      checksum = (checksum + status + (out[OUT_ADDRESS_LOW] ?? 0)) | 0;
      at = at + 3 === length ? 0 : at + 3;
    }
    return checksum;
  };
  if (hits !== undefined) {
    work(REQUESTS);
    const { iotlbMisses } = unit.counters();
    work(REQUESTS);
    const missed = unit.counters().iotlbMisses - iotlbMisses;
    if (hits ? missed > REQUESTS / 100 : missed < REQUESTS * 0.9)
      throw new Error(`${missed} requests missed`);
  }
  return work;
}

/** PASID, high half and low half of each request, in an order that repeats. */
function randomRequests(firstPasid: number, pasids: number, pages: number): Int32Array {
  const requests = new Int32Array(REQUESTS * 3);
  let seed = 12_345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let at = 0; at < requests.length; at += 3) {
    const iova = iovaOf(random(pages));
    // Not the reserved one.
    requests[at] = Math.min(firstPasid + random(pasids), 0xf_fffe);
    requests[at + 1] = Math.floor(iova / 2 ** 32);
    requests[at + 2] = (iova % 2 ** 32) | 0x10;
  }
  return requests;
}

function stop(): never {
  throw new Error('there are eight doors');
}

type Door = (unit: VtdIommu, pasid: number, high: number, low: number, out: Uint32Array) => number;

/** As in viommu.ts: a call site that sees eight functions inlines none. */
const doors: readonly Door[] = Array.from({ length: 8 }, (_, index): Door => {
  const source = `(unit, pasid, high, low, out) => unit.translate(${RID}, pasid, high, low, ${ACCESS_READ}, out)`;
  return runInThisContext(`${source} // vtd ${index}`) as Door;
});
