import { errnoName } from '../linux/index.ts';

/** What an errno of a call means: the cause, and what to do. */
type Advice = Readonly<Record<string, string>>;

const NO_RIGHTS =
  'this user may not open it; give the user rights on the file (a udev rule, or chown), or run as root';
const UNSAFE_INTERRUPTS =
  'the platform does not isolate MSI, so a device could raise any interrupt; switch interrupt remapping on in the firmware, or, knowing the risk, set allow_unsafe_interrupts of vfio_iommu_type1 or iommufd';
const MEMLOCK =
  'the limit of locked memory is reached; raise it (ulimit -l, or LimitMEMLOCK= of the service)';
const NO_ADDRESSES =
  'something is mapped where the IOMMU has no addresses, or where the host reserves them, such as for MSI; move guest memory away from there';
const TOKEN_MISSING =
  'the PF of this virtual function is owned by a user driver that set a VF token; give the same UUID as vfToken';
const IN_RESET =
  'the group of the device is being reset, or another owner has it; try again, or end that one';

const OPEN: Readonly<Record<'cdev' | 'group' | 'container' | 'iommufd', Advice>> = {
  cdev: {
    ENOENT:
      'the file is not there although the kernel announces the device; in a container, pass /dev/vfio/devices through',
    EACCES: NO_RIGHTS,
    EPERM:
      'the device has no IOMMU and this user lacks CAP_SYS_RAWIO, or the device cgroup forbids it; use a host with an IOMMU, or allow the device',
    ENODEV: 'the device is going away; bind it to vfio-pci again',
    EBUSY: 'another process has it open; end that one',
    EINVAL: 'the device is open already; a device file can be used once at a time',
  },
  group: {
    ENOENT:
      'the IOMMU group has no file, because none of its devices is bound to vfio-pci, or the kernel has no VFIO groups; bind the device, or open it by cdev',
    EACCES: NO_RIGHTS,
    EPERM: 'the group has no IOMMU and this user lacks CAP_SYS_RAWIO; use a host with an IOMMU',
    EBUSY:
      'the group is open in another process, or one of its devices is open by its cdev; end that one first',
    ENODEV: 'the group is going away; bind its devices to vfio-pci again',
  },
  container: {
    ENOENT: 'the module vfio is not loaded; run "modprobe vfio-pci"',
    EACCES: NO_RIGHTS,
    ENODEV: 'the kernel has no VFIO container; run "modprobe vfio-pci", or open the device by cdev',
  },
  iommufd: {
    ENOENT:
      'this kernel has no iommufd (CONFIG_IOMMUFD, Linux 6.2 and later), or the module iommufd is not loaded; run "modprobe iommufd", or open the device by its group',
    EACCES: NO_RIGHTS,
    ENODEV: 'the module iommufd does not load; run "modprobe iommufd" and see the kernel log',
  },
};

const CALLS: Readonly<Record<string, Advice>> = {
  VFIO_GROUP_GET_STATUS: {
    ENOTTY: 'the descriptor is no VFIO group; give the address of a PCI device bound to vfio-pci',
  },
  VFIO_GROUP_SET_CONTAINER: {
    EBUSY: 'the group is in a container already; end the process that has it',
    EINVAL:
      'the group is in a container already, or the container is none; end the process that has the group',
    EPERM: 'the group has no IOMMU and this user lacks CAP_SYS_RAWIO; use a host with an IOMMU',
    ENODEV: 'the group is going away; bind its devices to vfio-pci again',
  },
  VFIO_SET_IOMMU: {
    ENODEV: 'the kernel has no type 1 IOMMU driver; run "modprobe vfio_iommu_type1"',
    ENOMEM: MEMLOCK,
    EPERM: UNSAFE_INTERRUPTS,
    EBUSY: 'a driver of the host owns a device of the group; bind all its devices to vfio-pci or to nothing',
    EINVAL: 'the container has no group; this is a mistake of the caller',
  },
  VFIO_GROUP_GET_DEVICE_FD: {
    ENODEV: 'the group has no such device, because it is not bound to vfio-pci; bind it',
    EINVAL:
      'the group has no container or IOMMU yet, or a VF token was given and this device takes none; leave vfToken out',
    EACCES: TOKEN_MISSING,
    ENOTTY: 'the descriptor is no VFIO group; give the address of a PCI device bound to vfio-pci',
    EPERM: UNSAFE_INTERRUPTS,
    EBUSY: 'the device is in use; end the process that has it',
  },
  VFIO_DEVICE_BIND_IOMMUFD: {
    EINVAL:
      'the device is bound or open already, or it came by its group, or the IOMMU cannot enforce cache coherency, or this kernel takes no VF token here (then open by group), or takes none for this device (then leave vfToken out)',
    E2BIG: 'the kernel is older than the struct it was given; open the device by its group',
    EBADF: 'the iommufd given is no open descriptor; leave it out, or open /dev/iommu',
    EBADFD: 'the descriptor given is no iommufd; open /dev/iommu, and not /dev/vfio/vfio',
    EACCES: TOKEN_MISSING,
    EBUSY:
      'the IOMMU group is open by another process, or a driver of the host owns one of its devices; end that one, and bind every device of the group to vfio-pci or to nothing',
    EPERM: `a driver of the host, or another iommufd, owns a device of the IOMMU group: bind every device of the group to vfio-pci or to nothing, and to one iommufd; or ${UNSAFE_INTERRUPTS}`,
    ENOTTY:
      'this kernel is built without CONFIG_VFIO_DEVICE_CDEV (Linux 6.6 and later have it); open the device by its group',
    ENODEV: 'the device is going away; bind it to vfio-pci again',
    ENOMEM: MEMLOCK,
  },
  VFIO_DEVICE_GET_INFO: {
    EINVAL: 'the device is not bound to an iommufd yet; this is a mistake of the caller',
  },
  VFIO_DEVICE_GET_REGION_INFO: {
    EINVAL: 'the device has no region of that index',
  },
  VFIO_DEVICE_GET_IRQ_INFO: {
    EINVAL: 'the device has no interrupts of that index',
  },
  VFIO_DEVICE_RESET: {
    EINVAL: 'the device has no reset of its own; detach it and reset its bus',
    ENOTTY: 'the device has no reset of its own; detach it and reset its bus',
    EAGAIN: 'the device is busy with another reset; try again',
    EBUSY: 'the device is busy with another reset; try again',
    ETIMEDOUT: 'the device did not come back after the reset; power-cycle it',
  },
  VFIO_DEVICE_SET_IRQS: {
    EINVAL:
      'the device has no such vector, or its interrupts of another kind are in use; disable those first',
    ENOTTY: 'the device has no interrupts of that kind',
    EBADF: 'one of the eventfds is no open descriptor',
    ENOSPC: 'the host has no interrupt vectors left; use fewer',
    EBUSY: 'the interrupt line is shared with another driver of the host; use MSI or MSI-X',
    ENOMEM: 'the host has no memory for the interrupts',
  },
  VFIO_DEVICE_FEATURE: {
    EINVAL: 'the index is another feature in this kernel: DMA_BUF, not PASID',
    ENOTTY: 'this kernel does not know the feature',
    EOPNOTSUPP: 'the driver of the device does not have the feature',
  },
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: {
    EINVAL:
      'this kernel attaches no PASIDs (Linux before 6.15), or the PASID is out of range, or the page table was allocated without IOMMU_HWPT_ALLOC_PASID',
    EOPNOTSUPP: 'the driver of the device or of the IOMMU attaches no PASIDs',
    ENOENT: 'the page table does not exist',
    EBUSY: IN_RESET,
    ENODEV: 'the device is in no IOMMU group',
    EADDRINUSE: NO_ADDRESSES,
    ENOTTY: 'the device was opened by its group: only a cdev attaches to an iommufd',
    ENOMEM: MEMLOCK,
  },
  VFIO_DEVICE_DETACH_IOMMUFD_PT: {
    EINVAL: 'this kernel detaches no PASIDs (Linux before 6.15)',
    EOPNOTSUPP: 'the driver of the device detaches no PASIDs',
    EBUSY: IN_RESET,
    ENOTTY: 'the device was opened by its group: only a cdev attaches to an iommufd',
  },
  IOMMU_GET_HW_INFO: {
    ENOTTY: 'this kernel cannot be asked (IOMMU_GET_HW_INFO came with Linux 6.6)',
    EOPNOTSUPP: 'the IOMMU driver does not answer, or the device has no IOMMU',
    ENOENT: 'the iommufd does not know the device',
    EINVAL: 'the kernel takes no struct of this size',
    E2BIG: 'the kernel is older than the struct it was given',
    EFAULT: 'the kernel could not reach the struct',
  },
  IOMMU_IOAS_ALLOC: {
    ENOMEM: MEMLOCK,
    ENOTTY: 'the descriptor is no iommufd',
  },
  IOMMU_IOAS_MAP: {
    EFAULT: 'the memory is not mapped in this process, or not writable; map it before, and for writing',
    ENOMEM: MEMLOCK,
    EEXIST: 'the range is mapped already; unmap it first',
    EADDRINUSE:
      'the range is mapped already, or reserved by the host for MSI; move guest memory away from it',
    EINVAL: 'the range is not aligned to the pages of the host, or reserved by the host, such as that of MSI',
    ENOENT: 'the address space does not exist',
    EOVERFLOW: 'the range runs past the end of the address space',
  },
  IOMMU_IOAS_UNMAP: {
    ENOENT: 'nothing is mapped there, or the range ends inside a mapping',
    EBUSY: 'the range is in use by another object of the host; try again',
    EOVERFLOW: 'the range runs past the end of the address space',
  },
  IOMMU_HWPT_INVALIDATE: {
    EINVAL: 'the host takes no invalidations of this page table',
    EOPNOTSUPP: 'the host takes no invalidations of this kind',
    ENOENT: 'the page table does not exist',
    ENOTTY: 'this kernel has no nested translation (Linux before 6.8)',
  },
  IOMMU_FAULT_QUEUE_ALLOC: {
    EOPNOTSUPP: 'the kernel forwards no page requests',
    ENOTTY: 'this kernel forwards no page requests (Linux before 6.11)',
    ENOMEM: MEMLOCK,
    EMFILE: 'this process has too many open descriptors; raise the limit (ulimit -n)',
  },
  IOMMU_HWPT_ALLOC: {
    EOPNOTSUPP:
      'the IOMMU has no page tables for PASIDs, or takes no tables of this kind from a guest, or this kernel does not know IOMMU_HWPT_ALLOC_PASID (Linux before 6.15)',
    EINVAL:
      'the IOMMU takes no page table with these flags, or the address space does not exist, or the second stage was allocated without IOMMU_HWPT_ALLOC_NEST_PARENT',
    ENOENT: 'the iommufd does not know the device or the fault queue',
    EADDRINUSE: NO_ADDRESSES,
    ENOTTY: 'this kernel allocates no page tables (Linux before 6.6)',
    EBUSY: IN_RESET,
    ENOMEM: MEMLOCK,
  },
};

/** What `errno` means for opening a file of this kind, or undefined. */
export function openAdvice(kind: keyof typeof OPEN, errno: number): string | undefined {
  return OPEN[kind][errnoName(errno)];
}

/** What `errno` means for the ioctl `call`, or undefined. */
export function ioctlAdvice(call: string, errno: number): string | undefined {
  return CALLS[call]?.[errnoName(errno)];
}

/** Every call and errno that has a sentence: `[call, errno, sentence]`. */
export function allAdvice(): [call: string, errno: string, sentence: string][] {
  const opened = Object.entries(OPEN).map(([kind, advice]): [string, Advice] => [`open ${kind}`, advice]);
  return [...opened, ...Object.entries(CALLS)].flatMap(([call, advice]) =>
    Object.entries(advice).map(([errno, sentence]): [string, string, string] => [call, errno, sentence]),
  );
}
