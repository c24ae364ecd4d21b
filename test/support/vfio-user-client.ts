// A vfio-user client for tests: sends what it is told, right or wrong, and takes what comes.
import { closeSync } from 'node:fs';
import {
  allocateBlock,
  connectUnix,
  loadNative,
  type MemoryBlock,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  type Native,
  SHUT_RDWR,
  SocketMessage,
  socketMessageSize,
  type Watch,
} from '../../vmm-glue/linux/index.ts';

const MAX_FDS = 64;
const BUFFER = 0x120000;

export interface Reply {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly errno: number;
  readonly body: Uint8Array;
}

/** A request of the server, such as DMA_READ. */
export type ServerRequest = Reply;

const pool: MemoryBlock[] = [];

export class VfioUserClient {
  /** Requests of the server that came, when nobody answers them. */
  readonly requests: ServerRequest[] = [];
  /** Answers a request of the server: a body, or an errno. */
  onRequest: ((request: ServerRequest) => Uint8Array | number) | undefined;
  /** How many times something was received. */
  reads = 0;
  readonly #native: Native;
  readonly #fd: number;
  readonly #block: MemoryBlock;
  readonly #message: SocketMessage;
  #watch: Watch | undefined;
  readonly #waiting: ((reply: Reply | undefined) => void)[] = [];
  readonly #early: Reply[] = [];
  #received = new Uint8Array(0);
  readonly #sending: { bytes: Uint8Array; fds: readonly number[] }[] = [];
  #nextId = 1;
  #open = true;
  #onClose: () => void = () => undefined;
  readonly closed: Promise<void> = new Promise((resolve) => {
    this.#onClose = resolve;
  });

  private constructor(native: Native, fd: number) {
    this.#native = native;
    this.#fd = fd;
    this.#block = pool.pop() ?? allocateBlock(native, BUFFER + 4096);
    this.#message = new SocketMessage(native, this.#block, MAX_FDS);
    if (socketMessageSize(MAX_FDS) > 4096) throw new Error('the block is too small');
    this.#watch = native.watch(fd, false, () => this.#receive());
  }

  static async connect(path: string): Promise<VfioUserClient> {
    const native = await loadNative();
    return new VfioUserClient(native, connectUnix(native, path));
  }

  /** Connects and negotiates. */
  static async open(path: string, version = '{"capabilities":{}}'): Promise<VfioUserClient> {
    const client = await VfioUserClient.connect(path);
    const reply = await client.request(1, versionBody(0, 1, version));
    if (reply.errno !== 0) throw new Error(`VERSION was refused: ${reply.errno}`);
    return client;
  }

  /** Sends a command and waits for the next reply, whatever it is to. */
  async request(command: number, body: Uint8Array = new Uint8Array(0), fds: number[] = []): Promise<Reply> {
    this.send(message(this.#nextId++ & 0xffff, command, body), fds);
    return this.reply();
  }

  /** The next reply. */
  async reply(): Promise<Reply> {
    const early = this.#early.shift();
    if (early !== undefined) return early;
    const reply = await new Promise<Reply | undefined>((resolve) => {
      if (this.#open) this.#waiting.push(resolve);
      else resolve(undefined);
    });
    if (reply === undefined) throw new Error('the server closed the connection');
    return reply;
  }

  /** Sends bytes as they are, in the order of the calls; what does not go at once goes later. */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#sending.push({ bytes, fds });
    if (this.#sending.length === 1) this.#drain();
  }

  #drain(): void {
    for (;;) {
      const [next] = this.#sending;
      if (next === undefined || !this.#open) return;
      const part = next.bytes.subarray(0, BUFFER);
      this.#block.bytes.set(part, 4096);
      this.#message.setBuffer(this.#block.address + 4096, part.length);
      const sent = this.#message.send(this.#fd, next.fds, MSG_DONTWAIT);
      if (sent < 0 && this.#native.errno() === 11) {
        setImmediate(() => this.#drain());
        return;
      }
      const rest = sent < 0 ? new Uint8Array(0) : next.bytes.subarray(sent);
      this.#sending.shift();
      if (rest.length > 0) this.#sending.unshift({ bytes: rest, fds: [] });
    }
  }

  /** Sends as much of `bytes` as goes without waiting for the server. */
  sendNow(bytes: Uint8Array): number {
    this.#block.bytes.set(bytes.subarray(0, BUFFER), 4096);
    return this.#native.send(
      this.#fd,
      this.#block.address + 4096,
      Math.min(bytes.length, BUFFER),
      MSG_DONTWAIT | MSG_NOSIGNAL,
    );
  }

  /** Receives nothing from now on, and does not notice the end either. */
  stopListening(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  async readRegion(region: number, offset: number, count: number): Promise<Reply> {
    return this.request(9, regionBody(region, offset, count));
  }

  async writeRegion(region: number, offset: number, data: Uint8Array): Promise<Reply> {
    return this.request(10, concat(regionBody(region, offset, data.length), data));
  }

  /** Value of `size` (1, 2, 4) bytes of configuration space. */
  async readConfig(offset: number, size: number): Promise<number> {
    const { body, errno } = await this.readRegion(7, offset, size);
    if (errno !== 0) throw new Error(`REGION_READ was refused: ${errno}`);
    return valueOf(body.subarray(16));
  }

  async writeConfig(offset: number, size: number, value: number): Promise<void> {
    const { errno } = await this.writeRegion(7, offset, bytesOf(value, size));
    if (errno !== 0) throw new Error(`REGION_WRITE was refused: ${errno}`);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch?.close();
    this.#native.shutdown(this.#fd, SHUT_RDWR);
    closeSync(this.#fd);
    pool.push(this.#block);
    for (const resolve of this.#waiting.splice(0)) resolve(undefined);
    this.#onClose();
  }

  #receive(): void {
    if (!this.#open) return;
    this.#message.setBuffer(this.#block.address + 4096, BUFFER);
    const count = this.#message.receive(this.#fd, MSG_DONTWAIT);
    if (count <= 0) {
      if (count === 0 || this.#native.errno() !== 11) this.close();
      return;
    }
    this.reads++;
    for (const fd of this.#message.descriptors()) closeSync(fd);
    this.#received = concat(this.#received, this.#block.bytes.slice(4096, 4096 + count));
    for (;;) {
      const view = new DataView(this.#received.buffer, this.#received.byteOffset);
      if (this.#received.length < 16) return;
      const size = view.getUint32(4, true);
      if (this.#received.length < size) return;
      const reply: Reply = {
        id: view.getUint16(0, true),
        command: view.getUint16(2, true),
        flags: view.getUint32(8, true),
        errno: view.getUint32(12, true),
        body: this.#received.slice(16, size),
      };
      this.#received = this.#received.slice(size);
      if ((reply.flags & 0xf) === 0) this.#serve(reply);
      else this.#take(reply);
    }
  }

  #take(reply: Reply): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#early.push(reply);
    else waiting(reply);
  }

  #serve(request: ServerRequest): void {
    if (this.onRequest === undefined) {
      this.requests.push(request);
      return;
    }
    const answer = this.onRequest(request);
    const failed = typeof answer === 'number';
    this.send(
      message(
        request.id,
        request.command,
        failed ? new Uint8Array(0) : answer,
        failed ? 0x21 : 1,
        failed ? answer : 0,
      ),
    );
  }
}

export function message(id: number, command: number, body: Uint8Array, flags = 0, errno = 0): Uint8Array {
  const bytes = new Uint8Array(16 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id, true);
  view.setUint16(2, command, true);
  view.setUint32(4, bytes.length, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, errno, true);
  bytes.set(body, 16);
  return bytes;
}

export function versionBody(major: number, minor: number, json: string): Uint8Array {
  return concat(bytesOf(major, 2), bytesOf(minor, 2), new TextEncoder().encode(`${json}\0`));
}

export function regionBody(region: number, offset: number, count: number): Uint8Array {
  return concat(bytesOf64(offset), words(region, count));
}

export function dmaMapBody(flags: number, offset: number, address: number, size: number): Uint8Array {
  return concat(words(32, flags), bytesOf64(offset), bytesOf64(address), bytesOf64(size));
}

export function dmaUnmapBody(address: number | bigint, size: number | bigint): Uint8Array {
  return concat(words(24, 0), bytesOf64(address), bytesOf64(size));
}

/** DMA_UNMAP of everything. */
export function dmaUnmapAllBody(address = 0): Uint8Array {
  return concat(words(24, 2), bytesOf64(address), bytesOf64(0));
}

export function irqSetBody(flags: number, index: number, start: number, count: number): Uint8Array {
  return words(20, flags, index, start, count);
}

export function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function bytesOf64(value: number | bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, BigInt(value))).buffer);
}

export function bytesOf(value: number, size: number): Uint8Array {
  return words(value).slice(0, size);
}

export function valueOf(bytes: Uint8Array): number {
  let value = 0;
  for (let i = bytes.length - 1; i >= 0; i--) value = ((value << 8) | (bytes[i] ?? 0)) >>> 0;
  return value;
}

export function wordsOf(bytes: Uint8Array): number[] {
  return [...new Uint32Array(bytes.slice().buffer)];
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
