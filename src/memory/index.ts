/**
 * Guest memory: regions over buffers, spans of it for the walkers of a vIOMMU.
 *
 * @module
 */

export {
  GuestMemory,
  SPAN_ABSENT,
  SPAN_CORRUPT,
  SPAN_MISS,
  SPAN_OK,
} from './guest-memory.ts';
export type { GuestMemoryRegion, RemoteMemoryRegion } from './region.ts';
