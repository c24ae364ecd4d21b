// Runs in a guest whose kernel has the self test of iommufd. What only that test can do goes by mock-device-in-guest.mjs,
// everything else through the package. Prints what it saw, one JSON object per line; judging is for the test outside.
import { GuestDma, IommufdMirror, queryPasidFeature } from 'vpci/vfio';
import { GuestMemory, VtdIommu } from 'vpci/vtd';
import {
  addressOf,
  buffer,
  call,
  IOMMU_HWPT_ALLOC,
  IommufdObjects,
  IOVA,
  lands,
  memory,
  MEMORY_BYTES,
  memoryAddress,
  Mock,
  mustCall,
  objectCount,
  PAGE,
  pinned,
  real,
  struct,
  test,
} from './mock-device-in-guest.mjs';
import { pageRequests } from './mock-requests-in-guest.mjs';
import { behind, print, world } from './mock-world-in-guest.mjs';

const IOMMU_HWPT_INVALIDATE = 0x3b8d;
const MD_CHECK_IOTLB = 14;
const ALLOC_NEST_PARENT = 0x1;
const ALLOC_PASID = 0x8;
const DATA_SELFTEST = 0xdead;
const INVALIDATE_DATA_SELFTEST = 0xdeadbeef;
const IOTLB_DEFAULT = 0xbadbeef;
const MOCK_FLAGS_DEVICE_PASID = 0x4;

/** The mock fails to replace the page table of this PASID, once. */
const FAILS_TO_REPLACE = 1024;
const LAST = 0xf_ffff;

function thrown(run) {
  try {
    run();
    return 'nothing thrown';
  } catch (error) {
    return `${error.code}: ${error.message}`;
  }
}

const withPasid = new Mock(MOCK_FLAGS_DEVICE_PASID);
const without = new Mock(0);

print('query', queryPasidFeature(withPasid));
print('query without PASID', queryPasidFeature(without));
without.close();
print('query when it is gone', queryPasidFeature(without));

function mappings() {
  const before = objectCount();
  const { iommu, fn, mirror, events, map, lands: in_, goesBy } = world(withPasid);
  iommu.attach(fn, 5);
  iommu.attach(fn, LAST);
  iommu.attach(fn);
  map(5, IOVA, 0x3000, 4 * PAGE);
  map(LAST, IOVA, 0x9000);
  map(null, IOVA + PAGE, 0xb000);
  print('attached', {
    attached: mirror.attached,
    kernel: [goesBy(5), goesBy(LAST), withPasid.goesBy(6, 0), withPasid.goesBy(5, 0)],
  });
  print('mapped', {
    there: [in_(5, IOVA, 0x3000, 4 * PAGE), in_(LAST, IOVA, 0x9000), in_(null, IOVA + PAGE, 0xb000)],
    not: [
      in_(5, IOVA, 0x4000),
      in_(5, IOVA, 0x3000, 5 * PAGE),
      in_(LAST, IOVA, 0x3000),
      in_(null, IOVA, 0xb000),
    ],
    pinned: [pinned(0x3000, 1, 4 * PAGE), pinned(0x9000, 1), pinned(0x2000, 0), pinned(0x3000, 0)],
  });
  iommu.unmap(fn, 5, { iova: IOVA + PAGE, size: PAGE });
  print('cut', {
    there: [in_(5, IOVA, 0x3000), in_(5, IOVA + 2 * PAGE, 0x5000, 2 * PAGE), in_(LAST, IOVA, 0x9000)],
    not: in_(5, IOVA + PAGE, 0x4000),
    pinned: [pinned(0x3000, 1), pinned(0x4000, 0), pinned(0x5000, 1, 2 * PAGE)],
    failures: mirror.failures,
  });
  iommu.detach(fn, LAST);
  print('detached', { attached: mirror.attached, kernel: [goesBy(5), withPasid.goesBy(LAST, 0)] });
  mirror.close();
  print('closed', {
    kernel: [withPasid.goesBy(5, 0), withPasid.goesBy(LAST, 0)],
    pinned: pinned(0, 0, MEMORY_BYTES),
    left: objectCount() - before,
    events,
  });
}
mappings();

function failures() {
  const before = objectCount();
  const one = world(withPasid);
  one.iommu.attach(one.fn, 5);
  one.map(5, PAGE, 0x3000);
  const outside = {
    events: one.events,
    blocked: one.iommu.isBlocked(one.fn, 5),
    kernel: withPasid.goesBy(5, 0),
  };
  one.mirror.close();
  const two = world(withPasid, (iommu, fn) => {
    iommu.attach(fn, 5);
    iommu.map(fn, 5, { iova: PAGE, gpa: 0x3000, size: PAGE, permissions: 'rw' });
  });
  const found = two.mirror.failures.map(({ pasid, reason, error }) => [pasid, reason, error.message]);
  two.mirror.close();
  print('beyond the aperture', { ...outside, found, left: objectCount() - before });
}
failures();

function refusedReplacement() {
  const before = objectCount();
  const { iommu, fn, mirror, events, pri, map, lands: in_, goesBy } = world(withPasid);
  for (const pasid of [5, FAILS_TO_REPLACE]) {
    iommu.attach(fn, pasid);
    map(pasid, IOVA, 0x3000);
  }
  pri(true);
  const refused = {
    attached: mirror.attached,
    blocked: [5, FAILS_TO_REPLACE].map((pasid) => iommu.isBlocked(fn, pasid)),
    kernel: [goesBy(5), in_(5, IOVA, 0x3000), withPasid.goesBy(FAILS_TO_REPLACE, 0)],
  };
  iommu.detach(fn, FAILS_TO_REPLACE);
  iommu.attach(fn, FAILS_TO_REPLACE);
  const again = {
    attached: mirror.attached,
    blocked: iommu.isBlocked(fn, FAILS_TO_REPLACE),
    kernel: goesBy(FAILS_TO_REPLACE),
  };
  mirror.close();
  print('replacement refused', { refused, again, events, left: objectCount() - before });
}
refusedReplacement();

await pageRequests(withPasid);

function guestDma() {
  const before = objectCount();
  const dma = new GuestDma(withPasid);
  const table = withPasid.untagged;
  dma.map(BigInt(IOVA), new Uint8Array(buffer));
  const mapped = [lands(table, IOVA, 0, MEMORY_BYTES), pinned(0, 1, MEMORY_BYTES)];
  const refused = thrown(() => dma.map(BigInt(IOVA), new Uint8Array(buffer)));
  dma.clear();
  const cleared = [lands(table, IOVA, 0), pinned(0, 0, MEMORY_BYTES)];
  dma.close();
  print('guest DMA', { mapped, refused, cleared, left: objectCount() - before });
}
guestDma();

function refusals() {
  const objects = new IommufdObjects(withPasid);
  const ioas = objects.allocIoas();
  const parent = objects.allocHwpt({ parent: ioas, flags: ALLOC_NEST_PARENT | ALLOC_PASID });
  const address = memoryAddress;
  const range = { ioas, iova: BigInt(IOVA), address, length: PAGE, readable: true, writable: true };
  objects.map({ ...range, length: 4 * PAGE });
  const vtdS1 = { flags: 0, table: 0x1000n, addressWidth: 48 };
  const queue = objects.allocFaultQueue();
  const nobody = 0x7fff;
  const refused = {
    'map twice': () => objects.map(range),
    'map off a page': () => objects.map({ ...range, iova: 0x5000_0001n }),
    'map what is not there': () => objects.map({ ...range, iova: 0x5000_0000n, address: 0x1000 }),
    'map past the end': () => objects.map({ ...range, iova: 0xffff_ffff_ffff_f000n, length: 2 * PAGE }),
    'map into nothing': () => objects.map({ ...range, ioas: nobody }),
    'unmap half': () => objects.unmap(ioas, BigInt(IOVA), BigInt(PAGE)),
    'unmap nothing': () => objects.unmap(ioas, 0x6000_0000n, BigInt(PAGE)),
    'unmap past the end': () => objects.unmap(ioas, 0xffff_ffff_ffff_f000n, 0x2000n),
    'a table of nothing': () => objects.allocHwpt({ parent: nobody, flags: 0 }),
    'a table with no such queue': () =>
      objects.allocHwpt({ parent: ioas, flags: ALLOC_PASID, faultId: nobody }),
    'a parent with a queue': () =>
      objects.allocHwpt({ parent: ioas, flags: ALLOC_NEST_PARENT, faultId: queue.id }),
    "VT-d's tables": () => objects.allocHwpt({ parent, flags: ALLOC_PASID, vtdS1 }),
    'tables on no parent': () => objects.allocHwpt({ parent: withPasid.parked, flags: ALLOC_PASID, vtdS1 }),
    'invalidate no tables': () => objects.invalidate(parent, 0n, 'all'),
    'invalidate nothing': () => objects.invalidate(nobody, 0n, 'all'),
    'attach nothing': () => objects.attach(nobody, 5),
    'attach beside a table without PASIDs': () => objects.attach(parent, 5),
    'attach past the width': () => {
      objects.attach(parent, null);
      objects.attach(parent, LAST + 1);
    },
  };
  for (const [name, run] of Object.entries(refused)) print(`refused: ${name}`, thrown(run));
  objects.detach(null);

  // A page table of the mock's own kind; its IOTLB has four entries.
  const data = struct(8, { 0: IOTLB_DEFAULT });
  const nested = mustCall(
    IOMMU_HWPT_ALLOC,
    struct(48, {
      0: 48,
      4: ALLOC_PASID,
      8: withPasid.deviceId,
      12: parent,
      24: DATA_SELFTEST,
      28: 8,
      32: addressOf(data),
    }),
  ).getUint32(16, true);
  const entry = struct(8, { 0: 1 });
  const own = struct(32, {
    0: 32,
    4: nested,
    8: addressOf(entry),
    16: INVALIDATE_DATA_SELFTEST,
    20: 8,
    24: 1,
  });
  const kept = () => [0, 3].map((index) => test(MD_CHECK_IOTLB, nested, { 16: index, 20: IOTLB_DEFAULT }));
  print('nested', {
    before: kept(),
    refused: thrown(() => objects.invalidate(nested, 0n, 'all')),
    after: kept(),
    own: call(IOMMU_HWPT_INVALIDATE, own),
    afterOwn: kept(),
  });
  print(
    'mirror of VT-d',
    thrown(() => {
      const iommu = new VtdIommu({ memory: new GuestMemory(memory) });
      return new IommufdMirror({ device: withPasid, iommu, endpoint: behind(iommu), memory });
    }),
  );
  for (const id of [nested, parent, ioas]) objects.destroy(id);
  real.close(queue.fd);
  objects.destroy(queue.id);
}
const before = objectCount();
refusals();
print('end', objectCount() - before);
