import { VpciError } from '../../src/index.ts';
import { IommufdObjects } from './iommufd-objects.ts';
import { IOMMU_HWPT_ALLOC_PASID } from './structs/index.ts';
import type { VfioDevice } from './vfio-device.ts';

const PAGE = 4096;

/**
 * The memory that a device's requests without PASID reach, for a guest without a vIOMMU: an address space of the host
 * that the device is attached to. An `IommufdMirror` does this itself.
 */
export class GuestDma implements Disposable {
  readonly #device: VfioDevice;
  readonly #objects: IommufdObjects;
  readonly #ioas: number;
  readonly #hwpt: number;
  // What the addresses point into must not be collected.
  readonly #mapped = new Map<bigint, Uint8Array>();

  /**
   * Attaches the device to an empty address space.
   *
   * @throws VpciError `VPCI_UNSUPPORTED` for a device that was opened by its group, `VPCI_HOST_CALL`.
   */
  constructor(device: VfioDevice) {
    this.#device = device;
    this.#objects = new IommufdObjects(device);
    this.#ioas = this.#objects.allocIoas();
    let hwpt: number | undefined;
    try {
      hwpt = allocHwpt(this.#objects, this.#ioas);
      this.#objects.attach(hwpt, null);
    } catch (error) {
      if (hwpt !== undefined) this.#objects.destroy(hwpt);
      this.#objects.destroy(this.#ioas);
      throw error;
    }
    this.#hwpt = hwpt;
  }

  /**
   * Maps memory of this process at bus address `iova`; it is pinned until it is unmapped.
   *
   * @throws VpciError `VPCI_MEMORY` when `iova` or the memory are not made of whole pages, `VPCI_HOST_CALL`.
   */
  map(iova: bigint, bytes: Uint8Array, options: { readonly readOnly?: boolean | undefined } = {}): void {
    const address = this.#device.native.address(bytes);
    if (iova % BigInt(PAGE) !== 0n || address % PAGE !== 0 || bytes.length % PAGE !== 0) {
      throw new VpciError(
        'VPCI_MEMORY',
        `memory for IOVA 0x${iova.toString(16)} is not made of whole pages: use mmap, or the buffer of a WebAssembly.Memory`,
      );
    }
    const writable = options.readOnly !== true;
    this.#objects.map({ ioas: this.#ioas, iova, address, length: bytes.length, readable: true, writable });
    this.#mapped.set(iova, bytes);
  }

  /**
   * Unmaps all that was mapped in a range.
   *
   * @throws VpciError `VPCI_HOST_CALL` when the range ends inside of what was mapped at once.
   */
  unmap(iova: bigint, size: bigint): void {
    const gone = [...this.#mapped.keys()].filter((at) => at >= iova && at < iova + size);
    if (gone.length === 0) return;
    this.#objects.unmap(this.#ioas, iova, size);
    for (const at of gone) this.#mapped.delete(at);
  }

  /** Unmaps everything. @throws VpciError `VPCI_HOST_CALL`. */
  clear(): void {
    for (const [iova, bytes] of this.#mapped) this.unmap(iova, BigInt(bytes.length));
  }

  /** Detaches the device. Close it before the device. */
  close(): void {
    if (!this.#device.isOpen) return;
    this.#objects.detach(null);
    this.#objects.destroy(this.#hwpt);
    this.#objects.destroy(this.#ioas);
    this.#mapped.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Such a page table can stay when PASIDs come; where the host has none, any will do. */
function allocHwpt(objects: IommufdObjects, parent: number): number {
  try {
    return objects.allocHwpt({ parent, flags: IOMMU_HWPT_ALLOC_PASID });
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    return objects.allocHwpt({ parent, flags: 0 });
  }
}
