import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type BarOptions, type ConfigSpace, VpciError } from '../../src/index.ts';
import { loadNative, type Native } from '../linux/index.ts';
import { ask, demand, hostFailure } from './host-calls.ts';
import { ioctlAdvice } from './errno-advice.ts';
import { openByCdev, openByGroup, type OpenedDevice, type OpenVfioOptions, tokenBytes } from './open.ts';
import { type QueryStep, skipped } from './query-step.ts';
import * as uapi from './structs/index.ts';
import { type HostDevice, hostDevice, isVfioBound, rawConfig } from './sysfs.ts';
import { regionIo, VfioConfigSpace } from './vfio-config-space.ts';

/** A region of a device: a BAR, the ROM, the configuration space. */
export interface VfioRegion {
  /** 0..5 BARs, 6 ROM, 7 configuration space, 8 VGA. */
  readonly index: number;
  /** Bytes; 0 when there is none. */
  readonly size: number;
  /** Where it begins in the descriptor. */
  readonly offset: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mappable: boolean;
}

/** A kind of interrupts of a device. */
export interface VfioIrq {
  /** As `linux/vfio.h` counts them: 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request to release the device. */
  readonly index: number;
  readonly kind: 'intx' | 'msi' | 'msi-x' | 'error' | 'request';
  /** Vectors there are; 0 when the device has none of this kind. */
  readonly count: number;
  /** Can signal an eventfd. */
  readonly eventfd: boolean;
  readonly maskable: boolean;
  /** Masks itself when it fires. */
  readonly automasked: boolean;
  /** The number of vectors in use cannot change without switching off first. */
  readonly noResize: boolean;
}

const IRQ_KINDS = ['intx', 'msi', 'msi-x', 'error', 'request'] as const;

/**
 * Opens the PCI device at `bdf` (`bb:dd.f` or `dddd:bb:dd.f`), which must be bound to vfio-pci.
 *
 * @throws VpciError `VPCI_BDF`, `VPCI_BAD_ARGUMENT` for the token, `VPCI_NO_KOFFI`, and `VPCI_HOST_CALL` with the
 * cause and what to do.
 */
export async function openVfioDevice(bdf: string, options: OpenVfioOptions = {}): Promise<VfioDevice> {
  const { root = '/', vfToken, signal } = options;
  if (vfToken !== undefined) tokenBytes(vfToken);
  const host = hostDevice(bdf, root);
  if (!isVfioBound(host)) {
    const bound = host.driver === undefined ? 'bound to no driver' : `bound to ${host.driver}`;
    throw new VpciError(
      'VPCI_HOST_CALL',
      `${host.bdf} is ${bound}: run "driverctl set-override ${host.bdf} vfio-pci", or write vfio-pci to its driver_override in sysfs and bind it again`,
    );
  }
  const native = await loadNative();
  signal?.throwIfAborted();
  const device = VfioDevice.fromOpened(native, host, root, open(native, host, root, options));
  signal?.addEventListener('abort', () => device.close(), { once: true });
  return device;
}

function open(native: Native, host: HostDevice, root: string, options: OpenVfioOptions): OpenedDevice {
  if (options.via === 'cdev') return openByCdev(native, host, root, options);
  if (options.via === 'group') return openByGroup(native, host, root, options);
  const reason = whyNoCdev(host, root, options.iommufd);
  if (reason === undefined) return openByCdev(native, host, root, options);
  const opened = openByGroup(native, host, root, options);
  return { ...opened, steps: [skipped('open by cdev', reason), ...opened.steps] };
}

function whyNoCdev(host: HostDevice, root: string, iommufd: number | undefined): string | undefined {
  if (host.cdev === undefined) {
    return 'the device has no cdev: this kernel has no CONFIG_VFIO_DEVICE_CDEV (Linux 6.6 and later have it)';
  }
  if (iommufd === undefined && !existsSync(join(root, 'dev/iommu'))) {
    return 'the host has no /dev/iommu: run "modprobe iommufd", or use a kernel with CONFIG_IOMMUFD';
  }
  return undefined;
}

/** An open device of the host. Made by {@link openVfioDevice}. */
export class VfioDevice implements AsyncDisposable {
  /** What sysfs said about it when it was opened. */
  readonly host: HostDevice;
  /** The device for people: `vfio3 (0000:01:00.0)`, or its BDF when it was opened by group. */
  readonly subject: string;
  /** How it was opened. */
  readonly openedBy: 'cdev' | 'group';
  /** The iommufd that it is bound to; undefined when it was opened by group. */
  readonly iommufd: number | undefined;
  /** Its ID in the iommufd; undefined when it was opened by group. */
  readonly deviceId: number | undefined;
  /** How opening went. */
  readonly openSteps: readonly QueryStep[];
  /** `VFIO_DEVICE_RESET` works. */
  readonly canReset: boolean;
  /** The configuration space as vfio-pci shows it; all-ones once the device is closed. */
  readonly configSpace: ConfigSpace;

  readonly #native: Native;
  readonly #root: string;
  readonly #owned: readonly number[];
  #fd: number | undefined;

  private constructor(native: Native, host: HostDevice, root: string, opened: OpenedDevice) {
    this.#native = native;
    this.#root = root;
    this.#fd = opened.fd;
    this.#owned = opened.owned;
    this.host = host;
    this.subject = opened.subject;
    this.openedBy = opened.deviceId === undefined ? 'group' : 'cdev';
    this.iommufd = opened.iommufd;
    this.deviceId = opened.deviceId;
    this.openSteps = opened.steps;
    const info = new uapi.StructBuffer(uapi.vfioDeviceInfo).set('argsz', uapi.vfioDeviceInfo.size);
    demand(native, opened.fd, uapi.VFIO_DEVICE_GET_INFO, info, opened.subject);
    if ((info.get('flags') & uapi.VFIO_DEVICE_FLAGS_PCI) === 0) {
      throw new VpciError(
        'VPCI_HOST_CALL',
        `${opened.subject} is no PCI device for VFIO: bind it to vfio-pci`,
      );
    }
    this.canReset = (info.get('flags') & uapi.VFIO_DEVICE_FLAGS_RESET) !== 0;
    const { size, offset } = this.region(uapi.VFIO_PCI_CONFIG_REGION_INDEX);
    if (size !== 0x100 && size !== 0x1000) {
      throw new VpciError(
        'VPCI_CONFIG_SIZE',
        `the configuration space of ${opened.subject} has ${size} bytes: vfio-pci has 256 or 4096`,
      );
    }
    this.configSpace = new VfioConfigSpace(
      regionIo(native, () => this.#fd, offset, size),
      size,
    );
  }

  /** @internal Use {@link openVfioDevice}. */
  static fromOpened(native: Native, host: HostDevice, root: string, opened: OpenedDevice): VfioDevice {
    try {
      return new VfioDevice(native, host, root, opened);
    } catch (error) {
      for (const fd of [opened.fd, ...opened.owned]) native.close(fd);
      throw error;
    }
  }

  /** Its descriptor. @throws VpciError `VPCI_BAD_ARGUMENT` when the device is closed. */
  get fd(): number {
    if (this.#fd === undefined) {
      throw new VpciError('VPCI_BAD_ARGUMENT', `${this.subject} is closed: open it again`);
    }
    return this.#fd;
  }

  /** True until it is closed. */
  get isOpen(): boolean {
    return this.#fd !== undefined;
  }

  /** @internal The calls of libc. */
  get native(): Native {
    return this.#native;
  }

  /** The region of `index`, 0 to 8. @throws VpciError `VPCI_HOST_CALL` when there is none of that index. */
  region(index: number): VfioRegion {
    const info = new uapi.StructBuffer(uapi.vfioRegionInfo)
      .set('argsz', uapi.vfioRegionInfo.size)
      .set('index', index);
    demand(
      this.#native,
      this.fd,
      uapi.VFIO_DEVICE_GET_REGION_INFO,
      info,
      `region ${index} of ${this.subject}`,
    );
    const flags = info.get('flags');
    return {
      index,
      size: info.get('size'),
      offset: info.get('offset'),
      readable: (flags & uapi.VFIO_REGION_INFO_FLAG_READ) !== 0,
      writable: (flags & uapi.VFIO_REGION_INFO_FLAG_WRITE) !== 0,
      mappable: (flags & uapi.VFIO_REGION_INFO_FLAG_MMAP) !== 0,
    };
  }

  /** Its interrupts; kinds that the kernel does not know are left out. */
  irqs(): VfioIrq[] {
    return IRQ_KINDS.flatMap((kind, index) => {
      const info = new uapi.StructBuffer(uapi.vfioIrqInfo)
        .set('argsz', uapi.vfioIrqInfo.size)
        .set('index', index);
      // EINVAL: vfio-pci has no error interrupt for conventional devices.
      if (!ask(this.#native, this.fd, uapi.VFIO_DEVICE_GET_IRQ_INFO, info).ok) return [];
      const flags = info.get('flags');
      return [
        {
          index,
          kind,
          count: info.get('count'),
          eventfd: (flags & uapi.VFIO_IRQ_INFO_EVENTFD) !== 0,
          maskable: (flags & uapi.VFIO_IRQ_INFO_MASKABLE) !== 0,
          automasked: (flags & uapi.VFIO_IRQ_INFO_AUTOMASKED) !== 0,
          noResize: (flags & uapi.VFIO_IRQ_INFO_NORESIZE) !== 0,
        },
      ];
    });
  }

  /** Its BARs, for `createFunction`: sizes from the kernel, reads and writes by `pread` and `pwrite`. */
  bars(): BarOptions[] {
    return [0, 1, 2, 3, 4, 5].flatMap((index) => {
      const { size, offset } = this.region(uapi.VFIO_PCI_BAR0_REGION_INDEX + index);
      if (size === 0) return [];
      const io = regionIo(this.#native, () => this.#fd, offset, size);
      return [{ index, size, read: io.read, write: io.write }];
    });
  }

  /**
   * The raw configuration space of sysfs, which has what vfio-pci hides; undefined unless this user may read all of
   * it, which takes root.
   */
  rawConfig(): Uint8Array | undefined {
    const raw = rawConfig(this.host.bdf, this.#root);
    return raw?.length === this.configSpace.size ? raw : undefined;
  }

  /** @internal The physical function's, for a virtual function. */
  rawConfigOfPhysicalFunction(): Uint8Array | undefined {
    const { bdf, physicalFunction } = this.host;
    return rawConfig(physicalFunction ?? bdf, this.#root);
  }

  /**
   * Resets the device (`VFIO_DEVICE_RESET`).
   *
   * @throws VpciError `VPCI_HOST_CALL` when the kernel refuses; see {@link VfioDevice.canReset}.
   */
  reset(): void {
    const answer = ask(this.#native, this.fd, uapi.VFIO_DEVICE_RESET);
    if (answer.ok) return;
    const { name } = uapi.VFIO_DEVICE_RESET;
    throw hostFailure(name, this.subject, answer.errno, ioctlAdvice(name, answer.errno));
  }

  /** Closes the device, then what was opened for it: the iommufd, or the group and its container. */
  close(): void {
    if (this.#fd === undefined) return;
    const fds = [this.#fd, ...this.#owned];
    this.#fd = undefined;
    for (const fd of fds) this.#native.close(fd);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
