// The samples of README.md and docs/ are also good TypeScript: one run of the compiler over all of them, those that
// are not run included, under strict settings, against the package as its users get it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { documents, parseBlocks, repo } from '../support/samples.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vpci-types-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

it('samples have no type errors', () => {
  mkdirSync(join(scratch, 'node_modules'));
  symlinkSync(repo, join(scratch, 'node_modules/vpci'));
  for (const name of ['@types', 'v86'])
    symlinkSync(join(repo, 'node_modules', name), join(scratch, 'node_modules', name));
  writeFileSync(join(scratch, 'package.json'), '{ "type": "module" }');
  const compilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2023', 'dom', 'esnext.disposable'],
    types: ['node'],
    skipLibCheck: true,
    noEmit: true,
  };
  writeFileSync(join(scratch, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }));
  const samples = documents().flatMap((name) =>
    parseBlocks(readFileSync(join(repo, name), 'utf8'))
      .filter(({ language }) => language !== 'sh')
      .map(({ line, lines }) => ({ file: `${name.replaceAll('/', '-')}-${line}.ts`, lines })),
  );
  expect(samples.length).toBeGreaterThan(10);
  for (const { file, lines } of samples)
    writeFileSync(join(scratch, file), [...lines, 'export {};'].join('\n'));
  const { stdout, status } = spawnSync(
    process.execPath,
    [join(repo, 'node_modules/typescript/bin/tsc'), '--pretty', 'false', '-p', scratch],
    { cwd: scratch, encoding: 'utf8', timeout: 50_000 },
  );
  // A file of its own stands for each block: its name says document and line of the fence.
  expect(stdout).toBe('');
  expect(status).toBe(0);
});
