import type { WriteHook } from '../../config/index.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import { type CapabilityRules, holds, interruptState } from './capability-rules.ts';

/** MSI Message Control, 16 bits (PCIe 7.7.1.2). */
export const MSI_CONTROL = 0x02;
export const MSI_ENABLE = 0x0001;
const MULTIPLE_MESSAGE_CAPABLE = 0x000e;
export const MSI_MULTIPLE_MESSAGE_ENABLE = 0x0070;
const EXTENDED_MESSAGE_DATA_CAPABLE = 0x0200;
const EXTENDED_MESSAGE_DATA_ENABLE = 0x0400;
const ADDRESS_64 = 0x0080;
const PER_VECTOR_MASKING = 0x0100;

/** MSI (PCIe 7.7.1): the guest's address and data are for the VMM to deliver, never for the hardware to send. */
export const defineMsi: CapabilityRules = ({ builder, image, findings }, place) => {
  const { offset } = place;
  if (!holds(place, MSI_CONTROL, 2)) return;
  const control = image.read(offset + MSI_CONTROL, 2);
  const extendedData = (control & EXTENDED_MESSAGE_DATA_CAPABLE) !== 0;
  const wide = (control & ADDRESS_64) !== 0;
  builder.register(offset + MSI_CONTROL, 2, {
    value: control,
    rw: MSI_ENABLE | MSI_MULTIPLE_MESSAGE_ENABLE | (extendedData ? EXTENDED_MESSAGE_DATA_ENABLE : 0),
    onWrite,
  });
  const latch = (register: number, size: number, rw: number): void => {
    if (holds(place, register, size))
      builder.register(offset + register, size, { value: image.read(offset + register, size), rw, onWrite });
  };
  latch(4, 4, 0xfffffffc);
  if (wide) latch(8, 4, 0xffffffff);
  const data = wide ? 12 : 8;
  latch(data, 2, 0xffff);
  if (extendedData) latch(data + 2, 2, 0xffff);
  if ((control & PER_VECTOR_MASKING) !== 0) {
    // A bit for each vector that exists; the others are reserved (PCIe 7.7.1.7).
    const vectors = 1 << Math.min(5, (control & MULTIPLE_MESSAGE_CAPABLE) >>> 1);
    latch(data + 4, 4, vectors === 32 ? 0xffffffff : (1 << vectors) - 1);
    if (!holds(place, data + 8, 4)) return;
    const pending = offset + data + 8;
    builder.register(pending, 4, { onWrite });
    if (image.read(pending, 4) !== 0) findings.push(interruptState(pending, 4, 'Pending Bits of MSI'));
  }
};

const onWrite: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.msiChanged();
};
