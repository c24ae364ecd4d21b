import { type Finding, VpciError } from '../../src/index.ts';
import {
  type DumpedFunction,
  formatDump,
  type GuestView,
  guestView,
  type GuestViewOptions,
} from '../../src/inspect/index.ts';
import { onlyPositional, parseArguments } from './arguments.ts';
import { loadDump, selectFunctions } from './dump-input.ts';
import { CliError, EXIT_NO, EXIT_OK } from './exit-code.ts';
import type { Output } from './io.ts';
import { VIEW_OPTIONS, VIEW_OPTIONS_HELP, viewOptions } from './view-options.ts';

export const VIEW_HELP: string = `Usage: vpci view DUMP [options]

Prints what a guest would see of the functions in DUMP, as "lspci -xxxx" text that "lspci -F" reads.
DUMP is the output of lspci -xxxx, or a binary config file of sysfs; - is standard input.
Findings (what was hidden, replaced or repaired) go to standard error.

${VIEW_OPTIONS_HELP}  --json                 one JSON object instead of text

Exit code: 0 a view was printed, 1 refused, 2 usage or unreadable input.
`;

interface Viewed extends GuestView {
  readonly dumped: DumpedFunction;
}

/** `vpci view`. */
export function view(args: readonly string[], output: Output): number {
  const given = parseArguments('view', args, VIEW_OPTIONS);
  const path = onlyPositional('view', 'dump', given);
  const options = viewOptions(given);
  const functions = selectFunctions(loadDump(path), given.text('function'));
  const viewed = viewAll(functions, options);
  if (given.flag('json')) {
    output.out(`${JSON.stringify({ functions: viewed.map(toJson) }, undefined, 2)}\n`);
    return EXIT_OK;
  }
  for (const { dumped, findings } of viewed) {
    for (const line of findingLines(findings)) output.err(`${dumped.bdf}: ${line}\n`);
  }
  output.out(formatDump(viewed.map(({ dumped, bytes }) => ({ ...dumped, bytes }))));
  return EXIT_OK;
}

/** Of several functions some may refuse (bridges have no PASID); they are shown without, unless all refuse. */
function viewAll(functions: readonly DumpedFunction[], options: GuestViewOptions): Viewed[] {
  const [only] = functions;
  if (functions.length === 1 && only !== undefined) return [{ dumped: only, ...viewOne(only, options) }];
  const viewed = functions.map((dumped) => ({
    dumped,
    ...viewOne(dumped, { ...options, onPasidRefused: 'omit' }),
  }));
  if (options.pasid === undefined || viewed.some(({ pasid }) => pasid !== undefined)) return viewed;
  const reasons = viewed.flatMap(({ dumped, findings }) =>
    findings.filter(({ code }) => code === 'pasid-omitted').map(({ message }) => `${dumped.bdf}: ${message}`),
  );
  throw new CliError(EXIT_NO, `no function of the dump can show a PASID capability\n${reasons.join('\n')}`);
}

function viewOne(dumped: DumpedFunction, options: GuestViewOptions): GuestView {
  try {
    return guestView(dumped.bytes, options);
  } catch (error) {
    if (error instanceof VpciError)
      throw new CliError(EXIT_NO, `${dumped.bdf}: ${error.message} (${error.code})`);
    throw error;
  }
}

/** A line a finding; unclaimed bytes, of which a function may have dozens of runs, share one. */
function findingLines(findings: readonly Finding[]): string[] {
  const lines = findings
    .filter(({ code }) => code !== 'unclaimed-bytes')
    .map(({ code, message }) => `${code}: ${message}`);
  const unclaimed = findings.filter(({ code }) => code === 'unclaimed-bytes');
  const [first] = unclaimed;
  if (first === undefined) return lines;
  if (unclaimed.length === 1) return [...lines, `${first.code}: ${first.message}`];
  const ranges = unclaimed
    .slice(0, 4)
    .map(({ offset, length }) => `0x${offset.toString(16)}..0x${(offset + length - 1).toString(16)}`);
  const more = unclaimed.length > ranges.length ? ` and ${unclaimed.length - ranges.length} more` : '';
  return [
    ...lines,
    `${first.code}: ${ranges.join(', ')}${more} belong to no capability and read 0; "vpci explain" lists them`,
  ];
}

function toJson({ dumped, bytes, pasid, findings }: Viewed): unknown {
  const config = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return { bdf: dumped.bdf, title: dumped.title, pasid: pasid ?? null, findings, config };
}
