// The hot door of a vIOMMU, on the built package.
import { createEndpointState } from 'vpci';
import { ACCESS_READ, OUT_ADDRESS_LOW, OUT_WORDS, STATUS_TRANSLATED, TableIommu } from 'vpci/table';
import type { BenchRow } from './row.ts';

const RID = 0x0100;
const REQUESTS = 1024;
const PAGE = 4096;
// V8 folds these, and would load imported ones on every use.
const READ = ACCESS_READ;
const ADDRESS_LOW = OUT_ADDRESS_LOW;

export const rows: BenchRow[] = [
  {
    name: 'PASID request, IOTLB hit',
    budgetNs: 15,
    allocationFree: true,
    make: () => {
      const unit = mapped(new TableIommu(), 4, 64);
      const requests = randomRequests(4, 64);
      const run = runner(unit, requests, (status) => status === STATUS_TRANSLATED);
      run(REQUESTS);
      const { iotlbMisses } = unit.counters();
      run(REQUESTS);
      const missed = unit.counters().iotlbMisses - iotlbMisses;
      if (missed > REQUESTS / 50) throw new Error(`${missed} of ${REQUESTS} requests missed the IOTLB`);
      return run;
    },
  },
  {
    name: 'PASID request, miss: PASID lookup + walk',
    budgetNs: 150,
    allocationFree: true,
    make: () => {
      // 4096 pages at random through 8 entries.
      const unit = mapped(new TableIommu({ iotlbEntries: 8 }), 64, 64);
      const run = runner(unit, randomRequests(64, 64), (status) => status === STATUS_TRANSLATED);
      run(REQUESTS);
      const { iotlbHits } = unit.counters();
      run(REQUESTS);
      const hit = unit.counters().iotlbHits - iotlbHits;
      if (hit > REQUESTS / 50) throw new Error(`${hit} of ${REQUESTS} requests hit the IOTLB`);
      return run;
    },
  },
  {
    name: 'PASID request, reject: PASID not attached',
    budgetNs: 60,
    allocationFree: true,
    make: () => {
      const unit = mapped(new TableIommu(), 4, 64);
      const requests = randomRequests(4, 64);
      for (let at = 0; at < requests.length; at += 3) requests[at] = (requests[at] ?? 0) + 0x8000;
      return runner(unit, requests, (status) => status < 0);
    },
  },
];

/** `unit` with 4 KiB mappings, each to a place of its own, at `pages` pages of each of `pasids` PASIDs. */
function mapped(unit: TableIommu, pasids: number, pages: number): TableIommu {
  unit.attachEndpoint(Object.assign(createEndpointState(RID), { pasidWidth: 20 }));
  for (let pasid = 0; pasid < pasids; pasid++) {
    unit.attach(RID, pasid);
    for (let page = 0; page < pages; page++) {
      const gpa = ((pasid * pages + page) ^ 1) * PAGE;
      unit.map(RID, pasid, { iova: iovaOf(page), gpa, size: PAGE, permissions: 'rw' });
    }
  }
  return unit;
}

/** Above 4 GiB, and with bit 31 set in every second page: halves that would be boxed if they were unsigned. */
function iovaOf(page: number): number {
  return 0x5_0000_0000 + (page % 2) * 0x8000_0000 + page * PAGE;
}

/** PASID, high half and low half of each request, in an order that repeats. */
function randomRequests(pasids: number, pages: number): Int32Array {
  const requests = new Int32Array(REQUESTS * 3);
  let seed = 12_345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let at = 0; at < requests.length; at += 3) {
    const iova = iovaOf(random(pages));
    requests[at] = random(pasids);
    requests[at + 1] = Math.floor(iova / 2 ** 32);
    requests[at + 2] = (iova % 2 ** 32) | 0x10;
  }
  return requests;
}

type Translate = TableIommu['translate'];

/**
 * A loop over `requests` that V8 cannot inline `translate` into, because its call site has seen other functions:
 * an embedder's device pays for a real call, too.
 */
function runner(
  unit: TableIommu,
  requests: Int32Array,
  expected: (status: number) => boolean,
): (iterations: number) => number {
  const out = new Uint32Array(OUT_WORDS);
  for (let at = 0; at < requests.length; at += 3) {
    const [pasid = 0, high = 0, low = 0] = requests.subarray(at, at + 3);
    const status = unit.translate(RID, pasid, high, low, READ, out);
    if (!expected(status)) throw new Error(`request ${at / 3} has status ${status}`);
  }
  const run = (translate: Translate, iterations: number): number => {
    let checksum = 0;
    let at = 0;
    for (let times = 0; times < iterations; times++) {
      const pasid = requests[at] ?? 0;
      const high = requests[at + 1] ?? 0;
      const status = translate.call(unit, RID, pasid, high, requests[at + 2] ?? 0, READ, out);
      checksum = (checksum + status + (out[ADDRESS_LOW] ?? 0)) | 0;
      at = at + 3 === requests.length ? 0 : at + 3;
    }
    return checksum;
  };
  const others: Translate[] = [(rid) => rid, (_rid, pasid) => pasid, () => 0];
  for (const other of others) run(other, REQUESTS);
  // oxlint-disable-next-line typescript/unbound-method -- run() calls it on the unit
  const { translate } = unit;
  return (iterations) => run(translate, iterations);
}
