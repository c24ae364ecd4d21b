import { lstatSync, type Stats, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { VpciError } from '../../src/index.ts';

/** The file of a listening socket: a stale one is cleared away before, and ours is removed afterwards. */
export class SocketPath {
  readonly path: string;
  #own: Stats | undefined;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes `path` free to listen at: a socket that nobody serves any more is removed.
   *
   * @throws VpciError `VPCI_SOCKET` when somebody serves it, or the file is no socket.
   */
  static async claim(path: string): Promise<SocketPath> {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat !== undefined) {
      if (!stat.isSocket()) {
        throw new VpciError(
          'VPCI_SOCKET',
          `${path} exists and is no socket: remove it, or choose another path`,
        );
      }
      // Who began when we did may have cleared it away meanwhile, and listen there.
      if ((await isServed(path)) || !isStill(path, stat)) {
        throw new VpciError(
          'VPCI_SOCKET',
          `${path} is served by another server: end that one, or choose another path`,
        );
      }
      unlinkSync(path);
    }
    return new SocketPath(path);
  }

  /** The socket is there now. */
  listening(): void {
    this.#own = lstatSync(this.path, { throwIfNoEntry: false });
  }

  /** Removes the socket, if the file is still the one that was made. */
  release(): void {
    const stat = lstatSync(this.path, { throwIfNoEntry: false });
    if (stat !== undefined && stat.ino === this.#own?.ino && stat.dev === this.#own.dev)
      unlinkSync(this.path);
  }
}

/** True when the file at `path` is the one that `before` describes; an inode's number may be used again. */
function isStill(path: string, before: Stats): boolean {
  const now = lstatSync(path, { throwIfNoEntry: false });
  return now?.ino === before.ino && now.dev === before.dev && now.ctimeMs === before.ctimeMs;
}

/** True unless the socket refuses connections. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const answer = (served: boolean): void => {
      probe.destroy();
      resolve(served);
    };
    probe.once('connect', () => answer(true));
    probe.once('error', (error) => answer(!('code' in error && error.code === 'ECONNREFUSED')));
  });
}
