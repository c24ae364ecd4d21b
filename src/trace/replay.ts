import { VpciError } from '../pci/vpci-error.ts';
import { ACCESS_OPS } from './access-ops.ts';
import { FUNCTION_OPS } from './function-ops.ts';
import { IOMMU_OPS } from './iommu-ops.ts';
import { MEMORY_OPS } from './memory-ops.ts';
import { TraceError } from './trace-error.ts';
import { TraceLine } from './trace-line.ts';
import type { TraceAction, TraceAnswer, TraceSurroundings } from './trace-op.ts';
import { TraceWorld } from './trace-world.ts';

/** Version of the trace format, which docs/trace.md describes; a trace may name it in its first line. */
export const TRACE_VERSION = 1;

/** One line of a replay's output: `i` is the line of the trace, from 1. */
export type ReplayResult = { readonly i: number } & Readonly<Record<string, unknown>>;

/** Surroundings of a replay. */
export type ReplayOptions = TraceSurroundings;

/** Longest message of an error: lines may be of any length, and messages quote them. */
const MESSAGE_LIMIT = 1000;

const OPS: ReadonlyMap<string, readonly [TraceAction, readonly string[]]> = new Map(
  [...FUNCTION_OPS, ...ACCESS_OPS, ...IOMMU_OPS, ...MEMORY_OPS].map(([name, action, fields]) => [
    name,
    [action, fields],
  ]),
);

/**
 * Runs a trace (JSON lines, `docs/trace.md`) and yields one result for every line that reads something and for
 * every line that cannot be carried out; such a result has an `error` with `code` and `message`. Never throws
 * for what a trace says. A trace of another version ends with the error that says so.
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
    let isForeign = false;
    const answer = answerOf(() => {
      const line = TraceLine.parse(trimmed);
      if (line.op !== 'trace') return carryOut(line, world, options);
      isForeign = true;
      checkVersion(line);
      isForeign = false;
      return undefined;
    });
    if (answer !== undefined) yield { i, ...answer };
    // Nobody knows what its lines mean.
    if (isForeign) return;
  }
}

function answerOf(run: () => TraceAnswer): TraceAnswer {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof TraceError || error instanceof VpciError)) throw error;
    const { code, message } = error;
    const short = message.length > MESSAGE_LIMIT ? `${message.slice(0, MESSAGE_LIMIT - 3)}...` : message;
    return { error: { code, message: short } };
  }
}

function carryOut(line: TraceLine, world: TraceWorld, options: ReplayOptions): TraceAnswer {
  const op = OPS.get(line.op);
  if (op === undefined) throw new TraceError('unknown-op', `there is no op "${line.op}"`);
  const [action, fields] = op;
  line.refuseUnknown(fields);
  return action(line, world, options);
}

function checkVersion(line: TraceLine): void {
  line.refuseUnknown(['version']);
  const version = line.number('version', 0, 0xffffffff);
  if (version === TRACE_VERSION) return;
  throw new TraceError(
    'unsupported',
    `the trace has version ${version}, and this replay knows ${TRACE_VERSION}: it ends here`,
  );
}
