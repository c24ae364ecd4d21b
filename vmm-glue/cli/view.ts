import { VpciError } from '../../src/index.ts';
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
import type { Output } from './io.ts';

export const VIEW_HELP = `Usage: vpci view DUMP [options]

Prints what a guest would see of the functions in DUMP, as "lspci -xxxx" text that "lspci -F" reads.
DUMP is the output of lspci -xxxx, or a binary config file of sysfs; - is standard input.
Findings (what was hidden, replaced or repaired) go to standard error.

  --pasid-width N        show a PASID capability of N bits (1..20); without it, none is shown
  --exec                 the host has execute permission enabled
  --priv                 the host has privileged mode enabled
  --pasid-offset 0xNNN   where to put it; default: a free place is found
  --control latch|drop   what guest writes to PASID Control do (the power-on view is the same)
  --ats, --pri           show a virtual ATS or Page Request capability
  --as-rciep             show an endpoint as an RC integrated endpoint
  --function BDF         only this function of the dump
  --id VVVV:DDDD         IDs of a virtual function, whose own read ffff
  --json                 one JSON object instead of text

Exit code: 0 a view was printed, 1 refused, 2 usage or unreadable input.
`;

const OPTIONS: OptionTable = {
  'pasid-width': { type: 'string' },
  exec: { type: 'boolean' },
  priv: { type: 'boolean' },
  'pasid-offset': { type: 'string' },
  control: { type: 'string' },
  ats: { type: 'boolean' },
  pri: { type: 'boolean' },
  'as-rciep': { type: 'boolean' },
  function: { type: 'string' },
  id: { type: 'string' },
  json: { type: 'boolean' },
};

interface Viewed extends GuestView {
  readonly dumped: DumpedFunction;
}

/** `vpci view`. */
export function view(args: readonly string[], output: Output): number {
  const given = parseArguments('view', args, OPTIONS);
  const path = onlyPositional('view', 'dump', given);
  const options = viewOptions(given);
  const functions = selectFunctions(loadDump(path), given.text('function'));
  const viewed = viewAll(functions, options);
  if (given.flag('json')) {
    output.out(`${JSON.stringify({ functions: viewed.map(toJson) }, undefined, 2)}\n`);
    return EXIT_OK;
  }
  for (const { dumped, findings } of viewed) {
    for (const { code, message } of findings) output.err(`${dumped.bdf}: ${code}: ${message}\n`);
  }
  output.out(formatDump(viewed.map(({ dumped, bytes }) => ({ ...dumped, bytes }))));
  return EXIT_OK;
}

function viewOptions(given: Arguments): GuestViewOptions {
  const width = given.number('pasid-width');
  if (width !== undefined && (width < 1 || width > 20)) {
    throw new CliError(
      EXIT_USAGE,
      `--pasid-width is ${width}: a PASID has 1 to 20 bits; leave the option out for no PASID`,
    );
  }
  if (width === undefined) {
    for (const name of ['exec', 'priv', 'pasid-offset', 'control']) {
      if (given.flag(name) || given.text(name) !== undefined) {
        throw new CliError(EXIT_USAGE, `--${name} is about a PASID capability: give --pasid-width too`);
      }
    }
  }
  const control = given.text('control') ?? 'latch';
  if (control !== 'latch' && control !== 'drop') {
    throw new CliError(EXIT_USAGE, `--control is "${control}": it is latch or drop`);
  }
  return {
    ...(width === undefined
      ? {}
      : { pasid: { width, execute: given.flag('exec'), privileged: given.flag('priv') } }),
    pasidOffset: given.number('pasid-offset'),
    control,
    // Left out, a physical ATS or Page Request capability is shown as it is.
    ats: given.flag('ats') || undefined,
    pri: given.flag('pri') || undefined,
    present: given.flag('as-rciep') ? 'rciep' : 'as-is',
    ...vfIds(given.text('id')),
  };
}

function vfIds(id: string | undefined): Pick<GuestViewOptions, 'vendorId' | 'deviceId'> {
  if (id === undefined) return {};
  const [, vendor, device] = /^([0-9a-f]{4}):([0-9a-f]{4})$/i.exec(id) ?? [];
  if (vendor === undefined || device === undefined) {
    throw new CliError(
      EXIT_USAGE,
      `--id is "${id}": write it as VVVV:DDDD in hexadecimal, such as 8086:10ca`,
    );
  }
  return { vendorId: Number.parseInt(vendor, 16), deviceId: Number.parseInt(device, 16) };
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

function toJson({ dumped, bytes, pasid, findings }: Viewed): unknown {
  const config = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return { bdf: dumped.bdf, title: dumped.title, pasid: pasid ?? null, findings, config };
}
