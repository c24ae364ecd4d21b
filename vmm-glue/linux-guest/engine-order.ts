import type { Verdict } from '../../src/viommu/index.ts';

/** A request that the engine can be ordered to send. */
export interface EngineOrder {
  /** `execute` reads with Execute Requested; `translate` asks for a translation and touches no memory. */
  readonly kind: 'read' | 'write' | 'execute' | 'translate';
  /** 20 bits, or null: a request without PASID. */
  readonly pasid: number | null;
  /** Untranslated address, 64 bits. */
  readonly address: bigint;
  /** What a write writes; a read has as many bytes. Not across 4 KiB. */
  readonly data: Uint8Array;
  /** Privileged Mode Requested. Default false. */
  readonly privileged?: boolean;
  /** Through the engine's translation cache, as a translated request. Default false. */
  readonly ats?: boolean;
  /** Where there is no translation, ask for the page and wait; needs `ats`. Default false. */
  readonly pri?: boolean;
  /** Send it even where the function may not. Default false. */
  readonly force?: boolean;
}

/**
 * How an order ended. `not-sent`: the function may not (Bus Master, PASID, ATS or PRI is not enabled, or the PASID is
 * too wide). `no-memory`: it was translated to where no memory is, or the guest's tables could not be had.
 */
export type EngineOutcome = 'done' | 'rejected' | 'not-sent' | 'no-memory';

/** An order and its end. */
export interface EngineResult {
  readonly order: EngineOrder;
  readonly outcome: EngineOutcome;
  /** What the vIOMMU said last; undefined when the request was not sent. */
  readonly verdict: Verdict | undefined;
  /** What a read has read, or a write written; empty unless it is done. */
  readonly data: Uint8Array;
}

/** A page that the engine asked for. */
export interface EnginePageRequest {
  readonly pasid: number | null;
  /** Page Request Group index. */
  readonly prgi: number;
  /** Address of the page. */
  readonly address: bigint;
  /** The unit put it into the guest's queue; false: it refused. */
  readonly queued: boolean;
}
