import type { Socket } from 'node:net';
import type { Pump, Wire } from './pump.ts';
import type { ReplyWriter } from './reply-writer.ts';
import type { WireBuffer } from './wire-buffer.ts';

/** Node's own sockets, which lose descriptors: the session offers what works without them. */
export class NetWire implements Wire {
  readonly #socket: Socket;
  readonly #input: WireBuffer;
  /** A write that Node keeps, because the kernel did not take it all; there is one at a time. */
  #pending = false;
  #onWritten: () => void = () => undefined;

  /** `socket` is connected. */
  constructor(socket: Socket, input: WireBuffer) {
    this.#socket = socket;
    this.#input = input;
  }

  get pending(): boolean {
    return this.#pending;
  }

  start(pump: Pump): void {
    this.#onWritten = () => {
      this.#pending = false;
      pump.sendable();
    };
    this.#socket.on('data', (chunk) => {
      if (!pump.reading) return;
      this.#input.bytes.set(chunk, pump.filled);
      pump.received(chunk.length);
    });
    this.#socket.on('error', (error) => pump.close(`the connection broke (${error.message})`));
    this.#socket.on('close', () => pump.close('the client closed the connection'));
    this.#socket.resume();
  }

  send({ buffer, length }: ReplyWriter): number {
    if (this.#pending) return 0;
    this.#pending = true;
    this.#socket.write(buffer.bytes.slice(0, length), this.#onWritten);
    return length;
  }

  wait(what: 'input' | 'output' | 'nothing'): void {
    if (what === 'input') this.#socket.resume();
    else this.#socket.pause();
  }

  close(): void {
    this.#socket.destroy();
  }
}
