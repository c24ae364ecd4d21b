import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureText, type Ran, vpci } from './support.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vpci-replay-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const bdf = '01:00.0';
const lines = (...ops: object[]): string => ops.map((op) => JSON.stringify(op)).join('\n');
const results = ({ out }: Ran): unknown[] =>
  out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);

describe('vpci replay', () => {
  it('prints a line for every op that reads', () => {
    const trace = lines(
      { op: 'function', bdf, dump: 'vmm-glue/captures/igb-82576.txt' },
      { op: 'cfg.write', bdf, offset: 4, size: 2, value: 0 },
      { op: 'cfg.read', bdf, offset: 0, size: 4 },
    );
    const ran = vpci(['replay', '-'], trace);
    expect([ran.code, ran.err]).toEqual([0, '']);
    expect(results(ran)).toMatchObject([
      { i: 1, offset: null },
      { i: 3, value: 0x10c9_8086 },
    ]);
    expect(vpci(['replay', '--json', '-'], trace).out).toBe(ran.out);
  });

  it('looks for dumps beside the trace first', () => {
    const folder = join(scratch, 'case');
    mkdirSync(folder);
    writeFileSync(join(folder, 'dump.txt'), captureText('nvme'));
    writeFileSync(
      join(folder, 'trace.jsonl'),
      lines({ op: 'function', bdf, dump: 'dump.txt', pasid: { width: 8 } }),
    );
    const ran = vpci(['replay', join(folder, 'trace.jsonl')]);
    expect(ran.code).toBe(0);
    expect(results(ran)).toMatchObject([{ offset: 0x100 }]);
  });

  it('goes on after an error, and exits with 1', () => {
    const ran = vpci(['replay', '-'], `{"op":"nothing"}\n# fine\n{"op":"events"}\n`);
    expect(ran.code).toBe(1);
    expect(results(ran)).toMatchObject([
      { i: 1, error: { code: 'unknown-op' } },
      { i: 3, events: [] },
    ]);
  });

  it('says that a dump cannot be read', () => {
    const ran = vpci(['replay', '-'], lines({ op: 'function', bdf, dump: 'missing.txt' }));
    expect(ran.code).toBe(1);
    expect(results(ran)).toMatchObject([
      { error: { code: 'no-dump', message: expect.stringContaining('missing.txt') as string } },
    ]);
  });

  it('prints nothing for an empty trace', () => {
    expect(vpci(['replay', '-'], '')).toEqual({ code: 0, out: '', err: '' });
  });

  it.each<[string, string[]]>([
    ['a trace that is not there', [join(scratch, 'missing')]],
    ['no trace', []],
    ['two traces', ['-', '-']],
    ['an unknown option', ['-', '--fast']],
  ])('exits with 2 for %s', (_, args) => {
    const { code, out, err } = vpci(['replay', ...args]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(/^vpci replay: /);
  });
});
