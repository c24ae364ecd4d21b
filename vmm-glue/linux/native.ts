import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type koffi from 'koffi';
import { VpciError } from '../../src/index.ts';
import { F_GETFL, F_SETFL } from './abi.ts';

/**
 * The calls of libc that the glue needs. Each is the C function of its name with a fixed number of arguments;
 * addresses and lengths are numbers (a user address has 47 bits), and -1 means that {@link Native.errno} says
 * why. Nothing is checked here: callers do that.
 */
export interface Native {
  /** The error of the call that failed last on this thread. Ask at once. */
  errno(): number;
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  close(fd: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: number, length: number, flags: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  shutdown(fd: number, how: number): number;
  /** `message` is the address of a `struct msghdr`. */
  recvmsg(fd: number, message: number, flags: number): number;
  /** `message` is the address of a `struct msghdr`. */
  sendmsg(fd: number, message: number, flags: number): number;
  send(fd: number, address: number, length: number, flags: number): number;
  write(fd: number, address: number, length: number): number;
  /** open(2) without O_CREAT. */
  open(path: string, flags: number): number;
  /** `argument` is a number that is no address: a value, or a descriptor. */
  ioctl(fd: number, request: number, argument: number): number;
  /** `argument` is the struct that the request takes; the kernel may change it. */
  ioctlStruct(fd: number, request: number, argument: Uint8Array): number;
  /** `offset` has up to 53 bits. */
  pread(fd: number, bytes: Uint8Array, length: number, offset: number): number;
  /** `offset` has up to 53 bits. */
  pwrite(fd: number, bytes: Uint8Array, length: number, offset: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  /** `fds` is one `struct pollfd` for each of `count`. */
  poll(fds: Int32Array, count: number, timeout: number): number;
  eventfd(initial: number, flags: number): number;
  /** syscall(2), for calls that libc has no function for. */
  syscall(call: number, a: number, b: number, c: number, d: number, e: number): number;
  memfdCreate(name: string, flags: number): number;
  /** The address, or undefined on failure. */
  mmap(
    address: number,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ): number | undefined;
  munmap(address: number, length: number): number;
  /** The bytes at `address` themselves, at most 4 GiB; touched after they are unmapped, they end the process. */
  view(address: number, length: number): Uint8Array<ArrayBuffer>;
  /** Address of the first byte; it holds while the buffer lives and is not transferred. */
  address(bytes: Uint8Array): number;
  /**
   * Calls `ready` from the event loop while `fd` is readable or, with `writable`, writable. What it throws is rethrown
   * from a microtask.
   */
  watch(fd: number, writable: boolean, ready: () => void): Watch;
}

/** A descriptor that the event loop watches; the loop stays alive meanwhile. */
export interface Watch {
  /** Ends the watch. Call it before the descriptor is closed. */
  close(): void;
}

/** Error numbers of the host by name, such as `ERRNO.EAGAIN`. */
export const ERRNO: Readonly<typeof constants.errno> = constants.errno;

/** What Node's list lacks or calls otherwise than Linux does. */
const LINUX_NAMES: ReadonlyMap<number, string> = new Map([
  [77, 'EBADFD'],
  [95, 'EOPNOTSUPP'],
]);

let loading: Promise<Native> | undefined;

/**
 * The native layer, made of the npm package koffi: an optional dependency, loaded by the first call of this.
 *
 * @throws VpciError `VPCI_NO_KOFFI` when the package is missing or does not run on this host.
 */
export function loadNative(): Promise<Native> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}

/** The name of an error number, such as `EBUSY`. */
export function errnoName(errno: number): string {
  const name = LINUX_NAMES.get(errno) ?? (errno > 0 && errno < 4096 ? getSystemErrorName(-errno) : undefined);
  return name?.startsWith('E') === true ? name : `errno ${errno}`;
}

/** The failed call as an error that names it, its subject and errno. */
export function hostError(
  native: Native,
  call: string,
  subject: string,
  errno: number = native.errno(),
): VpciError {
  return new VpciError('VPCI_HOST_CALL', `${call} on ${subject} failed: ${errnoName(errno)}`);
}

async function importKoffi(): Promise<typeof koffi> {
  if (process.platform !== 'linux') {
    throw new VpciError('VPCI_NO_KOFFI', `the native layer needs Linux, and this is ${process.platform}`);
  }
  try {
    return (await import('koffi')).default;
  } catch (cause) {
    throw new VpciError(
      'VPCI_NO_KOFFI',
      'the npm package koffi is missing or does not load here: run "npm install koffi", or use a transport that needs no native code',
      { cause },
    );
  }
}

async function load(): Promise<Native> {
  const ffi = await importKoffi();
  const libc = ffi.load(null);
  const fcntl: Native['fcntl'] = libc.func('fcntl', 'int', ['int', 'int', 'int']);
  const mmap: (...args: number[]) => unknown = libc.func('mmap', 'uintptr_t', [
    'uintptr_t',
    'size_t',
    'int',
    'int',
    'int',
    'int64_t',
  ]);
  return {
    errno: () => ffi.errno(),
    socket: libc.func('socket', 'int', ['int', 'int', 'int']),
    bind: libc.func('bind', 'int', ['int', 'void *', 'uint']),
    close: libc.func('close', 'int', ['int']),
    listen: libc.func('listen', 'int', ['int', 'int']),
    accept4: libc.func('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']),
    connect: libc.func('connect', 'int', ['int', 'void *', 'uint']),
    shutdown: libc.func('shutdown', 'int', ['int', 'int']),
    // ssize_t taken as int: no message is longer, -1 stays -1, and no result is ever a bigint.
    recvmsg: libc.func('recvmsg', 'int', ['int', 'uintptr_t', 'int']),
    sendmsg: libc.func('sendmsg', 'int', ['int', 'uintptr_t', 'int']),
    send: libc.func('send', 'int', ['int', 'uintptr_t', 'size_t', 'int']),
    write: libc.func('write', 'int', ['int', 'uintptr_t', 'size_t']),
    // Variadic in C; with these arguments the registers are the same on x86-64 and AArch64.
    open: libc.func('open', 'int', ['str', 'int']),
    ioctl: libc.func('ioctl', 'int', ['int', 'ulong', 'ulong']),
    ioctlStruct: libc.func('ioctl', 'int', ['int', 'ulong', 'void *']),
    pread: libc.func('pread', 'int', ['int', 'void *', 'size_t', 'int64_t']),
    pwrite: libc.func('pwrite', 'int', ['int', 'void *', 'size_t', 'int64_t']),
    fcntl,
    setsockopt: libc.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint']),
    poll: libc.func('poll', 'int', ['void *', 'ulong', 'int']),
    eventfd: libc.func('eventfd', 'int', ['uint', 'int']),
    syscall: libc.func('syscall', 'long', ['long', 'long', 'long', 'long', 'long', 'long']),
    memfdCreate: libc.func('memfd_create', 'int', ['str', 'uint']),
    mmap: (...args) => {
      const address = mmap(...args);
      // MAP_FAILED is all-ones, which comes back as a bigint.
      return typeof address === 'number' ? address : undefined;
    },
    munmap: libc.func('munmap', 'int', ['uintptr_t', 'size_t']),
    view: (address, length) => {
      // koffi ends the process for these.
      if (address <= 0 || length <= 0 || length > 2 ** 32) {
        throw new VpciError(
          'VPCI_BAD_ARGUMENT',
          `no view of ${length} bytes: give 1 byte to 4 GiB that are mapped`,
        );
      }
      return new Uint8Array(ffi.view(BigInt(address), length));
    },
    address: (bytes) => Number(ffi.address(bytes)),
    watch: (fd, writable, ready) => {
      const before = fcntl(fd, F_GETFL, 0);
      const guarded = (): void => {
        try {
          ready();
        } catch (error) {
          // koffi would silently end every watch of this thread, or abort the process.
          queueMicrotask(() => {
            throw error;
          });
        }
      };
      const handle = ffi.node.poll(fd, writable ? { writable: true } : { readable: true }, guarded);
      // koffi sets O_NONBLOCK and leaves it set.
      fcntl(fd, F_SETFL, before);
      return { close: () => handle.close() };
    },
  };
}
