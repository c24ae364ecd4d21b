import type { WriteHook } from '../../config/index.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import { type CapabilityRules, holds } from './capability-rules.ts';

/** AF Capabilities, 8 bits, and AF Control, 8 bits (PCI ECN Advanced Capabilities for Conventional PCI). */
const AF_CAPABILITIES = 0x03;
const AF_CONTROL = 0x04;
const FLR_SUPPORTED = 0x02;
const INITIATE_FLR = 0x01;

/** Advanced Features: the FLR of functions without a PCI Express Capability. */
export const defineAdvancedFeatures: CapabilityRules = ({ builder, image }, place) => {
  if (!holds(place, AF_CONTROL, 1)) return;
  if ((image.read(place.offset + AF_CAPABILITIES, 1) & FLR_SUPPORTED) === 0) return;
  builder.register(place.offset + AF_CONTROL, 1, { virtual: INITIATE_FLR, onWrite: onControl });
};

const onControl: WriteHook<FunctionHooks> = (target, _offset, _before, _after, written) => {
  if ((written & INITIATE_FLR) !== 0) target.initiateReset('flr');
};
