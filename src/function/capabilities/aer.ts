import { type CapabilityRules, holds } from './capability-rules.ts';

const UNCORRECTABLE_MASK = 0x08;
const UNCORRECTABLE_SEVERITY = 0x0c;
const CORRECTABLE_MASK = 0x14;
const CAPABILITIES_AND_CONTROL = 0x18;
/** ECRC Generation Enable and ECRC Check Enable. */
const ECRC_ENABLES = 0x00000140;
/** Every uncorrectable error bit that PCIe 6 defines (7.8.4.3). */
const UNCORRECTABLE = 0x0ffff030;
/** Every correctable error bit that PCIe 6 defines (7.8.4.6). */
const CORRECTABLE = 0x0000f1c1;

/**
 * Advanced Error Reporting (PCIe 7.8.4). The host owns the device's errors: the guest's masks and severities
 * latch (they are sticky) and unmask nothing; the status registers and the log read as they are.
 */
export const defineAer: CapabilityRules = ({ builder, image }, place) => {
  const sticky = (register: number, rw: number): void => {
    const at = place.offset + register;
    if (holds(place, register, 4))
      builder.register(at, 4, { value: image.read(at, 4), virtual: rw, rw, sticky: rw });
  };
  sticky(UNCORRECTABLE_MASK, UNCORRECTABLE);
  sticky(UNCORRECTABLE_SEVERITY, UNCORRECTABLE);
  sticky(CORRECTABLE_MASK, CORRECTABLE);
  sticky(CAPABILITIES_AND_CONTROL, ECRC_ENABLES);
};
