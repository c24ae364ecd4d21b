// Runs in the guest: `vpci serve --host` serves a device of that guest's kernel to a QEMU without a guest, whose test
// protocol does what a guest would. Prints what it saw, one JSON object per line; judging is for the test outside.
// Arguments: the BDF of the device, and the offset (hexadecimal) of the PASID capability that vfio-pci hides.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, readFileSync } from 'node:fs';
import koffi from 'koffi';
import { openVfioDevice } from 'vpci/vfio';
import { ECAM, openEcam, Qtest, scratchFolder } from '../qemu/qemu.ts';
import {
  DATA,
  DOORBELL,
  INTERRUPT,
  IOVA_LOW,
  LOWER,
  MSI_X_TABLE,
  NOTE,
  RAISE,
  READ,
  STATUS,
  WRITE,
} from './device-registers.ts';

const COMMAND = 0x04;
const MEMORY_AND_BUS_MASTER = 0x6;
const INTERRUPT_DISABLE = 0x400;
const STATUS_REGISTER = 0x06;
const INTERRUPT_STATUS = 0x8;
const BAR_0 = 0x10;
const CAPABILITIES_POINTER = 0x34;
const CAP_EXPRESS = 0x10;
const CAP_MSI = 0x05;
const CAP_MSI_X = 0x11;
const EXT_CAP_PASID = 0x1b;
const DEVICE_CONTROL = 8;
const INITIATE_FLR = 0x8000;
const MESSAGE_CONTROL = 2;
const MSI_ADDRESS = 4;
const MSI_DATA = 12;
/** Two vectors. */
const MSI_ENABLE = 0x0011;
const MSI_X_ENABLE = 0x8000;
const PASID_CONTROL = 6;

/** Configuration space of the device in the client's machine, and its BAR there. */
const CONFIG = ECAM + (1 << 20);
const BAR = 0xe0000000;
/** Memory of that machine: for DMA, and where the device's message goes in place of an interrupt controller. */
const BUFFER = 0x20_0000;
const MESSAGE = 0x30_0000;
const MESSAGE_DATA = 0x4040;
const NO_MEMORY = 0x7000_0000;
const MACHINE =
  '-m 64 -object memory-backend-memfd,id=ram,size=64M,share=on -machine memory-backend=ram -device pcie-root-port,id=rp0,addr=2.0,chassis=1 -device';

const [bdf = '', hiddenPasid = ''] = process.argv.slice(2);
/** Where vfio-pci hides the physical PASID capability. */
const HIDDEN = Number.parseInt(hiddenPasid, 16);
const folder = scratchFolder();
const socket = `${folder.path}/served`;

function print(check: string, result: unknown): void {
  console.log(JSON.stringify({ check, result }));
}

const milliseconds = (count: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, count));

/** Waits until it is so, for a minute; whether it is. */
async function eventually(so: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const until = performance.now() + 60_000; performance.now() < until; await milliseconds(10)) {
    if (await so()) return true;
  }
  return false;
}

/** Long enough for an interrupt too many to arrive. */
const settle = (): Promise<void> => milliseconds(300);

/** `vpci serve --host`, and what it printed. */
class Server {
  readonly child: ChildProcess;
  out = '';
  err = '';

  constructor() {
    this.child = spawn('/bin/vpci', ['serve', '--host', bdf, '--socket', socket], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
  }

  /** Running, stopped and so on, as /proc has it. */
  get state(): string {
    const stat = readFileSync(`/proc/${this.child.pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
  }
}

/** A machine that has the served device as 01:00.0 behind a port. */
class Client {
  readonly qtest: Qtest;

  private constructor(qtest: Qtest) {
    this.qtest = qtest;
  }

  static async start(): Promise<Client> {
    const device = JSON.stringify({
      driver: 'vfio-user-pci',
      bus: 'rp0',
      socket: { type: 'unix', path: socket },
      // A reset of the device may take longer than 5 seconds in here.
      'x-msg-timeout': 120_000,
    });
    const qtest = await Qtest.start(folder.path, [...MACHINE.split(' '), device], { seconds: 200 });
    await openEcam(qtest);
    const client = new Client(qtest);
    await client.enable();
    return client;
  }

  /** Puts the BAR into its place, and switches memory and bus mastering on. */
  async enable(more = 0): Promise<void> {
    await this.qtest.write(CONFIG + BAR_0, 4, BAR);
    await this.qtest.write(CONFIG + COMMAND, 2, MEMORY_AND_BUS_MASTER | more);
  }

  config(offset: number, size: 1 | 2 | 4): Promise<number> {
    return this.qtest.read(CONFIG + offset, size);
  }

  put(register: number, value: number): Promise<void> {
    return this.qtest.write(BAR + register, 4, value);
  }

  get(register: number): Promise<number> {
    return this.qtest.read(BAR + register, 4);
  }

  /** The device does a transfer; its status. */
  async order(command: number, address: number): Promise<number> {
    await this.put(IOVA_LOW, address);
    await this.put(STATUS, 0);
    await this.put(DOORBELL, command);
    await eventually(async () => (await this.get(STATUS)) !== 0);
    return await this.get(STATUS);
  }

  /** Writes and reads by DMA what the client's machine reads and writes. */
  async transfer(value: number): Promise<unknown> {
    const { qtest } = this;
    await qtest.write(BUFFER, 4, value);
    const read = [await this.order(READ, BUFFER), await this.get(DATA)];
    await this.put(DATA, value + 1);
    const written = [await this.order(WRITE, BUFFER + 0x1000), await qtest.read(BUFFER + 0x1000, 4)];
    return { read, written };
  }

  async capability(id: number): Promise<number> {
    let at = await this.config(CAPABILITIES_POINTER, 1);
    while (at !== 0 && (await this.config(at, 1)) !== id) at = await this.config(at + 1, 1);
    return at;
  }

  /** IDs and offsets of the chain. */
  async extendedCapabilities(): Promise<[id: number, offset: number][]> {
    const all: [number, number][] = [];
    for (let at = 0x100; at !== 0 && all.length < 9; ) {
      const header = await this.config(at, 4);
      all.push([header & 0xffff, at]);
      at = header >>> 20;
    }
    return all;
  }

  /** Vector 0 of MSI writes {@link MESSAGE_DATA} to {@link MESSAGE}; off: the line again. */
  async useMsi(on: boolean): Promise<void> {
    const at = CONFIG + (await this.capability(CAP_MSI));
    await this.qtest.write(at + MSI_ADDRESS, 4, MESSAGE);
    await this.qtest.write(at + MSI_DATA, 2, MESSAGE_DATA);
    await this.qtest.write(at + MESSAGE_CONTROL, 2, on ? MSI_ENABLE : 0);
  }

  /** As `useMsi` by MSI-X. */
  async useMsiX(on: boolean): Promise<void> {
    for (const [i, value] of [MESSAGE, 0, MESSAGE_DATA, 0].entries())
      await this.put(MSI_X_TABLE + 4 * i, value);
    const control = (await this.capability(CAP_MSI_X)) + MESSAGE_CONTROL;
    await this.qtest.write(CONFIG + control, 2, on ? MSI_X_ENABLE : 0);
  }

  /** Whether a message came since the last time. */
  async message(): Promise<boolean> {
    const { qtest } = this;
    const came = await eventually(async () => (await qtest.read(MESSAGE, 4)) === MESSAGE_DATA);
    await qtest.write(MESSAGE, 4, 0);
    return came;
  }

  /** The device interrupts: whether a message comes, and whether another one does. */
  async interrupted(): Promise<unknown> {
    await this.put(DOORBELL, INTERRUPT);
    const first = await this.message();
    await settle();
    return { first, more: await this.qtest.read(MESSAGE, 4) };
  }

  /** What QEMU complains about; it ends. */
  async end(): Promise<string> {
    await this.qtest.close();
    return this.qtest.run.stderr();
  }

  /** How often the interrupt line went up and down since it was asked for. */
  line(): { readonly raised: number; readonly lowered: number } {
    const count = (verb: string): number =>
      this.qtest.interrupts.filter((line) => line.startsWith(verb)).length;
    return { raised: count('raise'), lowered: count('lower') };
  }
}

/** BAR 0 of the device by sysfs, past VFIO and our server. */
function barOfHost(): Uint32Array {
  const libc = koffi.load(null);
  const mmap = libc.func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t']);
  const file = openSync(`/sys/bus/pci/devices/0000:${bdf}/resource0`, 'r+');
  // PROT_READ and PROT_WRITE; MAP_SHARED.
  const address: unknown = mmap(0, 0x1000, 3, 1, file, 0);
  if (typeof address !== 'number') throw new Error('resource0 cannot be mapped');
  return new Uint32Array(koffi.view(BigInt(address), 0x1000));
}

async function open(): Promise<string> {
  try {
    (await openVfioDevice(bdf)).close();
    return 'opened';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** What a guest sees, and what it reaches; where it sees the PASID capability. */
async function registers(client: Client): Promise<number> {
  // Not all of it: an access takes 10 ms in here.
  const header = await client.qtest.bytes(CONFIG, 0x100);
  const extended = await client.extendedCapabilities();
  const hidden = await client.qtest.bytes(CONFIG + HIDDEN, 8);
  const [, pasid] = extended.find(([id]) => id === EXT_CAP_PASID) ?? [0, 0];
  const own = await client.qtest.bytes(CONFIG + pasid, 8);
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  print('config', { header: hex(header), extended, pasid: hex(own), hidden: hex(hidden) });
  await client.put(NOTE, 1);
  await client.put(DATA, 0x1234_5678);
  print('bar', await client.get(DATA));
  await client.qtest.write(CONFIG + pasid + PASID_CONTROL, 2, 7);
  print('latch', await client.config(pasid + PASID_CONTROL, 2));
  await client.put(NOTE, 2);
  return pasid;
}

async function dma(client: Client): Promise<void> {
  const inside = await client.transfer(0x2222_0000);
  const outside = [await client.order(READ, NO_MEMORY), await client.order(WRITE, NO_MEMORY)];
  print('dma', { inside, outside });
}

async function messages(client: Client, server: Server): Promise<void> {
  await client.useMsi(true);
  print('msi', await client.interrupted());
  await client.useMsi(false);
  await client.useMsiX(true);
  print('msi-x', await client.interrupted());

  const bar = barOfHost();
  server.child.kill('SIGSTOP');
  await eventually(() => server.state === 'T');
  bar[DOORBELL / 4] = INTERRUPT;
  print('stopped', { came: await client.message(), state: server.state });
  server.child.kill('SIGCONT');
  await client.useMsiX(false);
}

async function interruptLine(client: Client): Promise<void> {
  const { qtest } = client;
  await qtest.command('irq_intercept_in ioapic');
  const raised = (count: number): Promise<boolean> => eventually(() => client.line().raised === count);
  const status = async (): Promise<number> => (await client.config(STATUS_REGISTER, 2)) & INTERRUPT_STATUS;
  const show = async (check: string, count: number): Promise<void> => {
    await raised(count);
    await settle();
    print(check, { ...client.line(), status: await status() });
  };
  await client.put(DOORBELL, RAISE);
  await show('intx raised', 1);
  // For QEMU an access to a BAR is the end of the interrupt. The device still holds its line up.
  await client.get(DATA);
  await show('intx still up', 2);
  await client.put(DOORBELL, LOWER);
  await show('intx lowered', 2);
  await client.enable(INTERRUPT_DISABLE);
  await client.put(DOORBELL, RAISE);
  await show('intx disabled', 2);
  await client.enable();
  await show('intx enabled', 3);
  await client.put(DOORBELL, LOWER);
  await show('intx lowered again', 3);
}

async function reset(client: Client, pasid: number): Promise<void> {
  const { qtest } = client;
  const control = pasid + PASID_CONTROL;
  const device = (await client.capability(CAP_EXPRESS)) + DEVICE_CONTROL;
  await client.put(NOTE, 3);
  await qtest.write(CONFIG + device, 2, (await client.config(device, 2)) | INITIATE_FLR);
  const after = { latch: await client.config(control, 2), command: await client.config(COMMAND, 2) };
  await client.enable();
  await client.put(NOTE, 4);
  print('flr', after);
}

/** Another machine, after the first one went away without a word. */
async function again(): Promise<void> {
  const client = await Client.start();
  const id = await client.config(0, 4);
  const inside = await client.transfer(0x3333_0000);
  await client.useMsiX(true);
  print('again', { id, inside, message: await client.interrupted() });
  await client.end();
}

const server = new Server();
const disconnected = (count: number): Promise<boolean> =>
  eventually(() => server.out.split('client disconnected').length > count);
try {
  await eventually(() => server.out.includes('serving') || server.child.exitCode !== null);
  print('open while served', await open());
  const client = await Client.start();
  const pasid = await registers(client);
  await dma(client);
  await messages(client, server);
  await interruptLine(client);
  await reset(client, pasid);
  print('client said', await client.end());
  print('disconnected', await disconnected(1));
  await again();
  await disconnected(2);
  server.child.kill('SIGTERM');
  if (server.child.exitCode === null) await once(server.child, 'exit');
  print('ended', { code: server.child.exitCode, socket: existsSync(socket), open: await open() });
} finally {
  // Without the time.
  print(
    'log',
    server.out
      .trimEnd()
      .split('\n')
      .map((text) => text.slice(13)),
  );
  print('said', server.err);
  server.child.kill('SIGKILL');
}
