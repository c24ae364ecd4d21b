// `vpci explain` as its users run it.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { type TopologyExplanation, parseDump } from 'vpci/inspect';

const repo = fileURLToPath(new URL('../../..', import.meta.url));
const cli = join(repo, 'dist/vmm-glue/cli/main.js');
const captures = join(repo, 'vmm-glue/captures');
const igb = join(captures, 'igb-82576.txt');
const vf = join(captures, 'igb-82576-vf.txt');
const scratch = mkdtempSync(join(tmpdir(), 'vpci-explain-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function explain(...args: string[]): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [cli, 'explain', ...args], (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ status: child.exitCode, stdout, stderr });
    });
  });
}

function topology(...names: string[]): string {
  const path = join(scratch, names.join('+'));
  writeFileSync(path, names.map((name) => readFileSync(join(captures, name), 'utf8')).join('\n'));
  return path;
}

async function asJson(...args: string[]): Promise<TopologyExplanation & { status: number | null }> {
  const { status, stdout } = await explain(...args, '--json');
  return { status, ...(JSON.parse(stdout) as TopologyExplanation) };
}

/** The lines under a title. */
function sectionOf(stdout: string, title: string): string[] {
  const lines = stdout.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`  ${title}`));
  const end = lines.findIndex((line, index) => index > start && !line.startsWith('    '));
  return lines.slice(start + 1, end === -1 ? undefined : end).map((line) => line.trim());
}

describe('the exit code', () => {
  it.each<[what: string, args: string[], status: number]>([
    ['0 when it will, with unknowns', [igb, '--pasid-width', '20'], 0],
    ['0 when all is known', [igb, '--pasid-width', '20', '--as-rciep'], 0],
    ['1 when no PASID is asked for', [igb], 1],
    ['1 when it is refused', [join(captures, 'e1000e.txt'), '--pasid-width', '20'], 1],
    ['1 when the place is taken', [igb, '--pasid-width', '20', '--pasid-offset', '0x104'], 1],
    ['1 for a port alone', [join(captures, 'root-port.txt'), '--pasid-width', '20'], 1],
    ['1 for a VF without IDs', [vf, '--pasid-width', '20'], 1],
    ['0 for a VF with IDs', [vf, '--pasid-width', '20', '--id', '8086:10ca'], 0],
    ['2 for a wrong option', [igb, '--pasid-width', '21'], 2],
    ['2 for an option without its own', [igb, '--exec'], 2],
    ['2 for a function that is not there', [igb, '--function', '05:00.0'], 2],
    ['2 for a file that is no dump', [join(repo, 'package.json')], 2],
    ['2 without a dump', [], 2],
  ])('is %s', async (_what, args, status) => {
    const run = await explain(...args);
    expect(run.status, run.stderr).toBe(status);
    // An answer is printed, a usage error is not.
    expect(run.stdout === '').toBe(status === 2);
    expect(run.stderr === '').toBe(status !== 2);
  });
});

describe('the text', () => {
  it('says which check decides, where, and what to do', async () => {
    const { stdout } = await explain(igb, '--pasid-width', '16', '--priv');
    expect(sectionOf(stdout, 'Extended capabilities')).toEqual([
      '0x100  0001 v1    72 bytes  mixed        Advanced Error Reporting',
      '0x150  000e        8 bytes  hidden       Alternative Routing-ID Interpretation: the guest topology decides',
      'function numbers',
      '0x160  0010       64 bytes  hidden       Single Root I/O Virtualization: the guest must not create virtual',
      'functions',
      '0xff8  001b v1     8 bytes  virtual      Process Address Space ID (made by vpci: the last bytes of the',
      'space were free)',
    ]);
    expect(sectionOf(stdout, 'Room for one more extended capability')).toEqual([
      '0x148..0x14f     8 bytes',
      '0x158..0x15f     8 bytes',
      '0x1a0..0xff7  3672 bytes',
    ]);
    const checks = sectionOf(stdout, 'What Linux checks before it enables PASID');
    expect(checks).toContain('Device Capabilities 2 at 0x0c4 is 0x00300000: bit 21 = 1');
    expect(checks).toContain('PASID Capability at 0xffc is 0x1004: bits 12:8 = 16');
    expect(checks).toContain(
      'unknown  prefix above                the dump does not say what is above the function',
    );
    expect(sectionOf(stdout, 'Will Linux enable PASID?')[0]).toMatch(/^yes, if what is unknown passes/);
    // Not a terminal: no colours.
    expect(stdout).not.toContain('\u001B');
  });

  it('uses the ports that the dump holds, also when one function is asked for', async () => {
    const dump = topology('root-port.txt', 'igb-82576.txt', 'nvme.txt');
    const { status, functions } = await asJson(dump, '--pasid-width', '20', '--function', '01:00.0');
    expect(status).toBe(0);
    expect(functions).toMatchObject([
      { bdf: '01:00.0', above: ['00:01.0'], answer: { verdict: 'yes', unknown: [] } },
    ]);
    const { stdout } = await explain(dump, '--pasid-width', '20');
    expect(stdout).toContain('What Linux checks before it enables PASID, below 00:01.0');
    const summary = stdout.slice(stdout.indexOf('\nIn all\n')).trim().split('\n');
    expect(summary[1]).toMatch(/^ {2}00:01\.0 {2}a root port has no PASID of its own/);
    expect(summary[2]).toMatch(/^ {2}01:00\.0 {2}yes: /);
    expect(summary.find((line) => line.includes('02:00.0'))).toMatch(/02:00\.0 {2}yes, if /);
  });
});

describe('the JSON', () => {
  it('holds everything', async () => {
    const { answer, functions } = await asJson(igb, '--pasid-width', '20', '--exec');
    expect(answer).toBe('yes');
    const [one] = functions;
    expect(Object.keys(one ?? {}).toSorted()).toEqual(
      [
        'bdf',
        'title',
        'above',
        'identity',
        'pasid',
        'capabilities',
        'extendedCapabilities',
        'hidden',
        'owners',
        'gaps',
        'findings',
        'refused',
        'checks',
        'advice',
        'answer',
      ].toSorted(),
    );
    expect(one?.pasid).toEqual({
      offset: 0xff8,
      width: 20,
      execute: true,
      privileged: false,
      control: 'latch',
    });
  });
});

const shared = join(repo, '../shared/config-dumps');
const dumps = [captures, shared]
  .filter((folder) => existsSync(folder))
  .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
  .filter((path) => path.endsWith('.txt'));

describe('every dump', () => {
  it.each(dumps)('%s: each function is explained, in lines of bounded length', async (path) => {
    const functions = parseDump(readFileSync(path));
    const runs = await Promise.all([
      explain(path),
      explain(path, '--pasid-width', '20'),
      explain(path, '--pasid-width', '8', '--as-rciep', '--ats', '--pri'),
    ]);
    const titles = functions.map(({ bdf, title }) => `${bdf} ${title}`);
    for (const { status, stdout, stderr } of runs) {
      expect(stderr).toBe('');
      expect(status).toBeLessThan(2);
      const lines = stdout.split('\n');
      expect(lines.filter((line) => titles.includes(line))).toEqual(titles);
      expect(lines.filter((line) => line.length > 122 && !titles.includes(line))).toEqual([]);
    }
  });
});
