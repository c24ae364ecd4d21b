import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_NOSIGNAL, SCM_RIGHTS, SOL_SOCKET } from './abi.ts';
import type { MemoryBlock } from './memory-block.ts';
import type { Native } from './native.ts';

// struct msghdr, struct iovec and struct cmsghdr of 64-bit Linux, one after the other.
const MSGHDR = 0;
const MSG_IOV = MSGHDR + 16;
const MSG_IOVLEN = MSGHDR + 24;
const MSG_CONTROL = MSGHDR + 32;
const MSG_CONTROLLEN = MSGHDR + 40;
const MSG_FLAGS = MSGHDR + 48;
const IOVEC = 56;
const IOV_BASE = IOVEC;
const IOV_LEN = IOVEC + 8;
const CONTROL = 72;
const CMSG_LEN = CONTROL;
const CMSG_LEVEL = CONTROL + 8;
const CMSG_TYPE = CONTROL + 12;
const CMSG_DATA = CONTROL + 16;
const CMSG_HEADER = 16;

/** Bytes of a block that a {@link SocketMessage} for `descriptors` descriptors takes. */
export function socketMessageSize(descriptors: number): number {
  return CONTROL + controlLength(descriptors);
}

function controlLength(descriptors: number): number {
  return CMSG_HEADER + ((descriptors * 4 + 7) & ~7);
}

/** A `struct msghdr` in memory of its own, for messages that carry descriptors (SCM_RIGHTS). */
export class SocketMessage {
  readonly #native: Native;
  readonly #address: number;
  readonly #view: DataView;
  readonly #words: Uint32Array;
  readonly #controlLength: number;

  /** Takes the first {@link socketMessageSize} bytes of `block`; `descriptors` is the most that one message has. */
  constructor(native: Native, block: MemoryBlock, descriptors: number) {
    this.#native = native;
    this.#address = block.address;
    this.#view = new DataView(block.bytes.buffer, block.bytes.byteOffset, socketMessageSize(descriptors));
    this.#words = new Uint32Array(block.bytes.buffer, block.bytes.byteOffset, CONTROL / 4);
    this.#controlLength = controlLength(descriptors);
    this.#set64(MSG_IOV, block.address + IOVEC);
    this.#set64(MSG_IOVLEN, 1);
    this.#set64(MSG_CONTROL, block.address + CONTROL);
  }

  /** Where the next message's bytes are. */
  setBuffer(address: number, length: number): void {
    this.#set64(IOV_BASE, address);
    this.#set64(IOV_LEN, length);
  }

  /** recvmsg(2) into the buffer: bytes received, 0 at the end of the stream, -1 with errno. */
  receive(fd: number, flags: number): number {
    this.#words[MSG_CONTROLLEN / 4] = this.#controlLength;
    return this.#native.recvmsg(fd, this.#address, flags | MSG_CMSG_CLOEXEC);
  }

  /** True when the message received last came with anything but bytes; then ask for its descriptors. */
  get hasControl(): boolean {
    return this.#words[MSG_CONTROLLEN / 4] !== 0 || this.truncated;
  }

  /** True when the message received last had more descriptors than fit; the kernel dropped the rest. */
  get truncated(): boolean {
    return ((this.#words[MSG_FLAGS / 4] ?? 0) & MSG_CTRUNC) !== 0;
  }

  /** The descriptors of the message received last; they are the caller's to close. */
  descriptors(): number[] {
    const view = this.#view;
    const controlled = Math.min(view.getUint32(MSG_CONTROLLEN, true), this.#controlLength);
    const found: number[] = [];
    // Credentials and the like may come before them.
    for (let at = 0; at + CMSG_HEADER <= controlled; ) {
      const length = Math.min(view.getUint32(CMSG_LEN + at, true), controlled - at);
      if (length < CMSG_HEADER) break;
      const isRights =
        view.getUint32(CMSG_LEVEL + at, true) === SOL_SOCKET &&
        view.getUint32(CMSG_TYPE + at, true) === SCM_RIGHTS;
      for (let data = isRights ? CMSG_HEADER : length; data + 4 <= length; data += 4) {
        found.push(view.getInt32(CONTROL + at + data, true));
      }
      at += (length + 7) & ~7;
    }
    return found;
  }

  /** sendmsg(2) of the buffer with `descriptors`, which stay the caller's: bytes sent, -1 with errno. */
  send(fd: number, descriptors: readonly number[], flags = 0): number {
    this.#set64(MSG_CONTROLLEN, descriptors.length === 0 ? 0 : controlLength(descriptors.length));
    this.#set64(CMSG_LEN, CMSG_HEADER + 4 * descriptors.length);
    this.#view.setUint32(CMSG_LEVEL, SOL_SOCKET, true);
    this.#view.setUint32(CMSG_TYPE, SCM_RIGHTS, true);
    for (const [i, descriptor] of descriptors.entries()) {
      this.#view.setInt32(CMSG_DATA + 4 * i, descriptor, true);
    }
    return this.#native.sendmsg(fd, this.#address, MSG_NOSIGNAL | flags);
  }

  #set64(offset: number, value: number): void {
    this.#view.setUint32(offset, value % 2 ** 32, true);
    this.#view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
  }
}
