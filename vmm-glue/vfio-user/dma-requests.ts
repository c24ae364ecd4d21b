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

/** Messages that may wait for their replies at a time. */
const MAX_IN_FLIGHT = 64;

/** Transfers that may be under way. A client that answers none must not make a device fill our memory. */
const MAX_TRANSFERS = 1024;
/** Bytes of transfers under way, from which on only those of up to a page are taken, such as interrupts. */
const MAX_BYTES = 2 ** 28;
const PAGE = 4096;

/** DMA of a device model, which goes in messages of at most `most` bytes. */
interface Transfer {
  readonly command: number;
  readonly address: bigint;
  /** What is written, or room for what is read. */
  readonly bytes: Uint8Array;
  readonly most: number;
  /** Bytes that were asked for, from the front. */
  asked: number;
  /** Messages without a reply. */
  open: number;
  failed: boolean;
  readonly done: (success: boolean) => void;
}

/** A message that waits for its reply: `length` bytes at `at` of the transfer. */
interface Part {
  readonly transfer: Transfer;
  readonly at: number;
  readonly length: number;
}

/** DMA by messages: DMA_READ and DMA_WRITE, which the server sends and the client answers. */
export class DmaRequests {
  readonly #writer: ReplyWriter;
  readonly #onRefusal: (why: string) => void;
  /** Transfers that have messages to send, oldest first. */
  readonly #waiting: Transfer[] = [];
  readonly #inFlight = new Map<number, Part>();
  #transfers = 0;
  #bytes = 0;
  #refused = false;
  #nextId = 0;

  /** `onRefusal` hears once that transfers are refused, until the client has caught up. */
  constructor(writer: ReplyWriter, onRefusal: (why: string) => void) {
    this.#writer = writer;
    this.#onRefusal = onRefusal;
  }

  /** Fills `bytes` by messages of at most `most` bytes; false when the client refuses one. */
  read(address: bigint, bytes: Uint8Array, most: number): Promise<boolean> {
    return this.#begin(VFIO_USER_DMA_READ, address, bytes, most);
  }

  /** Writes `bytes` as they are now by messages of at most `most` bytes; false when the client refuses one. */
  write(address: bigint, bytes: Uint8Array, most: number): Promise<boolean> {
    return this.#begin(VFIO_USER_DMA_WRITE, address, bytes, most);
  }

  /** Writes as many messages as there is room for; true when it wrote any. */
  pump(): boolean {
    const before = this.#writer.length;
    for (;;) {
      const [transfer] = this.#waiting;
      if (transfer === undefined || this.#inFlight.size >= MAX_IN_FLIGHT) break;
      const length = Math.min(transfer.most, transfer.bytes.length - transfer.asked);
      const size = HEADER_SIZE + DMA_ACCESS_SIZE + (transfer.command === VFIO_USER_DMA_WRITE ? length : 0);
      if (this.#writer.room < size) break;
      this.#send({ transfer, at: transfer.asked, length }, size);
      transfer.asked += length;
      transfer.open++;
      if (transfer.asked === transfer.bytes.length) this.#waiting.shift();
    }
    return this.#writer.length !== before;
  }

  /**
   * Takes the reply at `at` of `view`, of `size` bytes. False when nobody waits for it: the client made it up.
   */
  settle(view: DataView, at: number, size: number): boolean {
    const id = view.getUint16(at, true);
    const part = this.#inFlight.get(id);
    if (part === undefined || part.transfer.command !== view.getUint16(at + HEADER_COMMAND, true))
      return false;
    this.#inFlight.delete(id);
    const { transfer, length } = part;
    const isRead = transfer.command === VFIO_USER_DMA_READ;
    const body = HEADER_SIZE + DMA_ACCESS_SIZE;
    transfer.open--;
    if ((view.getUint32(at + HEADER_FLAGS, true) & FLAGS_ERROR) !== 0 || (isRead && size !== body + length)) {
      transfer.failed = true;
      // What was not asked for is not asked for any more.
      if (this.#waiting[0] === transfer) this.#waiting.shift();
    } else if (isRead) {
      transfer.bytes.set(new Uint8Array(view.buffer, view.byteOffset + at + body, length), part.at);
    }
    const isOver = transfer.open === 0 && (transfer.failed || transfer.asked === transfer.bytes.length);
    if (isOver) this.#finish(transfer);
    return true;
  }

  /** The client is gone: nobody will answer. */
  abandon(): void {
    const left = new Set([...this.#waiting, ...[...this.#inFlight.values()].map(({ transfer }) => transfer)]);
    this.#inFlight.clear();
    this.#waiting.length = 0;
    for (const transfer of left) {
      transfer.failed = true;
      this.#finish(transfer);
    }
  }

  #begin(command: number, address: bigint, bytes: Uint8Array, most: number): Promise<boolean> {
    if (bytes.length === 0) return Promise.resolve(true);
    if (this.#transfers >= MAX_TRANSFERS || (this.#bytes >= MAX_BYTES && bytes.length > PAGE)) {
      if (!this.#refused) this.#onRefusal(`no answers to ${this.#transfers} DMA transfers: more are refused`);
      this.#refused = true;
      return Promise.resolve(false);
    }
    const own = command === VFIO_USER_DMA_WRITE ? bytes.slice() : bytes;
    this.#transfers++;
    this.#bytes += own.length;
    return new Promise((done) => {
      this.#waiting.push({ command, address, bytes: own, most, asked: 0, open: 0, failed: false, done });
    });
  }

  #finish({ bytes, failed, done }: Transfer): void {
    this.#transfers--;
    this.#bytes -= bytes.length;
    if (this.#transfers === 0) this.#refused = false;
    done(!failed);
  }

  #send(part: Part, size: number): void {
    const { command, address, bytes: data } = part.transfer;
    const { view, bytes } = this.#writer.buffer;
    const start = this.#writer.length;
    view.setUint16(start, this.#freeId(part), true);
    view.setUint16(start + HEADER_COMMAND, command, true);
    view.setUint32(start + HEADER_MESSAGE_SIZE, size, true);
    view.setUint32(start + HEADER_FLAGS, 0, true);
    view.setUint32(start + HEADER_ERROR, 0, true);
    view.setBigUint64(start + HEADER_SIZE, address + BigInt(part.at), true);
    view.setBigUint64(start + HEADER_SIZE + 8, BigInt(part.length), true);
    if (command === VFIO_USER_DMA_WRITE) {
      bytes.set(data.subarray(part.at, part.at + part.length), start + HEADER_SIZE + DMA_ACCESS_SIZE);
    }
    this.#writer.length = start + size;
  }

  #freeId(part: Part): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#inFlight.has(this.#nextId));
    this.#inFlight.set(this.#nextId, part);
    return this.#nextId;
  }
}
