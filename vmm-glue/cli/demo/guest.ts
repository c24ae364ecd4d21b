/** A function that answered the scan of the bus. */
export interface Answer {
  /** Requester ID, 16 bits. */
  readonly rid: number;
  /** Vendor ID in bits 15:0 and Device ID in bits 31:16. */
  readonly ids: number;
}

/** What a scan of the bus found. */
export interface Scan {
  /** Functions that were asked. */
  readonly asked: number;
  readonly answers: readonly Answer[];
}

/** A capability as the guest met it in a chain. */
export interface Met {
  /** Config-space offset in bytes. */
  readonly offset: number;
  readonly id: number;
}

/** Both chains of the guest's function, in their order. */
export interface Chains {
  readonly standard: readonly Met[];
  readonly extended: readonly Met[];
}

/** The PASID capability as the guest found it. */
export interface Found {
  /** Config-space offset in bytes. */
  readonly offset: number;
  /** What the PASID Capability register read, 16 bits. */
  readonly capability: number;
}

/** What the guest wrote to PASID Control, and what that read afterwards, 16 bits each. */
export interface Enabled {
  readonly written: number;
  readonly readBack: number;
}

/** Who plays the guest: x86 code in v86, or a script that makes the same accesses. */
export type GuestKind = 'v86' | 'scripted';

/** The guest of the story. Its parts come in this order. */
export interface Guest {
  readonly kind: GuestKind;
  /** Who it is, for people; a fact a line. */
  readonly about: string;
  /** Reads the IDs of function 0 of every device on every bus, as an operating system does at boot. */
  scan(): Promise<Scan>;
  /** Follows the two chains of its function. */
  walk(): Promise<Chains>;
  /** Finds the PASID capability. */
  find(): Promise<Found>;
  /** Sets Bus Master Enable, PASID Enable, and the enables of what else the PASID Capability register offers. */
  enable(): Promise<Enabled>;
  /** Reads PASID Control, 16 bits. */
  readControl(): Promise<number>;
  /** The story is over. */
  close(): Promise<void>;
}
