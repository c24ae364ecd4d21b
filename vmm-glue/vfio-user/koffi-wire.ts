import {
  ERRNO,
  errnoName,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  type Native,
  refuseCredentials,
  SHUT_RDWR,
  SocketMessage,
  setReceiveTimeout,
  type Watch,
} from '../linux/index.ts';
import { MAX_DESCRIPTORS } from './protocol.ts';
import type { Pump, Wire } from './pump.ts';
import type { ReplyWriter } from './reply-writer.ts';
import { WIRE_BUFFER_SIZE, WireBuffer } from './wire-buffer.ts';

/** Bytes before the buffers, for the message header. */
const HEADER_BYTES = 4096;

/** A burst gives the event loop a turn after this many milliseconds. */
const BURST_MS = 20;
/** How many messages are received between two looks at the clock. Each may be waited for. */
const CLOCK_INTERVAL = 4;

/** Memory of one connection after the other. */
export interface KoffiBuffers {
  readonly message: SocketMessage;
  readonly input: WireBuffer;
  readonly output: WireBuffer;
}

/** Buffers for the connections of one socket: there is one at a time. */
export function allocateBuffers(native: Native): KoffiBuffers {
  const bytes = new Uint8Array(HEADER_BYTES + 2 * WIRE_BUFFER_SIZE);
  const address = native.address(bytes);
  const at = (offset: number): WireBuffer =>
    new WireBuffer(bytes.subarray(offset, offset + WIRE_BUFFER_SIZE), address + offset);
  return {
    message: new SocketMessage(native, { address, bytes }, MAX_DESCRIPTORS),
    input: at(HEADER_BYTES),
    output: at(HEADER_BYTES + WIRE_BUFFER_SIZE),
  };
}

/**
 * A socket with descriptors. While nothing comes, the event loop waits for it. Once a message has come the thread
 * stays with the connection in recvmsg(2), two system calls a request, until the client falls silent: a guest that
 * reads one register reads the next.
 */
export class KoffiWire implements Wire {
  readonly pending = false;
  readonly #native: Native;
  readonly #fd: number;
  readonly #message: SocketMessage;
  readonly #input: WireBuffer;
  readonly #receiveFlags: number;
  #pump: Pump | undefined;
  #watch: Watch | undefined;
  /** Where the kernel puts what comes next. */
  #offset = 0;

  /** Takes over `fd`, a connected socket, once it starts. `linger`: milliseconds to block for the next message. */
  constructor(native: Native, fd: number, { message, input }: KoffiBuffers, linger: number) {
    this.#native = native;
    this.#fd = fd;
    this.#message = message;
    this.#input = input;
    this.#receiveFlags = linger === 0 ? MSG_DONTWAIT : 0;
    if (linger > 0) setReceiveTimeout(native, fd, linger);
    refuseCredentials(native, fd);
  }

  start(pump: Pump): void {
    this.#pump = pump;
    this.#message.setBuffer(this.#input.address, this.#input.capacity);
    this.wait('input');
  }

  send({ buffer, length }: ReplyWriter): number | string {
    for (;;) {
      const sent = this.#native.send(this.#fd, buffer.address, length, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) return sent;
      const errno = this.#native.errno();
      if (errno === ERRNO.EAGAIN) return 0;
      if (errno !== ERRNO.EINTR) return `the connection broke (send: ${errnoName(errno)})`;
    }
  }

  wait(what: 'input' | 'output' | 'nothing'): void {
    this.#watch?.close();
    this.#watch = undefined;
    if (what === 'input') this.#watch = this.#native.watch(this.#fd, false, this.#burst);
    if (what === 'output') this.#watch = this.#native.watch(this.#fd, true, () => this.#pump?.sendable());
  }

  close(): void {
    this.wait('nothing');
    this.#native.shutdown(this.#fd, SHUT_RDWR);
    this.#native.close(this.#fd);
  }

  readonly #burst = (): void => {
    const message = this.#message;
    const pump = this.#pump;
    if (pump === undefined) return;
    const until = performance.now() + BURST_MS;
    for (let turns = 1; pump.reading; turns++) {
      this.#receiveAt(pump.filled);
      const count = message.receive(this.#fd, this.#receiveFlags);
      if (count <= 0) {
        if (count === 0) return pump.close('the client closed the connection');
        const errno = this.#native.errno();
        if (errno === ERRNO.EAGAIN || errno === ERRNO.EINTR) return;
        return pump.close(`the connection broke (recvmsg: ${errnoName(errno)})`);
      }
      if (message.hasControl) {
        pump.session.receiveDescriptors(pump.filled + count, message.descriptors(), message.truncated);
      }
      pump.received(count);
      if (pump.session.settled) {
        pump.session.settled = false;
        return;
      }
      if (turns % CLOCK_INTERVAL === 0 && performance.now() > until) return;
    }
  };

  /** The next bytes go to `offset` of the input. */
  #receiveAt(offset: number): void {
    if (offset === this.#offset) return;
    this.#offset = offset;
    this.#message.setBuffer(this.#input.address + offset, this.#input.capacity - offset);
  }
}
