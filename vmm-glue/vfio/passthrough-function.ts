import {
  type ConfigSpace,
  createFunction,
  type PassthroughOptions,
  type PciFunction,
} from '../../src/index.ts';
import { COMMAND, COMMAND_BUS_MASTER_ENABLE } from '../../src/pci/header.ts';
import { type PasidQuery, type PasidQueryOptions, queryPasidFeature } from './pasid-query.ts';
import type { VfioDevice } from './vfio-device.ts';

/** Options of {@link passthroughFunction}: those of `createFunction` that the host does not answer, and the query's. */
export interface PassthroughFunctionOptions
  extends Omit<PassthroughOptions, 'physical' | 'pasid' | 'rawConfig'>,
    PasidQueryOptions {
  /** A query that was made already. Default: the host is asked. */
  readonly query?: PasidQuery | undefined;
  /** False: no PASID capability is shown, whatever the host says. Default true. */
  readonly showPasid?: boolean | undefined;
  /** Told when the device could not be reset. Default: a warning of the process. */
  readonly onResetError?: ((error: Error) => void) | undefined;
}

/** A device of the host as a guest gets it. */
export interface PassthroughFunction {
  /** Add it to a segment. Its `msi-route` events carry what an irqfd needs. */
  readonly fn: PciFunction;
  /** What the host said about PASID. */
  readonly query: PasidQuery;
}

/**
 * Makes a guest's function of an open device: asks the host about PASID, takes the configuration space, the BARs and
 * their sizes from VFIO, and resets the device (`VFIO_DEVICE_RESET`) whenever the function is reset. The device may
 * master the bus when the guest says so. ATS and PRI are not shown when the host supports no ATS.
 *
 * @throws VpciError what `createFunction` throws; `VPCI_HOST_CALL` when the kernel refuses to describe the device.
 */
export function passthroughFunction(
  device: VfioDevice,
  options: PassthroughFunctionOptions = {},
): PassthroughFunction {
  const query = options.query ?? queryPasidFeature(device, options);
  const { host } = device;
  const isVirtual = host.physicalFunction !== undefined;
  const fn = createFunction({
    ...options,
    physical: device.configSpace,
    rawConfig: device.rawConfig(),
    pasid: (options.showPasid ?? true) ? query.feature : undefined,
    bars: options.bars ?? device.bars(),
    // The registers of a virtual function have no IDs.
    vendorId: options.vendorId ?? (isVirtual ? host.vendorId : undefined),
    deviceId: options.deviceId ?? (isVirtual ? host.deviceId : undefined),
    ...(query.ats === false ? { ats: false, pri: false } : {}),
  });
  fn.on('command', () => followBusMaster(fn, device.configSpace));
  fn.on('reset', () => {
    followBusMaster(fn, device.configSpace);
    try {
      device.reset();
    } catch (error) {
      (options.onResetError ?? warn)(error instanceof Error ? error : new Error(String(error)));
    }
  });
  return { fn, query };
}

/** The function's Command is virtual; without Bus Master Enable in the hardware too, the device does no DMA. */
function followBusMaster(fn: PciFunction, physical: ConfigSpace): void {
  const shown = new Uint8Array(1);
  fn.inspectInto(COMMAND, shown);
  const enable = (shown[0] ?? 0) & COMMAND_BUS_MASTER_ENABLE;
  const command = physical.read(COMMAND, 2);
  if ((command & COMMAND_BUS_MASTER_ENABLE) === enable) return;
  physical.write(COMMAND, 2, (command & ~COMMAND_BUS_MASTER_ENABLE) | enable);
}

function warn(error: Error): void {
  process.emitWarning(error);
}
