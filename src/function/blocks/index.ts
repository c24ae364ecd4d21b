/**
 * Capabilities of emulated functions as building blocks.
 *
 * @module
 */
export {
  acsCapability,
  aerCapability,
  type ExpressOptions,
  expressCapability,
  type MsiXLocation,
  msiCapability,
  msiXCapability,
  powerManagementCapability,
  rootAerCapability,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
} from './blocks.ts';
export type { CapabilityBlock } from './capability-block.ts';
export { emulatedImage, type WritableBytes } from './emulated-image.ts';
