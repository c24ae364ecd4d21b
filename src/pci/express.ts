/**
 * The PCI Express Capability structure: register offsets from its start, and fields (PCIe 7.5.3).
 *
 * @module
 */

/** PCI Express Capabilities register, 16 bits (7.5.3.2). */
export const EXP_CAPABILITIES = 0x02;
export const EXP_CAPABILITY_VERSION = 0x000f;
export const EXP_DEVICE_PORT_TYPE = 0x00f0;
/** Shift of {@link EXP_DEVICE_PORT_TYPE}. */
export const EXP_DEVICE_PORT_TYPE_SHIFT = 4;
export const EXP_SLOT_IMPLEMENTED = 0x0100;

/** Device/Port Type (7.5.3.2, table 7-19). */
export const DEVICE_TYPE_ENDPOINT = 0x0;
export const DEVICE_TYPE_LEGACY_ENDPOINT = 0x1;
export const DEVICE_TYPE_ROOT_PORT = 0x4;
export const DEVICE_TYPE_UPSTREAM_PORT = 0x5;
export const DEVICE_TYPE_DOWNSTREAM_PORT = 0x6;
export const DEVICE_TYPE_PCIE_TO_PCI_BRIDGE = 0x7;
export const DEVICE_TYPE_PCI_TO_PCIE_BRIDGE = 0x8;
export const DEVICE_TYPE_RC_INTEGRATED_ENDPOINT = 0x9;
export const DEVICE_TYPE_RC_EVENT_COLLECTOR = 0xa;

/** Device Capabilities, 32 bits (7.5.3.3). */
export const EXP_DEVICE_CAPABILITIES = 0x04;
export const EXP_FUNCTION_LEVEL_RESET_CAPABILITY = 0x10000000;
/** Device Control, 16 bits (7.5.3.4). */
export const EXP_DEVICE_CONTROL = 0x08;
/** Correctable, non-fatal, fatal and unsupported request reporting. */
export const EXP_ERROR_REPORTING_ENABLES = 0x000f;
export const EXP_ENABLE_RELAXED_ORDERING = 0x0010;
export const EXP_MAX_PAYLOAD_SIZE = 0x00e0;
export const EXP_EXTENDED_TAG_ENABLE = 0x0100;
export const EXP_PHANTOM_FUNCTIONS_ENABLE = 0x0200;
export const EXP_AUX_POWER_PM_ENABLE = 0x0400;
export const EXP_ENABLE_NO_SNOOP = 0x0800;
export const EXP_MAX_READ_REQUEST_SIZE = 0x7000;
export const EXP_INITIATE_FUNCTION_LEVEL_RESET = 0x8000;
/** Device Status, 16 bits (7.5.3.5). */
export const EXP_DEVICE_STATUS = 0x0a;
/** Link Capabilities, 32 bits (7.5.3.6). */
export const EXP_LINK_CAPABILITIES = 0x0c;
/** Link Control and Link Status, 16 bits each (7.5.3.7, 7.5.3.8). */
export const EXP_LINK_CONTROL = 0x10;
export const EXP_LINK_STATUS = 0x12;
/** ASPM, read completion boundary, common clock, extended synch. */
export const EXP_LINK_CONTROL_RW = 0x00cb;
export const EXP_LINK_DISABLE = 0x0010;
/** Slot Capabilities, Slot Control, Slot Status (7.5.3.9 to 7.5.3.11). */
export const EXP_SLOT_CAPABILITIES = 0x14;
export const EXP_SLOT_CONTROL = 0x18;
export const EXP_SLOT_STATUS = 0x1a;
/** Root Control, Root Capabilities, Root Status (7.5.3.12 to 7.5.3.14). */
export const EXP_ROOT_CONTROL = 0x1c;
export const EXP_ROOT_CAPABILITIES = 0x1e;
export const EXP_ROOT_STATUS = 0x20;
/** System error, PME interrupt and CRS visibility enables. */
export const EXP_ROOT_CONTROL_RW = 0x001f;
/** PME Status. */
export const EXP_ROOT_STATUS_RW1C = 0x00010000;
/** Device Capabilities 2, 32 bits (7.5.3.15). */
export const EXP_DEVICE_CAPABILITIES_2 = 0x24;
export const EXP_EXTENDED_FMT_FIELD_SUPPORTED = 0x00100000;
export const EXP_END_END_TLP_PREFIX_SUPPORTED = 0x00200000;
/** 01b one, 10b two, 11b three, 00b four. */
export const EXP_MAX_END_END_TLP_PREFIXES = 0x00c00000;
export const EXP_MAX_END_END_TLP_PREFIXES_ONE = 0x00400000;
/** Device Control 2, 16 bits (7.5.3.16). */
export const EXP_DEVICE_CONTROL_2 = 0x28;
/** Link Capabilities 2, Link Control 2, Link Status 2 (7.5.3.18 to 7.5.3.20). */
export const EXP_LINK_CAPABILITIES_2 = 0x2c;
export const EXP_LINK_CONTROL_2 = 0x30;
export const EXP_LINK_STATUS_2 = 0x32;
/** End of a version 2 structure. */
export const EXP_LENGTH_V2 = 0x3c;
