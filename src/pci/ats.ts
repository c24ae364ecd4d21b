/**
 * The ATS and Page Request Extended Capabilities (PCIe 10.5).
 *
 * @module
 */

/** ATS Capability register, 16 bits (10.5.1.2). */
export const ATS_CAPABILITY = 0x04;
/** Untranslated addresses in invalidations and translations are page aligned. */
export const ATS_PAGE_ALIGNED_REQUEST = 0x0020;
/** Invalidations that apply to all PASIDs are honoured. */
export const ATS_GLOBAL_INVALIDATE_SUPPORTED = 0x0040;
/** ATS Control register, 16 bits (10.5.1.3). */
export const ATS_CONTROL = 0x06;
export const ATS_SMALLEST_TRANSLATION_UNIT = 0x001f;
export const ATS_ENABLE = 0x8000;
export const ATS_LENGTH = 8;
export const ATS_VERSION = 1;

/** Page Request Control register, 16 bits (10.5.2.2). */
export const PRI_CONTROL = 0x04;
export const PRI_ENABLE = 0x0001;
export const PRI_RESET = 0x0002;
/** Page Request Status register, 16 bits (10.5.2.3). */
export const PRI_STATUS = 0x06;
export const PRI_RESPONSE_FAILURE = 0x0001;
export const PRI_UNEXPECTED_PAGE_REQUEST_GROUP_INDEX = 0x0002;
export const PRI_STOPPED = 0x0100;
export const PRI_PRG_RESPONSE_PASID_REQUIRED = 0x8000;
/** Outstanding Page Request Capacity, 32 bits (10.5.2.4). */
export const PRI_CAPACITY = 0x08;
/** Outstanding Page Request Allocation, 32 bits (10.5.2.5). */
export const PRI_ALLOCATION = 0x0c;
export const PRI_LENGTH = 16;
export const PRI_VERSION = 1;
