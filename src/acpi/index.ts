/**
 * `vpci/acpi`: tables that tell a guest about what this library emulates.
 *
 * @packageDocumentation
 */
export {
  type AtcReporting,
  type AtsReporting,
  type DeviceScope,
  type DmarTable,
  dmarTable,
  type RemappingUnit,
} from './dmar.ts';
export { type McfgRange, mcfgTable } from './mcfg.ts';
export type { TableIdentity } from './table-bytes.ts';
