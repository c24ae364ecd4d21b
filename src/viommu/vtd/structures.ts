/**
 * The structures in guest memory (VT-d 9), as masks of their 32-bit words.
 *
 * @module
 */

/** Largest requester ID that the tables have a place for (9.1). */
export const LAST_RID = 0xffff;

/** Root entry (9.1, 9.2): 16 bytes per bus. Scalable mode: two pointers of 64 bits, lower and upper. */
export const ROOT_ENTRY_BYTES = 16;
/** Present: P in legacy mode, LP and UP in scalable mode. */
export const ROOT_P = 0x0000_0001;
export const ROOT_RSVD = 0x0000_0ffe;

/** Legacy context entry (9.3): 16 bytes per function. */
export const LEGACY_CONTEXT_BYTES = 16;
export const CONTEXT_P = 0x0000_0001;
export const CONTEXT_FPD = 0x0000_0002;
export const LEGACY_TT = 0x0000_000c;
export const LEGACY_TT_SHIFT = 2;
export const LEGACY_RSVD = 0x0000_0ff0;
/** Values of TT. */
export const TT_UNTRANSLATED_ONLY = 0x0;
export const TT_ALL = 0x1;
export const TT_PASS_THROUGH = 0x2;
/** Word 2. */
export const LEGACY2_AW = 0x0000_0007;
export const LEGACY2_DID_SHIFT = 8;
export const LEGACY2_RSVD = 0xff00_0080;

/** Scalable-mode context entry (9.4): 32 bytes per function. */
export const CONTEXT_BYTES = 32;
export const CONTEXT_DTE = 0x0000_0004;
export const CONTEXT_PASIDE = 0x0000_0008;
export const CONTEXT_PRE = 0x0000_0010;
export const CONTEXT_HPTE = 0x0000_0020;
export const CONTEXT_EPTR = 0x0000_0040;
export const CONTEXT_RSVD = 0x0000_0180;
export const CONTEXT_PDTS = 0x0000_0e00;
export const CONTEXT_PDTS_SHIFT = 9;
/** Word 2. */
export const CONTEXT2_RID_PASID = 0x000f_ffff;
export const CONTEXT2_RID_PRIV = 0x0010_0000;
export const CONTEXT2_RSVD = 0xffe0_0000;

/** PASID directory entry (9.5): 8 bytes per 64 PASIDs. */
export const DIRECTORY_ENTRY_BYTES = 8;
export const DIRECTORY_P = 0x0000_0001;
export const DIRECTORY_FPD = 0x0000_0002;
export const DIRECTORY_RSVD = 0x0000_0ffc;

/** PASID table entry (9.6): 64 bytes per PASID. */
export const PASID_ENTRY_BYTES = 64;
export const PASID_P = 0x0000_0001;
export const PASID_FPD = 0x0000_0002;
export const PASID_AW = 0x0000_001c;
export const PASID_AW_SHIFT = 2;
export const PASID_PGTT = 0x0000_01c0;
export const PASID_PGTT_SHIFT = 6;
export const PASID_SSADE = 0x0000_0200;
export const PASID_RSVD = 0x0000_0c20;
/** Values of PGTT. */
export const PGTT_FIRST_STAGE = 0x1;
export const PGTT_SECOND_STAGE = 0x2;
export const PGTT_NESTED = 0x3;
export const PGTT_PASS_THROUGH = 0x4;
/** Word 2. */
export const PASID2_DID = 0x0000_ffff;
export const PASID2_RSVD = 0xf87f_0000;
export const PASID2_PWSNP = 0x0080_0000;
export const PASID2_PGSNP = 0x0100_0000;
export const PASID2_CD = 0x0200_0000;
export const PASID2_EMTE = 0x0400_0000;
/** Word 4. */
export const PASID4_SRE = 0x0000_0001;
export const PASID4_FSPM = 0x0000_000c;
export const PASID4_FSPM_SHIFT = 2;
export const PASID4_WPE = 0x0000_0010;
export const PASID4_EAFE = 0x0000_0080;
export const PASID4_RSVD = 0x0000_0f02;
/** Words 6 to 15 are reserved: no unit of this model has HPTS. */
export const PASID_FIRST_RSVD_WORD = 6;

/** Pointers of all structures: bits 31:12 of the low word, and of a paging entry bits 51:32 in the high one. */
export const POINTER = 0xffff_f000;
export const ADDR_HIGH = 0x000f_ffff;

/** First-stage paging entry (9.7). */
export const FS_P = 0x0000_0001;
export const FS_RW = 0x0000_0002;
export const FS_US = 0x0000_0004;
export const FS_A = 0x0000_0020;
export const FS_D = 0x0000_0040;
export const FS_EA = 0x0000_0400;
/** Second-stage paging entry (9.8). */
export const SS_R = 0x0000_0001;
export const SS_W = 0x0000_0002;
export const SS_A = 0x0000_0100;
export const SS_D = 0x0000_0200;
export const SS_SNP = 0x0000_0800;
/** In place of R and W, in the high word, with RTADDR.SSIRWE. */
export const SS_IR_HIGH = 0x2000_0000;
export const SS_IW_HIGH = 0x4000_0000;
/** Page size, in both stages. */
export const PS = 0x0000_0080;
/** Bits of the address that a leaf has to leave 0; bit 12 of a large first-stage leaf is its PAT bit. */
export const FS_RSVD_1G = 0x3fff_e000;
export const FS_RSVD_2M = 0x001f_e000;
export const SS_RSVD_1G = 0x3fff_f000;
export const SS_RSVD_2M = 0x001f_f000;
