/** The shadow registers of a function, for its own use. */
export interface RegisterFile {
  /** The dword at `offset` (bytes). */
  peek(offset: number): number;
  /** Sets the bits in `mask` of the dword at `offset`. */
  poke(offset: number, mask: number, value: number): void;
}

/** Which mechanism a message belongs to. */
export type MessageKind = 'msi' | 'msi-x';

/** Where messages go. Addresses are 32-bit halves, data 32 bits. */
export interface MessageSink {
  /** The function sends a message. */
  send(kind: MessageKind, vector: number, addressLow: number, addressHigh: number, data: number): void;
  /** The function may send a memory write now: a message waits until it may. */
  canSend(): boolean;
  /** `vector` is routed otherwise than before; `enabled`: it would be sent. */
  route(
    kind: MessageKind,
    vector: number,
    addressLow: number,
    addressHigh: number,
    data: number,
    enabled: boolean,
  ): void;
}

/** Lowest number in which an address is not exact; memory ends below it. */
export const MESSAGE_ADDRESS_LIMIT = 0x20000000000000;
