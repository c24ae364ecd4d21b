// What needs descriptors: shared guest memory and interrupts; and what the transports without them do instead.
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { serveVfioUser, type ServeOptions, VfioUserDevice, type VfioUserServer } from 'vpci/vfio-user';
import {
  allocateBlock,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EventfdSignals,
  F_ADD_SEALS,
  F_SEAL_SHRINK,
  listenUnix,
  loadNative,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MSG_DONTWAIT,
  O_RDWR,
  SO_PASSCRED,
  SocketMessage,
  SOL_SOCKET,
} from '../../../vmm-glue/linux/index.ts';
import {
  bytesOf,
  concat,
  dmaMapBody,
  dmaUnmapBody,
  irqSetBody,
  valueOf,
  versionBody,
  VfioUserClient,
  words,
} from '../../support/vfio-user-client.ts';
import { MSI_X_VECTORS, scratchFile, socketPath, testFunction } from './device.ts';

const EINVAL = 22;
const ENOTSUP = 95;
const INTX = 0;
const MSI = 1;
const MSI_X = 2;
const NONE_TRIGGER = 0x21;
const BOOL_TRIGGER = 0x22;
const EVENTFD_TRIGGER = 0x24;
const NONE_MASK = 0x09;
const BOOL_MASK = 0x0a;
const NONE_UNMASK = 0x11;

const native = await loadNative();
const open: (VfioUserServer | VfioUserClient)[] = [];
const descriptors: number[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one.close();
  for (const fd of descriptors.splice(0)) closeSync(fd);
});

async function session(options: Partial<ServeOptions> = {}) {
  const served = testFunction();
  const device = new VfioUserDevice(served.fn);
  const socket = socketPath();
  const server = await serveVfioUser({ socket, device, transport: 'koffi', ...options });
  const client = await VfioUserClient.open(socket);
  open.push(server, client);
  return { ...served, device, client, socket };
}

function memfd(size: number, sealed: boolean): number {
  const fd = native.memfdCreate('guest', MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ftruncateSync(fd, size);
  if (sealed) native.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
  descriptors.push(fd);
  return fd;
}

function eventfd(): number {
  const fd = native.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  descriptors.push(fd);
  return fd;
}

/** How often an eventfd was signalled since it was asked last. */
function signals(fd: number): number {
  const count = new BigUint64Array(1);
  try {
    readSync(fd, new Uint8Array(count.buffer));
  } catch {
    return 0;
  }
  return Number(count[0]);
}

function fileBytes(fd: number, offset: number, length: number): number[] {
  const bytes = new Uint8Array(length);
  readSync(fd, bytes, 0, length, offset);
  return [...bytes];
}

describe('guest memory with a descriptor', () => {
  it.each([
    ['mapping', true],
    ['file', false],
  ])('is reached by %s', async (by, sealed) => {
    const { client, device } = await session();
    const fd = memfd(0x4000, sealed);
    writeSync(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, 0x1000);
    const ways: string[] = [];
    device.on('dma-map', (event) => ways.push(`${event.mapped} ${event.by}`));
    expect((await client.request(2, dmaMapBody(3, 0x1000, 0x10000, 0x2000), [fd])).errno).toBe(0);
    expect(await device.read(0x10000, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    expect(device.writeNow(0x10ffe, Uint8Array.of(7, 8, 9))).toBe(true);
    expect(fileBytes(fd, 0x1ffe, 3)).toEqual([7, 8, 9]);
    expect(client.requests).toEqual([]);
    expect((await client.request(3, dmaUnmapBody(0x10000, 0x2000))).errno).toBe(0);
    expect(device.readNow(0x10000, new Uint8Array(4))).toBe(false);
    expect(ways).toEqual([`true ${by}`, `false ${by}`]);
  });

  it('crosses from one range into the next, and stops at a gap', async () => {
    const { client, device } = await session();
    const fd = memfd(0x4000, true);
    await client.request(2, dmaMapBody(3, 0x2000, 0x1000, 0x1000), [fd]);
    await client.request(2, dmaMapBody(3, 0, 0x2000, 0x1000), [fd]);
    expect(device.writeNow(0x1ffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect([...fileBytes(fd, 0x2ffe, 2), ...fileBytes(fd, 0, 2)]).toEqual([1, 2, 3, 4]);
    expect(device.readNow(0x2ffe, new Uint8Array(4))).toBe(false);
  });

  it('keeps to the access that the client allows', async () => {
    const { client, device } = await session();
    const fd = memfd(0x2000, true);
    await client.request(2, dmaMapBody(1, 0, 0, 0x1000), [fd]);
    await client.request(2, dmaMapBody(2, 0x1000, 0x1000, 0x1000), [fd]);
    const one = new Uint8Array(1);
    expect([device.readNow(0, one), device.writeNow(0, one)]).toEqual([true, false]);
    expect([device.readNow(0x1000, one), device.writeNow(0x1000, one)]).toEqual([false, true]);
  });

  it('is what the walkers of a vIOMMU see', async () => {
    const { client, device } = await session();
    const { memory } = device;
    const fd = memfd(0x4000, true);
    writeSync(fd, words(0x11223344, 0x55667788), 0, 8, 0x1008);
    await client.request(2, dmaMapBody(3, 0, 0x100000, 0x4000), [fd]);
    expect(memory.span(0, 0x101008, 8)).toBe(0);
    memory.load64(0);
    expect([memory.low, memory.high]).toEqual([0x11223344, 0x55667788]);
    expect(memory.store(0, 0x101010, Int32Array.of(5), 1)).toBe(0);
    expect(fileBytes(fd, 0x1010, 1)).toEqual([5]);
    await client.request(3, dmaUnmapBody(0x100000, 0x4000));
    expect(memory.span(0, 0x101008, 8)).toBe(1);
  });

  it('misses, for the walkers, where it is not mapped, and is fetched', async () => {
    const { client, device } = await session();
    const { memory } = device;
    const fd = memfd(0x4000, false);
    writeSync(fd, words(0x11223344), 0, 4, 0x1008);
    await client.request(2, dmaMapBody(3, 0, 0x100000, 0x4000), [fd]);
    expect(memory.span(0, 0x101008, 8)).toBe(3);
    expect(await device.fetchPage(memory.missLow)).toBe(true);
    expect(memory.span(0, 0x101008, 8)).toBe(0);
    expect(memory.load32(0)).toBe(0x11223344);
    memory.store(0, 0x101010, Int32Array.of(6), 1);
    expect(fileBytes(fd, 0x1010, 1)).toEqual([6]);
  });

  it('is zeroes for who holds on to it when the client took it back, or is gone', async () => {
    const { client, device } = await session();
    const fd = memfd(0x4000, true);
    writeSync(fd, Uint8Array.of(7), 0, 1, 0);
    const views: Uint8Array[] = [];
    const seen: unknown[] = [];
    device.on('dma-map', ({ mapped, parts }) => {
      views.push(...parts.map(({ bytes }) => bytes));
      seen.push([mapped, views[0]?.[0]]);
    });
    device.on('disconnect', () => seen.push(['gone', views.map((bytes) => bytes[0])]));
    await client.request(2, dmaMapBody(3, 0, 0, 0x2000), [fd]);
    await client.request(3, dmaUnmapBody(0, 0x2000));
    await client.request(2, dmaMapBody(3, 0, 0, 0x2000), [fd]);
    client.close();
    await expect.poll(() => seen.at(-1)).toEqual(['gone', [0, 0]]);
    expect(seen.slice(0, -1)).toEqual([
      [true, 7],
      [false, 0],
      [true, 0],
    ]);
    for (const bytes of views) bytes[0] = 9;
    expect(fileBytes(fd, 0, 1)).toEqual([7]);
  });

  it('can be mapped as far as its file has grown', async () => {
    const { client, device } = await session();
    const fd = memfd(0x1000, true);
    expect((await client.request(2, dmaMapBody(3, 0, 0, 0x1000), [fd])).errno).toBe(0);
    ftruncateSync(fd, 0x2000);
    expect((await client.request(2, dmaMapBody(3, 0x1000, 0x1000, 0x1000), [fd])).errno).toBe(0);
    expect(device.writeNow(0xffe, Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect(fileBytes(fd, 0xffe, 4)).toEqual([1, 2, 3, 4]);
  });

  it('comes with its descriptor, though credentials come, too', async () => {
    const path = socketPath();
    const listening = listenUnix(native, path, 0o600);
    descriptors.push(listening);
    const connecting = VfioUserClient.connect(path);
    const client = await connecting;
    const fd = native.accept4(listening, 0, 0, 0);
    expect(native.setsockopt(fd, SOL_SOCKET, SO_PASSCRED, Uint8Array.of(1, 0, 0, 0), 4)).toBe(0);
    // Without a connection of ours on it, they stay on, and come first.
    const block = allocateBlock(native, 4096);
    const incoming = new SocketMessage(native, block, 16);
    incoming.setBuffer(block.address + 2048, 1024);
    const own = memfd(0x1000, true);
    client.send(Uint8Array.of(1), [own, own]);
    expect([incoming.receive(fd, MSG_DONTWAIT), incoming.truncated]).toEqual([1, false]);
    const received = incoming.descriptors();
    expect(received).toHaveLength(2);
    for (const one of received) closeSync(one);

    const device = new VfioUserDevice(testFunction().fn);
    open.push(await serveVfioUser({ fd, device, transport: 'koffi' }), client);
    expect((await client.request(1, versionBody(0, 1, '{}'))).errno).toBe(0);
    const vectors = Array.from({ length: 16 }, () => own);
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI_X, 0, 16), vectors)).errno).toBe(EINVAL);
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 20; i++) {
      expect((await client.request(2, dmaMapBody(3, 0, 0, 0x1000), [own])).errno).toBe(0);
      expect(device.readNow(0, new Uint8Array(1))).toBe(true);
      await client.request(3, dmaUnmapBody(0, 0x1000));
    }
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  });

  it('outlives a client that cuts the file', async () => {
    const { client, device } = await session();
    const fd = memfd(0x2000, false);
    await client.request(2, dmaMapBody(3, 0, 0, 0x2000), [fd]);
    ftruncateSync(fd, 0);
    expect(device.readNow(0x1000, new Uint8Array(16))).toBe(false);
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
  });

  it('is reached by messages where its file system may never answer', async (context) => {
    const folder = scratchFile('fuse');
    mkdirSync(folder);
    const text = (characters: string): Uint8Array => new TextEncoder().encode(`${characters}\0`);
    const [mountCall, unmountCall] = process.arch === 'x64' ? [165, 166] : [40, 39];
    const fuse = native.open('/dev/fuse', O_RDWR);
    if (fuse < 0) context.skip('no /dev/fuse here');
    const strings = [text(folder), text('fuse'), text(`fd=${fuse},rootmode=40000,user_id=0,group_id=0`)];
    const [at = 0, type = 0, how = 0] = strings.map((bytes) => native.address(bytes));
    const mounted = native.syscall(mountCall, at, at, type, 0, how) === 0;
    // Nobody serves it: the first question would never be answered. O_PATH asks none.
    const fd = mounted ? openSync(folder, 0x200000) : -1;
    try {
      if (!mounted) context.skip('no permission to mount');
      const { client, device } = await session();
      const ways: string[] = [];
      device.on('dma-map', ({ by }) => ways.push(by));
      expect((await client.request(2, dmaMapBody(3, 0, 0, 0x1000), [fd])).errno).toBe(0);
      expect(ways).toEqual(['messages']);
      client.onRequest = ({ body }) => concat(body.slice(0, 16), Uint8Array.of(5));
      expect(await device.read(0, 1)).toEqual(Uint8Array.of(5));
    } finally {
      if (mounted) closeSync(fd);
      native.syscall(unmountCall, at, 2, 0, 0, 0);
      closeSync(fuse);
      // What was pointed to must live until here.
      expect(strings).toHaveLength(3);
    }
  });

  it('may be a file of any other file system', async () => {
    const { client, device } = await session();
    const path = join(import.meta.dirname, `guest-${process.pid}.bin`);
    writeFileSync(path, new Uint8Array(0x1000).fill(3));
    const fd = openSync(path, 'r+');
    descriptors.push(fd);
    rmSync(path);
    expect((await client.request(2, dmaMapBody(3, 0, 0, 0x1000), [fd])).errno).toBe(0);
    expect(device.writeNow(0x10, Uint8Array.of(4))).toBe(true);
    expect(fileBytes(fd, 0xf, 3)).toEqual([3, 4, 3]);
  });

  it('refuses what is no file, too short, or too much', async () => {
    const { client } = await session();
    const fd = memfd(0x2000, true);
    const map = async (offset: number, size: number, fds: number[]): Promise<number> =>
      (await client.request(2, dmaMapBody(3, offset, 0, size), fds)).errno;
    expect(await map(0, 0x3000, [fd])).toBe(EINVAL);
    expect(await map(0x1000, 0x2000, [fd])).toBe(EINVAL);
    expect(await map(2 ** 53, 0x1000, [fd])).toBe(EINVAL);
    expect(await map(0, 0x1000, [fd, fd])).toBe(EINVAL);
    expect(await map(0, 0x1000, [eventfd()])).toBe(EINVAL);
    const directory = openSync('/', 'r');
    descriptors.push(directory);
    expect(await map(0, 0x1000, [directory])).toBe(EINVAL);
    expect(await map(0, 0x1000, [fd])).toBe(0);
  });

  it('gives a descriptor to the message it came with, among others in one piece', async () => {
    const { client, device } = await session();
    const fd = memfd(0x1000, true);
    const { message, regionBody } = await import('../../support/vfio-user-client.ts');
    const read = message(1, 9, regionBody(7, 0, 4));
    const info = message(3, 4, words(16, 0, 0, 0));
    client.send(concat(read, info, message(2, 2, dmaMapBody(3, 0, 0, 0x1000))), [fd]);
    client.send(read);
    for (let i = 0; i < 4; i++) expect((await client.reply()).errno).toBe(0);
    expect(device.readNow(0, new Uint8Array(4))).toBe(true);
  });
});

describe('interrupts with eventfds', () => {
  it('signals INTx, which masks itself until the client unmasks it', async () => {
    const { client, fn, device } = await session();
    const fd = eventfd();
    const enabled: number[][] = [];
    device.on('interrupts', (event) => enabled.push([event.index, event.enabled]));
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, INTX, 0, 1), [fd])).errno).toBe(0);
    fn.setInterrupt(true);
    expect(signals(fd)).toBe(1);
    fn.setInterrupt(false);
    fn.setInterrupt(true);
    expect(signals(fd)).toBe(0);
    expect((await client.request(8, irqSetBody(NONE_UNMASK, INTX, 0, 1))).errno).toBe(0);
    expect(signals(fd)).toBe(1);
    fn.setInterrupt(false);
    await client.request(8, irqSetBody(NONE_UNMASK, INTX, 0, 1));
    expect(signals(fd)).toBe(0);
    await client.request(8, irqSetBody(NONE_MASK, INTX, 0, 1));
    fn.setInterrupt(true);
    expect(signals(fd)).toBe(0);
    expect((await client.request(8, irqSetBody(NONE_TRIGGER, INTX, 0, 0))).errno).toBe(0);
    await client.request(8, irqSetBody(NONE_UNMASK, INTX, 0, 1));
    expect(signals(fd)).toBe(0);
    expect(enabled).toEqual([
      [INTX, 1],
      [INTX, 0],
    ]);
  });

  it('asks for the level of INTx before it signals again', async () => {
    const { client, fn, device } = await session();
    const fd = eventfd();
    const masks: boolean[] = [];
    device.on('intx-mask', ({ masked }) => {
      masks.push(masked);
      if (!masked) fn.setInterrupt(false);
    });
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, INTX, 0, 1), [fd]);
    fn.setInterrupt(true);
    expect(signals(fd)).toBe(1);
    await client.request(8, irqSetBody(NONE_UNMASK, INTX, 0, 1));
    expect(signals(fd)).toBe(0);
    fn.setInterrupt(true);
    expect(signals(fd)).toBe(1);
    await client.request(8, irqSetBody(NONE_MASK, INTX, 0, 1));
    // Masks nothing.
    await client.request(8, concat(irqSetBody(BOOL_MASK, INTX, 0, 1), bytesOf(0, 1)));
    await client.request(8, irqSetBody(NONE_UNMASK, INTX, 0, 1));
    expect(signals(fd)).toBe(0);
    expect(masks).toEqual([false, true, false]);
  });

  it('tells which eventfd the client gave for which vector', async () => {
    const { client, device } = await session();
    const id = (fd: number | undefined): string | undefined =>
      /eventfd-id:.*/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[0];
    const told: [vector: number, id: string | undefined][][] = [];
    device.on('interrupts', ({ vectors, eventfds }) => {
      told.push(vectors.map((vector, i) => [vector, id(eventfds[i])]));
    });
    const [a, b, c] = [eventfd(), eventfd(), eventfd()];
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI_X, 1, 2), [a, b]);
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI_X, 0, 1), [c]);
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI_X, 1, 1));
    // Signals what there is.
    await client.request(8, irqSetBody(NONE_TRIGGER, MSI_X, 2, 1));
    const [first, second, third] = [a, b, c].map(id);
    expect(new Set([first, second, third]).size).toBe(3);
    expect(told).toEqual([
      [
        [1, first],
        [2, second],
      ],
      [
        [0, third],
        [1, first],
        [2, second],
      ],
      [
        [0, third],
        [2, second],
      ],
    ]);
  });

  it('signals an INTx that is asserted when the client comes', async () => {
    const { client, fn } = await session();
    fn.setInterrupt(true);
    const fd = eventfd();
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, INTX, 0, 1), [fd]);
    expect(signals(fd)).toBe(1);
  });

  it.each([
    ['MSI', MSI, 4],
    ['MSI-X', MSI_X, MSI_X_VECTORS],
  ])('signals the vectors of %s that the client took', async (_name, index, count) => {
    const { client, device } = await session();
    const fds = Array.from({ length: count }, () => eventfd());
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, index, 0, count), fds)).errno).toBe(0);
    expect(device.interrupt(1)).toBe(true);
    expect(device.interrupt(1)).toBe(true);
    expect(device.interrupt(count - 1)).toBe(true);
    expect(device.interrupt(count)).toBe(false);
    expect(fds.map(signals)).toEqual(fds.map((_fd, i) => (i === 1 ? 2 : i === count - 1 ? 1 : 0)));
    // Without descriptors, a vector is taken back.
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, index, 1, 1))).errno).toBe(0);
    expect(device.interrupt(1)).toBe(false);
    expect((await client.request(8, irqSetBody(NONE_TRIGGER, index, 0, 2))).errno).toBe(0);
    expect(fds.map(signals)).toEqual(fds.map((_fd, i) => (i === 0 ? 1 : 0)));
    const bools = concat(irqSetBody(BOOL_TRIGGER, index, 0, 3), Uint8Array.of(0, 1, 1));
    expect((await client.request(8, bools)).errno).toBe(0);
    expect(fds.map(signals)).toEqual(fds.map((_fd, i) => (i === 2 ? 1 : 0)));
  });

  it('signals the vector of a message that the function sends', async () => {
    const { client, fn } = await session();
    const msi = fn.capabilities.find(({ id }) => id === 5)?.offset ?? 0;
    const fd = eventfd();
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI, 0, 1), [fd]);
    // A message is a memory write: Bus Master Enable first.
    await client.writeConfig(4, 2, 6);
    await client.writeConfig(msi + 4, 4, 0xfee00000);
    await client.writeConfig(msi + 2, 2, 1);
    expect(fn.triggerMessage(0)).toBe(true);
    expect(signals(fd)).toBe(1);
  });

  it.each([
    ['no data flag', irqSetBody(0x20, MSI, 0, 1), 0, EINVAL],
    ['no action', irqSetBody(0x01, MSI, 0, 1), 0, EINVAL],
    ['two actions', irqSetBody(0x31, MSI, 0, 1), 0, EINVAL],
    ['two data flags', irqSetBody(0x23, MSI, 0, 1), 0, EINVAL],
    ['unknown flags', irqSetBody(0x80000021, MSI, 0, 1), 0, EINVAL],
    ['an index that is not there', irqSetBody(0x21, 5, 0, 1), 0, EINVAL],
    ['a vector that is not there', irqSetBody(0x21, MSI, 4, 1), 0, EINVAL],
    ['more vectors than there are', irqSetBody(0x21, MSI, 0, 0xffffffff), 0, EINVAL],
    ['a start beyond anything', irqSetBody(0x21, MSI, 0xffffffff, 1), 0, EINVAL],
    ['no vector, but not to switch all off', irqSetBody(0x24, MSI, 0, 0), 0, EINVAL],
    ['no vector, and a start', irqSetBody(0x21, MSI, 1, 0), 0, EINVAL],
    ['fewer descriptors than vectors', irqSetBody(0x24, MSI, 0, 2), 1, EINVAL],
    ['more descriptors than vectors', irqSetBody(0x24, MSI, 0, 2), 3, EINVAL],
    ['descriptors that it does not announce', irqSetBody(0x21, MSI, 0, 1), 1, EINVAL],
    ['booleans that are not there', irqSetBody(0x22, MSI, 0, 4), 0, EINVAL],
    ['a mask of MSI', irqSetBody(0x09, MSI, 0, 1), 0, ENOTSUP],
    ['an unmask by eventfd', irqSetBody(0x14, INTX, 0, 1), 1, ENOTSUP],
    ['too short', words(20, 0x21, MSI), 0, EINVAL],
  ])('refuses %s', async (_name, body, count, errno) => {
    const { client, device } = await session();
    const fds = Array.from({ length: count }, () => eventfd());
    expect((await client.request(8, body, fds)).errno).toBe(errno);
    expect(device.interrupt(0)).toBe(false);
  });

  it('takes eventfds only, and full ones do not stop it', async () => {
    const { client, device } = await session();
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI, 0, 1), [memfd(8, false)])).errno).toBe(
      EINVAL,
    );
    const blocking = native.eventfd(0, EFD_CLOEXEC);
    descriptors.push(blocking);
    const full = new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer);
    writeSync(blocking, full);
    await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI, 0, 1), [blocking]);
    expect(device.interrupt(0)).toBe(true);
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
    // One more than a write can make it: the kernel signalled, whatever its flags are or were a moment ago.
    const count = new BigUint64Array(1);
    readSync(blocking, new Uint8Array(count.buffer));
    expect(count[0]).toBe(2n ** 64n - 1n);
    for (let i = 0; i < 1000; i++) expect(device.interrupt(0)).toBe(true);
    expect(signals(blocking)).toBe(1000);
  });

  it('signals by a write where the host has no asynchronous I/O, unless that would block', () => {
    const writing = EventfdSignals.of({ ...native, syscall: () => -1 });
    for (const flags of [EFD_CLOEXEC, EFD_CLOEXEC | EFD_NONBLOCK]) {
      const fd = native.eventfd(1, flags);
      descriptors.push(fd);
      writing.signal(fd);
      writing.signal(fd);
      expect(signals(fd)).toBe(3);
      const full = BigUint64Array.of(2n ** 64n - 2n);
      writeSync(fd, new Uint8Array(full.buffer));
      writing.signal(fd);
      const count = new BigUint64Array(1);
      readSync(fd, new Uint8Array(count.buffer));
      expect(count).toEqual(full);
    }
  });

  it.each([65_536, -1, 1.5, Number.NaN])('has no vector %d', async (vector) => {
    const { device } = await session();
    expect(() => device.interrupt(vector)).toThrow(expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }));
  });
});

describe('without descriptors', () => {
  it('shows no interrupt pin and no MSI-X', async () => {
    const { client, fn } = await session({ transport: 'net' });
    expect([fn.read(0x3d, 1), await client.readConfig(0x3d, 1)]).toEqual([1, 0]);
    expect(await client.readConfig(0x3c, 4)).toBe(fn.read(0x3c, 1));
    const ids: number[] = [];
    for (let at = await client.readConfig(0x34, 1); at !== 0; at = await client.readConfig(at + 1, 1)) {
      ids.push(await client.readConfig(at, 1));
    }
    expect(ids).toEqual([0x01, 0x05, 0x10]);
    const msiX = fn.capabilities.find(({ id }) => id === 0x11)?.offset ?? 0;
    expect(fn.read(msiX, 1)).toBe(0x11);
    expect(await client.readConfig(msiX, 4)).toBe(0);
    await client.writeConfig(msiX, 4, 0xffffffff);
    await client.writeConfig(0x3c, 4, 0xffffff55);
    expect([fn.read(msiX + 2, 2) >>> 15, fn.read(0x3c, 1)]).toEqual([0, 0x55]);
    const whole = (await client.readRegion(7, 0, 256)).body.slice(16);
    expect([whole[0x3d], whole[msiX]]).toEqual([0, 0]);
  });

  it('delivers MSI by DMA to the address that the guest programmed', async () => {
    const { client, fn } = await session({ transport: 'net' });
    const msi = fn.capabilities.find(({ id }) => id === 5)?.offset ?? 0;
    await client.writeConfig(4, 2, 6);
    await client.writeConfig(msi + 4, 4, 0xfee01000);
    await client.writeConfig(msi + 0xc, 2, 0x4041);
    expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, MSI, 0, 1))).errno).toBe(0);
    await client.writeConfig(msi + 2, 2, 1);
    expect(fn.triggerMessage(0)).toBe(true);
    await expect.poll(() => client.requests.length).toBe(1);
    const [request] = client.requests;
    expect([request?.command, valueOf((request?.body ?? new Uint8Array()).slice(0, 8))]).toEqual([
      12, 0xfee01000,
    ]);
    expect(valueOf((request?.body ?? new Uint8Array()).slice(16))).toBe(0x4041);
  });

  it('refuses to set up what it cannot deliver', async () => {
    const { client } = await session({ transport: 'net' });
    for (const index of [INTX, MSI_X, 3, 4]) {
      expect((await client.request(8, irqSetBody(EVENTFD_TRIGGER, index, 0, 1))).errno).toBe(EINVAL);
    }
  });

  it('reads and writes the memory file that the user names, and nothing else by it', async () => {
    const path = scratchFile('memory');
    writeFileSync(path, new Uint8Array(0x4000));
    const { client, device } = await session({ transport: 'net', memoryFile: path });
    await client.request(2, dmaMapBody(3, 0, 0, 0x2000));
    await client.request(2, dmaMapBody(3, 0x2000, 0x100000, 0x2000));
    // A ROM, video memory, and what is beyond the file have no descriptor.
    await client.request(2, dmaMapBody(1, 0, 0xf0000, 0x1000));
    await client.request(2, dmaMapBody(3, 0, 0xe0000000, 0x1000));
    expect((await client.request(2, dmaMapBody(3, 0x3000, 0x200000, 0x2000))).errno).toBe(EINVAL);
    const bytes = Uint8Array.of(1, 2, 3);
    expect([0x10, 0x100010, 0xf0000, 0xe0000000].map((at) => device.writeNow(at, bytes))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    const fd = openSync(path, 'r');
    expect([fileBytes(fd, 0x10, 3), fileBytes(fd, 0x2010, 3)]).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
    closeSync(fd);
    rmSync(path);
    await expect(
      serveVfioUser({ socket: socketPath(), device: testFunction().fn, memoryFile: path }),
    ).rejects.toThrow(expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }));
  });
});
