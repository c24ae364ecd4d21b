import type { ConfigLayout } from './config-layout.ts';

/**
 * Layouts in use, so that functions of the same make share one: 65,536 of them then cost a shadow each and a
 * single set of masks. The references are weak; a layout goes with the last function that uses it.
 */
export class LayoutCache<Target> {
  readonly #byChecksum = new Map<number, WeakRef<ConfigLayout<Target>>[]>();

  /** An equal layout that is in use already, else `layout` itself. */
  share(layout: ConfigLayout<Target>): ConfigLayout<Target> {
    const checksum = checksumOf(layout);
    const alive: WeakRef<ConfigLayout<Target>>[] = [];
    for (const reference of this.#byChecksum.get(checksum) ?? []) {
      const known = reference.deref();
      if (known === undefined) continue;
      if (equal(known, layout)) return known;
      alive.push(reference);
    }
    alive.push(new WeakRef(layout));
    this.#byChecksum.set(checksum, alive);
    return layout;
  }
}

function wordArrays<Target>(layout: ConfigLayout<Target>): readonly (Int32Array | Uint8Array)[] {
  const { virtual, rw, rw1c, forward, savedForward, hook, resetMask, resetValue, keptByFlr } = layout;
  return [virtual, rw, rw1c, forward, savedForward, hook, resetMask, resetValue, keptByFlr];
}

function checksumOf<Target>(layout: ConfigLayout<Target>): number {
  let sum = layout.size;
  for (const words of wordArrays(layout)) {
    for (const word of words) sum = Math.imul(sum ^ word, 0x01000193);
  }
  return sum;
}

function equal<Target>(a: ConfigLayout<Target>, b: ConfigLayout<Target>): boolean {
  const left = wordArrays(a);
  const right = wordArrays(b);
  return (
    a.size === b.size &&
    left.every((words, i) => words.every((word, at) => word === right[i]?.[at])) &&
    a.hooks.length === b.hooks.length &&
    a.hooks.every((hook, i) => hook === b.hooks[i]) &&
    a.owners.length === b.owners.length &&
    a.owners.every((owner, i) => {
      const other = b.owners[i];
      return (
        other !== undefined &&
        owner.start === other.start &&
        owner.end === other.end &&
        owner.name === other.name &&
        owner.source === other.source
      );
    })
  );
}
