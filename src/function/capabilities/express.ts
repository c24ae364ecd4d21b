import type { WriteHook } from '../../config/index.ts';
import * as exp from '../../pci/express.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import * as slot from '../port/slot-registers.ts';
import { type CapabilityRules, holds, type Place, type RulesContext } from './capability-rules.ts';

/** Device Control bits that only latch: error reporting, sizes and tags are the host's to set on the real link. */
const LATCHED =
  exp.EXP_ERROR_REPORTING_ENABLES |
  exp.EXP_MAX_PAYLOAD_SIZE |
  exp.EXP_EXTENDED_TAG_ENABLE |
  exp.EXP_AUX_POWER_PM_ENABLE |
  exp.EXP_MAX_READ_REQUEST_SIZE;
/** Device Control bits that say how the device itself may behave; a driver that clears them means the hardware. */
const FORWARDED = exp.EXP_ENABLE_RELAXED_ORDERING | exp.EXP_ENABLE_NO_SNOOP;
/** Device Control 2: completion timeout, IDO, LTR, 10-bit tags and OBFF latch. */
const LATCHED_2 = 0x771f;
/** Device Control 2: AtomicOp Requester Enable, which a driver sets for the hardware. */
const FORWARDED_2 = 0x0040;
/** Reset values (PCIe 7.5.3.4): Relaxed Ordering and No Snoop on, Max Read Request Size 512 bytes. */
const DEVICE_CONTROL_RESET = 0x2810;

/** The PCI Express Capability (PCIe 7.5.3) of an endpoint. */
export const defineExpress: CapabilityRules = (context, place) => {
  const { builder, image, physical } = context;
  const { offset } = place;
  if (!holds(place, exp.EXP_DEVICE_CONTROL, 4)) return;
  const control = offset + exp.EXP_DEVICE_CONTROL;
  const resettable =
    (image.read(offset + exp.EXP_DEVICE_CAPABILITIES, 4) & exp.EXP_FUNCTION_LEVEL_RESET_CAPABILITY) !== 0;
  builder.register(control, 2, {
    value: image.read(control, 2) & ~exp.EXP_INITIATE_FUNCTION_LEVEL_RESET,
    // What neither latches nor passes reads as the device has it now.
    ...(physical ? { virtual: LATCHED | exp.EXP_INITIATE_FUNCTION_LEVEL_RESET } : {}),
    rw: physical ? LATCHED : LATCHED | FORWARDED,
    reset: DEVICE_CONTROL_RESET,
    sticky: exp.EXP_AUX_POWER_PM_ENABLE,
    keptByFlr: exp.EXP_MAX_PAYLOAD_SIZE,
    ...(resettable ? { onWrite: onDeviceControl } : {}),
  });
  if (physical) builder.forwardBits(control, 2, FORWARDED);
  if (holds(place, exp.EXP_DEVICE_CONTROL_2, 2)) {
    const control2 = offset + exp.EXP_DEVICE_CONTROL_2;
    builder.register(control2, 2, {
      value: image.read(control2, 2),
      ...(physical ? { virtual: LATCHED_2 } : {}),
      rw: physical ? LATCHED_2 : LATCHED_2 | FORWARDED_2,
    });
    if (physical) builder.forwardBits(control2, 2, FORWARDED_2);
  }
  if (!physical) definePortControls(context, place);
};

/** Link, slot and root registers of an emulated port (PCIe 7.5.3.7 to 7.5.3.14); an endpoint has a link only. */
function definePortControls({ builder, image }: RulesContext, place: Place): void {
  const { offset } = place;
  const capabilities = image.read(offset + exp.EXP_CAPABILITIES, 2);
  const type = (capabilities & exp.EXP_DEVICE_PORT_TYPE) >>> exp.EXP_DEVICE_PORT_TYPE_SHIFT;
  if (type !== exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT) {
    const isAbove = type === exp.DEVICE_TYPE_ROOT_PORT || type === exp.DEVICE_TYPE_DOWNSTREAM_PORT;
    // Link Disable is reserved at the lower end of a link (PCIe 7.5.3.7).
    const rw = isAbove ? exp.EXP_LINK_CONTROL_RW | exp.EXP_LINK_DISABLE : exp.EXP_LINK_CONTROL_RW;
    builder.register(offset + exp.EXP_LINK_CONTROL, 2, {
      rw,
      keptByFlr: rw,
      ...(isAbove ? { onWrite: onLinkControl } : {}),
    });
  }
  if ((capabilities & exp.EXP_SLOT_IMPLEMENTED) !== 0 && holds(place, exp.EXP_SLOT_CONTROL, 4)) {
    builder.register(offset + exp.EXP_SLOT_CONTROL, 2, {
      value: slot.CONTROL_INDICATORS_OFF,
      rw: slot.CONTROL_RW,
      reset: slot.CONTROL_INDICATORS_OFF,
      onWrite: onSlotControl,
    });
    builder.register(offset + exp.EXP_SLOT_STATUS, 2, { rw1c: slot.STATUS_RW1C });
  }
  if (type === exp.DEVICE_TYPE_ROOT_PORT && holds(place, exp.EXP_ROOT_STATUS, 4)) {
    builder.register(offset + exp.EXP_ROOT_CONTROL, 2, { rw: exp.EXP_ROOT_CONTROL_RW });
    builder.register(offset + exp.EXP_ROOT_STATUS, 4, { rw1c: exp.EXP_ROOT_STATUS_RW1C });
  }
}

/**
 * What a shown PASID needs in Device Capabilities 2 (PCIe 7.5.3.15): End-End TLP Prefix and Extended Fmt
 * supported. Max End-End TLP Prefixes becomes one where there were none, and stays where there were.
 */
export function showEndEndPrefix({ builder, image }: RulesContext, place: Place): void {
  const register = place.offset + exp.EXP_DEVICE_CAPABILITIES_2;
  const supported = exp.EXP_EXTENDED_FMT_FIELD_SUPPORTED | exp.EXP_END_END_TLP_PREFIX_SUPPORTED;
  const hasPrefix = (image.read(register, 4) & exp.EXP_END_END_TLP_PREFIX_SUPPORTED) !== 0;
  builder.register(register, 4, {
    virtual: hasPrefix ? supported : supported | exp.EXP_MAX_END_END_TLP_PREFIXES,
    value: hasPrefix ? supported : supported | exp.EXP_MAX_END_END_TLP_PREFIXES_ONE,
  });
}

/** True when {@link showEndEndPrefix} would change what the image has. */
export function lacksEndEndPrefix(image: RulesContext['image'], offset: number): boolean {
  const needed = exp.EXP_EXTENDED_FMT_FIELD_SUPPORTED | exp.EXP_END_END_TLP_PREFIX_SUPPORTED;
  return (image.read(offset + exp.EXP_DEVICE_CAPABILITIES_2, 4) & needed) !== needed;
}

/** Shows another Device/Port Type (PCIe 7.5.3.2); an RC integrated endpoint has no link, so those registers read 0. */
export function presentAs({ builder }: RulesContext, place: Place, type: number): void {
  builder.register(place.offset + exp.EXP_CAPABILITIES, 2, {
    virtual: exp.EXP_DEVICE_PORT_TYPE,
    value: type << exp.EXP_DEVICE_PORT_TYPE_SHIFT,
  });
  if (type !== exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT) return;
  for (const register of [
    exp.EXP_LINK_CAPABILITIES,
    exp.EXP_LINK_CONTROL,
    exp.EXP_LINK_CAPABILITIES_2,
    exp.EXP_LINK_CONTROL_2,
  ]) {
    if (holds(place, register, 4)) builder.register(place.offset + register, 4, {});
  }
}

const onDeviceControl: WriteHook<FunctionHooks> = (target, _offset, _before, _after, written) => {
  if ((written & exp.EXP_INITIATE_FUNCTION_LEVEL_RESET) !== 0) target.initiateReset('flr');
};

const onLinkControl: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (((before ^ after) & exp.EXP_LINK_DISABLE) !== 0)
    target.linkChanged((after & exp.EXP_LINK_DISABLE) !== 0);
};

const onSlotControl: WriteHook<FunctionHooks> = (target, _offset, before) => {
  target.slotControlWritten(before & 0xffff);
};
