import { VpciError } from '../../../src/index.ts';
import { permissionLetters } from '../../../src/viommu/result.ts';
import { AddressSpace } from '../../../src/viommu/table/address-space.ts';
import type { MappedEvent, TableIommu } from '../../../src/viommu/table/index.ts';
import { type PageMapping, parsePermissions } from '../../../src/viommu/table/mapping.ts';
import type { GuestRam } from '../guest-ram.ts';
import { type IommufdObjects, nameOf } from '../iommufd-objects.ts';
import { IOMMU_HWPT_ALLOC_PASID } from '../structs/index.ts';
import { type MirrorSource, NOTHING, type Wanted } from './source.ts';

interface Space {
  readonly ioas: number;
  /** What the host has mapped; mappings that grant nothing there are left out. */
  readonly mapped: AddressSpace;
}

const PAGE_SHIFT = 12n;
const PAGES = 2 ** 52;

/** The neutral model in an iommufd: an address space of the host for each of the model's, with the same mappings. */
export class TableSource implements MirrorSource {
  readonly #iommu: TableIommu;
  readonly #rid: () => number;
  readonly #objects: IommufdObjects;
  readonly #ram: GuestRam;
  readonly #spaces = new Map<number | null, Space>();
  /** Mappings that were there when the model was last looked over. */
  #found = new Map<number | null, readonly PageMapping[]>();

  constructor(iommu: TableIommu, rid: () => number, objects: IommufdObjects, ram: GuestRam) {
    this.#iommu = iommu;
    this.#rid = rid;
    this.#objects = objects;
    this.#ram = ram;
  }

  pasids(): readonly number[] {
    const rid = this.#rid();
    const mine = this.#iommu.saveState().attachments.filter((one) => one.rid === rid);
    this.#found = new Map(
      mine.map(({ pasid, mappings }) => [
        pasid,
        mappings.map(({ iovaPage, gpaPage, pages, permissions }) => ({
          first: iovaPage,
          end: iovaPage + pages,
          target: gpaPage,
          permissions: parsePermissions(permissions),
        })),
      ]),
    );
    return mine.flatMap(({ pasid }) => (pasid === null ? [] : [pasid]));
  }

  wanted(pasid: number | null): Wanted {
    if (!this.#iommu.isAttached(this.#rid(), pasid)) return NOTHING;
    if (pasid === 0) return pasidZero();
    const space = this.#spaces.get(pasid) ?? this.#open(pasid);
    return {
      kind: 'own',
      key: `ioas ${space.ioas}`,
      hwpt: { parent: space.ioas, flags: IOMMU_HWPT_ALLOC_PASID },
    };
  }

  /** It was attached just now, or detached, and has no mappings. */
  changed(pasid: number | null): void {
    this.#found.delete(pasid);
  }

  forget(pasid: number | null): void {
    const space = this.#spaces.get(pasid);
    if (space === undefined) return;
    this.#spaces.delete(pasid);
    this.#objects.destroy(space.ioas);
  }

  close(): void {
    for (const pasid of this.#spaces.keys()) this.forget(pasid);
  }

  /** Maps what the model mapped. @throws VpciError when the host refuses, or cannot have it so. */
  map({ pasid, iova, gpa, size, permissions }: MappedEvent): void {
    const space = this.#spaces.get(pasid);
    if (space === undefined) return;
    const first = Number(iova >> PAGE_SHIFT);
    this.#mapPages(space, {
      first,
      end: first + Number(size >> PAGE_SHIFT),
      target: Number(gpa >> PAGE_SHIFT),
      permissions: parsePermissions(permissions),
    });
  }

  /**
   * Unmaps what the model unmapped. A host cannot cut a mapping: one that is cut goes, and what is left of it is
   * mapped again.
   *
   * @throws VpciError when the host refuses.
   */
  unmap(pasid: number | null, iova: bigint, size: bigint): void {
    const space = this.#spaces.get(pasid);
    if (space === undefined) return;
    const first = Number(iova >> PAGE_SHIFT);
    const end = Math.min(PAGES, first + Number(size >> PAGE_SHIFT));
    const touched = space.mapped.remove(first, end);
    if (touched === undefined) return;
    const bytes = BigInt(touched.end - touched.first) << PAGE_SHIFT;
    this.#objects.unmap(space.ioas, BigInt(touched.first) << PAGE_SHIFT, bytes);
    if (touched.first < first) this.#hostMap(space.ioas, mappingAt(space.mapped, touched.first));
    if (touched.end > end) this.#hostMap(space.ioas, mappingAt(space.mapped, end));
  }

  #open(pasid: number | null): Space {
    const space = { ioas: this.#objects.allocIoas(), mapped: new AddressSpace() };
    this.#spaces.set(pasid, space);
    for (const mapping of this.#found.get(pasid) ?? []) this.#mapPages(space, mapping);
    return space;
  }

  #mapPages(space: Space, mapping: PageMapping): void {
    const letters = permissionLetters(mapping.permissions);
    if (letters.includes('p')) {
      throw new VpciError(
        'VPCI_UNSUPPORTED',
        'a mapping is for privileged requests only, which no address space of the host can say: map it without "p"',
      );
    }
    // Executing takes the right to read as well: without, the model grants nothing either.
    if (!/[rw]/.test(letters)) return;
    this.#hostMap(space.ioas, mapping);
    space.mapped.insert(mapping);
  }

  #hostMap(ioas: number, { first, end, target, permissions }: PageMapping): void {
    const letters = permissionLetters(permissions);
    const ranges = this.#ram.find(target * 4096, (end - first) * 4096);
    if (ranges === undefined) {
      throw new VpciError(
        'VPCI_UNSUPPORTED',
        `a mapping lands at 0x${(BigInt(target) << PAGE_SHIFT).toString(16)}, where the mirror was given no guest memory: give it all regions`,
      );
    }
    let iova = BigInt(first) << PAGE_SHIFT;
    for (const { address, length, writable } of ranges) {
      if (letters.includes('w') && !writable) {
        throw new VpciError(
          'VPCI_UNSUPPORTED',
          'a mapping gives the right to write guest memory that is read-only: map it without "w"',
        );
      }
      this.#objects.map({
        ioas,
        iova,
        address,
        length,
        readable: letters.includes('r'),
        writable: letters.includes('w'),
      });
      iova += BigInt(length);
    }
  }
}

/** A guest's PASID 0 beside the requests without PASID: for the host it is these. */
export function pasidZero(): Wanted {
  return {
    kind: 'refused',
    reason: 'pasid-0',
    error: new VpciError(
      'VPCI_UNSUPPORTED',
      `${nameOf(0)} cannot be attached: for Linux it is the requests without PASID; use another one`,
    ),
  };
}

function mappingAt(space: AddressSpace, page: number): PageMapping {
  return space.at(space.find(Math.floor(page / 2 ** 20), (page % 2 ** 20) << 12));
}
