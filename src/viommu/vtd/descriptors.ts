/**
 * Invalidation descriptors (VT-d 6.5.2), as masks of their 32-bit words. The type is bits 3:0 and 11:9 of word 0.
 *
 * @module
 */

export const TYPE_LOW = 0x0000_000f;
export const TYPE_HIGH = 0x0000_0e00;
export const TYPE_HIGH_SHIFT = 5;
export const TYPE_CONTEXT_CACHE = 0x01;
export const TYPE_IOTLB = 0x02;
export const TYPE_DEVICE_TLB = 0x03;
export const TYPE_WAIT = 0x05;
export const TYPE_PASID_IOTLB = 0x06;
export const TYPE_PASID_CACHE = 0x07;
export const TYPE_PASID_DEVICE_TLB = 0x08;
export const TYPE_PAGE_GROUP_RESPONSE = 0x09;

/** G, of most types. */
export const GRANULARITY = 0x0000_0030;
export const GRANULARITY_SHIFT = 4;
/** DID, and SID of a PASID-based device-TLB or page group response descriptor. */
export const UPPER_SHIFT = 16;
/** Word 1: PASID. */
export const WORD1_PASID = 0x000f_ffff;
/** Word 1 of a context-cache descriptor: FM. */
export const CONTEXT1_FM_SHIFT = 16;
/** Word 2 of the IOTLB descriptors: AM, IH. */
export const IOTLB2_AM = 0x0000_003f;
/** Wait descriptor: interrupt flag, status write. */
export const WAIT_IF = 0x0000_0010;
export const WAIT_SW = 0x0000_0020;
/** Word 2 of a device-TLB descriptor: S. */
export const DEVICE_TLB2_S = 0x0000_0001;
/** Word 2 of a PASID-based device-TLB descriptor: G, S. */
export const PASID_DEVICE_TLB2_G = 0x0000_0001;
export const PASID_DEVICE_TLB2_S = 0x0000_0800;
/** Page group response: PASID present, and the response code. */
export const RESPONSE_PP = 0x0000_0010;
export const RESPONSE_CODE = 0x0000_f000;
export const RESPONSE_CODE_SHIFT = 12;
/** Word 2 of a page group response: PRG index. */
export const RESPONSE2_PRGI = 0x0000_0ff8;
export const RESPONSE2_PRGI_SHIFT = 3;

/** Reserved bits of words 0 to 3, by type. Words 4 to 7 of a 256-bit descriptor are reserved in all. */
export const DESCRIPTOR_RSVD: Readonly<Record<number, readonly [number, number, number, number]>> = {
  [TYPE_CONTEXT_CACHE]: [0x0000_f1c0, 0xfffc_0000, 0xffff_ffff, 0xffff_ffff],
  [TYPE_IOTLB]: [0x0000_f100, 0xffff_ffff, 0x0000_0f80, 0],
  // PFSID (15:12 and 63:52) is reserved: no unit of this model has ECAP.DIT.
  [TYPE_DEVICE_TLB]: [0xffe0_f1f0, 0xffff_0000, 0x0000_0ffe, 0],
  [TYPE_WAIT]: [0xffff_f100, 0, 0x0000_0003, 0],
  [TYPE_PASID_IOTLB]: [0x0000_f1c0, 0xfff0_0000, 0x0000_0f80, 0],
  [TYPE_PASID_CACHE]: [0x0000_f1c0, 0xfff0_0000, 0xffff_ffff, 0xffff_ffff],
  [TYPE_PASID_DEVICE_TLB]: [0x0000_f000, 0xfff0_0000, 0x0000_07fe, 0],
  // Bit 66 was LPIG once, and Linux up to 6.12 still sets it.
  [TYPE_PAGE_GROUP_RESPONSE]: [0x0000_01e0, 0xfff0_0000, 0xffff_f003, 0xffff_ffff],
};
