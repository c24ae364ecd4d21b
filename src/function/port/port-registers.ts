/**
 * The type 1 header of a bridge: register offsets in bytes, and fields (PCIe 7.5.1.3).
 *
 * @module
 */

/** I/O Base and I/O Limit, 8 bits each: address bits 15:12 in their upper nibbles (7.5.1.3.6). */
export const IO_BASE = 0x1c;
export const IO_LIMIT = 0x1d;
/** Secondary Status, 16 bits (7.5.1.3.7). */
export const SECONDARY_STATUS = 0x1e;
/** Memory Base and Memory Limit, 16 bits each: address bits 31:20 in bits 15:4 (7.5.1.3.8). */
export const MEMORY_BASE = 0x20;
export const MEMORY_LIMIT = 0x22;
/** Prefetchable Memory Base and Limit, the same, with the upper 32 bits in their own registers (7.5.1.3.9). */
export const PREFETCHABLE_BASE = 0x24;
export const PREFETCHABLE_LIMIT = 0x26;
export const PREFETCHABLE_BASE_UPPER = 0x28;
export const PREFETCHABLE_LIMIT_UPPER = 0x2c;
/** Bits 3:0 of the prefetchable registers: 64-bit addresses. */
export const PREFETCHABLE_64 = 0x1;
/** Bridge Control, 16 bits (7.5.1.3.13). */
export const BRIDGE_CONTROL = 0x3e;
export const BRIDGE_CONTROL_SECONDARY_BUS_RESET = 0x0040;
