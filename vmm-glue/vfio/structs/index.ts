/**
 * Structs, flags and ioctl numbers of the kernel, in one place.
 *
 * @module
 */
export * from './iommufd.ts';
export { type Ioctl, StructBuffer, type StructLayout } from './layout.ts';
export * from './vfio.ts';
