import type { WriteHook } from '../config/index.ts';
import type { FunctionHooks } from './function-hooks.ts';

/** Write hooks of the header; module-level, so that functions can share a layout. */
export const onBarWrite: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.registersChanged();
};

/** Command shares its dword with Status, from which nothing follows. */
export const onCommandWrite: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (((before ^ after) & 0xffff) !== 0) target.registersChanged();
};
