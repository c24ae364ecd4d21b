import { VpciError } from '../../src/index.ts';
import {
  openVfioDevice,
  type OpenVfioOptions,
  type PassthroughFunction,
  passthroughFunction,
  queryPasidFeature,
  type VfioDevice,
} from '../vfio/index.ts';
import type { Arguments, OptionTable } from './arguments.ts';
import { CliError, EXIT_NO, EXIT_USAGE } from './exit-code.ts';
import { viewOptions } from './view-options.ts';

/** How a device of this host is opened. */
export const HOST_DEVICE_OPTIONS: OptionTable = {
  via: { type: 'string' },
  'vf-token': { type: 'string' },
  root: { type: 'string' },
};

/** Lines for a command's help that takes `--host`. */
export const HOST_DEVICE_HELP = `  --host BDF             a device of this host, bound to vfio-pci; PASID as the host reports it
  --via, --vf-token, --root   how to open it: as for vpci host
`;

/** The options of `openVfioDevice` out of the command line. */
export function openOptions(given: Arguments): OpenVfioOptions {
  const via = given.text('via');
  if (via !== undefined && via !== 'cdev' && via !== 'group') {
    throw new CliError(EXIT_USAGE, `--via is "${via}": it is cdev or group`);
  }
  return { via, vfToken: given.text('vf-token'), root: given.text('root') ?? '/' };
}

/** A device of the host that `--host` names. Refusals of the host end with exit code 1. */
export async function openHostDevice(bdf: string, given: Arguments): Promise<VfioDevice> {
  if (given.text('function') !== undefined) {
    throw new CliError(EXIT_USAGE, '--function is about a dump: --host names one device');
  }
  const options = openOptions(given);
  try {
    return await openVfioDevice(bdf, options);
  } catch (error) {
    throw asCliError(error);
  }
}

/** The function that a guest gets of it, with the options of a view; PASID as the host says unless they do. */
export function hostFunction(device: VfioDevice, given: Arguments): PassthroughFunction {
  const { pasid, ...options } = viewOptions(given);
  try {
    const query = queryPasidFeature(device, { probeAttach: false });
    return passthroughFunction(device, { ...options, query: { ...query, feature: pasid ?? query.feature } });
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
