import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { replay, type ReplayResult } from '../../src/trace/index.ts';
import { onlyPositional, parseArguments } from './arguments.ts';
import { EXIT_NO, EXIT_OK } from './exit-code.ts';
import { type Output, readInput } from './io.ts';

export const REPLAY_HELP = `Usage: vpci replay TRACE

Runs a trace (JSON lines; docs/trace.md lists the ops) and prints one JSON line for every op that reads.
- is standard input. Dumps that the trace names are looked for beside it, then in the working directory.

  --json                 the output is JSON lines already; accepted, and changes nothing

Exit code: 0 every line was carried out, 1 some were not (their results say why), 2 usage or unreadable input.
`;

/** `vpci replay`. */
export function replayCommand(args: readonly string[], output: Output): number {
  const given = parseArguments('replay', args, { json: { type: 'boolean' } });
  const path = onlyPositional('replay', 'trace', given);
  const text = new TextDecoder().decode(readInput(path));
  const beside = (dump: string): string => resolve(dirname(path === '-' ? '.' : path), dump);
  let exitCode = EXIT_OK;
  for (const result of replay(text, {
    readDump: (dump) => readInput(existsSync(beside(dump)) ? beside(dump) : dump),
  })) {
    output.out(`${JSON.stringify(result)}\n`);
    if (hasFailed(result)) exitCode = EXIT_NO;
  }
  return exitCode;
}

function hasFailed(result: ReplayResult): boolean {
  return 'error' in result;
}
