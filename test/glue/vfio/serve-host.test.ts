// vpci view --host and vpci serve --host: a real device, as the shim has it, to a guest and to a vfio-user client.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, ftruncateSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, expect, it } from 'vitest';
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  F_ADD_SEALS,
  F_SEAL_SHRINK,
  loadNative,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
} from '../../../vmm-glue/linux/index.ts';
import { bed } from '../../support/beds.ts';
import {
  bytesOf,
  dmaMapBody,
  dmaUnmapBody,
  irqSetBody,
  VfioUserClient,
} from '../../support/vfio-user-client.ts';
import {
  HIDDEN_PASID,
  hostTree,
  type Kernel,
  type Ran,
  rawConfig,
  removeScratch,
  runOnHost,
  socketPath,
  startOnHost,
  whyNoShim,
} from './shim.ts';

afterAll(removeScratch);

const MAIN = 'dist/vmm-glue/cli/main.js';
const WIDTH = { WIDTH: '16', CAPS: '6' };
/** DMA_MAP, DMA_UNMAP, SET_IRQS and RESET of vfio-user. */
const [DMA_MAP, DMA_UNMAP, SET_IRQS, RESET] = [2, 3, 8, 13] as const;
const EVENTFD_TRIGGER = 0x24;
const MASK = 0x09;
const UNMASK = 0x11;
const INTX = 0;
const MSI_X = 2;
/** Doorbells of the shim's device. */
const DOORBELL_DMA = 0x3ff0;
const DOORBELL_INTERRUPT = 0x3ff4;
const DOORBELL_LINE = 0x3ff8;

const COMMAND = 0x04;
const INTERRUPT_DISABLE = 0x400;
const STATUS = 0x06;
const INTERRUPT_STATUS = 0x8;

bed('vfio-shim', whyNoShim)('vpci view --host', () => {
  const view = (args: readonly string[], kernel: Kernel = WIDTH): Ran =>
    runOnHost([MAIN, 'view', ...args], kernel);

  it('prints what a guest sees of the device, with the PASID that the host reported', () => {
    const root = hostTree({ raw: rawConfig(true) });
    const { code, out } = view(['--host', '1:0.0', '--root', root]);
    expect(code).toBe(0);
    expect(out).toMatch(/^0000:01:00\.0 bound to vfio-pci\n00: 86 80 c9 10/);
    const json = JSON.parse(view(['--host', '1:0.0', '--json', '--root', root]).out) as {
      functions: { pasid: { width: number; offset: number }; config: string }[];
    };
    const [fn] = json.functions;
    expect(fn?.pasid).toMatchObject({ width: 16 });
    const config = Buffer.from(fn?.config ?? '', 'hex');
    expect(config).toHaveLength(4096);
    expect(config.readUInt32LE(fn?.pasid.offset ?? 0) & 0xfffff).toBe(0x1001b);
    // Unless it was put there, nothing is where the hidden one is.
    if (fn?.pasid.offset !== HIDDEN_PASID) expect(config.readUInt32LE(HIDDEN_PASID)).toBe(0);
  });

  it('takes the options of a view', () => {
    const root = hostTree();
    const { code, out } = view(['--host', '1:0.0', '--pasid-width', '8', '--json', '--root', root]);
    expect(code).toBe(0);
    expect(out).toContain('"width": 8');
    const placed = view(['--host', '1:0.0', '--pasid-offset', '0x400', '--json', '--root', root]);
    expect(placed.code).toBe(0);
    expect(placed.out).toMatch(/"offset": 1024,\s+"width": 16,/);
    const dropped = view(['--host', '1:0.0', '--control', 'drop', '--json', '--root', root]);
    expect(dropped.out).toContain('"control": "drop"');
  });

  it.each([
    ['16 bits', WIDTH, '20', '"width": 16'],
    ['none', { WIDTH: '0', CAPS: '8' }, '20', '"pasid": null'],
  ])('never shows more than the host has: %s', (_, kernel, width, shown) => {
    const args = ['--host', '1:0.0', '--pasid-width', width, '--json', '--root', hostTree()];
    const { code, out } = view(args, kernel);
    expect(code).toBe(0);
    expect(out).toContain(shown);
  });

  it.each([
    [['--host', '1:0.0', 'dump.txt'], 2, 'give a dump or a device'],
    [['--host', 'gpu'], 2, 'is no PCI address'],
    [['--host', '1:0.0', '--function', '1:0.0'], 2, '--host names one device'],
    [['--host', '1:0.0', '--via', 'sea'], 2, '--via is "sea"'],
    [['--host', '1:0.0', '--exec'], 2, '--exec is what the host says'],
    [['--host', '1:0.0', '--pasid-width', '20', '--priv'], 2, '--priv is what the host says'],
    [['--host', '1:0.0', '--vf-token', 'x'], 2, '--vf-token is "x"'],
    [['--host', '2:0.0'], 1, 'has no PCI device 0000:02:00.0'],
  ])('refuses %s', (args, code, words) => {
    const ran = view([...args, '--root', hostTree()]);
    expect([ran.code, ran.out]).toEqual([code, '']);
    expect(ran.err).toContain(words);
  });
});

/** `vpci serve --host` and a client of it. */
async function serving(kernel: Kernel = {}): Promise<{
  readonly child: ChildProcess;
  readonly calls: () => readonly string[];
  readonly client: VfioUserClient;
}> {
  const socket = socketPath();
  const args = ['serve', '--host', '1:0.0', '--root', hostTree(), '--socket', socket, '--json'];
  const { child, calls } = startOnHost([MAIN, ...args], { ...WIDTH, ...kernel });
  if (child.stdout === null) throw new Error('no output');
  const lines = createInterface({ input: child.stdout });
  const [first] = (await once(lines, 'line')) as [string];
  expect(JSON.parse(first)).toMatchObject({ event: 'serving', bdf: '01:00.0', pasid: { width: 16 } });
  return { child, calls, client: await VfioUserClient.open(socket) };
}

async function stop(child: ChildProcess): Promise<unknown> {
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [unknown];
  return code;
}

/** What an eventfd was signalled by the time that nothing more comes; waits for the first signal when it is `awaited`. */
async function signals(eventfd: number, awaited = true): Promise<number> {
  const count = new BigUint64Array(1);
  let sum = 0;
  for (let left = awaited ? 100 : 5; left > 0; left--) {
    try {
      readSync(eventfd, new Uint8Array(count.buffer));
      sum += Number(count[0]);
      left = 6;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
  return sum;
}

/** Descriptors that a process has of the same eventfd. */
function descriptorsOf(pid: number | undefined, eventfd: number): number {
  const id = (path: string): string | undefined => /eventfd-id:.*/.exec(readFileSync(path, 'utf8'))?.[0];
  const own = id(`/proc/self/fdinfo/${eventfd}`);
  return readdirSync(`/proc/${pid}/fdinfo`).filter((fd) => id(`/proc/${pid}/fdinfo/${fd}`) === own).length;
}

bed('vfio-shim', whyNoShim)('vpci serve --host', () => {
  it('serves the device: its registers, the client memory by DMA, interrupts, reset', async () => {
    const native = await loadNative();
    const { child, calls, client } = await serving();
    expect(await client.readConfig(0, 4)).toBe(0x10c98086);

    await client.writeRegion(0, 0x100, bytesOf(0x12345678, 4));
    expect((await client.readRegion(0, 0x100, 4)).body.subarray(16)).toEqual(bytesOf(0x12345678, 4));

    const memory = native.memfdCreate('guest', MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ftruncateSync(memory, 0x4000);
    native.fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK);
    const stored = (): string => {
      const bytes = Buffer.alloc(4);
      readSync(memory, bytes, 0, 4, 0x1010);
      return bytes.toString('latin1');
    };
    expect((await client.request(DMA_MAP, dmaMapBody(3, 0x1000, 0x10000, 0x2000), [memory])).errno).toBe(0);
    await client.writeRegion(0, DOORBELL_DMA, bytesOf(0x10010, 4));
    expect(stored()).toBe('igb!');

    const eventfd = native.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    expect((await client.request(SET_IRQS, irqSetBody(EVENTFD_TRIGGER, MSI_X, 3, 1), [eventfd])).errno).toBe(
      0,
    );
    await client.writeRegion(0, DOORBELL_INTERRUPT, bytesOf((MSI_X << 16) | 3, 4));
    expect(await signals(eventfd)).toBe(1);

    expect((await client.request(RESET)).errno).toBe(0);
    expect(calls()).toContain('VFIO_DEVICE_RESET ok');
    expect((await client.request(DMA_UNMAP, dmaUnmapBody(0x10000, 0x2000))).errno).toBe(0);
    expect(calls().at(-1)).toBe('IOMMU_IOAS_UNMAP ok');
    client.close();
    closeSync(memory);
    closeSync(eventfd);
    expect(await stop(child)).toBe(0);
    expect(calls().filter((call) => call.startsWith('IOMMU_DESTROY'))).toEqual([
      'IOMMU_DESTROY ok',
      'IOMMU_DESTROY ok',
    ]);
    expect(calls().slice(-2)).toEqual(['close device ok', 'close iommufd ok']);
  }, 30_000);

  it('signals INTx once for each time that the device or the client asks for it', async () => {
    const { child, client } = await serving();
    const eventfd = (await loadNative()).eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const set = async (flags: number, descriptors: number[] = []): Promise<void> => {
      const { errno } = await client.request(SET_IRQS, irqSetBody(flags, INTX, 0, 1), descriptors);
      expect(errno).toBe(0);
    };
    const line = (up: number): Promise<unknown> => client.writeRegion(0, DOORBELL_LINE, bytesOf(up, 4));
    const status = async (): Promise<number> => (await client.readConfig(STATUS, 2)) & INTERRUPT_STATUS;
    await set(EVENTFD_TRIGGER, [eventfd]);
    await line(1);
    expect([await signals(eventfd), await status()]).toEqual([1, INTERRUPT_STATUS]);
    // At its end of interrupt the line is still up.
    await set(UNMASK);
    expect([await signals(eventfd), await status()]).toEqual([1, INTERRUPT_STATUS]);
    await line(0);
    await set(UNMASK);
    expect([await signals(eventfd, false), await status()]).toEqual([0, 0]);

    await set(MASK);
    await line(1);
    expect(await signals(eventfd, false)).toBe(0);
    await set(UNMASK);
    expect(await signals(eventfd)).toBe(1);
    await line(0);
    await set(UNMASK);

    await client.writeConfig(COMMAND, 2, INTERRUPT_DISABLE);
    await line(1);
    expect(await signals(eventfd, false)).toBe(0);
    await client.writeConfig(COMMAND, 2, 0);
    expect(await signals(eventfd)).toBe(1);
    await line(0);
    await set(UNMASK);

    // One that the client never saw.
    await client.writeConfig(COMMAND, 2, INTERRUPT_DISABLE);
    await line(1);
    await expect.poll(status).toBe(INTERRUPT_STATUS);
    await line(0);
    expect((await client.request(RESET)).errno).toBe(0);
    await line(1);
    expect(await signals(eventfd)).toBe(1);
    client.close();
    closeSync(eventfd);
    expect(await stop(child)).toBe(0);
  }, 30_000);

  it.each([
    ['cannot add vectors', {}],
    ['can', { DYNAMIC: '1' }],
  ])(
    'gives the kernel the eventfds of the client for messages, where it %s',
    async (_, kernel) => {
      const native = await loadNative();
      const { child, client } = await serving(kernel);
      const eventfds = Array.from({ length: 4 }, () => native.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
      const held = (): number[] => eventfds.map((eventfd) => descriptorsOf(child.pid, eventfd));
      const set = async (start: number, count: number, descriptors: number[] = []): Promise<void> => {
        const body = irqSetBody(EVENTFD_TRIGGER, MSI_X, start, count);
        expect((await client.request(SET_IRQS, body, descriptors)).errno).toBe(0);
      };
      const interrupt = (vector: number): Promise<unknown> =>
        client.writeRegion(0, DOORBELL_INTERRUPT, bytesOf((MSI_X << 16) | vector, 4));
      const [first = -1, second = -1, third = -1, other = -1] = eventfds;
      await set(1, 2, [first, second]);
      // The server's, and the kernel's.
      expect(held()).toEqual([2, 2, 0, 0]);
      await set(5, 1, [third]);
      expect(held()).toEqual([2, 2, 2, 0]);
      await set(1, 1, [other]);
      expect(held()).toEqual([0, 2, 2, 2]);
      await set(2, 1);
      expect(held()).toEqual([0, 0, 2, 2]);
      for (const vector of [1, 2, 5]) await interrupt(vector);
      expect(await Promise.all(eventfds.map((eventfd) => signals(eventfd, false)))).toEqual([0, 0, 1, 1]);
      client.close();
      await expect.poll(held).toEqual([0, 0, 0, 0]);
      for (const eventfd of eventfds) closeSync(eventfd);
      expect(await stop(child)).toBe(0);
    },
    30_000,
  );

  it('wants one thing to serve', () => {
    const ran = runOnHost([MAIN, 'serve', '--host', '1:0.0', '--demo', '--socket', socketPath()], {});
    expect(ran.code).toBe(2);
    expect(ran.err).toContain('--demo, --dump DUMP or --host BDF');
  });
});
