import type { WriteHook } from '../../config/index.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import { type CapabilityRules, holds } from './capability-rules.ts';

/** MSI-X Message Control, 16 bits (PCIe 7.7.2.2). */
export const MSI_X_CONTROL = 0x02;
export const MSI_X_ENABLE = 0x8000;
export const MSI_X_FUNCTION_MASK = 0x4000;

/** MSI-X (PCIe 7.7.2): Enable and Function Mask latch; table size and the two locations read as they are. */
export const defineMsiX: CapabilityRules = ({ builder, image }, place) => {
  if (!holds(place, MSI_X_CONTROL, 2)) return;
  const register = place.offset + MSI_X_CONTROL;
  builder.register(register, 2, {
    value: image.read(register, 2),
    rw: MSI_X_ENABLE | MSI_X_FUNCTION_MASK,
    onWrite,
  });
};

const onWrite: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.msiXChanged();
};
