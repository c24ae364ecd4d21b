import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VpciError } from '../../src/index.ts';
import { hex, tryParseBdf } from '../../src/pci/bdf.ts';

/** What sysfs says about a PCI device of the host. */
export interface HostDevice {
  /** With its domain: `0000:01:00.0`. */
  readonly bdf: string;
  /** Name of the driver that it is bound to; undefined when it is bound to none. */
  readonly driver: string | undefined;
  /** Name of its cdev below `/dev/vfio/devices`, such as `vfio3`; undefined when it has none. */
  readonly cdev: string | undefined;
  /** Number of its IOMMU group, as text; undefined when it is in none. */
  readonly group: string | undefined;
  /** BDF of its physical function when it is a virtual function. */
  readonly physicalFunction: string | undefined;
  /** Vendor and device ID, 16 bits each; a virtual function has none in its own registers. */
  readonly vendorId: number | undefined;
  readonly deviceId: number | undefined;
}

/** `bdf` with its domain, in lower case. @throws VpciError `VPCI_BDF` when it is no PCI address. */
export function fullBdf(bdf: string): string {
  const parsed = tryParseBdf(bdf);
  if (parsed === undefined) {
    throw new VpciError(
      'VPCI_BDF',
      `"${bdf}" is no PCI address: write it as bb:dd.f or dddd:bb:dd.f in hexadecimal, such as 01:00.0`,
    );
  }
  const { domain, rid } = parsed;
  return `${hex(domain, 4)}:${hex(rid >>> 8, 2)}:${hex((rid >>> 3) & 0x1f, 2)}.${rid & 7}`;
}

/**
 * What the host knows of the device at `bdf`; `root` is where `/sys` is.
 *
 * @throws VpciError `VPCI_BDF`; `VPCI_HOST_CALL` when there is no such device.
 */
export function hostDevice(bdf: string, root: string): HostDevice {
  const full = fullBdf(bdf);
  const folder = deviceFolder(full, root);
  if (!existsSync(folder)) {
    throw new VpciError(
      'VPCI_HOST_CALL',
      `the host has no PCI device ${full}: see "lspci -D" for what it has`,
    );
  }
  return {
    bdf: full,
    driver: linkName(join(folder, 'driver')),
    cdev: entries(join(folder, 'vfio-dev')).find((name) => /^vfio\d+$/.test(name)),
    group: linkName(join(folder, 'iommu_group')),
    physicalFunction: linkName(join(folder, 'physfn')),
    vendorId: idIn(join(folder, 'vendor')),
    deviceId: idIn(join(folder, 'device')),
  };
}

/** True when the device is bound to vfio-pci or to a variant of it. */
export function isVfioBound({ driver, cdev }: HostDevice): boolean {
  return cdev !== undefined || driver?.includes('vfio') === true;
}

/** Every PCI device of the host that VFIO has, by address. */
export function vfioDevices(root: string = '/'): HostDevice[] {
  return entries(join(root, 'sys/bus/pci/devices'))
    .filter((name) => tryParseBdf(name) !== undefined)
    .toSorted()
    .map((bdf) => hostDevice(bdf, root))
    .filter(isVfioBound);
}

/** All of the device's raw configuration space that this user may read; undefined when that is nothing. */
export function rawConfig(bdf: string, root: string): Uint8Array | undefined {
  try {
    return readFileSync(join(deviceFolder(bdf, root), 'config'));
  } catch {
    return undefined;
  }
}

function deviceFolder(bdf: string, root: string): string {
  return join(root, 'sys/bus/pci/devices', bdf);
}

function linkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

function entries(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function idIn(path: string): number | undefined {
  try {
    const id = Number(readFileSync(path, 'utf8').trim());
    return Number.isInteger(id) && id >= 0 && id < 0xffff ? id : undefined;
  } catch {
    return undefined;
  }
}
