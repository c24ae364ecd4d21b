import { ByteConfigSpace, type ConfigSpace } from '../../src/index.ts';

/** One access that reached the physical side. */
export interface HostAccess {
  readonly kind: 'read' | 'write';
  readonly offset: number;
  readonly size: number;
  /** What was read, or what was written. */
  readonly value: number;
}

/** A physical function over bytes that keeps a list of every access that reaches it. */
export class RecordingConfigSpace implements ConfigSpace {
  readonly size: number;
  /** What the physical registers hold now. */
  readonly bytes: Uint8Array;
  /** Everything since the last {@link RecordingConfigSpace.drain}. */
  readonly accesses: HostAccess[] = [];
  readonly #space: ByteConfigSpace;

  /** Copies `bytes`. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes.slice();
    this.size = bytes.length;
    this.#space = new ByteConfigSpace(this.bytes);
  }

  read(offset: number, size: number): number {
    const value = this.#space.read(offset, size);
    this.accesses.push({ kind: 'read', offset, size, value });
    return value;
  }

  write(offset: number, size: number, value: number): void {
    this.accesses.push({ kind: 'write', offset, size, value });
    this.#space.write(offset, size, value);
  }

  /** The accesses since the last call. */
  drain(): HostAccess[] {
    return this.accesses.splice(0);
  }

  /** The writes among {@link RecordingConfigSpace.accesses}. */
  get writes(): HostAccess[] {
    return this.accesses.filter(({ kind }) => kind === 'write');
  }
}

/** What is wrong with the form of `access`; undefined when it is 1, 2 or 4 bytes, aligned, inside `size` bytes. */
export function malformed({ offset, size }: HostAccess, total: number): string | undefined {
  if (size !== 1 && size !== 2 && size !== 4) return `${size} bytes`;
  if (!Number.isInteger(offset) || offset % size !== 0) return `misaligned: ${size} bytes at ${offset}`;
  if (offset < 0 || offset + size > total) return `out of range: ${size} bytes at ${offset}`;
  return undefined;
}
