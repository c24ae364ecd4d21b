import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { bedVerdict } from './beds.ts';

const repo = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'vpci-beds-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('bedVerdict', () => {
  it.each([
    [undefined, undefined, 'run'],
    [undefined, 'lspci', 'run'],
    ['missing', undefined, 'skip'],
    ['missing', '', 'skip'],
    ['missing', 'qemu,lspci-f', 'skip'],
    ['missing', 'qemu, lspci', 'fail'],
  ] as const)('reason %s with VPCI_REQUIRE=%s: %s', (reason, required, verdict) => {
    expect(bedVerdict('lspci', reason, required)).toBe(verdict);
  });
});

/** Runs vitest on a file with one bed that can run and one that can't. */
function runBeds(required: string): { status: number | null; output: string } {
  writeFileSync(
    join(scratch, 'fixture.test.ts'),
    `import { bed } from ${JSON.stringify(join(repo, 'test/support/beds.ts'))};
import { it } from ${JSON.stringify(join(repo, 'node_modules/vitest/dist/index.js'))};
bed('here', () => undefined)('bed here', () => { it('works', () => undefined); });
bed('gone', () => 'no such program')('bed gone', () => { throw new Error('body ran'); });
`,
  );
  const vitest = join(repo, 'node_modules/vitest/vitest.mjs');
  const args = [vitest, 'run', '--root', scratch, '--reporter', 'verbose', '--no-color'];
  const result = spawnSync(process.execPath, args, {
    cwd: repo,
    encoding: 'utf8',
    env: { ...process.env, VPCI_REQUIRE: required, NO_COLOR: '1', FORCE_COLOR: undefined, VITEST: undefined },
  });
  return { status: result.status, output: result.stdout + result.stderr };
}

describe('bed', () => {
  it('skips a bed that is not required, with the reason in the name', () => {
    const { status, output } = runBeds('');
    expect(output).toContain('bed gone (bed gone: no such program)');
    expect(output).toMatch(/1 passed \| 1 skipped/);
    expect(status).toBe(0);
  });

  it('fails a required bed that cannot run', () => {
    const { status, output } = runBeds('gone,here');
    expect(output).toContain("bed gone is named in VPCI_REQUIRE but can't run: no such program");
    expect(output).toMatch(/1 failed \| 1 passed/);
    expect(status).toBe(1);
  });
});
