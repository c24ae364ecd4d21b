import type { Native } from '../linux/index.ts';
import type { Connection, ConnectionEvents } from './connection.ts';
import type { VfioUserDevice } from './device.ts';
import type { GuestFile } from './guest-file.ts';
import type { ReplyWriter } from './reply-writer.ts';
import { Session } from './session.ts';
import type { WireBuffer } from './wire-buffer.ts';

/** What a {@link Pump} asks of its transport. */
export interface Wire {
  /** Begins to read, and tells `pump` what comes in. */
  start(pump: Pump): void;
  /** True while bytes that were taken have not left this process. */
  readonly pending: boolean;
  /**
   * Takes bytes from the front of `output`: how many, 0 when the client takes none now, or why the connection is
   * broken. Never blocks and never throws, unless the transport does nothing but block.
   */
  send(output: ReplyWriter): number | string;
  /** What the transport waits for from now on: to read, to send ({@link Pump.sendable}), or neither. */
  wait(what: 'input' | 'output' | 'nothing'): void;
  /** Ends it at once, sent or not: the pump touches it no more. */
  close(): void;
}

/** What every connection is made of. */
export interface PumpOptions {
  readonly device: VfioUserDevice;
  readonly memoryFile: GuestFile | undefined;
  /** Memory for one connection after the other; it is the pump's until {@link ConnectionEvents.closed}. */
  readonly input: WireBuffer;
  readonly output: WireBuffer;
  readonly events: ConnectionEvents;
}

/** The heart of a connection, whatever its transport: bytes in, messages answered, bytes out, and the end of it. */
export class Pump implements Connection {
  readonly session: Session;
  readonly #input: WireBuffer;
  readonly #wire: Wire;
  readonly #events: ConnectionEvents;
  #filled = 0;
  #working = false;
  /** The client does not take our output: nothing is read from it until it does. */
  #blocked = false;
  /** Messages are left for the next turn of the event loop: nothing is read until then. */
  #postponed = false;
  #closed = false;

  /**
   * `native` where descriptors travel.
   *
   * @throws VpciError `VPCI_SOCKET` when the device has a client; the wire stays the caller's.
   */
  constructor(wire: Wire, native: Native | undefined, options: PumpOptions) {
    const { device, memoryFile, input, output, events } = options;
    this.#wire = wire;
    this.#input = input;
    this.#events = events;
    const wake = (): void => {
      if (!this.#working && !this.#blocked && !this.#closed) this.#flush();
    };
    this.session = new Session(device, input, output, { native, memoryFile, wake });
    wire.start(this);
  }

  /** Bytes of the input that are there: what comes next belongs behind them. */
  get filled(): number {
    return this.#filled;
  }

  /** True while the transport may read. */
  get reading(): boolean {
    return !this.#closed && !this.#blocked && !this.#postponed;
  }

  /** `count` bytes came in behind those that were there: answers the messages that are complete. */
  received(count: number): void {
    this.#filled += count;
    this.#work();
  }

  /** The client takes output again. */
  sendable(): void {
    if (this.#closed || !this.#blocked) return;
    this.#flush();
    this.#resume();
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.session.close(reason);
    this.#wire.close();
    this.#events.closed();
  }

  /** Code of this server threw. */
  fail(error: unknown): void {
    this.close('an error in this server');
    this.#events.failed(error);
  }

  #resume(): void {
    if (this.reading) this.#work();
    if (this.reading) this.#wire.wait('input');
  }

  #work(): void {
    const { session } = this;
    this.#working = true;
    try {
      for (;;) {
        const done = session.process(this.#filled);
        // A listener closed it: the buffers may be the next client's.
        if (this.#closed) return;
        const left = this.#filled - done;
        if (left > 0 && done > 0) this.#input.bytes.copyWithin(0, done, this.#filled);
        this.#filled = left;
        this.#flush();
        if (session.overdue) return this.#postpone();
        // What is left is the beginning of a message, or had no room for its reply.
        if (left === 0 || done === 0 || !this.reading) return;
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.#working = false;
    }
  }

  #postpone(): void {
    if (!this.reading) return;
    this.#postponed = true;
    this.#wire.wait('nothing');
    setImmediate(() => {
      this.#postponed = false;
      this.#resume();
    });
  }

  /** Sends the output, or as much of it as the client takes. */
  #flush(): void {
    const { output } = this.session;
    while (output.length > 0) {
      const sent = this.#wire.send(output);
      if (typeof sent === 'string') return this.close(sent);
      if (sent === 0) return this.#block();
      output.taken(sent);
      this.session.pump();
    }
    this.#blocked = false;
    if (this.session.ending === undefined) return;
    if (this.#wire.pending) this.#block();
    else this.close(this.session.ending);
  }

  #block(): void {
    if (this.#blocked) return;
    this.#blocked = true;
    this.#wire.wait('output');
  }
}
