/**
 * `vpci/table`: the architecture-neutral vIOMMU.
 *
 * @module
 */

export * from '../index.ts';
export type { Mapping, MappingRange } from './mapping.ts';
export { TableIommu, type TableIommuOptions } from './table-iommu.ts';
export type { TableAttachmentState, TableIommuState, TableMappingState } from './table-state.ts';
