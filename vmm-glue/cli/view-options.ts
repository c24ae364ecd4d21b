import type { GuestViewOptions } from '../../src/inspect/index.ts';
import { type Arguments, type OptionTable, pasidWidth, refuseOptions } from './arguments.ts';
import { CliError, EXIT_USAGE } from './exit-code.ts';

/** What to show of a dump: the options of `view`, which `explain` takes too. */
export const VIEW_OPTIONS: OptionTable = {
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

/** Their lines in a command's help, `--json` left to the command. */
export const VIEW_OPTIONS_HELP = `  --pasid-width N        show a PASID capability of N bits (1..20); without it, none is shown
  --exec                 the host has execute permission enabled
  --priv                 the host has privileged mode enabled
  --pasid-offset 0xNNN   where to put it; default: a free place is found
  --control latch|drop   what guest writes to PASID Control do (the power-on view is the same)
  --ats, --pri           show a virtual ATS or Page Request capability
  --as-rciep             show an endpoint as an RC integrated endpoint
  --function BDF         only this function of the dump
  --id VVVV:DDDD         IDs of a virtual function, whose own read ffff
`;

/** What a guest is shown of a function whose PASID the host answers for. */
export interface HostViewOptions extends Omit<GuestViewOptions, 'pasid'> {
  /** `--pasid-width`: the most bits to show. */
  readonly maxPasidWidth: number | undefined;
}

/** The options of a guest's view of a dump out of the command line, which stands in for the host's answer. */
export function viewOptions(given: Arguments): GuestViewOptions {
  const width = pasidWidth(given);
  if (width === undefined) {
    const names = ['exec', 'priv', 'pasid-offset', 'control'];
    refuseOptions(given, names, 'is about a PASID capability: give --pasid-width too');
  }
  return {
    ...shownOptions(given),
    ...(width === undefined
      ? {}
      : { pasid: { width, execute: given.flag('exec'), privileged: given.flag('priv') } }),
  };
}

/** The same for a device of the host, which says itself what it has. */
export function hostViewOptions(given: Arguments): HostViewOptions {
  refuseOptions(given, ['exec', 'priv'], 'is what the host says: leave it out beside --host');
  refuseOptions(given, ['function'], 'is about a dump: --host names one device');
  return { ...shownOptions(given), maxPasidWidth: pasidWidth(given) };
}

function shownOptions(given: Arguments): Omit<GuestViewOptions, 'pasid'> {
  const control = given.text('control') ?? 'latch';
  if (control !== 'latch' && control !== 'drop') {
    throw new CliError(EXIT_USAGE, `--control is "${control}": it is latch or drop`);
  }
  return {
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
