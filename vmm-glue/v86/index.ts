/**
 * `vpci/v86`: a PCI segment behind the npm emulator v86, in Node or in a browser. Nothing of v86 is imported here:
 * the embedder brings the emulator.
 *
 * @module
 */
export {
  type Arithmetic,
  Assembler,
  type Condition,
  type MemoryOperand,
  type Register,
} from './assembler.ts';
export { type AttachOptions, attachToV86, type V86Attachment } from './attach.ts';
export {
  BareMetalGuest,
  type BareMetalOptions,
  DOORBELL_PORT,
  ring,
  type V86Constructor,
  type V86Like,
} from './bare-metal-guest.ts';
export type { AccessListener, GuestAccess } from './guest-access.ts';
export { multibootImage, MULTIBOOT_LOAD_ADDRESS } from './multiboot.ts';
