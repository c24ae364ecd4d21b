#!/usr/bin/env node
import { run } from './run.ts';

process.exitCode = await run(process.argv.slice(2), {
  // https://no-color.org: any value but the empty one.
  colour: process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '',
  out: (text) => {
    process.stdout.write(text);
  },
  err: (text) => {
    process.stderr.write(text);
  },
});
