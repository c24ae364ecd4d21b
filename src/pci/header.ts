/**
 * The configuration header: register offsets in bytes and their fields (PCIe 7.5.1).
 *
 * @module
 */

/** Vendor ID, 16 bits (7.5.1.1.1). A VF reads ffffh (9.3.4.1.1). */
export const VENDOR_ID = 0x00;
/** Device ID, 16 bits (7.5.1.1.2). */
export const DEVICE_ID = 0x02;
/** Command, 16 bits (7.5.1.1.3). */
export const COMMAND = 0x04;
export const COMMAND_IO_SPACE_ENABLE = 0x0001;
export const COMMAND_MEMORY_SPACE_ENABLE = 0x0002;
export const COMMAND_BUS_MASTER_ENABLE = 0x0004;
export const COMMAND_SPECIAL_CYCLES = 0x0008;
export const COMMAND_MEMORY_WRITE_AND_INVALIDATE = 0x0010;
export const COMMAND_VGA_PALETTE_SNOOP = 0x0020;
export const COMMAND_PARITY_ERROR_RESPONSE = 0x0040;
export const COMMAND_SERR_ENABLE = 0x0100;
export const COMMAND_FAST_BACK_TO_BACK = 0x0200;
export const COMMAND_INTERRUPT_DISABLE = 0x0400;
/** Status, 16 bits (7.5.1.1.4). */
export const STATUS = 0x06;
export const STATUS_INTERRUPT = 0x0008;
export const STATUS_CAPABILITIES_LIST = 0x0010;
/** Parity and abort bits of Status that are cleared by writing 1: 8, 11, 12, 13, 14, 15. */
export const STATUS_RW1C = 0xf900;
/** Revision ID, 8 bits (7.5.1.1.5); Class Code follows at 0x09..0x0b (7.5.1.1.6). */
export const REVISION_ID = 0x08;
export const CLASS_CODE = 0x09;
/** Cache Line Size, 8 bits, RW without effect (7.5.1.1.7). */
export const CACHE_LINE_SIZE = 0x0c;
/** Latency Timer, 8 bits (7.5.1.1.8). */
export const LATENCY_TIMER = 0x0d;
/** Header Type, 8 bits (7.5.1.1.9). */
export const HEADER_TYPE = 0x0e;
export const HEADER_TYPE_LAYOUT = 0x7f;
export const HEADER_TYPE_MULTI_FUNCTION = 0x80;
/** BIST, 8 bits (7.5.1.1.10). */
export const BIST = 0x0f;
/** First of six Base Address Registers of a type 0 header (7.5.1.2.1). */
export const BASE_ADDRESS_0 = 0x10;
export const BAR_IO_SPACE = 0x1;
export const BAR_MEMORY_TYPE_64 = 0x4;
export const BAR_MEMORY_PREFETCHABLE = 0x8;
/** CardBus CIS Pointer (7.5.1.2.2). */
export const CARDBUS_CIS_POINTER = 0x28;
/** Subsystem Vendor ID and Subsystem ID, 16 bits each (7.5.1.2.3). */
export const SUBSYSTEM_VENDOR_ID = 0x2c;
export const SUBSYSTEM_ID = 0x2e;
/** Expansion ROM Base Address of a type 0 header (7.5.1.2.4). */
export const EXPANSION_ROM_BASE_ADDRESS = 0x30;
export const EXPANSION_ROM_ENABLE = 0x1;
/** Capabilities Pointer, 8 bits (7.5.1.1.11). */
export const CAPABILITIES_POINTER = 0x34;
/** Interrupt Line, 8 bits, RW without effect (7.5.1.1.12). */
export const INTERRUPT_LINE = 0x3c;
/** Interrupt Pin, 8 bits: 0 none, 1..4 INTA..INTD (7.5.1.1.13). */
export const INTERRUPT_PIN = 0x3d;

/** Type 1 header: bus numbers, 8 bits each (7.5.1.3). */
export const PRIMARY_BUS_NUMBER = 0x18;
export const SECONDARY_BUS_NUMBER = 0x19;
export const SUBORDINATE_BUS_NUMBER = 0x1a;

/** First byte after the header. */
export const HEADER_END = 0x40;
