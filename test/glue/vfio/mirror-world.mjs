// For scripts on the made-up host of shim.ts: what the host has, guest memory, and guests that configure a vIOMMU.
import koffi from 'koffi';
import { createFunction, expressCapability, msiXCapability, PciSegment } from 'vpci';
import { TableIommu } from 'vpci/table';
import { GuestMemory, VtdIommu } from 'vpci/vtd';
import { IommufdMirror, openVfioDevice } from 'vpci/vfio';

const shim = koffi.load(null);
const dump = shim.func('vpci_shim_state', 'int', ['void *', 'int']);
export const fault = shim.func('vpci_shim_fault', 'int', [
  'uint',
  'uint',
  'uint',
  'uint',
  'uint64_t',
  'uint',
]);
export const response = shim.func('vpci_shim_response', 'int', []);

/** The next response to a fault, waited for: the mirror reads faults when the process is idle. */
export async function nextResponse() {
  for (const end = Date.now() + 10_000; Date.now() < end; ) {
    const answer = response();
    if (answer !== -1) return answer;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return 'none';
}

export const interrupt = shim.func('vpci_shim_interrupt', 'int', ['uint', 'uint']);
export const vectors = shim.func('vpci_shim_vectors', 'int', ['uint']);
export const intxMasked = shim.func('vpci_shim_intx_masked', 'int', []);

const buffer = Buffer.alloc(1 << 22);

/** What the host has now; the invalidations are those since the last question. */
export function hostState() {
  const length = dump(buffer, buffer.length);
  if (length < 0) throw new Error('the state does not fit');
  const { rid, pasids, objects, invalidations } = JSON.parse(buffer.toString('utf8', 0, length));
  const byId = new Map(objects.map((one) => [one.id, one]));
  const areas = (id) => byId.get(byId.get(id)?.parent)?.areas;
  const view = (id) => {
    const { table, s1, width, flags, parent } = byId.get(id);
    const nested = table === undefined ? {} : { table, s1, width, parentFlags: byId.get(parent).flags };
    return { flags, ...nested, ...(areas(id) === undefined ? {} : { areas: areas(id).map(inGuest) }) };
  };
  return {
    rid: rid === 0 ? null : view(rid),
    pasids: Object.fromEntries(pasids.map(([pasid, id]) => [pasid, view(id)])),
    objects: objects.length,
    invalidations,
  };
}

export const MEMORY_BYTES = 0x100_0000;
const wasm = new WebAssembly.Memory({
  initial: MEMORY_BYTES >> 16,
  maximum: MEMORY_BYTES >> 16,
  shared: true,
});
const bytes = new Uint8Array(wasm.buffer);
const start = koffi.address(bytes);
/** Half of it at 0, half at 4 GiB. */
export const regions = [
  { base: 0, buffer: wasm.buffer, size: MEMORY_BYTES / 2 },
  { base: 0x1_0000_0000, buffer: wasm.buffer, offset: MEMORY_BYTES / 2, size: MEMORY_BYTES / 2 },
];

/** An area of the host with the guest-physical address in place of its own. */
function inGuest([iova, length, va, flags]) {
  const offset = Number(BigInt(va) - start);
  const gpa = offset < MEMORY_BYTES / 2 ? offset : offset - MEMORY_BYTES / 2 + 0x1_0000_0000;
  return [iova, length, `0x${gpa.toString(16)}`, flags];
}

export const RID = 0x0100;

export function aFunction(options = {}) {
  return createFunction({
    vendorId: 0x8086,
    deviceId: 0x1234,
    classCode: 0x120000,
    pasid: { width: 20, execute: true, privileged: true },
    ats: true,
    pri: true,
    capabilities: [expressCapability(), msiXCapability(33, { bar: 0, offset: 0 }, { bar: 0, offset: 0x800 })],
    bars: [{ index: 0, size: 0x4000 }],
    ...options,
  });
}

/** Page requests on, as a guest's driver does it. */
export function enablePri(fn, on = true) {
  const { offset } = fn.extendedCapabilities.find(({ id }) => id === 0x13);
  fn.write(offset + 4, 2, on ? 1 : 0);
}

/** A device, a function and a unit, with a mirror that tells what it does. */
export async function world(root, iommu, options = {}) {
  const device = await openVfioDevice('1:0.0', { root });
  const fn = aFunction();
  const segment = new PciSegment({ iommu });
  segment.add('01:00.0', fn);
  const events = [];
  const make = () => {
    const mirror = new IommufdMirror({ device, iommu, endpoint: fn, memory: regions, ...options });
    mirror.on('attached', ({ pasid, replaced }) => events.push([replaced ? 'replaced' : 'attached', pasid]));
    mirror.on('detached', ({ pasid }) => events.push(['detached', pasid]));
    mirror.on('failure', ({ pasid, reason, error }) =>
      events.push(['failure', pasid, reason, error.message]),
    );
    return mirror;
  };
  return { device, fn, segment, iommu, events, make, mirror: make() };
}

export const tableWorld = (root, options = {}, unit = {}) => world(root, new TableIommu(unit), options);

/** A guest that programs a VT-d unit in scalable mode, with one device at RID. */
export class VtdGuest {
  memory = new GuestMemory(regions);
  unit;
  #view = new DataView(wasm.buffer);
  #tail = 0;
  #held = 0;
  /** Descriptors wait for {@link release}, or until the queue is full. */
  hold = false;
  static ROOT = 0x1000;
  static QUEUE = 0x2000;
  static CONTEXT = 0x4000;
  /** Directories for 2^20 PASIDs. */
  static DIRECTORY = 0x10_0000;
  #table = 0x20_0000;

  constructor(options = {}) {
    bytes.fill(0);
    this.unit = new VtdIommu({ memory: this.memory, ...options });
  }

  write(gpa, value) {
    this.#view.setBigUint64(gpa, BigInt.asUintN(64, value), true);
  }

  read(gpa) {
    return this.#view.getBigUint64(gpa, true);
  }

  /** Root and context entry; RID_PASID and the bits of the context entry, PDTS 7 for all PASIDs. */
  context({ ridPasid = 0, bits = 0x1cn, present = true } = {}) {
    this.write(VtdGuest.ROOT + 16, BigInt(VtdGuest.CONTEXT) | 1n);
    const low = BigInt(VtdGuest.DIRECTORY) | (7n << 9n) | bits | (present ? 1n : 0n);
    this.write(VtdGuest.CONTEXT, low);
    this.write(VtdGuest.CONTEXT + 8, BigInt(ridPasid));
  }

  entryAt(pasid) {
    const directory = VtdGuest.DIRECTORY + (pasid >>> 6) * 8;
    if ((this.read(directory) & 1n) === 0n) {
      this.write(directory, BigInt(this.#table) | 1n);
      this.#table += 0x1000;
    }
    return Number(this.read(directory) & ~0xfffn) + (pasid & 63) * 64;
  }

  /** A PASID table entry; without `pgtt` it is not present. */
  entry(pasid, { pgtt, table = 0x30_0000, did = 1, word2 = 0n } = {}) {
    const at = this.entryAt(pasid);
    for (let i = 0; i < 8; i++) this.write(at + 8 * i, 0n);
    if (pgtt === undefined) return;
    this.write(at + 8, BigInt(did));
    this.write(at + 16, BigInt(table) | word2);
    this.write(at, 1n | (BigInt(pgtt) << 6n) | (2n << 2n));
  }

  enable() {
    const { unit } = this;
    unit.writeRegister64(0x90, BigInt(VtdGuest.QUEUE) | 0x800n);
    unit.writeRegister(0x18, 4, 0x0400_0000);
    unit.writeRegister64(0x20, BigInt(VtdGuest.ROOT) | (1n << 10n));
    unit.writeRegister(0x18, 4, 0x4400_0000);
    unit.writeRegister(0x18, 4, 0x8400_0000);
  }

  disable() {
    this.unit.writeRegister(0x18, 4, 0x0400_0000);
  }

  submit(low, high = 0n) {
    this.submitAll([[low, high]]);
  }

  /** Descriptors, `[low, high]` each, with one write of the tail. */
  submitAll(descriptors) {
    for (const [low, high = 0n] of descriptors) {
      const at = VtdGuest.QUEUE + this.#tail;
      this.write(at, low);
      this.write(at + 8, high);
      this.write(at + 16, 0n);
      this.write(at + 24, 0n);
      this.#tail = (this.#tail + 32) & 0xfff;
      this.#held += 1;
    }
    if (!this.hold || this.#held > 100) this.release();
  }

  /** The write of the tail. */
  release() {
    this.hold = false;
    if (this.#held === 0) return;
    this.#held = 0;
    this.unit.writeRegister(0x88, 4, this.#tail);
    // IQE, ICE, ITE.
    if ((this.unit.readRegister(0x34, 4) & 0x70) !== 0) throw new Error('the unit refused a descriptor');
  }

  pasidCache(pasid, did = 1) {
    this.submit(0x07n | (1n << 4n) | (BigInt(did) << 16n) | (BigInt(pasid) << 32n));
  }

  pasidCacheGlobal() {
    this.submit(0x07n | (3n << 4n));
  }

  contextGlobal() {
    this.submit(0x01n | (1n << 4n));
  }

  pasidIotlb(pasid, address = null, mask = 0, did = 1) {
    const head = 0x06n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n);
    if (address === null) this.submit(head | (2n << 4n));
    else this.submit(head | (3n << 4n), BigInt(address) | BigInt(mask));
  }

  iotlbGlobal() {
    this.submit(0x02n | (1n << 4n));
  }

  /** Page group response with PASID. */
  respond(pasid, prgi, code) {
    const low = 0x09n | 0x10n | (BigInt(code) << 12n) | (BigInt(RID) << 16n) | (BigInt(pasid) << 32n);
    this.submit(low, BigInt(prgi) << 3n);
  }

  /** A page request queue of 4 KiB at 0x8000. */
  pageQueue() {
    this.unit.writeRegister64(0xd0, 0x8000n);
    this.unit.writeRegister64(0xc0, 0n);
    this.unit.writeRegister64(0xc8, 0n);
  }

  /** While the queue is off. */
  restartQueue() {
    this.#tail = 0;
    this.unit.writeRegister(0x88, 4, 0);
  }
}

export async function vtdWorld(root, options = {}, unit = {}) {
  const guest = new VtdGuest(unit);
  guest.context();
  const rest = await world(root, guest.unit, options);
  return { guest, ...rest };
}
