import type { EndpointChange, ResetKind } from '../pci/endpoint.ts';
import type { AccessKind } from './access.ts';

/** A request was refused. */
export interface FaultEvent {
  /** Requester ID, up to 24 bits; -1 of a function that had none. */
  readonly rid: number;
  /** PASID of the request, or null. */
  readonly pasid: number | null;
  /** Bus address of the request, 64 bits. */
  readonly address: bigint;
  readonly access: AccessKind;
  readonly privileged: boolean;
  /** Stable kebab-case name, as in the verdict. */
  readonly reason: string;
  /** The architecture's own number, as in the verdict. */
  readonly code?: number;
}

/** Everything that was known of a PASID, or of a function, is void: a mirror in hardware has to drop it. */
export interface PasidInvalidatedEvent {
  readonly rid: number;
  /** The PASID; `all`: the function's PASIDs and its traffic without one. */
  readonly pasid: number | 'all';
}

/** Translations of a range are void. */
export interface TranslationInvalidatedEvent {
  readonly rid: number;
  /** PASID, or null: the traffic without one. */
  readonly pasid: number | null;
  /** Start of the range, 64 bits. */
  readonly iova: bigint;
  /** Bytes; 2^64 for everything. */
  readonly size: bigint;
}

/**
 * What the tables say about a requester may have changed: whoever mirrors them looks again. VT-d: invalidations of the
 * context- or PASID-cache, a new root table, translation on or off; those of everything once for each register write,
 * before the guest hears that they are done. The table model: attach and detach. Both: reset and restore.
 */
export interface TablesInvalidatedEvent {
  /** Requester ID; `all`: every one. */
  readonly rid: number | 'all';
  /** The PASID; null: the traffic without one; `all`: both. */
  readonly pasid: number | null | 'all';
}

/** The embedder mapped a range; of the table model only. */
export interface MappedEvent {
  readonly rid: number;
  /** PASID, or null: the traffic without one. */
  readonly pasid: number | null;
  /** First bus address, where it lands, and bytes; multiples of 4096. */
  readonly iova: bigint;
  readonly gpa: bigint;
  readonly size: bigint;
  /** Letters out of `rwxp`. */
  readonly permissions: string;
}

/** A Page Request Message that the unit accepted (PCIe 10.4.1). */
export interface PageRequestEvent {
  readonly rid: number;
  /** PASID, or null. */
  readonly pasid: number | null;
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  readonly privileged: boolean;
  /** Last of its group. */
  readonly last: boolean;
  /** Page Request Group index, 0..511. */
  readonly prgi: number;
  /** Address of the page, a multiple of 4096. */
  readonly address: bigint;
}

/**
 * The unit sends an interrupt: a message-signalled one, which is a write of 4 bytes that the VMM carries out or
 * hands to its interrupt controller.
 */
export interface InterruptEvent {
  /** What the unit wants to say. */
  readonly cause: 'fault' | 'invalidation-completion' | 'page-request';
  /** Where to, 64 bits, as the guest programmed it. */
  readonly address: bigint;
  /** The 32 bits to write. */
  readonly data: number;
}

/** Something happened to an endpoint behind the unit. */
export interface EndpointEvent {
  /** Requester ID after the change. */
  readonly rid: number;
  readonly change: EndpointChange | 'attached' | 'detached' | 'moved' | ResetKind;
  /** With `moved`: the requester ID before. */
  readonly previousRid?: number;
}

/** Events of every vIOMMU, and what each carries. */
export interface ViommuEvents {
  fault: FaultEvent;
  'pasid-invalidated': PasidInvalidatedEvent;
  'translation-invalidated': TranslationInvalidatedEvent;
  'tables-invalidated': TablesInvalidatedEvent;
  mapped: MappedEvent;
  'page-request': PageRequestEvent;
  interrupt: InterruptEvent;
  endpoint: EndpointEvent;
}
