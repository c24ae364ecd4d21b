/**
 * The registers of a VT-d unit (VT-d 11.4): byte offsets, and fields as masks of 32-bit words. `_HIGH` fields
 * are those of bits 63:32 of a register of 64 bits.
 *
 * @module
 */

/** Bytes of the register block. */
export const REGISTER_BYTES = 0x1000;

/** VER_REG (11.4.1): major version 7:4, minor 3:0. */
export const VER = 0x00;
/** CAP_REG (11.4.2), 64 bits. */
export const CAP = 0x08;
export const CAP_RWBF = 0x0000_0010;
export const CAP_CM = 0x0000_0080;
/** Shift of SAGAW: bit 1 = 39 bits, bit 2 = 48, bit 3 = 57. */
export const CAP_SAGAW_SHIFT = 8;
/** Shift of MGAW, whose value is the width less 1. */
export const CAP_MGAW_SHIFT = 16;
/** Shift of FRO in the low word; the field crosses into the high word. */
export const CAP_FRO_SHIFT = 24;
export const CAP_SSLPS_2M_HIGH = 0x0000_0004;
export const CAP_SSLPS_1G_HIGH = 0x0000_0008;
export const CAP_PSI_HIGH = 0x0000_0080;
/** Shift of NFR in the high word: fault recording registers less 1. */
export const CAP_NFR_SHIFT_HIGH = 8;
/** Shift of MAMV in the high word. */
export const CAP_MAMV_SHIFT_HIGH = 16;
export const CAP_DWD_HIGH = 0x0040_0000;
export const CAP_DRD_HIGH = 0x0080_0000;
export const CAP_FS1GP_HIGH = 0x0100_0000;
export const CAP_FS5LP_HIGH = 0x1000_0000;
export const CAP_ESRTPS_HIGH = 0x8000_0000;

/** ECAP_REG (11.4.3), 64 bits. */
export const ECAP = 0x10;
export const ECAP_C = 0x0000_0001;
export const ECAP_QI = 0x0000_0002;
export const ECAP_DT = 0x0000_0004;
export const ECAP_PT = 0x0000_0040;
export const ECAP_SC = 0x0000_0080;
/** Shift of IRO: offset of the IOTLB registers in units of 16 bytes. */
export const ECAP_IRO_SHIFT = 8;
export const ECAP_MTS = 0x0200_0000;
export const ECAP_NEST = 0x0400_0000;
export const ECAP_PRS = 0x2000_0000;
export const ECAP_SRS = 0x8000_0000;
export const ECAP_NWFS_HIGH = 0x0000_0002;
export const ECAP_EAFS_HIGH = 0x0000_0004;
/** Shift of PSS in the high word: PASID width less 1. */
export const ECAP_PSS_SHIFT_HIGH = 3;
export const ECAP_PASID_HIGH = 0x0000_0100;
export const ECAP_PDS_HIGH = 0x0000_0400;
export const ECAP_SMTS_HIGH = 0x0000_0800;
export const ECAP_SSADS_HIGH = 0x0000_2000;
export const ECAP_SSTS_HIGH = 0x0000_4000;
export const ECAP_FSTS_HIGH = 0x0000_8000;
export const ECAP_SMPWCS_HIGH = 0x0001_0000;
export const ECAP_RPS_HIGH = 0x0002_0000;
export const ECAP_ADMS_HIGH = 0x0010_0000;
export const ECAP_RPRIVS_HIGH = 0x0020_0000;
export const ECAP_PTRS_HIGH = 0x0100_0000;
export const ECAP_SSIRWS_HIGH = 0x0200_0000;
export const ECAP_SMS_HIGH = 0x0400_0000;

/** GCMD_REG (11.4.4.1), write only, and GSTS_REG (11.4.4.2): the same bits. */
export const GCMD = 0x18;
export const GSTS = 0x1c;
export const GCMD_TE = 0x8000_0000;
/** One-shot. */
export const GCMD_SRTP = 0x4000_0000;
/** One-shot. */
export const GCMD_WBF = 0x0800_0000;
export const GCMD_QIE = 0x0400_0000;

/** RTADDR_REG (11.4.5), 64 bits. */
export const RTADDR = 0x20;
export const RTADDR_SSIRWE = 0x0000_0080;
export const RTADDR_TTM = 0x0000_0c00;
export const RTADDR_TTM_SHIFT = 10;
/** Values of TTM. */
export const TTM_LEGACY = 0x0;
export const TTM_SCALABLE = 0x1;
export const TTM_ABORT_DMA = 0x3;

/** CCMD_REG (11.4.6.1), 64 bits: only below major version 6. */
export const CCMD = 0x28;
export const CCMD_FM_HIGH = 0x0000_0003;
/** Shift of CAIG in the high word. */
export const CCMD_CAIG_SHIFT_HIGH = 27;
/** Shift of CIRG in the high word. */
export const CCMD_CIRG_SHIFT_HIGH = 29;
export const CCMD_ICC_HIGH = 0x8000_0000;

/** FSTS_REG (11.4.7.1). */
export const FSTS = 0x34;
export const FSTS_PFO = 0x0000_0001;
/** Computed: some fault recording register holds a fault. */
export const FSTS_PPF = 0x0000_0002;
export const FSTS_IQE = 0x0000_0010;
export const FSTS_ICE = 0x0000_0020;
export const FSTS_ITE = 0x0000_0040;
export const FSTS_FRI = 0x0000_ff00;
export const FSTS_FRI_SHIFT = 8;

/** FECTL_REG (11.4.7.2), the first of four registers: control, data, address, upper address. */
export const FECTL = 0x38;
/** Of every event control register: masked, and pending while it is. */
export const EVENT_IM = 0x8000_0000;
export const EVENT_IP = 0x4000_0000;
/** Offsets from the control register of an event (11.4.7.3 to 11.4.7.5). */
export const EVENT_DATA = 0x4;
export const EVENT_ADDRESS = 0x8;
export const EVENT_UPPER_ADDRESS = 0xc;

/** PMEN_REG (11.4.8.1): protected memory, not supported. */
export const PMEN = 0x64;

/** IQH_REG (11.4.9.1), 64 bits, read only. */
export const IQH = 0x80;
/** IQT_REG (11.4.9.2), 64 bits. */
export const IQT = 0x88;
/** Bits of IQH and IQT: a byte offset in units of 16. */
export const IQ_OFFSET = 0x0007_fff0;
/** IQA_REG (11.4.9.3), 64 bits. */
export const IQA = 0x90;
export const IQA_QS = 0x0000_0007;
export const IQA_DW = 0x0000_0800;
/** ICS_REG (11.4.9.4). */
export const ICS = 0x9c;
export const ICS_IWC = 0x0000_0001;
/** IECTL_REG (11.4.9.5), the first of four registers. */
export const IECTL = 0xa0;
/** IQERCD_REG (11.4.9.9), 64 bits: ITESID 47:32. */
export const IQERCD = 0xb0;

/** PQH_REG (11.4.12.1), PQT_REG and PQA_REG, 64 bits each. */
export const PQH = 0xc0;
export const PQT = 0xc8;
/** Bits of PQH and PQT: a byte offset in units of 32. */
export const PQ_OFFSET = 0x0007_ffe0;
export const PQA = 0xd0;
export const PQA_PQS = 0x0000_0007;
/** PRS_REG (11.4.12.4). */
export const PRS = 0xdc;
export const PRS_PPR = 0x0000_0001;
export const PRS_PRO = 0x0000_0002;
/** PECTL_REG (11.4.12.5), the first of four registers. */
export const PECTL = 0xe0;

/** IVA_REG (11.4.6.2.1), 64 bits, at ECAP.IRO. */
export const IVA = 0xf0;
export const IVA_AM = 0x0000_003f;
/** IOTLB_REG (11.4.6.2.2), 64 bits. */
export const IOTLB_REG = 0xf8;
/** Shift of IAIG in the high word. */
export const IOTLB_IAIG_SHIFT_HIGH = 25;
/** Shift of IIRG in the high word. */
export const IOTLB_IIRG_SHIFT_HIGH = 28;
export const IOTLB_IVT_HIGH = 0x8000_0000;

/** FRCD_REG (11.4.7.6), 128 bits each, at 16 × CAP.FRO. */
export const FRCD = 0x220;
/** Bytes of one. */
export const FRCD_BYTES = 16;
/** Most that fit into the block. */
export const FRCD_LIMIT = 222;
/** Fields of words 2 and 3 of a fault recording register. */
export const FRCD2_T2 = 0x1000_0000;
export const FRCD2_PRIV = 0x2000_0000;
export const FRCD2_EXE = 0x4000_0000;
export const FRCD2_PP = 0x8000_0000;
export const FRCD3_PV_SHIFT = 8;
export const FRCD3_AT_SHIFT = 28;
export const FRCD3_T1 = 0x4000_0000;
export const FRCD3_F = 0x8000_0000;
