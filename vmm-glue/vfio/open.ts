import { join } from 'node:path';
import { VpciError } from '../../src/index.ts';
import { allocateBlock, type Native } from '../linux/index.ts';
import { ask, demand, hostFailure, openHost } from './host-calls.ts';
import { ioctlAdvice } from './errno-advice.ts';
import { done, type QueryStep } from './query-step.ts';
import * as uapi from './structs/index.ts';
import type { HostDevice } from './sysfs.ts';

/** How a device is opened. */
export interface OpenVfioOptions {
  /**
   * `cdev`: by `/dev/vfio/devices/vfioN` and an iommufd; only so can the host be asked about PASID. `group`: by the
   * older `/dev/vfio/N`. Default: by cdev where the kernel has one for the device and an iommufd, else by group.
   */
  readonly via?: 'cdev' | 'group' | undefined;
  /** The VF token that the owner of the physical function set: a UUID. */
  readonly vfToken?: string | undefined;
  /** An open iommufd to bind to, shared by several devices; it stays the caller's. Default: one of its own. */
  readonly iommufd?: number | undefined;
  /** Folder that `/sys` and `/dev` of the host are in. Default `/`. */
  readonly root?: string | undefined;
  /** Closes the device when it is aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What opening gave. */
export interface OpenedDevice {
  readonly fd: number;
  /** The device for people: `vfio3 (0000:01:00.0)` or its BDF. */
  readonly subject: string;
  readonly iommufd: number | undefined;
  /** ID of the device in the iommufd; undefined when it was opened by group. */
  readonly deviceId: number | undefined;
  /** Descriptors to close after `fd`, in this order. */
  readonly owned: readonly number[];
  readonly steps: readonly QueryStep[];
}

/** Bytes of a UUID in the order of its text. @throws VpciError `VPCI_BAD_ARGUMENT`. */
export function tokenBytes(token: string): Uint8Array {
  if (!/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(token)) {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      `vfToken is "${token}": write it as a UUID, xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`,
    );
  }
  const digits = token.replaceAll('-', '');
  return Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/**
 * Opens by cdev and binds to an iommufd.
 *
 * @throws VpciError `VPCI_HOST_CALL`.
 */
export function openByCdev(
  native: Native,
  device: HostDevice,
  root: string,
  options: OpenVfioOptions,
): OpenedDevice {
  const { bdf, cdev } = device;
  if (cdev === undefined) {
    throw new VpciError(
      'VPCI_HOST_CALL',
      `${bdf} has no VFIO device file: this kernel has no CONFIG_VFIO_DEVICE_CDEV (Linux 6.6 and later have it); open the device by its group`,
    );
  }
  const subject = `${cdev} (${bdf})`;
  const opened: number[] = [];
  try {
    const fd = openHost(native, join(root, 'dev/vfio/devices', cdev), 'cdev');
    opened.unshift(fd);
    const iommufd = options.iommufd ?? openHost(native, join(root, 'dev/iommu'), 'iommufd');
    if (options.iommufd === undefined) opened.push(iommufd);
    const deviceId = bind(native, fd, iommufd, options.vfToken, subject);
    return {
      fd,
      subject,
      iommufd,
      deviceId,
      owned: opened.filter((one) => one !== fd),
      steps: [
        done(`open ${join(root, 'dev/vfio/devices', cdev)}`, 'opened'),
        done('VFIO_DEVICE_BIND_IOMMUFD', `bound; the device is ${deviceId} in the iommufd`),
      ],
    };
  } catch (error) {
    for (const fd of opened) native.close(fd);
    throw error;
  }
}

function bind(
  native: Native,
  fd: number,
  iommufd: number,
  token: string | undefined,
  subject: string,
): number {
  const request = new uapi.StructBuffer(uapi.vfioDeviceBindIommufd).set('iommufd', iommufd);
  if (token === undefined) {
    // Kernels before the token have 16 bytes.
    demand(native, fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, request.set('argsz', 16), subject);
    return request.get('out_devid');
  }
  const block = allocateBlock(native, 16);
  try {
    block.bytes.set(tokenBytes(token));
    request
      .set('argsz', 24)
      .set('flags', uapi.VFIO_DEVICE_BIND_FLAG_TOKEN)
      .set('token_uuid_ptr', block.address);
    demand(native, fd, uapi.VFIO_DEVICE_BIND_IOMMUFD, request, subject);
    return request.get('out_devid');
  } finally {
    native.munmap(block.address, 16);
  }
}

/**
 * Opens by group, with a type 1 container.
 *
 * @throws VpciError `VPCI_HOST_CALL`.
 */
export function openByGroup(
  native: Native,
  device: HostDevice,
  root: string,
  options: OpenVfioOptions,
): OpenedDevice {
  const { bdf, group } = device;
  if (group === undefined) {
    throw new VpciError(
      'VPCI_HOST_CALL',
      `${bdf} is in no IOMMU group: switch the IOMMU on, in the firmware and on the kernel command line (intel_iommu=on, amd_iommu=on)`,
    );
  }
  const opened: number[] = [];
  try {
    const container = openHost(native, join(root, 'dev/vfio/vfio'), 'container');
    opened.unshift(container);
    const path = join(root, 'dev/vfio', group);
    const groupFd = openHost(native, path, 'group');
    opened.unshift(groupFd);
    checkViable(native, groupFd, group);
    enterContainer(native, container, groupFd, group);
    const fd = deviceOfGroup(native, groupFd, bdf, options.vfToken);
    return {
      fd,
      subject: bdf,
      iommufd: undefined,
      deviceId: undefined,
      owned: opened,
      steps: [done(`open ${path}`, 'opened'), done('VFIO_GROUP_GET_DEVICE_FD', 'opened the device')],
    };
  } catch (error) {
    for (const fd of opened) native.close(fd);
    throw error;
  }
}

function checkViable(native: Native, groupFd: number, group: string): void {
  const status = new uapi.StructBuffer(uapi.vfioGroupStatus).set('argsz', uapi.vfioGroupStatus.size);
  demand(native, groupFd, uapi.VFIO_GROUP_GET_STATUS, status, `group ${group}`);
  if ((status.get('flags') & uapi.VFIO_GROUP_FLAGS_VIABLE) !== 0) return;
  throw new VpciError(
    'VPCI_HOST_CALL',
    `IOMMU group ${group} is not viable: one of its devices is bound to a driver of the host; bind every device of the group to vfio-pci or to nothing`,
  );
}

function enterContainer(native: Native, container: number, groupFd: number, group: string): void {
  const version = demand(native, container, uapi.VFIO_GET_API_VERSION, 0, 'the container');
  if (version !== uapi.VFIO_API_VERSION) {
    throw new VpciError(
      'VPCI_HOST_CALL',
      `the VFIO container speaks version ${version}, and only version ${uapi.VFIO_API_VERSION} is known: open the device by cdev`,
    );
  }
  const request = new Uint8Array(new Int32Array([container]).buffer);
  demand(native, groupFd, uapi.VFIO_GROUP_SET_CONTAINER, request, `group ${group}`);
  const types = [uapi.VFIO_TYPE1v2_IOMMU, uapi.VFIO_TYPE1_IOMMU];
  const type = types.find((one) => {
    const answer = ask(native, container, uapi.VFIO_CHECK_EXTENSION, one);
    return answer.ok && answer.result > 0;
  });
  if (type === undefined) {
    throw new VpciError(
      'VPCI_HOST_CALL',
      'the VFIO container has no type 1 IOMMU: run "modprobe vfio_iommu_type1", or open the device by cdev',
    );
  }
  demand(native, container, uapi.VFIO_SET_IOMMU, type, 'the container');
}

function deviceOfGroup(native: Native, groupFd: number, bdf: string, token: string | undefined): number {
  if (token !== undefined) tokenBytes(token);
  const name = token === undefined ? bdf : `${bdf} vf_token=${token.toLowerCase()}`;
  const text = new TextEncoder().encode(`${name}\0`);
  const answer = ask(native, groupFd, uapi.VFIO_GROUP_GET_DEVICE_FD, text);
  if (answer.ok) return answer.result;
  const call = uapi.VFIO_GROUP_GET_DEVICE_FD.name;
  throw hostFailure(call, bdf, answer.errno, ioctlAdvice(call, answer.errno));
}
