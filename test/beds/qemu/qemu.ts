// QEMU for the beds: what fetch.sh put into the cache, started with or without a guest.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vpci/beds');

/** Why the beds with QEMU can't run; undefined when they can. vfio-user-pci came with 10.1. */
export function qemuMissing(): string | undefined {
  if (!existsSync(join(cache, '.done')))
    return 'QEMU is not in the cache; test/beds/qemu/fetch.sh fetches it';
  const version = readFileSync(join(cache, 'qemu.version'), 'utf8').trim();
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 10 || (major === 10 && minor >= 1) ? undefined : `QEMU ${version} is older than 10.1`;
}

/** The kernels in the cache, newest first. */
export function kernels(): string[] {
  if (qemuMissing() !== undefined) return [];
  const names = readdirSync(join(cache, 'kernels'));
  return names.toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }));
}

export const kernelPath = (name: string): string => join(cache, 'kernels', name);
/** The program itself, for those who have options already. */
export const qemuProgram = (): string => join(cache, 'qemu');
export const guestRoot = (): string => join(cache, 'guest.cpio');

/** A folder for sockets and files of one test; the path is short enough for a socket. */
export function scratchFolder(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'vpci-q-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** The IOMMU and the port that the beds use. The IOMMU must be named before the devices behind it. */
export const VTD =
  'intel-iommu,intremap=on,device-iotlb=on,caching-mode=on,scalable-mode=on,fsts=on,svm=on,pasid-bits=20';

/**
 * QEMU gives a device up that does not answer within 5 seconds, and it reads all-ones from then on: on a busy machine
 * the process of the test may not get that far.
 */
export const PATIENT = { 'x-msg-timeout': 120_000 } as const;

export const vfioUserDevice = (socket: string, bus = 'rp0', id = 'v0'): string =>
  JSON.stringify({ driver: 'vfio-user-pci', id, bus, socket: { type: 'unix', path: socket }, ...PATIENT });

export interface QemuRun {
  readonly child: ChildProcess;
  /** Everything on standard error so far. */
  stderr(): string;
  /** Fulfilled when it has ended, with its exit code. */
  readonly ended: Promise<number | null>;
}

export interface QemuOptions {
  readonly seconds?: number;
  readonly env?: NodeJS.ProcessEnv;
  /** Descriptors that QEMU inherits, by the number that they have there. */
  readonly descriptors?: Readonly<Record<number, number>>;
}

/** Starts QEMU, for `seconds` at most. */
export function startQemu(
  args: readonly string[],
  { seconds = 60, env = {}, descriptors = {} }: QemuOptions = {},
): QemuRun {
  const highest = Math.max(2, ...Object.keys(descriptors).map(Number));
  const more = Array.from({ length: highest - 2 }, (_, i) => descriptors[3 + i] ?? ('ignore' as const));
  const child = spawn('timeout', ['-s', 'KILL', String(seconds), qemuProgram(), ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', ...more],
  });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    // A QEMU whose device died says so thousands of times.
    if (stderr.length < 100_000) stderr += text;
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
  });
  return { child, stderr: () => stderr, ended };
}

/** QEMU without a guest, driven by its test protocol. */
export class Qtest {
  readonly run: QemuRun;
  /** Lines that went up or down so far, where `irq_intercept_in` asked for them: `raise 16`. */
  readonly interrupts: string[] = [];
  readonly #socket: Socket;
  readonly #waiting: ((line: string) => void)[] = [];
  #text = '';

  private constructor(run: QemuRun, socket: Socket) {
    this.run = run;
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      for (const resolve of this.#waiting.splice(0)) resolve('');
    });
  }

  /** Starts QEMU with `args`; it is there when this returns. */
  static async start(folder: string, args: readonly string[], options: QemuOptions = {}): Promise<Qtest> {
    const path = join(folder, 'qtest');
    rmSync(path, { force: true });
    const server = createServer();
    await new Promise<void>((resolve) => {
      server.listen(path, resolve);
    });
    const machine = ['-M', 'q35', '-accel', 'qtest', '-qtest-log', 'none', '-nodefaults', '-display', 'none'];
    const run = startQemu([...machine, '-qtest', `unix:${path}`, ...args], options);
    const connected = new Promise<Socket>((resolve) => {
      server.once('connection', resolve);
    });
    const socket = await Promise.race([connected, run.ended]);
    server.close();
    if (socket === null || typeof socket === 'number')
      throw new Error(`QEMU ended (${socket}): ${run.stderr()}`);
    return new Qtest(run, socket);
  }

  /** Sends a command; the words of the answer without the `OK`. */
  async command(text: string): Promise<string[]> {
    if (this.#socket.destroyed) throw new Error(`QEMU is gone: ${this.run.stderr().slice(0, 2000)}`);
    const line = new Promise<string>((resolve) => {
      this.#waiting.push(resolve);
    });
    this.#socket.write(`${text}\n`);
    const answer = await line;
    const [ok, ...words] = answer.trim().split(' ');
    if (ok === 'OK') return words;
    throw new Error(`QEMU answers "${text}" with "${answer}": ${this.run.stderr().slice(0, 2000)}`);
  }

  async read(address: number, size: 1 | 2 | 4): Promise<number> {
    const [value = ''] = await this.command(`read${LETTERS[size]} 0x${address.toString(16)}`);
    return Number(value);
  }

  async write(address: number, size: 1 | 2 | 4, value: number): Promise<void> {
    await this.command(`write${LETTERS[size]} 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  async read64(address: number): Promise<bigint> {
    const [value = ''] = await this.command(`readq 0x${address.toString(16)}`);
    return BigInt(value);
  }

  async write64(address: number, value: bigint): Promise<void> {
    await this.command(`writeq 0x${address.toString(16)} 0x${value.toString(16)}`);
  }

  /** `length` bytes of memory. */
  async bytes(address: number, length: number): Promise<Uint8Array> {
    const [hex = ''] = await this.command(`read 0x${address.toString(16)} ${length}`);
    return Uint8Array.from(hex.slice(2).match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
  }

  async pioRead(port: number, size: 1 | 2 | 4): Promise<number> {
    const [value = ''] = await this.command(`in${LETTERS[size]} 0x${port.toString(16)}`);
    return Number(value);
  }

  async pioWrite(port: number, size: 1 | 2 | 4, value: number): Promise<void> {
    await this.command(`out${LETTERS[size]} 0x${port.toString(16)} 0x${value.toString(16)}`);
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    this.run.child.kill();
    await this.run.ended;
  }

  #take(text: string): void {
    this.#text += text;
    const lines = this.#text.split('\n');
    this.#text = lines.pop() ?? '';
    // Interrupts that were asked for come in between.
    for (const line of lines) {
      if (line.startsWith('IRQ ')) this.interrupts.push(line.slice(4));
      else this.#waiting.shift()?.(line);
    }
  }
}

const LETTERS = { 1: 'b', 2: 'w', 4: 'l' } as const;

/** ECAM of the beds' machine, opened by {@link openEcam}. */
export const ECAM = 0xb0000000;

/** Opens ECAM and leads bus 1 to the port at 00:02.0. */
export async function openEcam(qtest: Qtest): Promise<void> {
  const config = async (address: number, value: number): Promise<void> => {
    await qtest.pioWrite(0xcf8, 4, address);
    await qtest.pioWrite(0xcfc, 4, value);
  };
  await config(0x80000060, ECAM + 1);
  await config(0x80001018, 0x00010100);
  await config(0x80001020, 0xe010e000);
  await config(0x80001004, 0x00000007);
}
