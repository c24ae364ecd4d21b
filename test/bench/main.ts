// `npm run bench [GROUP ...]`: the budgets of the design, on built JavaScript. Exits with 1 when one is missed.
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { argv, execPath } from 'node:process';
import { fileURLToPath } from 'node:url';
import { configRows, fillSegment, type MemoryRow } from './config-space.ts';
import { isMet, measure, type Measured } from './harness.ts';
import { rows as tableRows } from './viommu.ts';
import { v86Rows } from './v86.ts';
import { rows as vtdRows } from './vtd.ts';

const HEADS = ['', 'operation', 'budget', 'median', 'min..max', 'allocated'];

/**
 * Groups of rows, each measured in a process of its own: V8 specializes code for what runs through it, and an
 * embedder runs one vIOMMU model, not all of them in turn.
 */
const GROUPS: Readonly<Record<string, () => Promise<string[][]>>> = {
  config: () => {
    const full = fillSegment();
    const measured = measure(configRows(full));
    return Promise.resolve([...measured.map(timeRow), ...full.memory.map(memoryRow)]);
  },
  table: () => Promise.resolve(measure(tableRows).map(timeRow)),
  vtd: () => Promise.resolve(measure(vtdRows).map(timeRow)),
  v86: async () => measure(await v86Rows()).map(timeRow),
};

/** What runs without arguments; `vtd` does not keep its budgets yet. */
const DEFAULT_GROUPS = ['config', 'table', 'v86'];

function timeRow(measured: Measured): string[] {
  const { row, median, min, max, bytes } = measured;
  return [
    isMet(measured) ? 'ok' : 'MISS',
    row.name,
    row.budgetNs === undefined ? '-' : `${row.budgetNs} ns`,
    `${median.toFixed(1)} ns`,
    `${min.toFixed(1)}..${max.toFixed(1)}`,
    `${bytes === 0 ? '0' : bytes.toFixed(1)} B/op`,
  ];
}

function memoryRow({ name, budget, bytes }: MemoryRow): string[] {
  return [bytes <= budget ? 'ok' : 'MISS', name, kibibytes(budget), kibibytes(bytes), '', ''];
}

function kibibytes(bytes: number): string {
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(0)} MiB`;
}

function printTable(rows: readonly string[][]): void {
  const widths = HEADS.map((head, i) => Math.max(head.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [HEADS, ...rows])
    console.log(`| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`);
}

/** The rows of `group`, out of a process of its own. */
function rowsOf(group: string): string[][] {
  const child = spawnSync(execPath, ['--expose-gc', fileURLToPath(import.meta.url), '--in', group], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.status !== 0) throw new Error(`the rows of ${group} could not be measured`);
  return JSON.parse(child.stdout) as string[][];
}

const [first, ...rest] = argv.slice(2);
if (first === '--in') {
  const rows = await GROUPS[rest[0] ?? '']?.();
  console.log(JSON.stringify(rows));
} else {
  const groups = first === undefined ? DEFAULT_GROUPS : [first, ...rest];
  console.log(`Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}`);
  const rows = groups.flatMap(rowsOf);
  printTable(rows);
  const missed = rows.filter(([verdict]) => verdict === 'MISS').length;
  if (missed > 0) {
    console.error(`${missed} ${missed === 1 ? 'budget was' : 'budgets were'} missed`);
    process.exitCode = 1;
  }
}
