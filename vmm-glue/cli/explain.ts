import { explainTopology } from '../../src/inspect/index.ts';
import { onlyPositional, parseArguments } from './arguments.ts';
import { loadDump, selectFunctions } from './dump-input.ts';
import { EXIT_NO, EXIT_OK } from './exit-code.ts';
import { explanationText } from './explain-text.ts';
import type { Output } from './io.ts';
import { VIEW_OPTIONS, VIEW_OPTIONS_HELP, viewOptions } from './view-options.ts';

export const EXPLAIN_HELP: string = `Usage: vpci explain DUMP [options]

Explains what a guest would see of the functions in DUMP, and whether a Linux guest will enable PASID: the
capability chains, who owns which bytes, what was hidden or changed, and the checks that Linux makes, in its
order, each with the register that decides and what to do about it. The ports above a function are those that
DUMP holds (by their bus numbers). DUMP is the output of lspci -xxxx, or a binary config file of sysfs;
- is standard input.

${VIEW_OPTIONS_HELP}  --json                 one JSON object instead of text

Exit code: 0 yes, Linux will enable PASID on every function that shows it, 1 no, or refused, 2 usage or
unreadable input.
`;

/** `vpci explain`. */
export function explain(args: readonly string[], output: Output): number {
  const given = parseArguments('explain', args, VIEW_OPTIONS);
  const path = onlyPositional('explain', 'dump', given);
  const options = viewOptions(given);
  const dumped = loadDump(path);
  const only = selectFunctions(dumped, given.text('function'));
  const topology = explainTopology(dumped, { ...options, only });
  const text = given.flag('json')
    ? `${JSON.stringify(topology, undefined, 2)}\n`
    : explanationText(topology, output.colour);
  output.out(text);
  return topology.answer === 'yes' ? EXIT_OK : EXIT_NO;
}
