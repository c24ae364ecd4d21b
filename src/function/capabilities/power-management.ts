import type { WriteHook } from '../../config/index.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import { CAP_POWER_MANAGEMENT } from '../../pci/capability-ids.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import { type CapabilityRules, holds, type Place } from './capability-rules.ts';

/** Power Management Control/Status, 16 bits (PCIe 7.5.2.2). */
export const PM_CONTROL_STATUS = 0x04;
export const PM_POWER_STATE = 0x0003;
/** Power Management Capabilities, 16 bits (PCIe 7.5.2.1). */
const PM_CAPABILITIES = 0x02;
const D1_SUPPORT = 0x0200;
const D2_SUPPORT = 0x0400;
const NO_SOFT_RESET = 0x0008;
const PME_ENABLE = 0x0100;
const PME_STATUS = 0x8000;

/** Power Management (PCIe 7.5.2): the power state and PME latch, and no hardware changes its power state. */
export const definePowerManagement: CapabilityRules = ({ builder, image }, place) => {
  if (!holds(place, PM_CONTROL_STATUS, 2)) return;
  const register = place.offset + PM_CONTROL_STATUS;
  builder.register(register, 2, {
    value: image.read(register, 2),
    virtual: PM_POWER_STATE | PME_ENABLE | PME_STATUS,
    rw: PM_POWER_STATE | PME_ENABLE,
    rw1c: PME_STATUS,
    sticky: PME_ENABLE | PME_STATUS,
    onWrite,
  });
};

const onWrite: WriteHook<FunctionHooks> = (target, offset, before, after) => {
  if (before !== after) target.powerStateWritten(offset, before & PM_POWER_STATE, after & PM_POWER_STATE);
};

/** What a function's power management can do. */
export interface PowerCapability {
  /** Config-space offset of PMCSR. */
  readonly controlStatus: number;
  /** Power states that exist: D0 and D3hot always. */
  readonly states: readonly number[];
  /** No_Soft_Reset: the function keeps its state when it comes back from D3hot. */
  readonly keepsStateInD3: boolean;
}

/**
 * Power management of a function that shows `capabilities`, in their order; the first structure is the function's own,
 * and another one only behaves like it. `image` has the read-only registers.
 */
export function powerCapabilities(
  capabilities: readonly (Place & { readonly id: number })[],
  image: ConfigSpace,
): readonly PowerCapability[] {
  return capabilities
    .filter((one) => one.id === CAP_POWER_MANAGEMENT && holds(one, PM_CONTROL_STATUS, 2))
    .map(({ offset }) => {
      const supported = image.read(offset + PM_CAPABILITIES, 2);
      const controlStatus = offset + PM_CONTROL_STATUS;
      return {
        controlStatus,
        states: [
          0,
          ...((supported & D1_SUPPORT) === 0 ? [] : [1]),
          ...((supported & D2_SUPPORT) === 0 ? [] : [2]),
          3,
        ],
        keepsStateInD3: (image.read(controlStatus, 2) & NO_SOFT_RESET) !== 0,
      };
    });
}
