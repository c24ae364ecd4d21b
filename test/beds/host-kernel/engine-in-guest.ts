// Runs in the guest whose IOMMU is our own unit, and is the machine monitor of a guest of its own: that one configures
// a vIOMMU, IommufdMirror hands it to the kernel, and the device sends requests with PASIDs. What the device said, and
// what is in memory then, is printed one JSON object per line.
import koffi from 'koffi';
import { PciSegment, type PciFunction } from 'vpci';
import { TableIommu } from 'vpci/table';
import { GuestMemory, VtdIommu } from 'vpci/vtd';
import { IommufdMirror, openVfioDevice, passthroughFunction, type VfioDevice } from 'vpci/vfio';

// Registers of the engine that own-unit.ts serves.
const ADDRESS_LOW = 0x10;
const ADDRESS_HIGH = 0x14;
const PASID = 0x18;
const LENGTH = 0x1c;
const COMMAND = 0x20;
const STATUS = 0x24;
const CODE = 0x28;
const DATA = 0x40;
const PASID_PRESENT = 0x8000_0000;
const KINDS = { read: 1, write: 2, 'read with page requests': 0x61 } as const;
const STATUSES = ['idle', 'done', 'busy', 'rejected', 'not sent', 'no memory'] as const;
const BUSY = 2;

const MEMORY_BYTES = 0x40_0000;
const PAGE = 0x1000;
const BDF = '01:00.0';
const RID = 0x0100;
const EXT_CAP_PRI = 0x13;

const memory = new DataView(pages(MEMORY_BYTES));
const regions = [{ base: 0, buffer: memory.buffer, size: MEMORY_BYTES }];

/** Memory of whole pages, as IOMMUs map it. */
function pages(bytes: number): ArrayBuffer {
  const mmap = koffi
    .load(null)
    .func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
  // PROT_READ and PROT_WRITE; MAP_SHARED and MAP_ANONYMOUS.
  const address: unknown = mmap(0, bytes, 3, 0x21, -1, 0);
  if (typeof address !== 'number') throw new Error('no memory');
  return koffi.view(BigInt(address), bytes);
}

function print(check: string, result: unknown): void {
  console.log(JSON.stringify({ check, result }));
}

/** Sends a request of 4 bytes, and says how it ended: `done`, with what was read, or the fault code. */
async function order(
  device: VfioDevice,
  kind: keyof typeof KINDS,
  pasid: number | null,
  address: number,
  data = 0,
): Promise<string> {
  const [bar] = device.bars();
  const put = (register: number, value: number): void => bar?.write?.(register, 4, value);
  const get = (register: number): number => bar?.read?.(register, 4) ?? 0;
  put(ADDRESS_LOW, address % 2 ** 32);
  put(ADDRESS_HIGH, Math.floor(address / 2 ** 32));
  put(PASID, pasid === null ? 0 : PASID_PRESENT + pasid);
  put(LENGTH, 4);
  put(DATA, data);
  put(COMMAND, KINDS[kind]);
  for (let i = 0; i < 1000 && get(STATUS) === BUSY; i++)
    await new Promise((resolve) => setTimeout(resolve, 1));
  const status = STATUSES[get(STATUS)] ?? 'unknown';
  if (status === 'rejected') return `rejected 0x${get(CODE).toString(16)}`;
  return status === 'done' && kind !== 'write' ? `read 0x${get(DATA).toString(16)}` : status;
}

interface World {
  readonly device: VfioDevice;
  readonly fn: PciFunction;
  readonly mirror: IommufdMirror;
  readonly events: unknown[];
}

async function world(iommu: TableIommu | VtdIommu): Promise<World> {
  const device = await openVfioDevice(BDF);
  const { fn } = passthroughFunction(device, { probeAttach: false, ats: true, pri: true });
  new PciSegment({ iommu }).add(BDF, fn);
  // Memory Space, Bus Master.
  fn.write(4, 2, 6);
  const events: unknown[] = [];
  const mirror = new IommufdMirror({ device, iommu, endpoint: fn, memory: regions });
  mirror.on('attached', ({ pasid, replaced }) => events.push([replaced ? 'replaced' : 'attached', pasid]));
  mirror.on('detached', ({ pasid }) => events.push(['detached', pasid]));
  mirror.on('failure', ({ pasid, reason, error }) => events.push(['failure', pasid, reason, error.message]));
  return { device, fn, mirror, events };
}

const IOVA = 0x4000_0000;

async function table(): Promise<void> {
  const iommu = new TableIommu({ pasidWidth: 16 });
  const { device, fn, mirror, events } = await world(iommu);
  const map = (pasid: number | null, gpa: number, permissions = 'rw'): void =>
    iommu.map(fn, pasid, { iova: BigInt(IOVA), gpa: BigInt(gpa), size: BigInt(PAGE), permissions });
  const write = (pasid: number | null, data: number): Promise<string> =>
    order(device, 'write', pasid, IOVA + 8, data);
  const read = (pasid: number | null): Promise<string> => order(device, 'read', pasid, IOVA + 8);

  print('table: nothing attached', [await write(5, 1), await write(null, 1)]);
  iommu.attach(fn, 5);
  print('table: attached, nothing mapped', [await write(5, 1), await write(null, 1)]);
  map(5, 0x3000);
  print('table: mapped', [await write(5, 0x1111_1111), memory.getUint32(0x3008, true), await read(5)]);
  iommu.attach(fn, 0xffff);
  map(0xffff, 0x5000);
  iommu.attach(fn, null);
  map(null, 0x7000);
  memory.setUint32(0x7008, 0x3333_3333, true);
  print('table: each its own', [
    await write(0xffff, 0x2222_2222),
    await read(5),
    await read(0xffff),
    await read(null),
  ]);
  print('table: another PASID', await read(6));
  iommu.attach(fn, 6);
  map(6, 0x3000, 'r');
  print('table: read only', [await read(6), await write(6, 1), memory.getUint32(0x3008, true)]);
  iommu.unmap(fn, 5, { iova: BigInt(IOVA), size: BigInt(PAGE) });
  print('table: unmapped', [await read(5), await read(0xffff)]);
  map(5, 0x9000);
  memory.setUint32(0x9008, 0x4444_4444, true);
  print('table: mapped elsewhere', await read(5));
  iommu.detach(fn, 5);
  print('table: detached', [await read(5), await read(0xffff), mirror.attached]);
  iommu.attach(fn, 0);
  print(
    'table: PASID 0',
    mirror.failures.map(({ pasid, reason }) => [pasid, reason]),
  );
  mirror.close();
  print('table: closed', [await read(0xffff), await read(null)]);
  print('table: events', events);
  device.close();
}

// Guest-physical addresses of what the guest of the guest has.
const ROOT = 0x1000;
const CONTEXT = 0x2000;
const QUEUE = 0x3000;
const DIRECTORY = 0x4000;
const PAGE_REQUESTS = 0xc000;
const PASID_TABLE = 0x8000;
const FIRST_TABLE = 0x1_0000;
const FIRST_PAGE = 0x10_0000;

const put64 = (gpa: number, value: bigint): void => memory.setBigUint64(gpa, value, true);

/** A driver of VT-d in scalable mode, the little that is needed. */
class Driver {
  readonly unit: VtdIommu = new VtdIommu({
    memory: new GuestMemory(regions),
    pasidWidth: 16,
    secondStage: false,
  });
  #tail = 0;

  /** Tables for PASIDs below 64, and translation on. */
  start(): void {
    put64(ROOT + 16, BigInt(CONTEXT) | 1n);
    // PDTS 7, PRE, DTE, PASIDE.
    put64(CONTEXT, BigInt(DIRECTORY) | (7n << 9n) | 0x1cn | 1n);
    put64(DIRECTORY, BigInt(PASID_TABLE) | 1n);
    this.unit.writeRegister64(0x90, BigInt(QUEUE) | 0x800n);
    this.unit.writeRegister64(0xd0, BigInt(PAGE_REQUESTS));
    this.unit.writeRegister(0x18, 4, 0x0400_0000);
    this.unit.writeRegister64(0x20, BigInt(ROOT) | (1n << 10n));
    this.unit.writeRegister(0x18, 4, 0x4400_0000);
    this.unit.writeRegister(0x18, 4, 0x8400_0000);
  }

  /** First-stage entry of a PASID with tables of its own; without `present`, none. */
  entry(pasid: number, present: boolean): void {
    const at = PASID_TABLE + 64 * pasid;
    put64(at + 8, BigInt(pasid));
    put64(at + 16, BigInt(tables(pasid)));
    put64(at, present ? 1n | (1n << 6n) : 0n);
    this.#submit(0x07n | (1n << 4n) | (BigInt(pasid) << 16n) | (BigInt(pasid) << 32n));
  }

  /** Forgets what was translated with a PASID: all of it. */
  flush(pasid: number): void {
    this.#submit(0x06n | (2n << 4n) | (BigInt(pasid) << 16n) | (BigInt(pasid) << 32n));
  }

  /** Takes the page requests that are there, lets `handle` do something about each, and answers: success. */
  answer(handle: (pasid: number, address: number) => void): void {
    const tail = this.unit.readRegister(0xc8, 4);
    for (let head = this.unit.readRegister(0xc0, 4); head !== tail; head = (head + 32) & 0xfff) {
      const low = memory.getBigUint64(PAGE_REQUESTS + head, true);
      const high = memory.getBigUint64(PAGE_REQUESTS + head + 8, true);
      const pasid = (low >> 32n) & 0xf_ffffn;
      handle(Number(pasid), Number(high & ~0xfffn));
      this.#submit(0x09n | 0x10n | (BigInt(RID) << 16n) | (pasid << 32n), high & 0xff8n);
    }
    this.unit.writeRegister(0xc0, 4, tail);
  }

  #submit(low: bigint, high = 0n): void {
    for (const [i, word] of [low, high, 0n, 0n].entries()) put64(QUEUE + this.#tail + 8 * i, word);
    this.#tail = (this.#tail + 32) & 0xfff;
    this.unit.writeRegister(0x88, 4, this.#tail);
    if ((this.unit.readRegister(0x34, 4) & 0x70) !== 0) throw new Error('the unit refused a descriptor');
  }
}

const tables = (pasid: number): number => FIRST_TABLE + 4 * PAGE * pasid;

/** Maps the page of `IOVA` in the first-stage tables of a PASID; null: not present. */
function mapFirst(pasid: number, gpa: number | null): void {
  const [top, third, second, first] = [0, 1, 2, 3].map((level) => tables(pasid) + PAGE * level);
  if (top === undefined || third === undefined || second === undefined || first === undefined) return;
  const index = (level: number): number => 8 * (Math.floor(IOVA / 2 ** (12 + 9 * level)) % 512);
  put64(top + index(3), BigInt(third) | 0x7n);
  put64(third + index(2), BigInt(second) | 0x7n);
  put64(second + index(1), BigInt(first) | 0x7n);
  put64(first + index(0), gpa === null ? 0n : BigInt(gpa) | 0x7n);
}

/** A page that is not present, and a driver that brings it when the device asks. */
async function pageRequests(driver: Driver, device: VfioDevice, fn: PciFunction): Promise<void> {
  const control = (fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_PRI)?.offset ?? 0) + 4;
  fn.write(control, 2, 1);
  const requests: unknown[] = [];
  const timer = setInterval(() => {
    driver.answer((pasid, address) => {
      requests.push([pasid, `0x${address.toString(16)}`]);
      mapFirst(pasid, FIRST_PAGE + 7 * PAGE);
    });
  }, 2);
  memory.setUint32(FIRST_PAGE + 7 * PAGE + 8, 0x5555_5555, true);
  const result = await order(device, 'read with page requests', 5, IOVA + 8);
  clearInterval(timer);
  fn.write(control, 2, 0);
  print('nested: page request', [result, requests]);
}

async function nested(): Promise<void> {
  new Uint8Array(memory.buffer).fill(0);
  const driver = new Driver();
  const { device, fn, mirror, events } = await world(driver.unit);
  const read = (pasid: number | null): Promise<string> => order(device, 'read', pasid, IOVA + 8);
  const write = (pasid: number | null, data: number): Promise<string> =>
    order(device, 'write', pasid, IOVA + 8, data);
  print('nested: translation off', [await read(5), mirror.attached]);
  driver.start();
  print('nested: no PASID configured', [await read(5), mirror.attached]);
  for (const pasid of [5, 9]) {
    mapFirst(pasid, FIRST_PAGE + PAGE * pasid);
    memory.setUint32(FIRST_PAGE + PAGE * pasid + 8, 0x1000_0000 + pasid, true);
    driver.entry(pasid, true);
  }
  print('nested: two PASIDs', [
    await read(5),
    await read(9),
    await read(6),
    await read(null),
    mirror.attached,
  ]);
  print('nested: written', [await write(5, 0x7777_7777), memory.getUint32(FIRST_PAGE + 5 * PAGE + 8, true)]);
  mapFirst(5, FIRST_PAGE + 9 * PAGE);
  const stale = await read(5);
  driver.flush(5);
  print('nested: mapped elsewhere', [stale, await read(5)]);
  mapFirst(5, null);
  driver.flush(5);
  print('nested: unmapped', [await read(5), await read(9)]);
  await pageRequests(driver, device, fn);
  driver.entry(9, false);
  driver.flush(9);
  print('nested: entry gone', [await read(9), mirror.attached]);
  driver.unit.writeRegister(0x18, 4, 0x0400_0000);
  print('nested: translation off again', [await read(5), mirror.attached]);
  mirror.close();
  print('nested: events', events);
  print('nested: failures', mirror.failures);
  device.close();
}

await table();
await nested();

// In this process: starting another one takes seconds here.
process.argv.splice(2, process.argv.length, BDF);
const mirror = './mirror-in-guest.mjs';
await import(mirror);
