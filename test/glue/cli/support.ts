import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repo = fileURLToPath(new URL('../../..', import.meta.url));

/** What a run of the command gave. */
export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the built `vpci`, with `input` on standard input. */
export function vpci(
  args: readonly string[],
  input: string | Uint8Array = '',
  env: NodeJS.ProcessEnv = {},
): Ran {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(repo, 'dist/vmm-glue/cli/main.js'), ...args],
    { cwd: repo, input, env: { ...process.env, ...env }, encoding: 'utf8', timeout: 50_000 },
  );
  return { code: status, out: stdout, err: stderr };
}

/** Path of a capture of the project. */
export function capture(name: string): string {
  return join(repo, 'vmm-glue/captures', `${name}.txt`);
}

/** Its text. */
export function captureText(name: string): string {
  return readFileSync(capture(name), 'utf8');
}
