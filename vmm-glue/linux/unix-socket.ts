import { chmodSync } from 'node:fs';
import { VpciError } from '../../src/index.ts';
import {
  AF_UNIX,
  SO_PASSCRED,
  SO_RCVTIMEO,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from './abi.ts';
import { hostError, type Native } from './native.ts';

/** Bytes of `sun_path`, with the zero byte that ends it. */
const SUN_PATH_SIZE = 108;

/**
 * A `struct sockaddr_un` for `path`.
 *
 * @throws VpciError `VPCI_SOCKET` when the path is empty or longer than 107 bytes.
 */
export function unixAddress(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length >= SUN_PATH_SIZE || bytes.includes(0)) {
    throw new VpciError(
      'VPCI_SOCKET',
      `"${path}" has ${bytes.length} bytes: the path of a socket has 1 to ${SUN_PATH_SIZE - 1}; choose a shorter folder`,
    );
  }
  const address = new Uint8Array(2 + SUN_PATH_SIZE);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

/**
 * A listening socket at `path`, which must not exist; accepting does not block. The file has `mode` before anybody
 * can connect.
 *
 * @throws VpciError `VPCI_HOST_CALL`, `VPCI_SOCKET`.
 */
export function listenUnix(native: Native, path: string, mode: number): number {
  const address = unixAddress(path);
  const fd = unixSocket(native, SOCK_NONBLOCK);
  try {
    if (native.bind(fd, address, address.length) < 0) throw hostError(native, 'bind', path);
    chmodSync(path, mode);
    if (native.listen(fd, 128) < 0) throw hostError(native, 'listen', path);
  } catch (error) {
    native.close(fd);
    throw error;
  }
  return fd;
}

/** A socket that is connected to `path`. @throws VpciError `VPCI_HOST_CALL`, `VPCI_SOCKET`. */
export function connectUnix(native: Native, path: string): number {
  const address = unixAddress(path);
  const fd = unixSocket(native, 0);
  if (native.connect(fd, address, address.length) === 0) return fd;
  const error = hostError(native, 'connect', path);
  native.close(fd);
  throw error;
}

/** Blocking receives on `fd` end with EAGAIN after `milliseconds` (1 or more) without data. */
export function setReceiveTimeout(native: Native, fd: number, milliseconds: number): void {
  const timeval = new DataView(new ArrayBuffer(16));
  timeval.setUint32(0, Math.floor(milliseconds / 1000), true);
  timeval.setUint32(8, (milliseconds % 1000) * 1000, true);
  const value = new Uint8Array(timeval.buffer);
  if (native.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, value, value.length) < 0) {
    throw hostError(native, 'setsockopt(SO_RCVTIMEO)', `descriptor ${fd}`);
  }
}

/** No credentials come with the messages on `fd`: they would take the room of descriptors. */
export function refuseCredentials(native: Native, fd: number): void {
  const off = new Uint8Array(4);
  if (native.setsockopt(fd, SOL_SOCKET, SO_PASSCRED, off, off.length) < 0) {
    throw hostError(native, 'setsockopt(SO_PASSCRED)', `descriptor ${fd}`);
  }
}

function unixSocket(native: Native, flags: number): number {
  const fd = native.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw hostError(native, 'socket', 'AF_UNIX');
  return fd;
}
