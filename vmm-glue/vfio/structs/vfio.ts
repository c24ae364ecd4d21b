import { defineStruct, type Ioctl, type StructLayout } from './layout.ts';

/**
 * What `linux/vfio.h` defines, as far as it is used here. Checked against the header by a test.
 *
 * @module
 */

const header = 'linux/vfio.h';

export const VFIO_GET_API_VERSION: Ioctl = { name: 'VFIO_GET_API_VERSION', header, request: 0x3b64 };
export const VFIO_CHECK_EXTENSION: Ioctl = { name: 'VFIO_CHECK_EXTENSION', header, request: 0x3b65 };
export const VFIO_SET_IOMMU: Ioctl = { name: 'VFIO_SET_IOMMU', header, request: 0x3b66 };
export const VFIO_GROUP_GET_STATUS: Ioctl = { name: 'VFIO_GROUP_GET_STATUS', header, request: 0x3b67 };
export const VFIO_GROUP_SET_CONTAINER: Ioctl = { name: 'VFIO_GROUP_SET_CONTAINER', header, request: 0x3b68 };
export const VFIO_GROUP_GET_DEVICE_FD: Ioctl = { name: 'VFIO_GROUP_GET_DEVICE_FD', header, request: 0x3b6a };
export const VFIO_DEVICE_GET_INFO: Ioctl = { name: 'VFIO_DEVICE_GET_INFO', header, request: 0x3b6b };
export const VFIO_DEVICE_GET_REGION_INFO: Ioctl = {
  name: 'VFIO_DEVICE_GET_REGION_INFO',
  header,
  request: 0x3b6c,
};
export const VFIO_DEVICE_GET_IRQ_INFO: Ioctl = { name: 'VFIO_DEVICE_GET_IRQ_INFO', header, request: 0x3b6d };
export const VFIO_DEVICE_SET_IRQS: Ioctl = { name: 'VFIO_DEVICE_SET_IRQS', header, request: 0x3b6e };
export const VFIO_DEVICE_RESET: Ioctl = { name: 'VFIO_DEVICE_RESET', header, request: 0x3b6f };
export const VFIO_DEVICE_FEATURE: Ioctl = { name: 'VFIO_DEVICE_FEATURE', header, request: 0x3b75 };
export const VFIO_DEVICE_BIND_IOMMUFD: Ioctl = { name: 'VFIO_DEVICE_BIND_IOMMUFD', header, request: 0x3b76 };
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT: Ioctl = {
  name: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
  header,
  request: 0x3b77,
};
export const VFIO_DEVICE_DETACH_IOMMUFD_PT: Ioctl = {
  name: 'VFIO_DEVICE_DETACH_IOMMUFD_PT',
  header,
  request: 0x3b78,
};

export const VFIO_API_VERSION = 0;
export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_GROUP_FLAGS_VIABLE = 0x1;
export const VFIO_DEVICE_FLAGS_RESET = 0x1;
export const VFIO_DEVICE_FLAGS_PCI = 0x2;
export const VFIO_REGION_INFO_FLAG_READ = 0x1;
export const VFIO_REGION_INFO_FLAG_WRITE = 0x2;
export const VFIO_REGION_INFO_FLAG_MMAP = 0x4;
export const VFIO_IRQ_INFO_EVENTFD = 0x1;
export const VFIO_IRQ_INFO_MASKABLE = 0x2;
export const VFIO_IRQ_INFO_AUTOMASKED = 0x4;
export const VFIO_IRQ_INFO_NORESIZE = 0x8;
export const VFIO_IRQ_SET_DATA_NONE = 0x1;
export const VFIO_IRQ_SET_DATA_EVENTFD = 0x4;
export const VFIO_IRQ_SET_ACTION_MASK = 0x8;
export const VFIO_IRQ_SET_ACTION_UNMASK = 0x10;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 0x20;
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_BAR0_REGION_INDEX = 0;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_NUM_IRQS = 5;
export const VFIO_DEVICE_FEATURE_GET = 0x10000;
export const VFIO_DEVICE_BIND_FLAG_TOKEN = 0x1;
export const VFIO_DEVICE_ATTACH_PASID = 0x1;
export const VFIO_DEVICE_DETACH_PASID = 0x1;

export const vfioGroupStatus: StructLayout<'argsz' | 'flags'> = defineStruct({
  name: 'vfio_group_status',
  header,
  size: 8,
  fields: { argsz: [0, 4], flags: [4, 4] },
});

/** Its first 16 bytes: what kernels of every age take. */
export const vfioDeviceInfo: StructLayout<'argsz' | 'flags' | 'num_regions' | 'num_irqs'> = defineStruct({
  name: 'vfio_device_info',
  header,
  size: 16,
  fields: { argsz: [0, 4], flags: [4, 4], num_regions: [8, 4], num_irqs: [12, 4] },
});

export const vfioRegionInfo: StructLayout<'argsz' | 'flags' | 'index' | 'cap_offset' | 'size' | 'offset'> =
  defineStruct({
    name: 'vfio_region_info',
    header,
    size: 32,
    fields: {
      argsz: [0, 4],
      flags: [4, 4],
      index: [8, 4],
      cap_offset: [12, 4],
      size: [16, 8],
      offset: [24, 8],
    },
  });

export const vfioIrqInfo: StructLayout<'argsz' | 'flags' | 'index' | 'count'> = defineStruct({
  name: 'vfio_irq_info',
  header,
  size: 16,
  fields: { argsz: [0, 4], flags: [4, 4], index: [8, 4], count: [12, 4] },
});

/** What is before the data of `VFIO_DEVICE_SET_IRQS`: with eventfds, 32 bits signed each. */
export const vfioIrqSet: StructLayout<'argsz' | 'flags' | 'index' | 'start' | 'count'> = defineStruct({
  name: 'vfio_irq_set',
  header,
  size: 20,
  fields: { argsz: [0, 4], flags: [4, 4], index: [8, 4], start: [12, 4], count: [16, 4] },
});

/** The header of a feature; its data follows. */
export const vfioDeviceFeature: StructLayout<'argsz' | 'flags'> = defineStruct({
  name: 'vfio_device_feature',
  header,
  size: 8,
  fields: { argsz: [0, 4], flags: [4, 4] },
});

export const vfioDeviceBindIommufd: StructLayout<
  'argsz' | 'flags' | 'iommufd' | 'out_devid' | 'token_uuid_ptr'
> = defineStruct({
  name: 'vfio_device_bind_iommufd',
  header,
  size: 24,
  fields: { argsz: [0, 4], flags: [4, 4], iommufd: [8, 4], out_devid: [12, 4], token_uuid_ptr: [16, 8] },
});

export const vfioDeviceAttachIommufdPt: StructLayout<'argsz' | 'flags' | 'pt_id' | 'pasid'> = defineStruct({
  name: 'vfio_device_attach_iommufd_pt',
  header,
  size: 16,
  fields: { argsz: [0, 4], flags: [4, 4], pt_id: [8, 4], pasid: [12, 4] },
});

export const vfioDeviceDetachIommufdPt: StructLayout<'argsz' | 'flags' | 'pasid'> = defineStruct({
  name: 'vfio_device_detach_iommufd_pt',
  header,
  size: 12,
  fields: { argsz: [0, 4], flags: [4, 4], pasid: [8, 4] },
});

/** Every ioctl above. */
export const VFIO_IOCTLS: readonly Ioctl[] = [
  VFIO_GET_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_SET_IOMMU,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_DEVICE_GET_INFO,
  VFIO_DEVICE_GET_REGION_INFO,
  VFIO_DEVICE_GET_IRQ_INFO,
  VFIO_DEVICE_SET_IRQS,
  VFIO_DEVICE_RESET,
  VFIO_DEVICE_FEATURE,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
];

/** Every struct above. */
export const VFIO_STRUCTS: readonly StructLayout[] = [
  vfioGroupStatus,
  vfioDeviceInfo,
  vfioRegionInfo,
  vfioIrqInfo,
  vfioIrqSet,
  vfioDeviceFeature,
  vfioDeviceBindIommufd,
  vfioDeviceAttachIommufdPt,
  vfioDeviceDetachIommufdPt,
];
