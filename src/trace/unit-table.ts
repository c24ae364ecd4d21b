import type { Viommu } from '../viommu/index.ts';
import { TraceError } from './trace-error.ts';

/** A vIOMMU of the trace. */
interface Unit {
  readonly iommu: Viommu;
  /** Requester IDs it translates for; undefined for all. */
  readonly covers: ReadonlySet<number> | undefined;
}

/** Most vIOMMUs of a trace: each has tables of its own. */
const UNIT_LIMIT = 64;

/** The vIOMMUs of a trace by name, the newest last. Never changes: another one is another table. */
export class UnitTable {
  readonly #units: ReadonlyMap<string, Unit>;

  constructor(units: ReadonlyMap<string, Unit> = new Map()) {
    this.#units = units;
  }

  /** The table with one more, in place of one of the same name. @throws TraceError `bad-field` when there are too many. */
  with(name: string, iommu: Viommu, covers: readonly number[] | undefined): UnitTable {
    const units = new Map(this.#units);
    units.delete(name);
    if (units.size === UNIT_LIMIT) {
      throw new TraceError('bad-field', `there are ${UNIT_LIMIT} vIOMMUs: use one of their names again`);
    }
    units.set(name, { iommu, covers: covers === undefined ? undefined : new Set(covers) });
    return new UnitTable(units);
  }

  /** Each with its name. */
  *all(): Generator<readonly [name: string, iommu: Viommu]> {
    for (const [name, { iommu }] of this.#units) yield [name, iommu];
  }

  /** The newest that covers `rid`; undefined when none does. */
  for(rid: number): Viommu | undefined {
    const units = [...this.#units.values()];
    return units.findLast(({ covers }) => covers === undefined || covers.has(rid))?.iommu;
  }

  /** The one that `name` names; without a name, the one that there is. @throws TraceError `no-iommu`. */
  named(name: string | undefined): Viommu {
    const [only, ...more] = this.#units.values();
    const unit =
      name === undefined
        ? (this.#units.get('') ?? (more.length === 0 ? only : undefined))
        : this.#units.get(name);
    if (unit !== undefined) return unit.iommu;
    const names = [...this.#units.keys()].join(', ');
    throw new TraceError(
      'no-iommu',
      name !== undefined
        ? `there is no vIOMMU "${name}"`
        : more.length > 0
          ? `there are several vIOMMUs: name one of ${names}`
          : 'there is no vIOMMU yet',
    );
  }
}
