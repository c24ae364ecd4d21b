import {
  addressOf,
  NO_CODE,
  OUT_CODE,
  OUT_PAGE_SIZE,
  OUT_PERMISSIONS,
  OUT_REASON,
  PERMISSION_EXECUTE,
  PERMISSION_READ,
  PERMISSION_WRITE,
  permissionLetters,
  STATUS_ATS,
  STATUS_BYPASS,
  STATUS_COMPLETER_ABORT,
  STATUS_DROPPED,
  STATUS_INTERRUPT,
  STATUS_PENDING,
  STATUS_TRANSLATED,
  word,
} from './result.ts';

/** The request reaches memory at another address. */
export interface TranslatedVerdict {
  readonly status: 'translated';
  /** Guest-physical address, 64 bits. */
  readonly address: bigint;
  /** Bytes of the naturally aligned page around the address that is mapped as one. */
  readonly pageSize: bigint;
  /** Rights of the page: letters out of `rwxpgun`, in that order. */
  readonly permissions: string;
}

/** The request passes unchanged, or is a write into the interrupt range. */
export interface PassingVerdict {
  readonly status: 'bypass' | 'interrupt';
  /** The address the request came with, 64 bits. */
  readonly address: bigint;
}

const RIGHTS = PERMISSION_READ | PERMISSION_WRITE | PERMISSION_EXECUTE;

/**
 * A Translation Completion with status Success (PCIe 10.2.3). `permissions` has none of `rwx` when there is no
 * translation: the function may send a page request and try again; `reason` and `code` then say why, and
 * `address` and `pageSize` are absent.
 */
export interface AtsVerdict {
  readonly status: 'ats';
  readonly permissions: string;
  readonly address?: bigint;
  readonly pageSize?: bigint;
  readonly reason?: string;
  readonly code?: number;
}

/** The request ends here. */
export interface RejectedVerdict {
  /** Also for posted writes, which get no completion; `dropped` where the architecture never completes. */
  readonly status: 'unsupported-request' | 'completer-abort' | 'dropped';
  /** Stable kebab-case name of the check that failed. */
  readonly reason: string;
  /** The architecture's own number for it. */
  readonly code?: number;
}

/** Nothing was decided: guest memory at `address` has to be fetched first (message mode only). */
export interface PendingVerdict {
  readonly status: 'pending';
  readonly address: bigint;
}

/** What a vIOMMU says about one request. */
export type Verdict = TranslatedVerdict | PassingVerdict | AtsVerdict | RejectedVerdict | PendingVerdict;

/** The hot door's `status` and `out` as a {@link Verdict}; `reasons` are those of the unit. */
export function verdictOf(status: number, out: Uint32Array, reasons: readonly string[]): Verdict {
  switch (status) {
    case STATUS_TRANSLATED:
      return { status: 'translated', ...translation(out) };
    case STATUS_BYPASS:
      return { status: 'bypass', address: addressOf(out) };
    case STATUS_INTERRUPT:
      return { status: 'interrupt', address: addressOf(out) };
    case STATUS_ATS:
      if ((word(out, OUT_PERMISSIONS) & RIGHTS) !== 0) return { status: 'ats', ...translation(out) };
      return {
        status: 'ats',
        permissions: permissionLetters(word(out, OUT_PERMISSIONS)),
        ...why(out, reasons),
      };
    case STATUS_PENDING:
      return { status: 'pending', address: addressOf(out) };
    case STATUS_COMPLETER_ABORT:
      return { status: 'completer-abort', ...why(out, reasons) };
    case STATUS_DROPPED:
      return { status: 'dropped', ...why(out, reasons) };
    default:
      return { status: 'unsupported-request', ...why(out, reasons) };
  }
}

function translation(out: Uint32Array): { address: bigint; pageSize: bigint; permissions: string } {
  return {
    address: addressOf(out),
    pageSize: 1n << BigInt(word(out, OUT_PAGE_SIZE)),
    permissions: permissionLetters(word(out, OUT_PERMISSIONS)),
  };
}

function why(out: Uint32Array, reasons: readonly string[]): { reason: string; code?: number } {
  const reason = reasons[word(out, OUT_REASON)] ?? '';
  const code = word(out, OUT_CODE);
  return code === NO_CODE ? { reason } : { reason, code };
}
