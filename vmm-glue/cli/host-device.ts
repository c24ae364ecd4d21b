import { VpciError } from '../../src/index.ts';
import {
  openVfioDevice,
  type OpenVfioOptions,
  type PassthroughFunction,
  passthroughFunction,
  type VfioDevice,
} from '../vfio/index.ts';
import { type Arguments, type OptionTable, refuseOptions } from './arguments.ts';
import { CliError, EXIT_NO, EXIT_USAGE } from './exit-code.ts';
import { hostViewOptions } from './view-options.ts';

/** How a device of this host is opened. */
export const HOST_DEVICE_OPTIONS: OptionTable = {
  via: { type: 'string' },
  'vf-token': { type: 'string' },
  root: { type: 'string' },
};

/** Lines for a command's help that takes `--host`. */
export const HOST_DEVICE_HELP = `  --host BDF             a device of this host, bound to vfio-pci; PASID as the host reports it, so that
                         --exec and --priv are refused, and --pasid-width N shows N bits at most
  --via, --vf-token, --root   how to open it: as for vpci host
`;

/** The options of `openVfioDevice` out of the command line. */
export function openOptions(given: Arguments): OpenVfioOptions {
  const via = given.text('via');
  if (via !== undefined && via !== 'cdev' && via !== 'group') {
    throw new CliError(EXIT_USAGE, `--via is "${via}": it is cdev or group`);
  }
  const vfToken = given.text('vf-token');
  if (vfToken !== undefined && !/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(vfToken)) {
    throw new CliError(
      EXIT_USAGE,
      `--vf-token is "${vfToken}": write it as a UUID, xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`,
    );
  }
  return { via, vfToken, root: given.text('root') ?? '/' };
}

/** Without `--host` there is nothing to open. */
export function refuseHostOptions(given: Arguments): void {
  const why = 'is about a device of this host: give --host BDF too';
  refuseOptions(given, Object.keys(HOST_DEVICE_OPTIONS), why);
}

/** A device of the host that `--host` names. Refusals of the host end with exit code 1. */
export async function openHostDevice(bdf: string, given: Arguments): Promise<VfioDevice> {
  // Before anything is opened.
  hostViewOptions(given);
  const options = openOptions(given);
  try {
    return await openVfioDevice(bdf, options);
  } catch (error) {
    throw asCliError(error);
  }
}

/** The function that a guest gets of it, with the options of a view; PASID as the host says, or less. */
export function hostFunction(device: VfioDevice, given: Arguments): PassthroughFunction {
  const options = hostViewOptions(given);
  try {
    return passthroughFunction(device, { ...options, probeAttach: false });
  } catch (error) {
    throw asCliError(error);
  }
}

function asCliError(error: unknown): unknown {
  if (!(error instanceof VpciError)) return error;
  const { code, message } = error;
  const usage = code === 'VPCI_BDF' || code === 'VPCI_BAD_ARGUMENT';
  return new CliError(usage ? EXIT_USAGE : EXIT_NO, usage ? message : `${message} (${code})`);
}
