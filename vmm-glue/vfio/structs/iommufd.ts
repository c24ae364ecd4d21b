import { defineStruct, type Ioctl, type StructLayout } from './layout.ts';

/**
 * What `linux/iommufd.h` defines, as far as it is used here. Checked against the header by a test.
 *
 * @module
 */

const header = 'linux/iommufd.h';

export const IOMMU_DESTROY: Ioctl = { name: 'IOMMU_DESTROY', header, request: 0x3b80 };
export const IOMMU_IOAS_ALLOC: Ioctl = { name: 'IOMMU_IOAS_ALLOC', header, request: 0x3b81 };
export const IOMMU_HWPT_ALLOC: Ioctl = { name: 'IOMMU_HWPT_ALLOC', header, request: 0x3b89 };
export const IOMMU_GET_HW_INFO: Ioctl = { name: 'IOMMU_GET_HW_INFO', header, request: 0x3b8a };

export const IOMMU_HWPT_ALLOC_PASID = 0x8;
export const IOMMU_HW_CAP_PCI_PASID_EXEC = 0x2;
export const IOMMU_HW_CAP_PCI_PASID_PRIV = 0x4;
export const IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED = 0x8;
export const IOMMU_HW_INFO_TYPE_INTEL_VTD = 1;
export const IOMMU_HW_INFO_TYPE_ARM_SMMUV3 = 2;
export const IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV = 3;
export const IOMMU_HW_INFO_TYPE_AMD = 4;

export const iommuDestroy: StructLayout<'size' | 'id'> = defineStruct({
  name: 'iommu_destroy',
  header,
  size: 8,
  fields: { size: [0, 4], id: [4, 4] },
});

export const iommuIoasAlloc: StructLayout<'size' | 'flags' | 'out_ioas_id'> = defineStruct({
  name: 'iommu_ioas_alloc',
  header,
  size: 12,
  fields: { size: [0, 4], flags: [4, 4], out_ioas_id: [8, 4] },
});

export const iommuHwptAlloc: StructLayout<'size' | 'flags' | 'dev_id' | 'pt_id' | 'out_hwpt_id'> =
  defineStruct({
    name: 'iommu_hwpt_alloc',
    header,
    size: 48,
    fields: { size: [0, 4], flags: [4, 4], dev_id: [8, 4], pt_id: [12, 4], out_hwpt_id: [16, 4] },
  });

/**
 * The first kernels had 32 bytes and no `out_max_pasid_log2`: what stands there was reserved, and must be 0 on the
 * way in.
 */
export const iommuHwInfo: StructLayout<
  | 'size'
  | 'flags'
  | 'dev_id'
  | 'data_len'
  | 'data_uptr'
  | 'out_data_type'
  | 'out_max_pasid_log2'
  | 'out_capabilities'
> = defineStruct({
  name: 'iommu_hw_info',
  header,
  size: 40,
  fields: {
    size: [0, 4],
    flags: [4, 4],
    dev_id: [8, 4],
    data_len: [12, 4],
    data_uptr: [16, 8],
    out_data_type: [24, 4],
    out_max_pasid_log2: [28, 1],
    out_capabilities: [32, 8],
  },
});

/** Every ioctl above. */
export const IOMMUFD_IOCTLS: readonly Ioctl[] = [
  IOMMU_DESTROY,
  IOMMU_IOAS_ALLOC,
  IOMMU_HWPT_ALLOC,
  IOMMU_GET_HW_INFO,
];

/** Every struct above. */
export const IOMMUFD_STRUCTS: readonly StructLayout[] = [
  iommuDestroy,
  iommuIoasAlloc,
  iommuHwptAlloc,
  iommuHwInfo,
];
