import type { Socket } from 'node:net';
import type { Connection, ConnectionEvents } from './connection.ts';
import type { VfioUserDevice } from './device.ts';
import type { GuestFile } from './guest-file.ts';
import { Session } from './session.ts';
import type { WireBuffer } from './wire-buffer.ts';

/** Options of a {@link NetConnection}. */
export interface NetOptions {
  readonly device: VfioUserDevice;
  readonly memoryFile: GuestFile | undefined;
  /** Memory for one connection after the other. */
  readonly input: WireBuffer;
  readonly output: WireBuffer;
  readonly events: ConnectionEvents;
}

/** A connection by Node's own sockets, which lose descriptors: the session offers what works without them. */
export class NetConnection implements Connection {
  readonly #socket: Socket;
  readonly #session: Session;
  readonly #input: WireBuffer;
  readonly #events: ConnectionEvents;
  #filled = 0;
  #working = false;
  /** The client does not take our output: nothing is read from it until it does. */
  #blocked = false;
  #closed = false;

  /** Takes over `socket`, which is connected. */
  constructor(socket: Socket, { device, memoryFile, input, output, events }: NetOptions) {
    this.#socket = socket;
    this.#events = events;
    this.#input = input;
    this.#session = new Session(device, input, output, {
      native: undefined,
      memoryFile,
      wake: () => {
        if (!this.#working && !this.#blocked && !this.#closed) this.#flush();
      },
    });
    socket.on('data', (chunk) => {
      this.#input.bytes.set(chunk, this.#filled);
      this.#filled += chunk.length;
      this.#work();
    });
    socket.on('drain', () => {
      this.#blocked = false;
      this.#work();
      if (!this.#blocked) socket.resume();
    });
    socket.on('error', (error) => this.close(`the connection broke (${error.message})`));
    socket.on('close', () => this.close('the client closed the connection'));
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.close(reason);
    this.#socket.destroySoon();
    this.#events.closed();
  }

  /** Answers the messages that are there. */
  #work(): void {
    this.#working = true;
    try {
      while (!this.#blocked) {
        const done = this.#session.process(this.#filled);
        this.#flush();
        // The next client may have the buffers already.
        if (this.#closed) break;
        const left = this.#filled - done;
        if (left > 0 && done > 0) this.#input.bytes.copyWithin(0, done, this.#filled);
        this.#filled = left;
        if (left === 0 || done === 0) break;
      }
    } catch (error) {
      this.close('an error in this server');
      this.#events.failed(error);
    } finally {
      this.#working = false;
    }
  }

  /** Hands the output to the socket, which keeps what the client does not take yet. */
  #flush(): void {
    const { output } = this.#session;
    while (output.length > 0) {
      const copy = output.buffer.bytes.slice(0, output.length);
      output.taken(copy.length);
      if (!this.#socket.write(copy)) {
        this.#blocked = true;
        this.#socket.pause();
        break;
      }
      this.#session.pump();
    }
    if (this.#session.ending !== undefined) this.close(this.#session.ending);
  }
}
