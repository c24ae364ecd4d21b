import { defineStruct, type Ioctl, type StructLayout } from './layout.ts';

/**
 * What `linux/iommufd.h` defines, as far as it is used here. Checked against the header by a test.
 *
 * @module
 */

const header = 'linux/iommufd.h';

export const IOMMU_DESTROY: Ioctl = { name: 'IOMMU_DESTROY', header, request: 0x3b80 };
export const IOMMU_IOAS_ALLOC: Ioctl = { name: 'IOMMU_IOAS_ALLOC', header, request: 0x3b81 };
export const IOMMU_IOAS_MAP: Ioctl = { name: 'IOMMU_IOAS_MAP', header, request: 0x3b85 };
export const IOMMU_IOAS_UNMAP: Ioctl = { name: 'IOMMU_IOAS_UNMAP', header, request: 0x3b86 };
export const IOMMU_HWPT_ALLOC: Ioctl = { name: 'IOMMU_HWPT_ALLOC', header, request: 0x3b89 };
export const IOMMU_GET_HW_INFO: Ioctl = { name: 'IOMMU_GET_HW_INFO', header, request: 0x3b8a };
export const IOMMU_HWPT_INVALIDATE: Ioctl = { name: 'IOMMU_HWPT_INVALIDATE', header, request: 0x3b8d };
export const IOMMU_FAULT_QUEUE_ALLOC: Ioctl = { name: 'IOMMU_FAULT_QUEUE_ALLOC', header, request: 0x3b8e };

export const IOMMU_IOAS_MAP_FIXED_IOVA = 0x1;
export const IOMMU_IOAS_MAP_WRITEABLE = 0x2;
export const IOMMU_IOAS_MAP_READABLE = 0x4;
export const IOMMU_HWPT_ALLOC_NEST_PARENT = 0x1;
export const IOMMU_HWPT_FAULT_ID_VALID = 0x4;
export const IOMMU_HWPT_ALLOC_PASID = 0x8;
export const IOMMU_HWPT_DATA_VTD_S1 = 1;
export const IOMMU_VTD_S1_SRE = 0x1;
export const IOMMU_VTD_S1_EAFE = 0x2;
export const IOMMU_VTD_S1_WPE = 0x4;
export const IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 = 0;
export const IOMMU_PGFAULT_FLAGS_PASID_VALID = 0x1;
export const IOMMU_PGFAULT_FLAGS_LAST_PAGE = 0x2;
export const IOMMU_PGFAULT_PERM_READ = 0x1;
export const IOMMU_PGFAULT_PERM_WRITE = 0x2;
export const IOMMU_PGFAULT_PERM_EXEC = 0x4;
export const IOMMU_PGFAULT_PERM_PRIV = 0x8;
export const IOMMUFD_PAGE_RESP_SUCCESS = 0;
export const IOMMUFD_PAGE_RESP_INVALID = 1;
export const IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17 = 0x1;
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

export const iommuIoasMap: StructLayout<'size' | 'flags' | 'ioas_id' | 'user_va' | 'length' | 'iova'> =
  defineStruct({
    name: 'iommu_ioas_map',
    header,
    size: 40,
    fields: {
      size: [0, 4],
      flags: [4, 4],
      ioas_id: [8, 4],
      user_va: [16, 8],
      length: [24, 8],
      iova: [32, 8],
    },
  });

export const iommuIoasUnmap: StructLayout<'size' | 'ioas_id' | 'iova' | 'length'> = defineStruct({
  name: 'iommu_ioas_unmap',
  header,
  size: 24,
  fields: { size: [0, 4], ioas_id: [4, 4], iova: [8, 8], length: [16, 8] },
});

export const iommuHwptAlloc: StructLayout<
  'size' | 'flags' | 'dev_id' | 'pt_id' | 'out_hwpt_id' | 'data_type' | 'data_len' | 'data_uptr' | 'fault_id'
> = defineStruct({
  name: 'iommu_hwpt_alloc',
  header,
  size: 48,
  fields: {
    size: [0, 4],
    flags: [4, 4],
    dev_id: [8, 4],
    pt_id: [12, 4],
    out_hwpt_id: [16, 4],
    data_type: [24, 4],
    data_len: [28, 4],
    data_uptr: [32, 8],
    fault_id: [40, 4],
  },
});

/** Data of `IOMMU_HWPT_ALLOC` with {@link IOMMU_HWPT_DATA_VTD_S1}: first-stage tables of a guest. */
export const iommuHwptVtdS1: StructLayout<'flags' | 'pgtbl_addr' | 'addr_width'> = defineStruct({
  name: 'iommu_hwpt_vtd_s1',
  header,
  size: 24,
  fields: { flags: [0, 8], pgtbl_addr: [8, 8], addr_width: [16, 4] },
});

export const iommuHwptInvalidate: StructLayout<
  'size' | 'hwpt_id' | 'data_uptr' | 'data_type' | 'entry_len' | 'entry_num'
> = defineStruct({
  name: 'iommu_hwpt_invalidate',
  header,
  size: 32,
  fields: {
    size: [0, 4],
    hwpt_id: [4, 4],
    data_uptr: [8, 8],
    data_type: [16, 4],
    entry_len: [20, 4],
    entry_num: [24, 4],
  },
});

/** An entry of `IOMMU_HWPT_INVALIDATE`; all-ones in `npages`, with `addr` 0: everything. */
export const iommuHwptVtdS1Invalidate: StructLayout<'addr' | 'npages' | 'flags'> = defineStruct({
  name: 'iommu_hwpt_vtd_s1_invalidate',
  header,
  size: 24,
  fields: { addr: [0, 8], npages: [8, 8], flags: [16, 4] },
});

export const iommuFaultAlloc: StructLayout<'size' | 'flags' | 'out_fault_id' | 'out_fault_fd'> = defineStruct(
  {
    name: 'iommu_fault_alloc',
    header,
    size: 16,
    fields: { size: [0, 4], flags: [4, 4], out_fault_id: [8, 4], out_fault_fd: [12, 4] },
  },
);

/** A page request, as a fault queue is read. */
export const iommuHwptPgfault: StructLayout<
  'flags' | 'dev_id' | 'pasid' | 'grpid' | 'perm' | 'addr' | 'length' | 'cookie'
> = defineStruct({
  name: 'iommu_hwpt_pgfault',
  header,
  size: 40,
  fields: {
    flags: [0, 4],
    dev_id: [4, 4],
    pasid: [8, 4],
    grpid: [12, 4],
    perm: [16, 4],
    addr: [24, 8],
    length: [32, 4],
    cookie: [36, 4],
  },
});

/** The answer to a group of them, as it is written to the queue. */
export const iommuHwptPageResponse: StructLayout<'cookie' | 'code'> = defineStruct({
  name: 'iommu_hwpt_page_response',
  header,
  size: 8,
  fields: { cookie: [0, 4], code: [4, 4] },
});

/** Data of `IOMMU_GET_HW_INFO` with {@link IOMMU_HW_INFO_TYPE_INTEL_VTD}. */
export const iommuHwInfoVtd: StructLayout<'flags' | 'cap_reg' | 'ecap_reg'> = defineStruct({
  name: 'iommu_hw_info_vtd',
  header,
  size: 24,
  fields: { flags: [0, 4], cap_reg: [8, 8], ecap_reg: [16, 8] },
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
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP,
  IOMMU_HWPT_ALLOC,
  IOMMU_GET_HW_INFO,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_FAULT_QUEUE_ALLOC,
];

/** Every struct above. */
export const IOMMUFD_STRUCTS: readonly StructLayout[] = [
  iommuDestroy,
  iommuIoasAlloc,
  iommuIoasMap,
  iommuIoasUnmap,
  iommuHwptAlloc,
  iommuHwptVtdS1,
  iommuHwptInvalidate,
  iommuHwptVtdS1Invalidate,
  iommuFaultAlloc,
  iommuHwptPgfault,
  iommuHwptPageResponse,
  iommuHwInfo,
  iommuHwInfoVtd,
];
