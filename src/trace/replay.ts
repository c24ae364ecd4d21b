import { VpciError } from '../pci/vpci-error.ts';
import { ACCESS_OPS } from './access-ops.ts';
import { FUNCTION_OPS } from './function-ops.ts';
import { IOMMU_OPS } from './iommu-ops.ts';
import { MEMORY_OPS } from './memory-ops.ts';
import { TraceError } from './trace-error.ts';
import { TraceLine } from './trace-line.ts';
import type { TraceAnswer, TraceOp, TraceSurroundings } from './trace-op.ts';
import { TraceWorld } from './trace-world.ts';

/** Version of the trace format (design 8.2); a trace may name it in its first line. */
export const TRACE_VERSION = 1;

/** One line of a replay's output: `i` is the line of the trace, from 1. */
export type ReplayResult = { readonly i: number } & Readonly<Record<string, unknown>>;

/** Surroundings of a replay. */
export type ReplayOptions = TraceSurroundings;

const OPS: ReadonlyMap<string, TraceOp> = new Map<string, TraceOp>([
  ['trace', traceVersion],
  ...FUNCTION_OPS,
  ...ACCESS_OPS,
  ...IOMMU_OPS,
  ...MEMORY_OPS,
]);

/**
 * Runs a trace (JSON lines, `docs/trace.md`) and yields one result for every line that reads something and for
 * every line that cannot be carried out; such a result has an `error` with `code` and `message`. Never throws
 * for what a trace says.
 */
export function* replay(
  trace: string | Iterable<string>,
  options: ReplayOptions = {},
): Generator<ReplayResult> {
  const world = new TraceWorld();
  const lines = typeof trace === 'string' ? trace.split('\n') : trace;
  let i = 0;
  for (const text of lines) {
    i++;
    const trimmed = text.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    const answer = carryOut(trimmed, world, options);
    if (answer !== undefined) yield { i, ...answer };
  }
}

function carryOut(text: string, world: TraceWorld, options: ReplayOptions): TraceAnswer {
  try {
    const line = TraceLine.parse(text);
    const op = OPS.get(line.op);
    if (op === undefined) throw new TraceError('unknown-op', `there is no op "${line.op}"`);
    return op(line, world, options);
  } catch (error) {
    if (error instanceof TraceError || error instanceof VpciError) {
      return { error: { code: error.code, message: error.message } };
    }
    throw error;
  }
}

function traceVersion(line: TraceLine): TraceAnswer {
  const version = line.number('version', 0, 0xffffffff);
  if (version === TRACE_VERSION) return undefined;
  throw new TraceError('unsupported', `the trace has version ${version}: this replay knows ${TRACE_VERSION}`);
}
