import {
  allocateBlock,
  ERRNO,
  errnoName,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  type Native,
  SHUT_RDWR,
  SocketMessage,
  setReceiveTimeout,
  type Watch,
} from '../linux/index.ts';
import type { Connection, ConnectionEvents } from './connection.ts';
import type { VfioUserDevice } from './device.ts';
import type { GuestFile } from './guest-file.ts';
import { MAX_DESCRIPTORS } from './protocol.ts';
import { Session } from './session.ts';
import { WIRE_BUFFER_SIZE, WireBuffer } from './wire-buffer.ts';

/** Bytes before the buffers, for the message header. */
const HEADER_BYTES = 4096;

/** A burst gives the event loop a turn after this many milliseconds. */
const BURST_MS = 20;
/** How many messages are received between two looks at the clock. */
const CLOCK_INTERVAL = 256;

/** Memory of one connection after the other. */
export interface KoffiBuffers {
  readonly message: SocketMessage;
  readonly input: WireBuffer;
  readonly output: WireBuffer;
}

/** Buffers for the connections of one socket: there is one at a time. */
export function allocateBuffers(native: Native): KoffiBuffers {
  const block = allocateBlock(native, HEADER_BYTES + 2 * WIRE_BUFFER_SIZE);
  const at = (offset: number): WireBuffer =>
    new WireBuffer(block.bytes.subarray(offset, offset + WIRE_BUFFER_SIZE), block.address + offset);
  return {
    message: new SocketMessage(native, block, MAX_DESCRIPTORS),
    input: at(HEADER_BYTES),
    output: at(HEADER_BYTES + WIRE_BUFFER_SIZE),
  };
}

/** Options of a {@link KoffiConnection}. */
export interface KoffiOptions {
  readonly native: Native;
  readonly device: VfioUserDevice;
  readonly buffers: KoffiBuffers;
  readonly memoryFile: GuestFile | undefined;
  /** Milliseconds that the thread blocks for the next message after one; 0: never. */
  readonly linger: number;
  readonly events: ConnectionEvents;
}

/**
 * A connection with descriptors. While nothing comes, the event loop waits for it. Once a message has come the thread
 * stays with the connection in recvmsg(2), two system calls a request, until the client falls silent: a guest that
 * reads one register reads the next.
 */
export class KoffiConnection implements Connection {
  readonly #native: Native;
  readonly #fd: number;
  readonly #message: SocketMessage;
  readonly #input: WireBuffer;
  readonly #session: Session;
  readonly #events: ConnectionEvents;
  readonly #receiveFlags: number;
  #watch: Watch | undefined;
  /** Bytes of the input that are there. */
  #filled = 0;
  /** Where the kernel puts what comes next. */
  #offset = 0;
  #bursting = false;
  /** The client does not take our output: nothing is read from it until it does. */
  #blocked = false;
  #closed = false;

  /** Takes over `fd`, a connected socket. */
  constructor(fd: number, { native, device, buffers, memoryFile, linger, events }: KoffiOptions) {
    this.#native = native;
    this.#fd = fd;
    this.#message = buffers.message;
    this.#input = buffers.input;
    this.#events = events;
    this.#receiveFlags = linger === 0 ? MSG_DONTWAIT : 0;
    if (linger > 0) setReceiveTimeout(native, fd, linger);
    this.#session = new Session(device, buffers.input, buffers.output, {
      native,
      memoryFile,
      wake: () => this.#wake(),
    });
    this.#message.setBuffer(this.#input.address, this.#input.capacity);
    this.#watchFor(false);
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    this.#session.close(reason);
    this.#native.shutdown(this.#fd, SHUT_RDWR);
    this.#native.close(this.#fd);
    this.#events.closed();
  }

  #watchFor(writable: boolean): void {
    this.#watch?.close();
    this.#watch = this.#native.watch(this.#fd, writable, writable ? this.#onWritable : this.#onReadable);
  }

  readonly #onReadable = (): void => {
    try {
      this.#bursting = true;
      this.#burst();
    } catch (error) {
      this.close('an error in this server');
      this.#events.failed(error);
    } finally {
      this.#bursting = false;
    }
  };

  readonly #onWritable = (): void => {
    try {
      this.#flush();
      if (this.#blocked || this.#closed) return;
      this.#work();
      if (!this.#blocked && !this.#closed) this.#watchFor(false);
    } catch (error) {
      this.close('an error in this server');
      this.#events.failed(error);
    }
  };

  #wake(): void {
    if (!this.#bursting && !this.#blocked && !this.#closed) this.#flush();
  }

  #burst(): void {
    const message = this.#message;
    const session = this.#session;
    const until = performance.now() + BURST_MS;
    for (let turns = 1; ; turns++) {
      const count = message.receive(this.#fd, this.#receiveFlags);
      if (count <= 0) {
        if (count === 0) return this.close('the client closed the connection');
        const errno = this.#native.errno();
        if (errno === ERRNO.EAGAIN || errno === ERRNO.EINTR) return;
        return this.close(`the connection broke (recvmsg: ${errnoName(errno)})`);
      }
      if (message.hasControl) {
        session.receiveDescriptors(this.#filled + count, message.descriptors(), message.truncated);
      }
      this.#filled += count;
      this.#work();
      if (this.#blocked || this.#closed) return;
      if (session.settled) {
        session.settled = false;
        return;
      }
      if (turns % CLOCK_INTERVAL === 0 && performance.now() > until) return;
    }
  }

  /** Answers the messages that are there. */
  #work(): void {
    for (;;) {
      const done = this.#session.process(this.#filled);
      this.#flush();
      if (this.#closed) return;
      const left = this.#filled - done;
      if (left > 0 && done > 0) this.#input.bytes.copyWithin(0, done, this.#filled);
      this.#filled = left;
      this.#receiveAt(left);
      // What is left is the beginning of a message, or had no room for its reply.
      if (left === 0 || done === 0 || this.#blocked) return;
    }
  }

  /** The next bytes go to `offset` of the input. */
  #receiveAt(offset: number): void {
    if (offset === this.#offset) return;
    this.#offset = offset;
    this.#message.setBuffer(this.#input.address + offset, this.#input.capacity - offset);
  }

  /** Sends the output, or as much of it as the client takes. */
  #flush(): void {
    const { output } = this.#session;
    while (output.length > 0) {
      const sent = this.#native.send(
        this.#fd,
        output.buffer.address,
        output.length,
        MSG_NOSIGNAL | MSG_DONTWAIT,
      );
      if (sent >= 0) {
        output.taken(sent);
        this.#session.pump();
        continue;
      }
      const errno = this.#native.errno();
      if (errno === ERRNO.EINTR) continue;
      if (errno !== ERRNO.EAGAIN) return this.close(`the connection broke (send: ${errnoName(errno)})`);
      if (!this.#blocked) this.#watchFor(true);
      this.#blocked = true;
      return;
    }
    this.#blocked = false;
    if (this.#session.ending !== undefined) this.close(this.#session.ending);
  }
}
