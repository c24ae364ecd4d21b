import { type CapabilityRules, holds } from './capability-rules.ts';

/** ACS Capability and ACS Control, 16 bits each (PCIe 7.7.11). */
export const ACS_CAPABILITY = 0x04;
export const ACS_CONTROL = 0x06;
/** The enables, at the positions of the bits that say which of them exist. */
const ENABLES = 0x00ff;

/**
 * Access Control Services (PCIe 7.7.11). The enables of what is supported latch: Linux sets them at boot, reads
 * them back, and refuses PASID for a function of a multi-function device where they are clear.
 */
export const defineAcs: CapabilityRules = ({ builder, image }, place) => {
  if (!holds(place, ACS_CONTROL, 2)) return;
  const register = place.offset + ACS_CONTROL;
  const rw = image.read(place.offset + ACS_CAPABILITY, 2) & ENABLES;
  builder.register(register, 2, { value: image.read(register, 2), virtual: rw, rw });
};
