import { TraceError } from './trace-error.ts';
import type { TraceLine } from './trace-line.ts';
import type { TraceWorld } from './trace-world.ts';

/** What an op prints, without `i`; undefined when it prints nothing. */
export type TraceAnswer = Readonly<Record<string, unknown>> | undefined;

/** What ops may ask of the world outside. */
export interface TraceSurroundings {
  /** Content of the dump at `path`. */
  readonly readDump?: ((path: string) => string | Uint8Array) | undefined;
}

/** Carries out one op. */
export type TraceAction = (
  line: TraceLine,
  world: TraceWorld,
  surroundings: TraceSurroundings,
) => TraceAnswer;

/** Ops by name, each with the fields that it takes, as a table. */
export type TraceOps = readonly (readonly [name: string, action: TraceAction, fields: readonly string[]])[];

/** The `size` of a register access: 1, 2, 4 or 8 bytes. */
export function accessSize(line: TraceLine): number {
  const size = line.number('size', 1, 8);
  if (size === 1 || size === 2 || size === 4 || size === 8) return size;
  throw new TraceError('bad-field', `"size" of "${line.op}" is ${size}: it takes 1, 2, 4 or 8`);
}
