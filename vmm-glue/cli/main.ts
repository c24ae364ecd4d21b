#!/usr/bin/env node
import { EXIT_NO } from './exit-code.ts';
import { run } from './run.ts';

const closed = new AbortController();
let failed = false;

/** A reader that has enough, such as head, is no failure; whatever else stops the output is one. */
function stopped(name: string, { code, message }: NodeJS.ErrnoException): void {
  closed.abort();
  if (code === 'EPIPE' || failed) return;
  failed = true;
  process.exitCode = EXIT_NO;
  process.stderr.write(`vpci: cannot write to ${name}: ${message}\n`);
}

process.stdout.on('error', (error) => stopped('standard output', error));
process.stderr.on('error', (error) => stopped('standard error', error));

const exitCode = await run(process.argv.slice(2), {
  // https://no-color.org: any value but the empty one.
  colour: process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '',
  out: (text) => {
    process.stdout.write(text);
  },
  err: (text) => {
    process.stderr.write(text);
  },
  closed: closed.signal,
});
process.exitCode = failed ? EXIT_NO : exitCode;
