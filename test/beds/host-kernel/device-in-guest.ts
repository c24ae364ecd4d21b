// Runs in the guest: opens, queries, attaches, passes through. Prints what it saw, one JSON object per line; judging is
// for the test outside. Arguments: the BDF of each device, with `=` and the offset (hexadecimal) of the PASID capability
// that vfio-pci hides when it is to be passed through.
import koffi from 'koffi';
import {
  GuestDma,
  openVfioDevice,
  passthroughFunction,
  queryPasidFeature,
  type VfioDevice,
  VfioInterrupts,
} from 'vpci/vfio';
import {
  DATA,
  DOORBELL,
  INTERRUPT,
  IOVA_LOW,
  MSI_X_TABLE,
  NOTE,
  READ,
  STATUS,
  WRITE,
} from './device-registers.ts';

// The kernel's interface once more, apart from the package's: <linux/iommufd.h>, <linux/vfio.h>.
const IOMMU_IOAS_ALLOC = 0x3b81;
const IOMMU_HWPT_ALLOC = 0x3b89;
const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;

const libc = koffi.load(null);
const ioctl: (fd: number, request: number, argument: Uint8Array) => unknown = libc.func('ioctl', 'int', [
  'int',
  'ulong',
  'void *',
]);

const COMMAND = 0x04;
const MEMORY = 0x2;
const BUS_MASTER = 0x4;
const CAP_EXPRESS = 0x10;
const DEVICE_CONTROL = 8;
const INITIATE_FLR = 0x8000;
const PASID_CONTROL = 6;

const CAP_MSI_X = 0x11;
const MSI_X_CONTROL = 2;
const MSI_X_ENABLE = 0x8000;

const FIRST = '01:00.0';
/** A driver of the kernel has the other function of its group. */
const CROWDED = '05:00.0';
const TOKEN = '01234567-89ab-cdef-0123-456789abcdef';

function print(check: string, result: unknown): void {
  console.log(JSON.stringify({ check, result }));
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function hexBytes(length: number, read: (offset: number, size: number) => number): string {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  for (let offset = 0; offset < length; offset += 4) view.setUint32(offset, read(offset, 4), true);
  return Buffer.from(bytes).toString('hex');
}

/** Words of 32 bits as a struct; the kernel's answer is read back through `words`. */
function call(fd: number, request: number, words: Uint32Array): string {
  const bytes = new Uint8Array(words.buffer);
  return ioctl(fd, request, bytes) === 0 ? 'ok' : koffiErrno();
}

function koffiErrno(): string {
  const errno = koffi.errno();
  const name = Object.entries(koffi.os.errno).find(([, number]) => number === errno)?.[0];
  return name ?? `errno ${errno}`;
}

async function query(bdf: string): Promise<void> {
  const device = await openVfioDevice(bdf);
  print(`query ${bdf}`, queryPasidFeature(device));
  device.close();
}

/** Attaches without a PASID and then with several, and takes all of it back. */
async function attach(bdf: string): Promise<void> {
  const device = await openVfioDevice(bdf);
  const { feature } = queryPasidFeature(device, { probeAttach: false });
  const outcome: Record<string, string> = {};
  const ioas = new Uint32Array([12, 0, 0]);
  const iommufd = device.iommufd ?? -1;
  outcome['ioas'] = call(iommufd, IOMMU_IOAS_ALLOC, ioas);
  const hwpt = new Uint32Array(12);
  hwpt.set([48, 0x8, device.deviceId ?? 0, ioas[2] ?? 0]);
  outcome['hwpt'] = call(iommufd, IOMMU_HWPT_ALLOC, hwpt);
  const table = hwpt[4] ?? 0;
  const to = (...words: number[]): string =>
    call(device.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, new Uint32Array(words));
  const from = (...words: number[]): string =>
    call(device.fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, new Uint32Array(words));
  const limit = 2 ** (feature?.width ?? 0);
  outcome['rid'] = to(12, 0, table);
  const pasids = new Set([0, 1, 5, limit - 1, limit]);
  for (const pasid of pasids) outcome[`attach ${pasid}`] = to(16, 1, table, pasid);
  for (const pasid of pasids) outcome[`detach ${pasid}`] = from(12, 1, pasid);
  outcome['detach rid'] = from(8, 0);
  device.close();
  print(`attach ${bdf}`, outcome);
}

async function passThrough(bdf: string, hidden: number): Promise<void> {
  const device = await openVfioDevice(bdf);
  const physical = device.configSpace;
  const show = (check: string, result: unknown): void => print(`${check} ${bdf}`, result);
  const note = (value: number): void => device.bars()[0]?.write?.(NOTE, 4, value);
  const raw = (): number => physical.read(hidden + 4, 4);
  show(
    'by vfio-pci',
    hexBytes(physical.size, (offset, size) => physical.read(offset, size)),
  );
  const { fn, query: answer } = passthroughFunction(device);
  const pasid = fn.pasid?.offset ?? 0;
  const express = fn.capabilities.find(({ id }) => id === CAP_EXPRESS)?.offset ?? 0;
  show('shown', {
    feature: answer.feature,
    pasid: fn.pasid,
    extended: fn.extendedCapabilities.map(({ id, offset }) => [id, offset]),
    bytes: hexBytes(fn.size, (offset, size) => fn.read(offset, size)),
    bars: device.bars().map(({ index, size }) => [index, size]),
    irqs: device.irqs().map(({ kind, count }) => [kind, count]),
    findings: fn.findings.map(({ code }) => code),
  });

  note(1);
  const reads = [1, 2, 4].flatMap((size) =>
    Array.from({ length: 8 / size }, (_, i) => fn.read(hidden + i * size, size)),
  );
  const before = raw();
  for (const value of [0, 0xffffffff]) {
    for (let i = 0; i < 8; i += 1) fn.write(hidden + i, 1, value & 0xff);
    for (let i = 0; i < 8; i += 2) fn.write(hidden + i, 2, value & 0xffff);
    for (let i = 0; i < 8; i += 4) fn.write(hidden + i, 4, value);
  }
  fn.writeFrom(hidden, new Uint8Array(8));
  show('hidden', { reads, before, after: raw() });

  note(2);
  const latched = [0, 1, 7, 0xffff].map((value) => {
    fn.write(pasid + PASID_CONTROL, 2, value);
    return fn.read(pasid + PASID_CONTROL, 2);
  });
  show('latch', { latched, raw: raw() });

  note(3);
  const commands = [MEMORY | BUS_MASTER, MEMORY].map((command) => {
    fn.write(COMMAND, 2, command);
    return [fn.read(COMMAND, 2), physical.read(COMMAND, 2)];
  });
  show('command', commands);

  note(4);
  fn.write(pasid + PASID_CONTROL, 2, 1);
  const control = fn.read(express + DEVICE_CONTROL, 2);
  fn.write(express + DEVICE_CONTROL, 2, control | INITIATE_FLR);
  show('flr', { latch: fn.read(pasid + PASID_CONTROL, 2), command: fn.read(COMMAND, 2), raw: raw() });

  note(5);
  const offered = raw();
  physical.write(hidden + PASID_CONTROL, 2, 0);
  const cleared = raw();
  physical.write(hidden + PASID_CONTROL, 2, offered >>> 16);
  show('raw', { offered, cleared, restored: raw() });
  note(6);
  device.close();
  show('closed', [physical.read(0, 4), fn.read(0, 4)]);
}

/** 64 KiB of whole pages, as an IOMMU maps them. */
function pages(): ArrayBuffer {
  const mmap = libc.func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
  // PROT_READ and PROT_WRITE; MAP_SHARED and MAP_ANONYMOUS.
  const address: unknown = mmap(0, 0x1_0000, 3, 0x21, -1, 0);
  if (typeof address !== 'number') throw new Error('no memory');
  return koffi.view(BigInt(address), 0x1_0000);
}

/** Memory of this process as the device reaches it, and its interrupts as they come to the function. */
async function atWork(bdf: string): Promise<void> {
  const device = await openVfioDevice(bdf);
  const { fn } = passthroughFunction(device, { probeAttach: false });
  const [bar] = device.bars();
  const put = (register: number, value: number): void => bar?.write?.(register, 4, value);
  const get = (register: number): number => bar?.read?.(register, 4) ?? 0;
  const order = async (command: number): Promise<number> => {
    put(STATUS, 0);
    put(DOORBELL, command);
    for (let i = 0; i < 500 && get(STATUS) === 0; i++) await new Promise((resolve) => setTimeout(resolve, 2));
    return get(STATUS);
  };
  fn.write(COMMAND, 2, MEMORY | BUS_MASTER);

  const memory = new DataView(pages());
  memory.setUint32(0x2000, 0x1234_5678, true);
  const dma = new GuestDma(device);
  dma.map(0x4000_0000n, new Uint8Array(memory.buffer));
  put(IOVA_LOW, 0x4000_2000);
  const read = [await order(READ), get(DATA)];
  put(DATA, 0x8765_4321);
  const written = [await order(WRITE), memory.getUint32(0x2000, true)];
  dma.unmap(0x4000_0000n, 0x1_0000n);
  const unmapped = await order(READ);
  dma.close();
  print('dma', { read, written, unmapped });

  const messages: unknown[] = [];
  fn.on('msi', ({ kind, vector, address, data }) => messages.push([kind, vector, address, data]));
  const interrupts = new VfioInterrupts(device, fn, { read: true });
  interrupts.on('failure', ({ message: text }) => messages.push(text));
  const msiX = fn.capabilities.find(({ id }) => id === CAP_MSI_X)?.offset ?? 0;
  for (const [i, value] of [0xfee0_1000, 0, 0x4041, 0].entries())
    fn.barWrite(0, MSI_X_TABLE + 4 * i, 4, value);
  fn.write(msiX + MSI_X_CONTROL, 2, MSI_X_ENABLE);
  put(DOORBELL, INTERRUPT);
  for (let i = 0; i < 500 && messages.length === 0; i++)
    await new Promise((resolve) => setTimeout(resolve, 2));
  interrupts.close();
  print('interrupts', messages);
  device.close();
}

async function byGroup(bdf: string): Promise<void> {
  const device = await openVfioDevice(bdf, { via: 'group' });
  const { openedBy, subject, deviceId, canReset } = device;
  const { fn, query: answer } = passthroughFunction(device);
  device.reset();
  print('by group', {
    openedBy,
    subject,
    deviceId,
    canReset,
    answer,
    ids: [fn.read(0, 4), device.configSpace.read(0, 4)],
    pasid: fn.pasid,
  });
  device.close();
}

async function refused(what: string, open: () => Promise<VfioDevice>): Promise<void> {
  try {
    (await open()).close();
    print(`refused ${what}`, 'opened');
  } catch (error) {
    print(`refused ${what}`, message(error));
  }
}

async function errors(bdf: string): Promise<void> {
  await refused('not bound', () => openVfioDevice('00:02.0'));
  await refused('no such device', () => openVfioDevice('77:00.0'));
  const cdev = await openVfioDevice(bdf);
  await refused('second cdev', () => openVfioDevice(bdf));
  await refused('group while cdev', () => openVfioDevice(bdf, { via: 'group' }));
  cdev.close();
  const group = await openVfioDevice(bdf, { via: 'group' });
  await refused('second group', () => openVfioDevice(bdf, { via: 'group' }));
  await refused('cdev while group', () => openVfioDevice(bdf));
  group.close();
  await refused('neighbour', () => openVfioDevice(CROWDED));
  await refused('neighbour by group', () => openVfioDevice(CROWDED, { via: 'group' }));
  await refused('token', () => openVfioDevice(bdf, { vfToken: TOKEN }));
  await refused('token by group', () => openVfioDevice(bdf, { via: 'group', vfToken: TOKEN }));
  const again = await openVfioDevice(bdf);
  print('opened again', again.openedBy);
  again.close();
  // One that iommufd reports no PASID for, so that the question comes up.
  const without = await openVfioDevice('03:00.0');
  print('unmerged', queryPasidFeature(without, { unmergedFeature: true }));
  without.close();
}

for (const argument of process.argv.slice(2)) {
  const [bdf = '', hidden] = argument.split('=');
  await query(bdf);
  await attach(bdf);
  if (hidden !== undefined) await passThrough(bdf, Number.parseInt(hidden, 16));
}
await atWork(FIRST);
await byGroup(FIRST);
await errors(FIRST);

// In this process: starting another one takes seconds here.
process.argv.splice(2, process.argv.length, FIRST);
const mirror = './mirror-in-guest.mjs';
await import(mirror);
