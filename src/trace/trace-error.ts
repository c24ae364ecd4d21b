/** Codes of the trace format's own errors; `docs/trace.md` lists them. Other codes are a VpciError's. */
export type TraceErrorCode =
  | 'bad-field'
  | 'bad-line'
  | 'no-dump'
  | 'no-function'
  | 'no-iommu'
  | 'no-memory'
  | 'no-snapshot'
  | 'unknown-op'
  | 'unsupported';

/** A line that cannot be carried out. The run goes on after it. */
export class TraceError extends Error {
  readonly code: TraceErrorCode;

  constructor(code: TraceErrorCode, message: string) {
    super(message);
    this.name = 'TraceError';
    this.code = code;
  }
}
