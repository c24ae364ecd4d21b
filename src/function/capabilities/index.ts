import * as id from '../../pci/capability-ids.ts';
import { defineAcs } from './acs.ts';
import { defineAdvancedFeatures } from './advanced-features.ts';
import { defineAer } from './aer.ts';
import type { CapabilityRules } from './capability-rules.ts';
import { defineExpress } from './express.ts';
import { defineMsi } from './msi.ts';
import { defineMsiX } from './msi-x.ts';
import { definePowerManagement } from './power-management.ts';

/**
 * The guest-visible capabilities, one file each. Capabilities that are in no map here read as they are and drop
 * writes.
 *
 * @module
 */

/** Write rules of standard capabilities, by ID. */
export const STANDARD_RULES: ReadonlyMap<number, CapabilityRules> = new Map<number, CapabilityRules>([
  [id.CAP_POWER_MANAGEMENT, definePowerManagement],
  [id.CAP_MSI, defineMsi],
  [id.CAP_PCI_EXPRESS, defineExpress],
  [id.CAP_MSI_X, defineMsiX],
  [id.CAP_ADVANCED_FEATURES, defineAdvancedFeatures],
]);

/** Write rules of extended capabilities, by ID. */
export const EXTENDED_RULES: ReadonlyMap<number, CapabilityRules> = new Map<number, CapabilityRules>([
  [id.EXT_CAP_AER, defineAer],
  [id.EXT_CAP_ACS, defineAcs],
]);

export { defineAts } from './ats.ts';
export { interruptState, type Place, type RulesContext, readAsIs } from './capability-rules.ts';
export { lacksEndEndPrefix, presentAs, showEndEndPrefix } from './express.ts';
export { definePasid, type PasidCapability, type ShownPasid } from './pasid.ts';
export { type PowerCapability, powerCapabilities } from './power-management.ts';
export { definePri } from './pri.ts';
