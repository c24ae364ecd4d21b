import { readlinkSync } from 'node:fs';
import type { PciFunction } from '../../src/index.ts';
import { CAP_MSI, CAP_MSI_X } from '../../src/pci/capability-ids.ts';
import { ERRNO, EventfdSignals, type Native } from '../linux/index.ts';
import * as vfio from './protocol.ts';

/** A DEVICE_SET_IRQS message, taken apart. */
export interface IrqSet {
  readonly flags: number;
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** Data of `VFIO_IRQ_SET_DATA_BOOL`: as many bytes as the message has. */
  readonly bools: Uint8Array;
  /** Descriptors that came with it. */
  readonly descriptors: readonly number[];
}

/** Message Control of MSI and MSI-X: 16 bits at this offset of the capability (PCIe 7.7.1.2, 7.7.2.2). */
const MESSAGE_CONTROL = 2;

/**
 * Vectors of each interrupt index that `fn` has. Without descriptors only MSI is left: its messages can go by DMA.
 */
export function interruptCounts(fn: PciFunction, descriptors: boolean): number[] {
  const control = (id: number): number | undefined => {
    const capability = fn.capabilities.find((one) => one.id === id);
    return capability === undefined ? undefined : fn.read(capability.offset + MESSAGE_CONTROL, 2);
  };
  const msi = control(CAP_MSI);
  const msiX = control(CAP_MSI_X);
  const messages = msi === undefined ? 0 : 1 << ((msi >>> 1) & 7);
  if (!descriptors) return [0, messages, 0, 0, 0];
  return [fn.interruptPin === 0 ? 0 : 1, messages, msiX === undefined ? 0 : (msiX & 0x7ff) + 1, 1, 1];
}

/** The eventfds that a client gave for the interrupts of a device, and INTx's mask. */
export class Interrupts {
  /** Vectors of each index: INTx, MSI, MSI-X, ERR, REQ. */
  readonly counts: readonly number[];
  readonly #native: Native | undefined;
  readonly #onMask: (masked: boolean) => void;
  readonly #eventfds = new Map<number, number>();
  #intxLevel = false;
  #intxMasked = false;

  /** `onMask` is called when the client masks INTx or unmasks it, before the level counts again. */
  constructor(counts: readonly number[], native: Native | undefined, onMask: (masked: boolean) => void) {
    this.counts = counts;
    this.#native = native;
    this.#onMask = onMask;
  }

  /** `VFIO_IRQ_INFO_*` of an index. */
  flags(index: number): number {
    if (index === vfio.VFIO_PCI_INTX_IRQ_INDEX) {
      return vfio.VFIO_IRQ_INFO_EVENTFD | vfio.VFIO_IRQ_INFO_MASKABLE | vfio.VFIO_IRQ_INFO_AUTOMASKED;
    }
    return vfio.VFIO_IRQ_INFO_EVENTFD | vfio.VFIO_IRQ_INFO_NORESIZE;
  }

  /** Vectors of `index` that the client has given an eventfd, ascending, and those. */
  enabled(index: number): { readonly vectors: number[]; readonly eventfds: number[] } {
    const own = [...this.#eventfds].filter(([key]) => key >>> 16 === index).toSorted(([a], [b]) => a - b);
    return { vectors: own.map(([key]) => key & 0xffff), eventfds: own.map(([, eventfd]) => eventfd) };
  }

  /**
   * Carries out DEVICE_SET_IRQS and returns an errno, 0 when it did. Its descriptors are kept only then; the caller
   * closes them otherwise.
   */
  set(request: IrqSet): number {
    const { flags, index, start, count } = request;
    const data = flags & vfio.VFIO_IRQ_SET_DATA_TYPE_MASK;
    const action = flags & vfio.VFIO_IRQ_SET_ACTION_TYPE_MASK;
    if ((data | action) !== flags || !isOneBit(data) || !isOneBit(action)) return ERRNO.EINVAL;
    const total = this.counts[index];
    if (total === undefined || start + count > total) return ERRNO.EINVAL;
    if (data !== vfio.VFIO_IRQ_SET_DATA_EVENTFD && request.descriptors.length > 0) return ERRNO.EINVAL;
    if (count === 0) {
      if (flags !== (vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_TRIGGER) || start !== 0) {
        return ERRNO.EINVAL;
      }
      this.#release(index, 0, total);
      return 0;
    }
    if (data === vfio.VFIO_IRQ_SET_DATA_BOOL && request.bools.length < count) return ERRNO.EINVAL;
    if (action !== vfio.VFIO_IRQ_SET_ACTION_TRIGGER) return this.#mask(request, data, action);
    if (data === vfio.VFIO_IRQ_SET_DATA_EVENTFD) return this.#assign(request);
    for (let i = 0; i < count; i++) {
      if (data === vfio.VFIO_IRQ_SET_DATA_NONE || request.bools[i] !== 0) this.trigger(index, start + i);
    }
    return 0;
  }

  /** Signals vector `vector` of `index`; false when the client has no eventfd for it, or INTx is masked. */
  trigger(index: number, vector: number): boolean {
    const fd = this.#eventfds.get(keyOf(index, vector));
    if (fd === undefined) return false;
    if (index === vfio.VFIO_PCI_INTX_IRQ_INDEX) {
      if (this.#intxMasked) return false;
      this.#intxMasked = true;
    }
    if (this.#native !== undefined) EventfdSignals.of(this.#native).signal(fd);
    return true;
  }

  /** The level of INTx. While it is asserted and not masked, the client hears of it, and masks it by that. */
  setIntx(asserted: boolean): void {
    this.#intxLevel = asserted;
    if (asserted) this.trigger(vfio.VFIO_PCI_INTX_IRQ_INDEX, 0);
  }

  /** Forgets and closes every eventfd. */
  clear(): void {
    for (const fd of this.#eventfds.values()) this.#native?.close(fd);
    this.#eventfds.clear();
    this.#intxMasked = false;
  }

  #mask(request: IrqSet, data: number, action: number): number {
    if (request.index !== vfio.VFIO_PCI_INTX_IRQ_INDEX) return ERRNO.ENOTSUP;
    if (data === vfio.VFIO_IRQ_SET_DATA_EVENTFD) return ERRNO.ENOTSUP;
    if (data === vfio.VFIO_IRQ_SET_DATA_BOOL && request.bools[0] === 0) return 0;
    this.#intxMasked = action === vfio.VFIO_IRQ_SET_ACTION_MASK;
    this.#onMask(this.#intxMasked);
    if (!this.#intxMasked && this.#intxLevel) this.trigger(vfio.VFIO_PCI_INTX_IRQ_INDEX, 0);
    return 0;
  }

  #assign({ index, start, count, descriptors }: IrqSet): number {
    if (descriptors.length === 0) {
      this.#release(index, start, start + count);
      return 0;
    }
    if (descriptors.length !== count || !descriptors.every(isEventfd)) return ERRNO.EINVAL;
    for (const [i, fd] of descriptors.entries()) {
      this.#release(index, start + i, start + i + 1);
      this.#eventfds.set(keyOf(index, start + i), fd);
    }
    if (index === vfio.VFIO_PCI_INTX_IRQ_INDEX) {
      this.#intxMasked = false;
      if (this.#intxLevel) this.trigger(index, 0);
    }
    return 0;
  }

  #release(index: number, start: number, end: number): void {
    for (let vector = start; vector < end; vector++) {
      const fd = this.#eventfds.get(keyOf(index, vector));
      if (fd === undefined) continue;
      this.#eventfds.delete(keyOf(index, vector));
      this.#native?.close(fd);
    }
  }
}

function keyOf(index: number, vector: number): number {
  return (index << 16) | vector;
}

function isOneBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}
