// Measures rows against each other in one run: every round times every row once, beginning with another one.
import { cpuUsage, memoryUsage } from 'node:process';
import { runInThisContext } from 'node:vm';
import type { BenchRow } from './row.ts';

/** A row with a budget, or one that is shown for information. */
export type Row = Omit<BenchRow, 'budgetNs'> & { readonly budgetNs?: number };

/** What a row took. */
export interface Measured {
  readonly row: Row;
  /** Nanoseconds an operation: the median of the quietest rounds, the least and the most of all. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Bytes allocated an operation. */
  readonly bytes: number;
}

const ROUNDS = 31;
/** Rounds that count: the quietest. The machine is shared, and what others do to its caches is not ours. */
const QUIETEST = 9;
/** Milliseconds of processor time that a row runs in a round. */
const SAMPLE_MS = 4;
/** A sample counts when a loop of known cost, before and after it, takes no more than this times its best. */
const DISTURBED = 1.15;
/** Samples that are thrown away at most before one counts as it is. */
const PATIENCE = 20;
const REFERENCE_STEPS = 300_000;
const WARM_UP = 100_000;
/** Operations between two looks at the heap: few enough that no collection comes in between. */
const ALLOCATION_RUN = 50_000;
/** Below this many bytes an operation, it is the look itself that allocates. */
const ALLOCATION_NOISE = 0.1;

type Run = (iterations: number) => number;

let sink = 0;

/** Measures all rows. */
export function measure(rows: readonly Row[]): Measured[] {
  const runs = rows.map((row) => row.make());
  for (let pass = 0; pass < 3; pass++) for (const run of runs) sink ^= run(WARM_UP);
  const samples = runs.map((run, index) => ({
    row: rows[index],
    run,
    iterations: Math.ceil((SAMPLE_MS * 1e6) / Math.max(1, nanoseconds(run, WARM_UP))),
    times: new Array<number>(),
    bytes: new Array<number>(),
  }));
  for (let round = 0; round < ROUNDS; round++) {
    const start = (round * 5) % samples.length;
    for (const sample of [...samples.slice(start), ...samples.slice(0, start)]) {
      sample.times.push(undisturbed(sample.run, sample.iterations));
      if (round % 3 === 0) sample.bytes.push(allocated(sample.run));
    }
  }
  return samples.flatMap(({ row, times, bytes }) => {
    const sorted = times.toSorted((a, b) => a - b);
    const least = Math.min(...bytes);
    const [min = Number.NaN] = sorted;
    const median = sorted[QUIETEST >> 1] ?? Number.NaN;
    const max = sorted.at(-1) ?? Number.NaN;
    return row === undefined ? [] : [{ row, median, min, max, bytes: least < ALLOCATION_NOISE ? 0 : least }];
  });
}

/** True when the row kept its budget and its promise not to allocate. */
export function isMet({ row, median, bytes }: Measured): boolean {
  return median <= (row.budgetNs ?? Number.POSITIVE_INFINITY) && !(row.allocationFree && bytes > 0);
}

/**
 * Code that runs one operation again and again: `operation` is an expression of the operation's number `k`, of
 * what `setup` declares, and of the members of `scope`. Each row gets code of its own, in which the operation
 * is a function too large for V8 to inline into the loop: it costs a real call, as it does an embedder.
 */
export function compile(scope: object, setup: string, operation: string): Run {
  const padding = Array.from({ length: 60 }, (_, index) => `Math.sin(k + ${index})`).join(' + ');
  const source = `({ ${Object.keys(scope).join(', ')} }) => {
    const run = (k) => { if (k < 0) return ${padding}; ${setup} return (${operation}) | 0; };
    return (iterations) => {
      let checksum = 0;
      for (let k = 0; k < iterations; k++) checksum ^= run(k);
      return checksum;
    };
  }`;
  const make = runInThisContext(source) as (scope: object) => Run;
  return make(scope);
}

let bestReference = Number.POSITIVE_INFINITY;

/** Nanoseconds an operation, at a moment when nothing else slows the processor down. */
function undisturbed(run: Run, iterations: number): number {
  let before = nanoseconds(reference, REFERENCE_STEPS);
  for (let attempt = 0; ; attempt++) {
    const time = nanoseconds(run, iterations);
    const after = nanoseconds(reference, REFERENCE_STEPS);
    bestReference = Math.min(bestReference, before, after);
    if (Math.max(before, after) <= DISTURBED * bestReference || attempt === PATIENCE) return time;
    before = after;
  }
}

/** Xorshift: a chain of operations that the processor can neither shorten nor overlap. */
function reference(steps: number): number {
  let state = 0x2545f491;
  for (let i = 0; i < steps; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
  }
  return state;
}

/** In processor time, which stands still while other programs have the processor. */
function nanoseconds(run: Run, iterations: number): number {
  const start = cpuUsage();
  sink ^= run(iterations);
  const { user, system } = cpuUsage(start);
  return ((user + system) * 1000) / iterations;
}

function allocated(run: Run): number {
  globalThis.gc?.();
  const first = memoryUsage().heapUsed;
  const before = memoryUsage().heapUsed;
  sink ^= run(ALLOCATION_RUN);
  // Less what a look at the heap allocates itself.
  return (memoryUsage().heapUsed - before - (before - first)) / ALLOCATION_RUN;
}
