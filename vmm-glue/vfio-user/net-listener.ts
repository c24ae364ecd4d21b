import { chmodSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { unixAddress } from '../linux/index.ts';
import type { Connection } from './connection.ts';
import type { Listener } from './listener.ts';
import { NetWire } from './net-wire.ts';
import { Pump, type PumpOptions } from './pump.ts';
import { SocketPath } from './socket-path.ts';
import { WireBuffer } from './wire-buffer.ts';

/** Clients that may wait; more are turned away. Node has no way to leave them in the kernel's queue. */
const MAX_WAITING = 64;

/** What a listener passes on to its connections. */
export type NetListenerOptions = Omit<PumpOptions, 'input' | 'output'>;

/** A socket that is served by Node alone, one client at a time: the next ones wait until it is gone. */
export class NetListener implements Listener {
  readonly #path: SocketPath;
  readonly #server: Server;
  readonly #options: NetListenerOptions;
  readonly #input = new WireBuffer();
  readonly #output = new WireBuffer();
  readonly #waiting: Socket[] = [];
  #connection: Connection | undefined;

  private constructor(path: SocketPath, server: Server, options: NetListenerOptions) {
    this.#path = path;
    this.#server = server;
    this.#options = options;
    server.maxConnections = MAX_WAITING;
    server.on('connection', (socket) => {
      // A client that gives up waiting must not be an unheard error.
      socket.on('error', () => undefined);
      this.#waiting.push(socket);
      this.#next();
    });
    server.on('error', (error) => options.events.failed(error));
  }

  /** Listens at `path`, which no server may listen at. @throws VpciError `VPCI_SOCKET`. */
  static async open(path: string, options: NetListenerOptions): Promise<NetListener> {
    // For its check of the length: Node cuts a path that is too long.
    unixAddress(path);
    const claimed = await SocketPath.claim(path);
    const server = createServer({ pauseOnConnect: true });
    await listen(server, path);
    claimed.listening();
    return new NetListener(claimed, server, options);
  }

  async close(): Promise<void> {
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    const closed = new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#connection?.close('the server was closed');
    await closed;
    this.#path.release();
  }

  #next(): void {
    const socket = this.#connection === undefined ? this.#waiting.shift() : undefined;
    if (socket === undefined) return;
    try {
      this.#connection = this.#connect(socket);
    } catch (error) {
      socket.destroy();
      this.#next();
      this.#options.events.failed(error);
    }
  }

  #connect(socket: Socket): Connection {
    const { device, memoryFile, events } = this.#options;
    const [input, output] = [this.#input, this.#output];
    const closed = (): void => {
      this.#connection = undefined;
      events.closed();
      this.#next();
    };
    const failed = (error: unknown): void => events.failed(error);
    const wire = new NetWire(socket, input);
    return new Pump(wire, undefined, { device, memoryFile, input, output, events: { closed, failed } });
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // The file is made within this call. Only the main thread may set the mode that it is made with.
    const umask = isMainThread ? process.umask(0o177) : undefined;
    try {
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
      if (umask === undefined) chmodSync(path, 0o600);
    } finally {
      if (umask !== undefined) process.umask(umask);
    }
  });
}
