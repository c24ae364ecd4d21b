// Runs the code blocks of README.md and docs/ (see parseBlocks for the rules), so that samples stay true.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { transformWithOxc } from 'vite';
import { afterAll, describe, expect, it } from 'vitest';
import {
  type Block,
  documents,
  expectedOfJs,
  matchLines,
  parseBlocks,
  repo,
  shellSteps,
} from '../support/samples.ts';

const bin = mkdtempSync(join(tmpdir(), 'vpci-samples-'));
afterAll(() => rmSync(bin, { recursive: true, force: true }));
writeFileSync(
  join(bin, 'vpci'),
  `#!/bin/sh\nexec '${process.execPath}' '${join(repo, 'dist/vmm-glue/cli/main.js')}' "$@"\n`,
  { mode: 0o755 },
);
const env = {
  ...process.env,
  PATH: [bin, process.env['PATH']].join(delimiter),
  NO_COLOR: '1',
  FORCE_COLOR: undefined,
};

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

async function runJs(block: Block): Promise<void> {
  const source = block.lines.join('\n');
  const input = block.language === 'ts' ? (await transformWithOxc(source, 'sample.ts')).code : source;
  const result = spawnSync(process.execPath, ['--input-type=module', '-'], {
    cwd: repo,
    encoding: 'utf8',
    env,
    input,
    timeout: 50_000,
  });
  expect(result.status, result.stderr).toBe(0);
  const expected = expectedOfJs(block.lines);
  if (expected.length > 0) expect(matchLines(linesOf(result.stdout), expected)).toBeUndefined();
}

function runSh(block: Block): void {
  const steps = shellSteps(block.lines);
  // One shell for the block: a mark with the last exit status (kept as $?) stands before each step and at the end.
  const mark = `s=$?; printf '\\036%s\\037' $s; (exit $s)`;
  const commands = steps.map(({ command }) => `${mark}\n${command.replaceAll('npx vpci', 'vpci')}`);
  const result = spawnSync('sh', ['-c', ['exec 2>&1', ...commands, mark].join('\n')], {
    cwd: repo,
    encoding: 'utf8',
    env,
    timeout: 50_000,
  });
  const parts = result.stdout.split('\u001E').map((part) => part.split('\u001F'));
  expect(parts, result.stdout).toHaveLength(steps.length + 2);
  for (const [index, step] of steps.entries()) {
    const actual = linesOf(parts[index + 1]?.[1] ?? '');
    const shown = `$ ${step.command}\n${actual.join('\n')}`;
    expect(matchLines(actual, step.expected), shown).toBeUndefined();
    // 0, 1 and 2 are answers of the command; from 70 on it is a bug, a missing program or a signal.
    expect(Number(parts[index + 2]?.[0]), shown).toBeLessThan(70);
  }
}

for (const name of documents()) {
  const blocks = parseBlocks(readFileSync(join(repo, name), 'utf8')).filter(({ run }) => run);
  if (blocks.length === 0) continue;
  describe(name, () => {
    for (const block of blocks) {
      it(`${block.language} block at line ${block.line}`, () =>
        block.language === 'sh' ? runSh(block) : runJs(block));
    }
  });
}

describe('the rules for samples', () => {
  it('finds js and ts blocks and vpci sessions, and leaves no-run and other blocks alone', () => {
    const text = [
      [
        '```js',
        'one();',
        '```',
        '```js no-run',
        'two();',
        '```',
        '```ts',
        'three();',
        '```',
        '```c',
        'four();',
        '```',
      ],
      ['```sh', '$ npx vpci demo', '```', '```sh', '$ npm ci', '```', '```sh no-run', '$ vpci x', '```'],
      ['- in a list', '  ```js', '  five();', '  ```'],
    ]
      .flat()
      .join('\n');
    const runnable = parseBlocks(text).filter(({ run }) => run);
    expect(runnable.map(({ language, line, lines }) => [language, line, lines])).toEqual([
      ['js', 1, ['one();']],
      ['ts', 7, ['three();']],
      ['sh', 13, ['$ npx vpci demo']],
      ['js', 23, ['five();']],
    ]);
  });

  it('reads the expected lines of a js block', () => {
    expect(expectedOfJs(['log(1); // -> 1', '// -> two words', 'log(3); // three'])).toEqual([
      '1',
      'two words',
    ]);
  });

  it('splits a session into commands and their output', () => {
    expect(shellSteps(['$ vpci a \\', '    b', 'out', '', '$ echo $?', '0'])).toEqual([
      { command: 'vpci a \\\n    b', expected: ['out', ''] },
      { command: 'echo $?', expected: ['0'] },
    ]);
  });

  it('compares exactly, and "..." stands for any lines', () => {
    expect(matchLines(['a', 'b'], ['a', 'b'])).toBeUndefined();
    expect(matchLines([], [])).toBeUndefined();
    expect(matchLines(['a', 'b', 'c'], ['a', '...'])).toBeUndefined();
    expect(matchLines(['a', 'b', 'c', 'd', 'c'], ['...', 'c'])).toBeUndefined();
    expect(matchLines(['a', 'x', 'b'], ['a', '...', 'b', '...'])).toBeUndefined();
    expect(matchLines(['a', 'c'], ['a', 'b'])).toBe('expected "b", found "c"');
    expect(matchLines(['a'], ['a', 'b'])).toBe('expected "b", found the end');
    expect(matchLines(['a', 'b'], ['a'])).toBe('expected the end, found "b"');
    expect(matchLines(['a', 'b'], ['a', '...', 'z'])).toBe('expected "z" after "...", found the end');
  });
});
