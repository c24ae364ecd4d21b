import { closeSync, readFileSync, readSync, writeSync } from 'node:fs';
import { O_NONBLOCK } from '../linux/index.ts';
import type { Pump, Wire } from './pump.ts';
import type { ReplyWriter } from './reply-writer.ts';
import type { WireBuffer } from './wire-buffer.ts';

/**
 * A connection that this process was started with, served without native code: blocking reads and writes of the
 * descriptor. The thread does nothing else, and the event loop has a turn only when an answer to the device came in.
 * Descriptors are lost, as with Node's sockets.
 */
export class InheritedWire implements Wire {
  readonly pending = false;
  readonly #fd: number;
  readonly #input: WireBuffer;
  #pump: Pump | undefined;

  /** Takes over `fd`, a connected socket that {@link blocks}. */
  constructor(fd: number, input: WireBuffer) {
    this.#fd = fd;
    this.#input = input;
  }

  start(pump: Pump): void {
    this.#pump = pump;
    setImmediate(this.#serve);
  }

  send({ buffer, length }: ReplyWriter): number | string {
    try {
      return writeSync(this.#fd, buffer.bytes, 0, length);
    } catch (error) {
      return reasonOf(error);
    }
  }

  wait(what: 'input' | 'output' | 'nothing'): void {
    if (what === 'input') setImmediate(this.#serve);
  }

  close(): void {
    closeSync(this.#fd);
  }

  readonly #serve = (): void => {
    const { bytes, capacity } = this.#input;
    const pump = this.#pump;
    if (pump === undefined) return;
    while (pump.reading) {
      let count: number;
      try {
        count = readSync(this.#fd, bytes, pump.filled, capacity - pump.filled, null);
      } catch (error) {
        return pump.close(reasonOf(error));
      }
      if (count === 0) return pump.close('the client closed the connection');
      pump.received(count);
      if (pump.session.settled) {
        pump.session.settled = false;
        if (pump.reading) setImmediate(this.#serve);
        return;
      }
    }
  };
}

/** True when reads of `fd` wait for the client; false when whoever made the socket wants it watched. */
export function blocks(fd: number): boolean {
  const [, flags = ''] = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  return (Number.parseInt(flags, 8) & O_NONBLOCK) === 0;
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'EPIPE' || code === 'ECONNRESET'
    ? 'the client closed the connection'
    : `the connection broke (${String(code)})`;
}
