import { VpciError } from '../../src/index.ts';
import {
  openVfioDevice,
  type OpenVfioOptions,
  type PasidQuery,
  type PasidQueryOptions,
  queryPasidFeature,
  vfioDevices,
  type VfioDevice,
  type VfioIrq,
  type VfioRegion,
} from '../vfio/index.ts';
import { type OptionTable, parseArguments } from './arguments.ts';
import { CliError, EXIT_NO, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import { HOST_DEVICE_OPTIONS, openOptions } from './host-device.ts';
import { hostText, NO_VFIO } from './host-text.ts';
import type { Output } from './io.ts';

export const HOST_HELP: string = `Usage: vpci host [BDF] [options]

Asks this host, through VFIO and iommufd, what PASIDs a device and its IOMMU carry: one device, or every device that
is bound to vfio-pci. Each call that was tried is shown with its outcome.

  --via cdev|group       open by /dev/vfio/devices/vfioN or by /dev/vfio/N; default: by cdev where there is one
  --vf-token UUID        the VF token of the physical function's owner
  --no-attach            do not try to attach a PASID (an attach replaces what is attached)
  --unmerged-feature     when nothing answers, ask VFIO_DEVICE_FEATURE index 11, for kernels with the patches of 2023
  --root DIR             where /sys and /dev of the host are; default /
  --json                 one JSON object instead of text

Exit code: 0 a device answered, 1 none did, or there is no VFIO here, 2 usage.
`;

const OPTIONS: OptionTable = {
  ...HOST_DEVICE_OPTIONS,
  'no-attach': { type: 'boolean' },
  'unmerged-feature': { type: 'boolean' },
  json: { type: 'boolean' },
};

/** What one device answered. */
export interface HostAnswer extends PasidQuery {
  readonly bdf: string;
  readonly device: string;
  readonly openedBy: 'cdev' | 'group';
  readonly driver: string | null;
  readonly physicalFunction: string | null;
  readonly canReset: boolean;
  readonly configSize: number;
  readonly bars: readonly VfioRegion[];
  readonly irqs: readonly VfioIrq[];
}

/** Why one device did not answer. */
export interface HostRefusal {
  readonly bdf: string;
  readonly error: { readonly code: string; readonly message: string };
}

/** `vpci host`. */
export async function host(args: readonly string[], output: Output): Promise<number> {
  const given = parseArguments('host', args, OPTIONS);
  const [bdf, ...more] = given.positionals;
  if (more.length > 0) throw new CliError(EXIT_USAGE, 'takes one PCI address, or none');
  const root = given.text('root') ?? '/';
  const options = openOptions(given);
  const query: PasidQueryOptions = {
    probeAttach: !given.flag('no-attach'),
    unmergedFeature: given.flag('unmerged-feature'),
  };
  const found = bdf === undefined ? vfioDevices(root).map((one) => one.bdf) : [bdf];
  const answers: (HostAnswer | HostRefusal)[] = [];
  for (const one of found) answers.push(await askOne(one, options, query));
  const problem = found.length === 0 ? NO_VFIO : undefined;
  if (given.flag('json')) {
    output.out(
      `${JSON.stringify({ devices: answers, ...(problem && { problem: problem.replaceAll('\n', ' ') }) }, undefined, 2)}\n`,
    );
  } else if (problem === undefined) {
    for (const answer of answers) {
      if ('error' in answer) output.err(`${answer.bdf}: ${answer.error.message}\n`);
      else output.out(hostText(answer));
    }
  } else {
    output.err(`${problem}\n`);
  }
  return answers.some((answer) => !('error' in answer)) ? EXIT_OK : EXIT_NO;
}

async function askOne(
  bdf: string,
  options: OpenVfioOptions,
  query: PasidQueryOptions,
): Promise<HostAnswer | HostRefusal> {
  try {
    const device = await openVfioDevice(bdf, options);
    try {
      return answerOf(device, queryPasidFeature(device, query));
    } finally {
      device.close();
    }
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    const { code, message } = error;
    if (code === 'VPCI_BDF' || code === 'VPCI_BAD_ARGUMENT') throw new CliError(EXIT_USAGE, message);
    return { bdf, error: { code, message } };
  }
}

function answerOf(device: VfioDevice, query: PasidQuery): HostAnswer {
  const { bdf, driver, physicalFunction } = device.host;
  return {
    ...query,
    bdf,
    device: device.subject,
    openedBy: device.openedBy,
    driver: driver ?? null,
    physicalFunction: physicalFunction ?? null,
    canReset: device.canReset,
    configSize: device.configSpace.size,
    bars: [0, 1, 2, 3, 4, 5].map((index) => device.region(index)).filter(({ size }) => size > 0),
    irqs: device.irqs().filter(({ count }) => count > 0),
  };
}
