import { createFunction } from '../../src/index.ts';
import type {
  GuestMemory,
  InterruptEvent,
  MemoryRequest,
  PageRequest,
  PageRequestAnswer,
  Verdict,
  VtdIommu,
} from '../../src/viommu/vtd/index.ts';
import { VfioUserDevice } from '../vfio-user/index.ts';

/**
 * Bytes of the BAR in front of the registers. SeaBIOS puts the largest BAR of a machine lowest in the window of 32-bit
 * memory, so that this one is at {@link UNIT_ADDRESS} whatever else is plugged; smaller ones move.
 */
export const UNIT_BAR_SIZE = 0x1000_0000;

/** Where SeaBIOS of QEMU's q35 machine puts the BAR: the address that the DMAR table has to name. */
export const UNIT_ADDRESS = 0xe000_0000;

/**
 * Command as the guest reads it: Memory Space and Bus Master. QEMU takes DMA and interrupts of a function only while
 * Bus Master is set, and no driver sets it here: a remapping unit is no PCI function for Linux.
 */
const COMMAND = 0x0006;

/** Pages that one request can need at most: those of a nested walk of 5 by 5 levels, and the tables before it. */
const REQUEST_PAGES = 64;

/**
 * A VT-d remapping unit as a PCI function, for virtual machine monitors that take functions over vfio-user: its
 * registers are the first 4 KiB of BAR 0, its interrupts leave as DMA writes, and the tables of the guest are read
 * in the memory of the client. Serve {@link RemappingUnit.device}.
 *
 * Memory that is not shared is fetched by messages, and nothing waits for it inside a register access.
 */
export class RemappingUnit<Iommu extends VtdIommu = VtdIommu> {
  readonly iommu: Iommu;
  readonly device: VfioUserDevice;
  #fetching = false;

  /** Takes the unit that `makeIommu` makes for the memory of the client. */
  constructor(makeIommu: (memory: GuestMemory) => Iommu) {
    const fn = createFunction({
      vendorId: 0x1b36,
      deviceId: 0x00f6,
      // Base system peripheral, IOMMU.
      classCode: 0x080600,
      capabilities: [],
      commandOnes: COMMAND,
      bars: [
        {
          index: 0,
          size: UNIT_BAR_SIZE,
          read: (offset, size) => this.#read(offset, size),
          write: (offset, size, value) => this.#write(offset, size, value),
        },
      ],
    });
    this.device = new VfioUserDevice(fn);
    this.iommu = makeIommu(this.device.memory);
    this.iommu.on('interrupt', (interrupt) => this.#interrupt(interrupt));
    fn.on('reset', () => this.iommu.reset());
  }

  /**
   * Asks the unit about a request, and brings the tables that it needs. `pending`: the client does not give them.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for what no bus can carry.
   */
  async request(request: MemoryRequest): Promise<Verdict> {
    this.device.memory.forget();
    let verdict = this.iommu.request(request);
    for (let pages = 0; verdict.status === 'pending' && pages < REQUEST_PAGES; pages++) {
      if (!(await this.device.fetchPage(Number(verdict.address)))) break;
      verdict = this.iommu.request(request);
    }
    return verdict;
  }

  /**
   * Hands on a page request of a device, and brings the tables that it needs.
   *
   * @throws VpciError `VPCI_REQUEST` or `VPCI_PASID` for what no message can carry.
   */
  async pageRequest(request: PageRequest): Promise<PageRequestAnswer> {
    this.device.memory.forget();
    let answer = this.iommu.pageRequest(request);
    for (let pages = 0; answer.missing !== undefined && pages < REQUEST_PAGES; pages++) {
      if (!(await this.device.fetchPage(Number(answer.missing)))) break;
      answer = this.iommu.pageRequest(request);
    }
    return answer;
  }

  #read(offset: number, size: number): number {
    return size === 1 || size === 2 || size === 4 ? this.iommu.readRegister(offset, size) : 0;
  }

  #write(offset: number, size: number, value: number): void {
    if (size !== 1 && size !== 2 && size !== 4) return;
    this.iommu.writeRegister(offset, size, value);
    if (!this.#fetching && this.iommu.missingMemory !== null) void this.#fetch();
  }

  /** Brings the pages that the invalidation queue waits for, and lets it go on. */
  async #fetch(): Promise<void> {
    this.#fetching = true;
    for (let missing = this.iommu.missingMemory; missing !== null; missing = this.iommu.missingMemory) {
      if (!(await this.device.fetchPage(Number(missing.address)))) break;
      this.iommu.resume();
    }
    this.#fetching = false;
  }

  #interrupt({ address, data }: InterruptEvent): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, data, true);
    void this.device.write(address, bytes);
  }
}
