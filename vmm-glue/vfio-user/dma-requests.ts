import {
  DMA_ACCESS_SIZE,
  FLAGS_ERROR,
  HEADER_COMMAND,
  HEADER_ERROR,
  HEADER_FLAGS,
  HEADER_MESSAGE_SIZE,
  HEADER_SIZE,
  VFIO_USER_DMA_READ,
  VFIO_USER_DMA_WRITE,
} from './protocol.ts';
import type { ReplyWriter } from './reply-writer.ts';

/** Requests that may wait for their replies at a time. */
const MAX_IN_FLIGHT = 64;

interface Request {
  readonly command: number;
  readonly address: bigint;
  readonly length: number;
  readonly data: Uint8Array | undefined;
  readonly done: (data: Uint8Array | undefined) => void;
}

const DONE = new Uint8Array(0);

/** DMA by messages: DMA_READ and DMA_WRITE, which the server sends and the client answers. */
export class DmaRequests {
  readonly #writer: ReplyWriter;
  readonly #waiting: Request[] = [];
  readonly #inFlight = new Map<number, Request>();
  #nextId = 0;

  constructor(writer: ReplyWriter) {
    this.#writer = writer;
  }

  /** Reads in parts of at most `most` bytes; undefined when the client refuses one. */
  async read(address: bigint, length: number, most: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(length);
    const parts = await this.#split(length, most, (at, count) =>
      this.#ask(VFIO_USER_DMA_READ, address + BigInt(at), count, undefined).then((data) => {
        if (data !== undefined) bytes.set(data, at);
        return data !== undefined;
      }),
    );
    return parts ? bytes : undefined;
  }

  /** Writes in parts of at most `most` bytes; false when the client refuses one. */
  write(address: bigint, bytes: Uint8Array, most: number): Promise<boolean> {
    return this.#split(bytes.length, most, (at, count) =>
      this.#ask(VFIO_USER_DMA_WRITE, address + BigInt(at), count, bytes.slice(at, at + count)).then(
        (data) => data !== undefined,
      ),
    );
  }

  /** Writes as many waiting requests as there is room for; true when it wrote any. */
  pump(): boolean {
    const before = this.#writer.length;
    for (;;) {
      const next = this.#waiting[0];
      if (next === undefined || this.#inFlight.size >= MAX_IN_FLIGHT) break;
      const size = HEADER_SIZE + DMA_ACCESS_SIZE + (next.data?.length ?? 0);
      if (this.#writer.room < size) break;
      this.#waiting.shift();
      this.#send(next, size);
    }
    return this.#writer.length !== before;
  }

  /**
   * Takes the reply at `at` of `view`, of `size` bytes. False when nobody waits for it: the client made it up.
   */
  settle(view: DataView, at: number, size: number): boolean {
    const id = view.getUint16(at, true);
    const request = this.#inFlight.get(id);
    if (request === undefined || request.command !== view.getUint16(at + HEADER_COMMAND, true)) return false;
    this.#inFlight.delete(id);
    const failed = (view.getUint32(at + HEADER_FLAGS, true) & FLAGS_ERROR) !== 0;
    const body = HEADER_SIZE + DMA_ACCESS_SIZE;
    if (failed || (request.command === VFIO_USER_DMA_READ && size !== body + request.length)) {
      request.done(undefined);
    } else if (request.command === VFIO_USER_DMA_WRITE) {
      request.done(DONE);
    } else {
      request.done(new Uint8Array(view.buffer, view.byteOffset + at + body, request.length).slice());
    }
    return true;
  }

  /** The client is gone: nobody will answer. */
  abandon(): void {
    for (const request of [...this.#inFlight.values(), ...this.#waiting]) request.done(undefined);
    this.#inFlight.clear();
    this.#waiting.length = 0;
  }

  async #split(
    length: number,
    most: number,
    each: (at: number, count: number) => Promise<boolean>,
  ): Promise<boolean> {
    const parts: Promise<boolean>[] = [];
    for (let at = 0; at < length; at += most) parts.push(each(at, Math.min(most, length - at)));
    return (await Promise.all(parts)).every(Boolean);
  }

  #ask(
    command: number,
    address: bigint,
    length: number,
    data: Uint8Array | undefined,
  ): Promise<Uint8Array | undefined> {
    return new Promise((done) => {
      this.#waiting.push({ command, address, length, data, done });
    });
  }

  #send(request: Request, size: number): void {
    const { view, bytes } = this.#writer.buffer;
    const start = this.#writer.length;
    view.setUint16(start, this.#freeId(request), true);
    view.setUint16(start + HEADER_COMMAND, request.command, true);
    view.setUint32(start + HEADER_MESSAGE_SIZE, size, true);
    view.setUint32(start + HEADER_FLAGS, 0, true);
    view.setUint32(start + HEADER_ERROR, 0, true);
    view.setBigUint64(start + HEADER_SIZE, request.address, true);
    view.setBigUint64(start + HEADER_SIZE + 8, BigInt(request.length), true);
    if (request.data !== undefined) bytes.set(request.data, start + HEADER_SIZE + DMA_ACCESS_SIZE);
    this.#writer.length = start + size;
  }

  #freeId(request: Request): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#inFlight.has(this.#nextId));
    this.#inFlight.set(this.#nextId, request);
    return this.#nextId;
  }
}
