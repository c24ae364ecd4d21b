import { ERRNO, hostError, listenUnix, SOCK_CLOEXEC, type Watch } from '../linux/index.ts';
import {
  allocateBuffers,
  type KoffiBuffers,
  KoffiConnection,
  type KoffiOptions,
} from './koffi-connection.ts';
import type { Listener } from './listener.ts';
import { SocketPath } from './socket-path.ts';

/** Milliseconds until a failed accept is tried again. */
const RETRY_MS = 100;

/** A socket that is served with descriptors, one client at a time: the next ones wait until it is gone. */
export class KoffiListener implements Listener {
  readonly #path: SocketPath;
  readonly #options: Omit<KoffiOptions, 'buffers'>;
  readonly #buffers: KoffiBuffers;
  readonly #fd: number;
  #watch: Watch | undefined;
  #connection: KoffiConnection | undefined;
  #closed = false;

  private constructor(path: SocketPath, fd: number, options: Omit<KoffiOptions, 'buffers'>) {
    this.#path = path;
    this.#fd = fd;
    this.#options = options;
    this.#buffers = allocateBuffers(options.native);
    this.#wait();
  }

  /** Listens at `path`, which no server may listen at. @throws VpciError `VPCI_SOCKET`, `VPCI_HOST_CALL`. */
  static async open(path: string, options: Omit<KoffiOptions, 'buffers'>): Promise<KoffiListener> {
    const claimed = await SocketPath.claim(path);
    const fd = listenUnix(options.native, path, 0o600);
    claimed.listening();
    return new KoffiListener(claimed, fd, options);
  }

  close(): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    this.#watch?.close();
    this.#path.release();
    this.#options.native.close(this.#fd);
    this.#connection?.close('the server was closed');
    return Promise.resolve();
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
      events.failed(hostError(native, 'accept4', this.#path.path, errno));
      // Such as no descriptor free: not at once again, or nothing else would happen here.
      this.#watch?.close();
      setTimeout(() => {
        if (!this.#closed) this.#wait();
      }, RETRY_MS);
      return;
    }
    this.#watch?.close();
    this.#connection = new KoffiConnection(fd, {
      ...this.#options,
      buffers: this.#buffers,
      events: {
        failed: (error) => events.failed(error),
        closed: () => {
          this.#connection = undefined;
          events.closed();
          if (!this.#closed) this.#wait();
        },
      },
    });
  }
}
