/**
 * Who owns each bit of a configuration space and what a write does to it. A layout holds no register values;
 * functions of the same make share one, and only their shadows differ.
 *
 * @module
 */

/**
 * Called after the shadow of a dword with side effects was written. `before` and `after` are the dword's shadow,
 * `written` the guest's bits and `lanes` the bits that the guest's byte enables cover, all in place.
 */
export type WriteHook<Target> = (
  target: Target,
  offset: number,
  before: number,
  after: number,
  written: number,
  lanes: number,
) => void;

/** Every bit of the dword is read from the shadow. */
export const READ_VIRTUAL = 0x1;
/** Mask of what a write does to the dword. */
export const WRITE_KIND = 0x6;
/** Nothing: no bit takes a write and nothing happens. */
export const WRITE_NOTHING = 0x0;
/** RW bits take what is written, and nothing else happens. */
export const WRITE_PLAIN = 0x2;
/** RW1C bits, bits of the physical function, or a hook. */
export const WRITE_FULL = 0x4;

/** A stretch of bytes with one owner. */
export interface Owner {
  /** First byte. */
  readonly start: number;
  /** First byte after it. */
  readonly end: number;
  /** What owns it, in the specification's words. */
  readonly name: string;
  /** Where reads come from; `mixed`: some bits from either side. */
  readonly source: 'virtual' | 'physical' | 'mixed' | 'passthrough';
}

/** The compiled layout: one entry a dword in every array. Made by `LayoutBuilder`, never changed afterwards. */
export interface ConfigLayout<Target> {
  /** Bytes of the space: 256 or 4096. */
  readonly size: number;
  /** What the fast paths may do with the dword: {@link READ_VIRTUAL} and one of the `WRITE_` values. */
  readonly fast: Uint8Array;
  /** 1 bits are read from the shadow, 0 bits from the physical function. */
  readonly virtual: Int32Array;
  /** Virtual bits that take what is written (RW). */
  readonly rw: Int32Array;
  /** Virtual bits that a written 1 clears (RW1C). */
  readonly rw1c: Int32Array;
  /** Physical bits that a write reaches. */
  readonly forward: Int32Array;
  /** Those of them that belong to a saved state, since the register they are in is known. */
  readonly savedForward: Int32Array;
  /** Index into {@link ConfigLayout.hooks}; 0 for none. */
  readonly hook: Uint8Array;
  readonly hooks: readonly (WriteHook<Target> | undefined)[];
  /** Virtual bits that a reset sets to {@link ConfigLayout.resetValue}: all writable ones that are not sticky. */
  readonly resetMask: Int32Array;
  readonly resetValue: Int32Array;
  /** Bits of {@link ConfigLayout.resetMask} that a Function Level Reset leaves alone (PCIe 6.6.2). */
  readonly keptByFlr: Int32Array;
  /** Sorted, without overlaps; gaps belong to nobody. */
  readonly owners: readonly Owner[];
}
