/**
 * `vpci/vtd`: the Intel VT-d remapping unit.
 *
 * @module
 */

export * from '../index.ts';
export { GuestMemory, type GuestMemoryRegion, type RemoteMemoryRegion } from '../../memory/index.ts';
export type { VtdFirstStage, VtdTranslation } from './entry-view.ts';
export { VTD_FEATURES, type VtdFeatures, type VtdOptions } from './options.ts';
export { type MissingMemory, VtdIommu } from './vtd-iommu.ts';
export type { VtdIommuState, VtdLatches } from './vtd-state.ts';
