import { type CapabilityRules, holds } from './capability-rules.ts';

/** Power Management Control/Status, 16 bits (PCIe 7.5.2.2). */
export const PM_CONTROL_STATUS = 0x04;
export const PM_POWER_STATE = 0x0003;
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
  });
};
