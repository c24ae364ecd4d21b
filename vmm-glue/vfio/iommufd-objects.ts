import { VpciError } from '../../src/index.ts';
import type { Native } from '../linux/index.ts';
import { ask, demand } from './host-calls.ts';
import * as uapi from './structs/index.ts';
import type { VfioDevice } from './vfio-device.ts';

/** First-stage tables of a guest, as `IOMMU_HWPT_DATA_VTD_S1` takes them. */
export interface VtdS1 {
  /** `IOMMU_VTD_S1_*`. */
  readonly flags: number;
  /** Guest-physical address of the top table. */
  readonly table: bigint;
  /** Bits of an input address, 48 or 57. */
  readonly addressWidth: number;
}

/** A page table of the host to be. */
export interface HwptOptions {
  /** An address space, or for a guest's tables the page table that is their second stage. */
  readonly parent: number;
  /** `IOMMU_HWPT_ALLOC_*`. */
  readonly flags: number;
  /** Fault queue for its page requests. */
  readonly faultId?: number | undefined;
  readonly vtdS1?: VtdS1 | undefined;
}

/** A range of an address space, and where it lands in this process. */
export interface IoasRange {
  readonly ioas: number;
  readonly iova: bigint;
  /** Address in this process. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** Bytes for everything, in pages. */
const ALL_PAGES = 0xffff_ffff_ffff_ffffn;

/**
 * The objects of an iommufd that stand behind one device: address spaces, page tables, fault queues, and what the
 * device is attached to. Every call throws a VpciError `VPCI_HOST_CALL` when the kernel refuses.
 */
export class IommufdObjects {
  readonly #device: VfioDevice;
  readonly #native: Native;
  readonly #iommufd: number;
  readonly #deviceId: number;
  // What a request points to is kept: what nothing here uses after the address was taken could be collected before the
  // kernel reads it.
  readonly #s1 = new uapi.StructBuffer(uapi.iommuHwptVtdS1);
  readonly #invalidation = new uapi.StructBuffer(uapi.iommuHwptVtdS1Invalidate);

  /** @throws VpciError `VPCI_UNSUPPORTED` when the device was opened by its group. */
  constructor(device: VfioDevice) {
    const { iommufd, deviceId } = device;
    if (iommufd === undefined || deviceId === undefined) {
      throw new VpciError(
        'VPCI_UNSUPPORTED',
        `${device.subject} was opened by its group, which has no page tables of an iommufd: open it by cdev`,
      );
    }
    this.#device = device;
    this.#native = device.native;
    this.#iommufd = iommufd;
    this.#deviceId = deviceId;
  }

  /** A new, empty address space. */
  allocIoas(): number {
    const request = sized(uapi.iommuIoasAlloc);
    this.#call(uapi.IOMMU_IOAS_ALLOC, request, 'an address space');
    return request.get('out_ioas_id');
  }

  /** Maps memory of this process; it is pinned until it is unmapped. */
  map({ ioas, iova, address, length, readable, writable }: IoasRange): void {
    const flags =
      uapi.IOMMU_IOAS_MAP_FIXED_IOVA |
      (readable ? uapi.IOMMU_IOAS_MAP_READABLE : 0) |
      (writable ? uapi.IOMMU_IOAS_MAP_WRITEABLE : 0);
    const request = sized(uapi.iommuIoasMap)
      .set('flags', flags)
      .set('ioas_id', ioas)
      .set('user_va', address)
      .set('length', length)
      .setBig('iova', iova);
    this.#call(uapi.IOMMU_IOAS_MAP, request, `0x${length.toString(16)} bytes at IOVA 0x${iova.toString(16)}`);
  }

  /** Unmaps all that lies in a range; nothing may reach beyond it. */
  unmap(ioas: number, iova: bigint, length: bigint): void {
    const request = sized(uapi.iommuIoasUnmap)
      .set('ioas_id', ioas)
      .setBig('iova', iova)
      .setBig('length', length);
    this.#call(
      uapi.IOMMU_IOAS_UNMAP,
      request,
      `0x${length.toString(16)} bytes at IOVA 0x${iova.toString(16)}`,
    );
  }

  /** A new page table. */
  allocHwpt({ parent, flags, faultId, vtdS1 }: HwptOptions): number {
    const request = sized(uapi.iommuHwptAlloc)
      .set('flags', faultId === undefined ? flags : flags | uapi.IOMMU_HWPT_FAULT_ID_VALID)
      .set('dev_id', this.#deviceId)
      .set('pt_id', parent)
      .set('fault_id', faultId ?? 0);
    if (vtdS1 !== undefined) {
      const data = this.#s1.clear();
      data.set('flags', vtdS1.flags).setBig('pgtbl_addr', vtdS1.table).set('addr_width', vtdS1.addressWidth);
      request
        .set('data_type', uapi.IOMMU_HWPT_DATA_VTD_S1)
        .set('data_len', data.bytes.length)
        .set('data_uptr', this.#native.address(data.bytes));
    }
    this.#call(uapi.IOMMU_HWPT_ALLOC, request, 'a page table');
    return request.get('out_hwpt_id');
  }

  /** A new fault queue: its ID, and the descriptor that it is read from. */
  allocFaultQueue(): { readonly id: number; readonly fd: number } {
    const request = sized(uapi.iommuFaultAlloc);
    this.#call(uapi.IOMMU_FAULT_QUEUE_ALLOC, request, 'a fault queue');
    return { id: request.get('out_fault_id'), fd: request.get('out_fault_fd') };
  }

  /** Drops translations of `pages` pages from `address` on of a guest's tables; `all`: of everything. */
  invalidate(hwpt: number, address: bigint, pages: bigint | 'all'): void {
    const entry = this.#invalidation
      .clear()
      .setBig('addr', pages === 'all' ? 0n : address)
      .setBig('npages', pages === 'all' ? ALL_PAGES : pages);
    const request = sized(uapi.iommuHwptInvalidate)
      .set('hwpt_id', hwpt)
      .set('data_uptr', this.#native.address(entry.bytes))
      .set('data_type', uapi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1)
      .set('entry_len', entry.bytes.length)
      .set('entry_num', 1);
    this.#call(uapi.IOMMU_HWPT_INVALIDATE, request, `page table ${hwpt}`);
  }

  /** Lets the device's requests with `pasid` (1 or more; null: without one) go by a page table, or replaces it. */
  attach(hwpt: number, pasid: number | null): void {
    const request = new uapi.StructBuffer(uapi.vfioDeviceAttachIommufdPt).set('pt_id', hwpt);
    if (pasid === null) request.set('argsz', 12);
    else request.set('argsz', 16).set('flags', uapi.VFIO_DEVICE_ATTACH_PASID).set('pasid', pasid);
    const { fd, subject } = this.#device;
    demand(this.#native, fd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, request, `${nameOf(pasid)} of ${subject}`);
  }

  /** Takes the page table of `pasid` away. */
  detach(pasid: number | null): void {
    const request = new uapi.StructBuffer(uapi.vfioDeviceDetachIommufdPt);
    if (pasid === null) request.set('argsz', 8);
    else request.set('argsz', 12).set('flags', uapi.VFIO_DEVICE_DETACH_PASID).set('pasid', pasid);
    const { fd, subject } = this.#device;
    demand(this.#native, fd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, request, `${nameOf(pasid)} of ${subject}`);
  }

  /** Destroys an object; one that the kernel keeps goes with the iommufd. */
  destroy(id: number): void {
    if (!this.#device.isOpen) return;
    ask(this.#native, this.#iommufd, uapi.IOMMU_DESTROY, sized(uapi.iommuDestroy).set('id', id));
  }

  #call<F extends string>(ioctl: uapi.Ioctl, request: uapi.StructBuffer<F>, what: string): void {
    if (!this.#device.isOpen) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `${this.#device.subject} is closed: close its mirror before it`,
      );
    }
    demand(this.#native, this.#iommufd, ioctl, request, `${what} for ${this.#device.subject}`);
  }
}

/** `PASID 0x5`, or what null stands for. */
export function nameOf(pasid: number | null): string {
  return pasid === null ? 'requests without PASID' : `PASID 0x${pasid.toString(16)}`;
}

/** A struct whose first field says how long it is. */
function sized<F extends string>(layout: uapi.StructLayout<F>): uapi.StructBuffer<F> {
  const struct = new uapi.StructBuffer(layout);
  new DataView(struct.bytes.buffer).setUint32(0, layout.size, true);
  return struct;
}
