import { ERRNO, hostError, listenUnix, type Native, SOCK_CLOEXEC, type Watch } from '../linux/index.ts';
import type { Connection } from './connection.ts';
import { allocateBuffers, type KoffiBuffers, KoffiWire } from './koffi-wire.ts';
import type { Listener } from './listener.ts';
import { Pump, type PumpOptions } from './pump.ts';
import { SocketPath } from './socket-path.ts';

/** Milliseconds until a failed accept is tried again. */
const RETRY_MS = 100;

/** What a listener passes on to its connections, and how they are served. */
export interface KoffiListenerOptions extends Omit<PumpOptions, 'input' | 'output'> {
  readonly native: Native;
  /** Milliseconds that the thread blocks for the next message after one; 0: never. */
  readonly linger: number;
}

/** A socket that is served with descriptors, one client at a time: the next ones wait until it is gone. */
export class KoffiListener implements Listener {
  readonly #path: SocketPath;
  readonly #options: KoffiListenerOptions;
  readonly #buffers: KoffiBuffers;
  readonly #fd: number;
  #watch: Watch | undefined;
  #connection: Connection | undefined;
  #closed = false;

  private constructor(path: SocketPath, fd: number, options: KoffiListenerOptions) {
    this.#path = path;
    this.#fd = fd;
    this.#options = options;
    this.#buffers = allocateBuffers(options.native);
    this.#wait();
  }

  /** Listens at `path`, which no server may listen at. @throws VpciError `VPCI_SOCKET`, `VPCI_HOST_CALL`. */
  static async open(path: string, options: KoffiListenerOptions): Promise<KoffiListener> {
    const claimed = await SocketPath.claim(path);
    const fd = listenUnix(options.native, path, 0o600);
    claimed.listening();
    return new KoffiListener(claimed, fd, options);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch?.close();
    this.#options.native.close(this.#fd);
    this.#connection?.close('the server was closed');
    this.#path.release();
  }

  #wait(): void {
    this.#watch = this.#options.native.watch(this.#fd, false, () => this.#accept());
  }

  #accept(): void {
    const { native, events } = this.#options;
    const fd = native.accept4(this.#fd, 0, 0, SOCK_CLOEXEC);
    if (fd < 0) {
      const errno = native.errno();
      // Gone again: the event loop asks once more when there is another.
      if (errno === ERRNO.EAGAIN || errno === ERRNO.ECONNABORTED || errno === ERRNO.EINTR) return;
      const error = hostError(native, 'accept4', this.#path.path, errno);
      // Such as no descriptor free: not at once again, or nothing else would happen here.
      this.#watch?.close();
      setTimeout(() => {
        if (!this.#closed) this.#wait();
      }, RETRY_MS);
      return events.failed(error);
    }
    this.#watch?.close();
    try {
      this.#connection = this.#connect(fd);
    } catch (error) {
      native.close(fd);
      this.#wait();
      events.failed(error);
    }
  }

  #connect(fd: number): Connection {
    const { native, linger, device, memoryFile, events } = this.#options;
    const { input, output } = this.#buffers;
    const closed = (): void => {
      this.#connection = undefined;
      events.closed();
      if (!this.#closed) this.#wait();
    };
    const failed = (error: unknown): void => events.failed(error);
    const wire = new KoffiWire(native, fd, this.#buffers, linger);
    return new Pump(wire, native, { device, memoryFile, input, output, events: { closed, failed } });
  }
}
