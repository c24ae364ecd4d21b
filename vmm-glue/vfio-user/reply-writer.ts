import {
  FLAGS_ERROR,
  FLAGS_TYPE_REPLY,
  HEADER_ERROR,
  HEADER_FLAGS,
  HEADER_MESSAGE_SIZE,
  HEADER_SIZE,
} from './protocol.ts';
import type { WireBuffer } from './wire-buffer.ts';

/** Messages to the client, one after the other, until the transport takes them. */
export class ReplyWriter {
  readonly buffer: WireBuffer;
  /** Bytes written and not yet taken. */
  length = 0;

  constructor(buffer: WireBuffer) {
    this.buffer = buffer;
  }

  /** Bytes that fit behind what is there. */
  get room(): number {
    return this.buffer.capacity - this.length;
  }

  /** Begins the reply of `size` bytes to the message at `at` of `request`; returns where its body begins. */
  begin(request: DataView, at: number, size: number): number {
    const { view } = this.buffer;
    const start = this.length;
    // The identifier and the command.
    view.setUint32(start, request.getUint32(at, true), true);
    view.setUint32(start + HEADER_MESSAGE_SIZE, size, true);
    view.setUint32(start + HEADER_FLAGS, FLAGS_TYPE_REPLY, true);
    view.setUint32(start + HEADER_ERROR, 0, true);
    this.length = start + size;
    return start + HEADER_SIZE;
  }

  /** The reply that refuses the message at `at` of `request`. */
  fail(request: DataView, at: number, errno: number): void {
    const start = this.begin(request, at, HEADER_SIZE) - HEADER_SIZE;
    this.buffer.view.setUint32(start + HEADER_FLAGS, FLAGS_TYPE_REPLY | FLAGS_ERROR, true);
    this.buffer.view.setUint32(start + HEADER_ERROR, errno, true);
  }

  /** The transport took `count` bytes from the front. */
  taken(count: number): void {
    if (count < this.length) this.buffer.bytes.copyWithin(0, count, this.length);
    this.length -= count;
  }
}
