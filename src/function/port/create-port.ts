import {
  DEVICE_TYPE_DOWNSTREAM_PORT,
  DEVICE_TYPE_ROOT_PORT,
  DEVICE_TYPE_UPSTREAM_PORT,
} from '../../pci/express.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import {
  acsCapability,
  aerCapability,
  type CapabilityBlock,
  emulatedImage,
  expressCapability,
  msiCapability,
  powerManagementCapability,
  rootAerCapability,
} from '../blocks/index.ts';
import { readFunctionImage } from '../function-image.ts';
import { checkId } from '../function-options.ts';
import { PciFunction } from '../pci-function.ts';

/** IDs of the generic root port that QEMU defined; guests need no driver of their own for it. */
const GENERIC_VENDOR_ID = 0x1b36;
const GENERIC_DEVICE_ID = 0x000c;
/** PCI-to-PCI bridge. */
const BRIDGE_CLASS = 0x060400;

/** Options of {@link createRootPort} and of the switch ports. */
export interface PortOptions {
  /** Vendor ID, 16 bits. Default 1b36h. */
  readonly vendorId?: number | undefined;
  /** Device ID, 16 bits. Default 000ch. */
  readonly deviceId?: number | undefined;
  /** Physical Slot Number, 13 bits; 0 (default) for a port without a slot, which an upstream port always is. */
  readonly slot?: number | undefined;
  /** The slot takes functions while the guest runs. Needs `slot`. Default false. */
  readonly hotPlug?: boolean | undefined;
  /** End-End TLP Prefix supported, which PASID below needs. Default true. */
  readonly endEndPrefix?: boolean | undefined;
  /** An ACS capability, which Linux wants above PASID. Default true. */
  readonly acs?: boolean | undefined;
}

/**
 * A root port (PCIe 1.4.1) with what PASID needs of the path above it: End-End TLP prefixes and ACS.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` for a number that does not fit its register, and for options that contradict
 * each other; so the other ports.
 */
export function createRootPort(options: PortOptions = {}): PciFunction {
  return createPort(DEVICE_TYPE_ROOT_PORT, options);
}

/** The upstream port of a switch; its downstream ports are plugged behind it. */
export function createUpstreamPort(options: PortOptions = {}): PciFunction {
  return createPort(DEVICE_TYPE_UPSTREAM_PORT, options);
}

/** A downstream port of a switch; plugged behind the upstream port as one of its devices. */
export function createDownstreamPort(options: PortOptions = {}): PciFunction {
  return createPort(DEVICE_TYPE_DOWNSTREAM_PORT, options);
}

function refused(why: string): VpciError {
  return new VpciError('VPCI_BAD_ARGUMENT', why);
}

function createPort(deviceType: number, options: PortOptions): PciFunction {
  const { vendorId = GENERIC_VENDOR_ID, deviceId = GENERIC_DEVICE_ID, slot = 0, hotPlug = false } = options;
  const { endEndPrefix = true, acs = true } = options;
  checkId(slot, 13, 'slot');
  if (hotPlug && slot === 0) throw refused('hotPlug needs a slot: give `slot`, 1 to 8191');
  if (slot !== 0 && deviceType === DEVICE_TYPE_UPSTREAM_PORT)
    throw refused('an upstream port has no slot: its downstream ports have');
  const capabilities: CapabilityBlock[] = [
    expressCapability({ deviceType, slot, hotPlug, endEndPrefix }),
    msiCapability(1, false),
    powerManagementCapability(),
    deviceType === DEVICE_TYPE_ROOT_PORT ? rootAerCapability() : aerCapability(),
    ...(acs && deviceType !== DEVICE_TYPE_UPSTREAM_PORT ? [acsCapability()] : []),
  ];
  const emulated = { vendorId, deviceId, classCode: BRIDGE_CLASS, interruptPin: 1, capabilities };
  const { space, writable } = emulatedImage(emulated, 1);
  return new PciFunction({
    image: readFunctionImage(space, false, undefined),
    physical: undefined,
    header: { vendorId: undefined, deviceId: undefined, commandOnes: 0 },
    passthroughRanges: [],
    bars: [],
    keepsBars: true,
    writable,
  });
}
