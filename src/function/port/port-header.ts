import type { WriteHook } from '../../config/index.ts';
import * as reg from '../../pci/header.ts';
import type { RulesContext } from '../capabilities/index.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import * as port from './port-registers.ts';

/** Parity, SERR#, ISA, VGA, VGA 16-bit decode, and Secondary Bus Reset. */
const BRIDGE_CONTROL_RW = 0x005f;

/** The writable registers of an emulated bridge's type 1 header. */
export function definePortHeader({ builder }: RulesContext): void {
  builder.register(reg.PRIMARY_BUS_NUMBER, 4, { rw: 0x00ffffff, onWrite: onBusNumbers });
  builder.register(port.IO_BASE, 2, { rw: 0xf0f0, onWrite: onWindow });
  builder.register(port.SECONDARY_STATUS, 2, { rw1c: reg.STATUS_RW1C, onWrite: onWindow });
  builder.register(port.MEMORY_BASE, 4, { rw: 0xfff0fff0, onWrite: onWindow });
  builder.register(port.PREFETCHABLE_BASE, 4, {
    value: port.PREFETCHABLE_64 | (port.PREFETCHABLE_64 << 16),
    rw: 0xfff0fff0,
    reset: port.PREFETCHABLE_64 | (port.PREFETCHABLE_64 << 16),
    onWrite: onWindow,
  });
  builder.register(port.PREFETCHABLE_BASE_UPPER, 4, { rw: 0xffffffff, onWrite: onWindow });
  builder.register(port.PREFETCHABLE_LIMIT_UPPER, 4, { rw: 0xffffffff, onWrite: onWindow });
  builder.register(port.BRIDGE_CONTROL, 2, { rw: BRIDGE_CONTROL_RW, onWrite: onBridgeControl });
}

const onBusNumbers: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.busNumbersChanged();
};

const onWindow: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.windowChanged();
};

const onBridgeControl: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  const reset = port.BRIDGE_CONTROL_SECONDARY_BUS_RESET << 16;
  if (((before ^ after) & reset) !== 0) target.linkChanged((after & reset) !== 0);
};
