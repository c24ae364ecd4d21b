// The mock device of the kernel's own test of iommufd, for which there is an IOMMU and nothing else: IOMMU_TEST_CMD makes
// it, stands in for VFIO (which does not know it) to attach and detach, lets it send page requests, and looks into the
// kernel's page tables.
import fs from 'node:fs';

/** What the package does not export. */
const inside = (path) => import(new URL(`./node_modules/vpci/dist/vmm-glue/${path}`, import.meta.url).href);
const { errnoName, loadNative } = await inside('linux/index.js');
export const { IommufdObjects } = await inside('vfio/iommufd-objects.js');
export const real = await loadNative();

// The kernel's interface once more, apart from the package's: <linux/iommufd.h>, <linux/vfio.h>, and the private
// drivers/iommu/iommufd/iommufd_test.h.
const IOMMU_DESTROY = 0x3b80;
const IOMMU_IOAS_ALLOC = 0x3b81;
export const IOMMU_HWPT_ALLOC = 0x3b89;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;
const IOMMU_TEST_CMD = 0x3ba0;
const TEST_BYTES = 72;
const MD_CHECK_MAP = 3;
const MD_CHECK_REFS = 4;
const MOCK_DOMAIN_REPLACE = 10;
const MOCK_DOMAIN_FLAGS = 12;
const TRIGGER_IOPF = 15;
const PASID_ATTACH = 18;
const PASID_REPLACE = 19;
const PASID_DETACH = 20;
const PASID_CHECK_HWPT = 21;

/** Of the device that stands in: no descriptor, but what the package asks with. */
const VFIO_FD = -77;
export const PAGE = 0x1000;
export const MEMORY_BYTES = 0x40_0000;
/** The mock's page tables take addresses from 16 MiB to 2 GiB. */
export const IOVA = 0x4000_0000;

// Whole pages at an address that stays.
const pages = MEMORY_BYTES >> 16;
export const { buffer } = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
export const memory = [{ base: 0, buffer }];
export const memoryAddress = real.address(new Uint8Array(buffer));

const iommufd = fs.openSync('/dev/iommu', 'r+');

// The kernel gets addresses: what is there must not be collected.
const held = [];

/** Words of 32 bits by their offset; a number of 64 bits is a BigInt. */
export function struct(bytes, words) {
  const view = new DataView(new ArrayBuffer(bytes));
  for (const [offset, word] of Object.entries(words)) {
    if (typeof word === 'bigint') view.setBigUint64(Number(offset), word, true);
    else view.setUint32(Number(offset), word, true);
  }
  return view;
}

export function call(request, view) {
  const result = real.ioctlStruct(iommufd, request, new Uint8Array(view.buffer));
  return result < 0 ? errnoName(real.errno()) : 'ok';
}

export function mustCall(request, view) {
  const outcome = call(request, view);
  if (outcome !== 'ok') throw new Error(`ioctl 0x${request.toString(16)}: ${outcome}`);
  return view;
}

/** Where the kernel finds a struct; it stays. */
export function addressOf(view) {
  held.push(view);
  return BigInt(real.address(new Uint8Array(view.buffer)));
}

const testStruct = (op, id, words) => struct(TEST_BYTES, { 0: TEST_BYTES, 4: op, 8: id, ...words });
export const test = (op, id, words) => call(IOMMU_TEST_CMD, testStruct(op, id, words));
const destroy = (id) => call(IOMMU_DESTROY, struct(8, { 0: 8, 4: id }));

function allocIoas() {
  return mustCall(IOMMU_IOAS_ALLOC, struct(12, { 0: 12 })).getUint32(8, true);
}

/** Objects that the iommufd has: the kernel gives each new one the lowest ID that is free, from 1 on. */
export function objectCount() {
  const mine = Array.from({ length: 64 }, allocIoas);
  for (const id of mine) destroy(id);
  return Math.max(...mine) - mine.length;
}

/** A mock device, as the package wants its devices. */
export class Mock {
  ioas = allocIoas();
  subject = 'the mock';
  host = { bdf: '0000:00:00.0' };
  openSteps = [];
  fd = VFIO_FD;
  isOpen = true;
  iommufd = iommufd;
  /** The descriptor that was watched last. */
  watched = -1;
  /** The page table that requests without PASID go by. */
  untagged = 0;
  #pasids = new Set();

  constructor(flags) {
    const made = testStruct(MOCK_DOMAIN_FLAGS, this.ioas, { 28: flags });
    mustCall(IOMMU_TEST_CMD, made);
    this.self = made.getUint32(16, true);
    this.deviceId = made.getUint32(24, true);
    // It was attached to a page table that goes when another one comes.
    const table = struct(48, { 0: 48, 8: this.deviceId, 12: this.ioas });
    this.parked = mustCall(IOMMU_HWPT_ALLOC, table).getUint32(16, true);
    this.#replace(this.parked);
    this.native = {
      ...real,
      ioctlStruct: (fd, request, bytes) =>
        fd === VFIO_FD ? this.#vfio(request, bytes) : real.ioctlStruct(fd, request, bytes),
      watch: (fd, ...more) => {
        this.watched = fd;
        return real.watch(fd, ...more);
      },
    };
  }

  /** VFIO shows no configuration space of it. */
  rawConfigOfPhysicalFunction() {}

  /** ID of the page table that requests with a PASID go by: `ok` when it is this one; 0: none. */
  goesBy(pasid, hwpt) {
    return test(PASID_CHECK_HWPT, this.self, { 16: pasid, 20: hwpt });
  }

  pageRequest(pasid, group, permissions, address) {
    const words = { 16: this.deviceId, 20: pasid, 24: group, 28: permissions, 32: BigInt(address) };
    if (test(TRIGGER_IOPF, 0, words) !== 'ok') throw new Error('no page request');
  }

  close() {
    for (const id of [this.self, this.parked, this.ioas]) destroy(id);
  }

  /** What VFIO does: attach what is not attached, replace what is. */
  #vfio(request, bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const tagged = (view.getUint32(4, true) & 1) !== 0;
    if (request === VFIO_DEVICE_ATTACH_IOMMUFD_PT) {
      const table = view.getUint32(8, true);
      if (!tagged) return this.#replace(table);
      const pasid = view.getUint32(12, true);
      const op = this.#pasids.has(pasid) ? PASID_REPLACE : PASID_ATTACH;
      const result = this.#test(op, { 16: pasid, 20: table });
      if (result === 0) this.#pasids.add(pasid);
      return result;
    }
    if (request !== VFIO_DEVICE_DETACH_IOMMUFD_PT)
      throw new Error(`ioctl 0x${request.toString(16)} for VFIO`);
    // Nothing detaches the mock from its last page table: it gets one that maps nothing.
    if (!tagged) return this.#replace(this.parked);
    const pasid = view.getUint32(8, true);
    return this.#pasids.delete(pasid) ? this.#test(PASID_DETACH, { 16: pasid }) : 0;
  }

  #replace(table) {
    this.untagged = table;
    return this.#test(MOCK_DOMAIN_REPLACE, { 16: table });
  }

  #test(op, words) {
    return real.ioctlStruct(iommufd, IOMMU_TEST_CMD, new Uint8Array(testStruct(op, this.self, words).buffer));
  }
}

/** A page table maps `bytes` at `iova` to guest memory at `gpa`. */
export function lands(hwpt, iova, gpa, bytes = PAGE) {
  return test(MD_CHECK_MAP, hwpt, {
    16: BigInt(iova),
    24: BigInt(bytes),
    32: BigInt(memoryAddress + gpa),
  });
}

/** Each page is pinned `count` times. */
export function pinned(gpa, count, bytes = PAGE) {
  return test(MD_CHECK_REFS, 0, { 16: BigInt(bytes), 24: BigInt(memoryAddress + gpa), 32: count });
}
