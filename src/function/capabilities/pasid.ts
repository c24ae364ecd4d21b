import type { WriteHook } from '../../config/index.ts';
import * as pasid from '../../pci/pasid.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import type { Place, RulesContext } from './capability-rules.ts';

/** What the guest is told. */
export interface ShownPasid {
  /** Max PASID Width in bits, 1..20. */
  readonly width: number;
  readonly execute: boolean;
  readonly privileged: boolean;
  /** `latch`: Control reads back what was written. `drop`: writes vanish. Neither reaches any hardware. */
  readonly control: 'latch' | 'drop';
}

/** A PASID capability as the guest sees it. */
export interface PasidCapability extends ShownPasid {
  /** Config-space offset in bytes. Migration ABI: the same inputs give the same offset, and snapshots record it. */
  readonly offset: number;
}

/**
 * The virtual PASID capability (PCIe 7.8.9), all of it from the shadow. Width and permissions are fixed;
 * Control takes Enable and the enables of what is supported, and none of it reaches the physical function.
 */
export function definePasid({ builder }: RulesContext, { offset }: Place, shown: ShownPasid): void {
  const supported =
    (shown.execute ? pasid.PASID_EXECUTE_PERMISSION_SUPPORTED : 0) |
    (shown.privileged ? pasid.PASID_PRIVILEGED_MODE_SUPPORTED : 0);
  builder.register(offset + pasid.PASID_CAPABILITY, 2, {
    value: supported | (shown.width << pasid.PASID_MAX_WIDTH_SHIFT),
  });
  builder.register(
    offset + pasid.PASID_CONTROL,
    2,
    // The enables of Execute and Privileged have the bit positions of their Supported bits.
    shown.control === 'latch' ? { rw: pasid.PASID_ENABLE | supported, onWrite: onControl } : {},
  );
}

const onControl: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.registersChanged();
};
