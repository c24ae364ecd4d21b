// `npm run bench:vfio-user`: config-space reads over a socket, by each transport, against a bare C ping-pong of the same
// message sizes in the same round, everything on one core. Exits with 1 when a budget is missed, and with 0 and a word
// when there is no C compiler. `--rounds N` and `--requests N` change the length.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** What the C client prints: nanoseconds a request. */
interface Result {
  readonly median: number;
  readonly p99: number;
  readonly mean: number;
}

interface Case {
  readonly name: string;
  /** Argument of server.js; undefined: the ping-pong. */
  readonly way: string | undefined;
  /** Most times the ping-pong of the same round. */
  readonly budget?: number;
  /** Requests that are sent before the replies are read. */
  readonly depth?: number;
}

const CASES: readonly Case[] = [
  { name: 'bare C ping-pong', way: undefined },
  { name: 'koffi, worker', way: 'worker', budget: 1.45 },
  { name: 'koffi, lingering', way: 'linger', budget: 1.45 },
  { name: 'koffi, event loop', way: 'loop' },
  { name: 'inherited, no native code', way: 'inherited', budget: 1.45 },
  { name: 'net, no native code', way: 'net', budget: 2.3 },
  { name: 'koffi, worker, 32 at once', way: 'worker', depth: 32 },
  { name: 'net, 32 at once', way: 'net', depth: 32 },
];

const source = fileURLToPath(new URL('../../../../test/bench/vfio-user/client.c', import.meta.url));
const given = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, requests: { type: 'string', default: '30000' } },
});
const rounds = Number(given.values.rounds);
const requests = Number(given.values.requests);
const folder = mkdtempSync(join(tmpdir(), 'vpci-bench-'));
const client = join(folder, 'client');
// taskset keeps a process on one core, if this machine has it.
const pin = spawnSync('taskset', ['-c', '0', 'true']).status === 0 ? ['taskset', '-c', '0'] : [];

const server = fileURLToPath(new URL('server.js', import.meta.url));
const socketOf = (way: string): string => join(folder, way);

/** Starts the server that listens for `way`; it is pinned by whoever reads from it. */
async function start(way: string): Promise<ChildProcess> {
  const args = [...pin, process.execPath, server, way, socketOf(way)];
  const child = spawn('env', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return child;
}

function run({ way, depth = 1 }: Case): Result {
  const count = String(Math.max(10, Math.floor(requests / depth)));
  const where = way === undefined ? '--pingpong' : way === 'inherited' ? '--spawn' : socketOf(way);
  const spawned = way === 'inherited' ? [process.execPath, server, way] : [];
  const args = [...pin, client, where, count, String(depth), ...spawned];
  const output = execFileSync('env', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const parsed: Result = JSON.parse(output);
  return parsed;
}

/** A copy in random order: no case always comes after the same other. */
function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((one) => ({ one, key: Math.random() }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ one }) => one);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

async function measureAll(): Promise<ReadonlyMap<Case, Result[]>> {
  const ways = new Set(CASES.flatMap(({ way }) => (way === undefined || way === 'inherited' ? [] : [way])));
  const servers: ChildProcess[] = [];
  const results = new Map<Case, Result[]>(CASES.map((one) => [one, []]));
  try {
    for (const way of ways) servers.push(await start(way));
    // Once before it counts: the code is not compiled yet.
    for (let round = -1; round < rounds; round++) {
      for (const one of shuffled(CASES)) {
        const result = run(one);
        if (round >= 0) results.get(one)?.push(result);
      }
    }
    return results;
  } finally {
    for (const child of servers) child.kill();
  }
}

function print(results: ReadonlyMap<Case, Result[]>): number {
  const bare = (results.get(CASES[0] ?? { name: '', way: undefined }) ?? []).map((one) => one.median);
  let missed = 0;
  console.log(
    `Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}, ${rounds} rounds of ${requests}`,
  );
  console.log('| | config read over a socket | budget | times the ping-pong (range) | median | p99 |');
  console.log('|---|---|---|---|---|---|');
  for (const [{ name, budget, depth = 1 }, all] of results) {
    const ratios = all.map((one, round) => one.median / (bare[round] ?? Number.NaN));
    const ratio = median(ratios);
    const isMet = budget === undefined || ratio <= budget;
    if (!isMet) missed++;
    const range = `${Math.min(...ratios).toFixed(2)}..${Math.max(...ratios).toFixed(2)}`;
    const times = [median(all.map((one) => one.median)), median(all.map((one) => one.p99))];
    const per = depth === 1 ? '' : ' a request';
    console.log(
      `| ${isMet ? 'ok' : 'MISS'} | ${name} | ${budget ?? '-'} | ${ratio.toFixed(2)} (${range}) | ${times.map((time) => `${time.toFixed(0)} ns${per}`).join(' | ')} |`,
    );
  }
  return missed;
}

try {
  execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', client, source]);
  const missed = print(await measureAll());
  if (missed > 0) {
    console.error(`${missed} ${missed === 1 ? 'budget was' : 'budgets were'} missed`);
    process.exitCode = 1;
  }
} catch (error) {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  console.log(`not measured: ${error.message}; Debian package gcc has the compiler`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
