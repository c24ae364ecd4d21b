/**
 * `vpci/linux-guest`: an unmodified Linux in QEMU that drives a remapping unit of ours, and an endpoint that sends
 * requests past it.
 *
 * @packageDocumentation
 */
export type { EngineOrder, EngineOutcome, EnginePageRequest, EngineResult } from './engine-order.ts';
export { compileGuest, guestFiles, type GuestMode } from './guest-program.ts';
export {
  type ArchiveEntry,
  CONSOLE_DEVICES,
  entriesUnder,
  initramfs,
  MODE_CHARACTER_DEVICE,
  MODE_DIRECTORY,
  MODE_LINK,
  MODE_PROGRAM,
} from './initramfs.ts';
export { type LinuxMachine, type LinuxRun, runLinux } from './qemu-machine.ts';
export { RemappingUnit, UNIT_ADDRESS, UNIT_BAR_SIZE } from './remapping-unit.ts';
export { type EngineEvents, type EngineOptions, RequestEngine } from './request-engine.ts';
