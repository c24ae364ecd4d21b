import { VpciError } from '../../../src/index.ts';
import type { VtdFirstStage, VtdIommu, VtdTranslation } from '../../../src/viommu/vtd/index.ts';
import type { GuestRam } from '../guest-ram.ts';
import { type IommufdObjects, nameOf, type VtdS1 } from '../iommufd-objects.ts';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_VTD_S1_EAFE,
  IOMMU_VTD_S1_SRE,
  IOMMU_VTD_S1_WPE,
} from '../structs/index.ts';
import { type MirrorSource, NOTHING, type Wanted } from './source.ts';
import { pasidZero } from './table-source.ts';

/** A VT-d unit in an iommufd: all of guest memory as the second stage, and on it the guest's first stages. */
export class VtdSource implements MirrorSource {
  readonly #iommu: VtdIommu;
  readonly #rid: () => number;
  readonly #objects: IommufdObjects;
  readonly #ram: GuestRam;
  readonly #bypass: boolean;
  readonly #limit: number;
  #parent: { readonly ioas: number; readonly hwpt: number } | undefined;

  /** `bypass`: all of memory is reached while translation is off. `limit`: PASIDs at most. */
  constructor(
    iommu: VtdIommu,
    rid: () => number,
    objects: IommufdObjects,
    ram: GuestRam,
    bypass: boolean,
    limit: number,
  ) {
    this.#iommu = iommu;
    this.#rid = rid;
    this.#objects = objects;
    this.#ram = ram;
    this.#bypass = bypass;
    this.#limit = limit;
  }

  pasids(): readonly number[] | undefined {
    return this.#iommu.presentPasids(this.#rid(), this.#limit);
  }

  wanted(pasid: number | null): Wanted {
    const view = this.#iommu.viewTranslation(this.#rid(), pasid);
    switch (view.kind) {
      case 'none':
        return NOTHING;
      case 'off':
        return this.#bypass && pasid === null ? this.#shared() : NOTHING;
      case 'pass-through':
        return pasid === 0 ? pasidZero() : this.#shared();
      case 'first-stage':
        return pasid === 0 || view.firstStage === undefined ? pasidZero() : this.#nested(view.firstStage);
      case 'second-stage':
      case 'nested':
      case 'pending':
      default:
        return cannotBe(pasid, view);
    }
  }

  /** By whose entry requests without PASID go; undefined in legacy mode. */
  ridPasid(): number | undefined {
    return this.#iommu.viewTranslation(this.#rid(), null).pasid;
  }

  forget(): void {}

  close(): void {
    if (this.#parent === undefined) return;
    this.#objects.destroy(this.#parent.hwpt);
    this.#objects.destroy(this.#parent.ioas);
    this.#parent = undefined;
  }

  #shared(): Wanted {
    return { kind: 'shared', hwpt: this.#second() };
  }

  #nested(stage: VtdFirstStage): Wanted {
    const vtdS1 = toVtdS1(stage);
    const { flags, table, addressWidth } = vtdS1;
    return {
      kind: 'own',
      key: `first stage ${table.toString(16)} ${flags} ${addressWidth}`,
      hwpt: { parent: this.#second(), flags: IOMMU_HWPT_ALLOC_PASID, vtdS1 },
    };
  }

  /** The page table of the second stage: guest-physical addresses, all of guest memory. */
  #second(): number {
    if (this.#parent !== undefined) return this.#parent.hwpt;
    const ioas = this.#objects.allocIoas();
    try {
      for (const { gpa, address, length, writable } of this.#ram.ranges) {
        this.#objects.map({ ioas, iova: BigInt(gpa), address, length, readable: true, writable });
      }
      const flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
      const hwpt = this.#objects.allocHwpt({ parent: ioas, flags });
      this.#parent = { ioas, hwpt };
      return hwpt;
    } catch (error) {
      this.#objects.destroy(ioas);
      throw error;
    }
  }
}

function toVtdS1(stage: VtdFirstStage): VtdS1 {
  const { table, levels, supervisorRequests, writeProtect, extendedAccessed } = stage;
  return {
    table,
    addressWidth: levels === 5 ? 57 : 48,
    flags:
      (supervisorRequests ? IOMMU_VTD_S1_SRE : 0) |
      (writeProtect ? IOMMU_VTD_S1_WPE : 0) |
      (extendedAccessed ? IOMMU_VTD_S1_EAFE : 0),
  };
}

function cannotBe(pasid: number | null, { kind }: VtdTranslation): Wanted {
  const why =
    kind === 'pending'
      ? 'its tables are in memory that is reached by messages, which no IOMMU of the host can walk: map guest memory'
      : `the guest uses ${kind} translation, and Linux gives the hardware first-stage tables only: switch the second stage of the unit off (secondStage: false)`;
  return {
    kind: 'refused',
    reason: 'unsupported',
    error: new VpciError('VPCI_UNSUPPORTED', `${nameOf(pasid)} cannot be attached: ${why}`),
  };
}
