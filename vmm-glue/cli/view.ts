import { type Finding, parseBdf, VpciError } from '../../src/index.ts';
import {
  type DumpedFunction,
  formatDump,
  type GuestView,
  guestView,
  type GuestViewOptions,
} from '../../src/inspect/index.ts';
import { type Arguments, onlyPositional, type OptionTable, parseArguments } from './arguments.ts';
import { loadDump, selectFunctions } from './dump-input.ts';
import { CliError, EXIT_NO, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import {
  HOST_DEVICE_HELP,
  HOST_DEVICE_OPTIONS,
  hostFunction,
  openHostDevice,
  refuseHostOptions,
} from './host-device.ts';
import type { Output } from './io.ts';
import { VIEW_OPTIONS, VIEW_OPTIONS_HELP, viewOptions } from './view-options.ts';

export const VIEW_HELP: string = `Usage: vpci view DUMP [options]
       vpci view --host BDF [options]

Prints what a guest would see of the functions in DUMP, or of a device of this host, as "lspci -xxxx" text that
"lspci -F" reads. DUMP is the output of lspci -xxxx, or a binary config file of sysfs; - is standard input.
Findings (what was hidden, replaced or repaired) go to standard error.

${VIEW_OPTIONS_HELP}${HOST_DEVICE_HELP}  --json                 one JSON object instead of text

Exit code: 0 a view was printed, 1 refused, 2 usage or unreadable input.
`;

const OPTIONS: OptionTable = { ...VIEW_OPTIONS, ...HOST_DEVICE_OPTIONS, host: { type: 'string' } };

interface Viewed extends GuestView {
  readonly dumped: DumpedFunction;
}

/** `vpci view`. */
export async function view(args: readonly string[], output: Output): Promise<number> {
  const given = parseArguments('view', args, OPTIONS);
  const host = given.text('host');
  const viewed = host === undefined ? viewDump(given) : [await viewHost(host, given)];
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

function viewDump(given: Arguments): Viewed[] {
  refuseHostOptions(given);
  const path = onlyPositional('view', 'dump', given);
  const options = viewOptions(given);
  return viewAll(selectFunctions(loadDump(path), given.text('function')), options);
}

/** Through the same function that a guest gets. */
async function viewHost(host: string, given: Arguments): Promise<Viewed> {
  const [stray] = given.positionals;
  if (stray !== undefined)
    throw new CliError(EXIT_USAGE, `"${stray}" beside --host: give a dump or a device`);
  const device = await openHostDevice(host, given);
  try {
    const { fn } = hostFunction(device, given);
    const bytes = new Uint8Array(device.configSpace.size);
    fn.readInto(0, bytes);
    const { bdf, driver } = device.host;
    const dumped = { bdf, rid: parseBdf(bdf.slice(5)), title: `bound to ${driver ?? 'vfio-pci'}`, bytes };
    return { dumped, bytes, pasid: fn.pasid, findings: fn.findings };
  } finally {
    device.close();
  }
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
