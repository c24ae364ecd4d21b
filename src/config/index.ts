/**
 * The config-space engine: who owns each bit, and accesses of any size and alignment that never span owners.
 *
 * @module
 */
export type { ConfigLayout, Owner, WriteHook } from './config-layout.ts';
export { LayoutBuilder } from './layout-builder.ts';
export { LayoutCache } from './layout-cache.ts';
export { type SavedRegisters, VirtualConfigSpace } from './virtual-config-space.ts';
