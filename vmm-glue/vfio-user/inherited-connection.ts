import { closeSync, readSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Connection } from './connection.ts';
import { NetConnection, type NetOptions } from './net-connection.ts';
import { Session } from './session.ts';

/**
 * A connection that this process was started with, served without native code: blocking reads and writes of the
 * descriptor. The thread does nothing else, and the event loop has a turn only when an answer to the device came in.
 * Descriptors are lost, as with Node's sockets.
 */
export class InheritedConnection implements Connection {
  readonly #fd: number;
  readonly #options: NetOptions;
  /** There after the first read, which shows whether reading blocks. */
  #session: Session | undefined;
  #instead: NetConnection | undefined;
  #filled = 0;
  #closed = false;

  /** Takes over `fd`, a connected socket; begins with the next turn of the event loop. */
  constructor(fd: number, options: NetOptions) {
    this.#fd = fd;
    this.#options = options;
    setImmediate(this.#serve);
  }

  close(reason: string): void {
    if (this.#instead !== undefined) return this.#instead.close(reason);
    if (this.#closed) return;
    this.#closed = true;
    this.#session?.close(reason);
    closeSync(this.#fd);
    this.#options.events.closed();
  }

  readonly #serve = (): void => {
    const { bytes, capacity } = this.#options.input;
    try {
      while (!this.#closed) {
        const count = readSync(this.#fd, bytes, this.#filled, capacity - this.#filled, null);
        if (count === 0) return this.close('the client closed the connection');
        this.#filled += count;
        const session = (this.#session ??= this.#open());
        this.#work(session);
        if (session.settled) {
          session.settled = false;
          setImmediate(this.#serve);
          return;
        }
      }
    } catch (error) {
      this.#fail(error);
    }
  };

  #open(): Session {
    const { device, input, output, memoryFile } = this.#options;
    const wake = (): void => {
      if (!this.#closed && this.#session !== undefined) this.#flush(this.#session);
    };
    return new Session(device, input, output, { native: undefined, memoryFile, wake });
  }

  #work(session: Session): void {
    for (;;) {
      const done = session.process(this.#filled);
      this.#flush(session);
      const left = this.#filled - done;
      if (left > 0 && done > 0) this.#options.input.bytes.copyWithin(0, done, this.#filled);
      this.#filled = left;
      if (left === 0 || done === 0 || this.#closed) return;
    }
  }

  #flush(session: Session): void {
    const { output } = session;
    while (output.length > 0) {
      output.taken(writeSync(this.#fd, output.buffer.bytes, 0, output.length));
      session.pump();
    }
    if (session.ending !== undefined) this.close(session.ending);
  }

  #fail(error: unknown): void {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EAGAIN' && this.#session === undefined) {
      // Whoever made the socket wants it watched, not waited for.
      this.#instead = new NetConnection(new Socket({ fd: this.#fd }), this.#options);
    } else if (code === 'EPIPE' || code === 'ECONNRESET') {
      this.close('the client closed the connection');
    } else {
      this.close('an error in this server');
      this.#options.events.failed(error);
    }
  }
}
