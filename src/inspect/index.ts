/**
 * `vpci/inspect`: dump text in and out, and the guest's view of a dump.
 *
 * @packageDocumentation
 */
export { type DumpedFunction, formatDump, parseDump } from './dump.ts';
export { type GuestView, type GuestViewOptions, guestView } from './guest-view.ts';
