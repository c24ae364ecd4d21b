/**
 * One capability of an emulated function, ready to be placed: its registers at power-on. What a write does follows
 * from the ID, as for a passed-through function; `writable` adds bits for structures that have no rules of their own.
 */
export interface CapabilityBlock {
  /** Capability ID: 8 bits for a standard capability, 16 for an extended one. */
  readonly id: number;
  /** Stands in extended configuration space. */
  readonly extended: boolean;
  /** Capability Version of an extended capability, 4 bits. */
  readonly version: number;
  /** All bytes of the structure; its header (2 or 4 bytes) is filled in when it is placed. */
  readonly bytes: Uint8Array;
  /** A 1 for each bit that the guest may write, in the places of `bytes`. Default: none. */
  readonly writable?: Uint8Array | undefined;
}

/** A block of `length` bytes, filled in through `fill`. */
export function block(
  id: number,
  extended: boolean,
  length: number,
  fill: (view: DataView) => void = () => undefined,
): CapabilityBlock {
  const bytes = new Uint8Array(length);
  fill(new DataView(bytes.buffer));
  return { id, extended, version: 1, bytes };
}
