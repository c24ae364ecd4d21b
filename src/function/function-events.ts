import type { ResetKind } from '../pci/endpoint.ts';
import type { Finding } from '../pci/finding.ts';
import type { DecodedBar } from './bar-decoder.ts';
import type { MessageKind } from './interrupts/interrupt-types.ts';

/** PASID Control changed; these are the bits as they read back. */
export interface PasidControlEvent {
  readonly enable: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** Control of the virtual ATS capability changed. */
export interface AtsControlEvent {
  readonly enable: boolean;
  /** Smallest Translation Unit: 2^(12 + this) bytes. */
  readonly smallestTranslationUnit: number;
}

/** Control of the virtual Page Request capability changed. */
export interface PriControlEvent {
  readonly enable: boolean;
}

/** The function was reset; the embedder resets the physical one. */
export interface ResetEvent {
  readonly kind: ResetKind;
}

/** Command changed. */
export interface CommandEvent {
  readonly io: boolean;
  readonly memory: boolean;
  readonly busMaster: boolean;
  readonly interruptDisable: boolean;
}

/** The power state changed. */
export interface PowerStateEvent {
  /** 0 for D0 to 3 for D3hot. */
  readonly state: number;
}

/** The interrupt pin rose or fell, as the bus sees it. */
export interface IntxEvent {
  /** 1..4 for INTA..INTD. */
  readonly pin: number;
  readonly asserted: boolean;
}

/** The function sends an interrupt message: inject it, or write `data` to `address` by DMA. */
export interface MsiEvent {
  readonly kind: MessageKind;
  /** 0..31 for MSI, 0..2047 for MSI-X. */
  readonly vector: number;
  /** Guest-physical address. */
  readonly address: number;
  /** 32 bits. */
  readonly data: number;
}

/**
 * A vector is routed otherwise than before: what an irqfd route needs. All vectors of MSI-X come when its Enable or
 * Function Mask changes, all of MSI when anything of it does, and those that end.
 */
export interface MsiRouteEvent extends MsiEvent {
  /** The mechanism is on and the vector is not masked. */
  readonly enabled: boolean;
}

/** A write of the guest reached the physical function. */
export interface HostWriteEvent {
  /** Config-space offset in bytes, aligned to `size`. */
  readonly offset: number;
  /** 1, 2 or 4 bytes. */
  readonly size: number;
  /** What was stored there. */
  readonly value: number;
}

/** The function got another requester ID; -1 stands for none. */
export interface RidEvent {
  readonly rid: number;
  readonly previousRid: number;
}

/** Slot Control of a port changed. */
export interface SlotControlEvent {
  /** Power Controller Control is off. */
  readonly powerOff: boolean;
  /** Attention and Power Indicator Control: 1 on, 2 blink, 3 off. */
  readonly attentionIndicator: number;
  readonly powerIndicator: number;
}

/**
 * Events of a `PciFunction`. All state has changed when they arrive, and the vIOMMU and the segment know it. Whoever
 * follows them knows the true state, whether a guest's write changed it, a reset or a restored state: each comes when
 * what it tells is not as it was told last. After `reset` come the events of everything that it changed. What a listener
 * changes itself is heard, by everybody, after what it is hearing.
 */
export interface FunctionEvents {
  'pasid-control': PasidControlEvent;
  'ats-control': AtsControlEvent;
  'pri-control': PriControlEvent;
  reset: ResetEvent;
  command: CommandEvent;
  'power-state': PowerStateEvent;
  /** A BAR decodes elsewhere, starts or stops. */
  bar: DecodedBar;
  intx: IntxEvent;
  msi: MsiEvent;
  'msi-route': MsiRouteEvent;
  /** A finding that is new since the function was made; the first ones are in `findings`. */
  finding: Finding;
  'host-write': HostWriteEvent;
  rid: RidEvent;
  'slot-control': SlotControlEvent;
}
