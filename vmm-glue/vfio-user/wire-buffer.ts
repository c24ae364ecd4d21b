import { MAX_MESSAGE_SIZE } from './protocol.ts';

/** Bytes of a buffer: a whole message, and what is read behind it in one go. */
export const WIRE_BUFFER_SIZE: number = MAX_MESSAGE_SIZE + 0x10000;

/** Bytes on their way from or to a socket, with the view that the codec reads and writes them by. */
export class WireBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** Address of the first byte for transports that hand it to the kernel; 0 for others. */
  readonly address: number;

  /** Keeps `bytes`. Default: memory of its own. */
  constructor(bytes: Uint8Array<ArrayBuffer> = new Uint8Array(WIRE_BUFFER_SIZE), address = 0) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.address = address;
  }

  /** Bytes that fit. */
  get capacity(): number {
    return this.bytes.length;
  }
}
