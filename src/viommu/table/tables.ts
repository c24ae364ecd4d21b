import { VpciError } from '../../pci/vpci-error.ts';
import { RidTable } from '../rid-table.ts';
import { AddressSpace } from './address-space.ts';

/** The address spaces of one requester ID by PASID; -1 is the traffic without one. */
export type Attachments = Map<number, AddressSpace>;

/** Which address space each (requester ID, PASID) is attached to. Memory is proportional to what is. */
export class Tables {
  readonly #byRid = new RidTable<Attachments>();

  /** What is attached for `rid`; undefined when nothing is. */
  of(rid: number): Attachments | undefined {
    return this.#byRid.get(rid);
  }

  /** Gives (`rid`, `pasid`) an empty address space, unless it has one. */
  attach(rid: number, pasid: number): AddressSpace {
    let attachments = this.#byRid.get(rid);
    if (attachments === undefined) {
      attachments = new Map<number, AddressSpace>();
      this.#byRid.set(rid, attachments);
    }
    const space = attachments.get(pasid) ?? new AddressSpace();
    attachments.set(pasid, space);
    return space;
  }

  /** Takes the address space of (`rid`, `pasid`) away; false when there was none. */
  detach(rid: number, pasid: number): boolean {
    const attachments = this.#byRid.get(rid);
    if (attachments === undefined || !attachments.delete(pasid)) return false;
    if (attachments.size === 0) this.#byRid.delete(rid);
    return true;
  }

  /** Takes everything of `rid` away, and returns the PASIDs it was, ascending. */
  detachAll(rid: number): number[] {
    const pasids = ascending(this.#byRid.get(rid)?.keys() ?? []);
    this.#byRid.delete(rid);
    return pasids;
  }

  /**
   * The address space of (`rid`, `pasid`).
   *
   * @throws VpciError `VPCI_IOMMU_MAP` when it is not attached.
   */
  space(rid: number, pasid: number): AddressSpace {
    const space = this.#byRid.get(rid)?.get(pasid);
    if (space !== undefined) return space;
    const what = pasid < 0 ? 'traffic without PASID' : `PASID 0x${pasid.toString(16)}`;
    throw new VpciError(
      'VPCI_IOMMU_MAP',
      `${what} of RID 0x${rid.toString(16)} is not attached: call attach() before map() and unmap()`,
    );
  }

  /** Requester IDs that have something attached, ascending. */
  rids(): number[] {
    return [...this.#byRid.entries()].map(([rid]) => rid);
  }

  /** All `[rid, pasid, space]`, ascending. */
  *entries(): Generator<[number, number, AddressSpace]> {
    for (const [rid, attachments] of this.#byRid.entries()) {
      for (const pasid of ascending(attachments.keys())) {
        const space = attachments.get(pasid);
        if (space !== undefined) yield [rid, pasid, space];
      }
    }
  }
}

/** PASIDs that a width of 0 (none at all) to 20 bits has. */
export function pasidCount(width: number): number {
  return width === 0 ? 0 : 2 ** width;
}

function ascending(pasids: Iterable<number>): number[] {
  return [...pasids].toSorted((left, right) => left - right);
}
