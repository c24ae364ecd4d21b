// `npm run bench`: the budgets of the design, on built JavaScript. Exits with 1 when one is missed.
import { cpus } from 'node:os';
import { configRows, fillSegment, type MemoryRow } from './config-space.ts';
import { isMet, measure, type Measured } from './harness.ts';
import { rows as tableRows } from './viommu.ts';
import { v86Rows } from './v86.ts';
import { rows as vtdRows } from './vtd.ts';

const HEADS = ['', 'operation', 'budget', 'median', 'min..max', 'allocated'];

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

console.log(`Node ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}`);
const full = fillSegment();
const measured = measure([...configRows(full), ...tableRows, ...vtdRows, ...(await v86Rows())]);
printTable([...measured.map(timeRow), ...full.memory.map(memoryRow)]);
const missed =
  measured.filter((one) => !isMet(one)).length + full.memory.filter((one) => one.bytes > one.budget).length;
if (missed > 0) {
  console.error(`${missed} ${missed === 1 ? 'budget was' : 'budgets were'} missed`);
  process.exitCode = 1;
}
