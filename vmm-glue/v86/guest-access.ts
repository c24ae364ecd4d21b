/** A guest access that reached the segment, as v86 delivered it: see {@link AttachOptions.onAccess}. */
export type GuestAccess = {
  /** True for a write. */
  readonly write: boolean;
  /** 1, 2 or 4 bytes. */
  readonly size: number;
  /** What was read or written, unsigned. */
  readonly value: number;
} & (
  | {
      /** The mechanism: the ports at 0xcf8, or the memory window. */
      readonly via: 'cam' | 'ecam';
      /** Requester ID, 16 bits. */
      readonly rid: number;
      /** Config-space offset in bytes. */
      readonly offset: number;
    }
  | {
      /** Of a BAR in memory space or in I/O space. */
      readonly via: 'memory' | 'io';
      /** Guest-physical address, or port. */
      readonly address: number;
    }
);

/** Hears of each access that reached the segment. */
export type AccessListener = (access: GuestAccess) => void;
