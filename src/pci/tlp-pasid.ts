import { PASID_LIMIT } from './pasid.ts';
import { VpciError } from './vpci-error.ts';

/**
 * A PASID on the wire (PCIe 6.20.2): in front of the TLP header as an End-End prefix, or, in flit mode, behind
 * the header base as OHC-A1. Both are one DW; a DW is a number of 32 bits, most significant byte first on the
 * wire.
 *
 * @module
 */

/** What a TLP says about its PASID. */
export interface TlpPasid {
  /** 20 bits. */
  readonly pasid: number;
  /** ER, Execute Requested. */
  readonly execute: boolean;
  /** PMR, Privileged Mode Requested. */
  readonly privileged: boolean;
}

/** OHC-A1: byte enables of a memory request in flit mode, and its PASID if it has one. */
export interface OhcA1 {
  /** NW, No Write: of a Translation Request. */
  readonly noWrite: boolean;
  /** Null when PV is 0: an OHC-A1 may be there for the byte enables only. */
  readonly pasid: TlpPasid | null;
  /** Byte enables of the last DW, 4 bits. */
  readonly lastBe: number;
  /** Byte enables of the first DW, 4 bits. */
  readonly firstBe: number;
}

/** First byte of a PASID prefix: Fmt 100b, an End-End prefix, type 1. */
export const PASID_PREFIX = 0x91;

const PREFIX_RESERVED = 0x00c0_0000;
const PREFIX_PRIVILEGED = 0x0020_0000;
const PREFIX_EXECUTE = 0x0010_0000;

const OHC_NO_WRITE = 0x8000_0000;
const OHC_PASID_VALID = 0x4000_0000;
const OHC_PRIVILEGED = 0x2000_0000;
const OHC_EXECUTE = 0x1000_0000;

/**
 * The DW of a PASID prefix: 31:24 = 91h, 21 = PMR, 20 = ER, 19:0 = PASID.
 *
 * @throws VpciError `VPCI_TLP` when the PASID is not a whole number of 0..0xfffff.
 */
export function encodePasidPrefix({ pasid, execute, privileged }: TlpPasid): number {
  checkPasid(pasid);
  const flags = (execute ? PREFIX_EXECUTE : 0) | (privileged ? PREFIX_PRIVILEGED : 0);
  return ((PASID_PREFIX << 24) | flags | pasid) >>> 0;
}

/** The PASID in a prefix DW; undefined when its first byte is not 91h or a reserved bit is set. */
export function decodePasidPrefix(dw: number): TlpPasid | undefined {
  if (dw >>> 24 !== PASID_PREFIX || (dw & PREFIX_RESERVED) !== 0) return undefined;
  return {
    pasid: dw & PASID_LIMIT,
    execute: (dw & PREFIX_EXECUTE) !== 0,
    privileged: (dw & PREFIX_PRIVILEGED) !== 0,
  };
}

/**
 * The DW of an OHC-A1: 31 = NW, 30 = PV, 29 = PMR, 28 = ER, 27:8 = PASID, 7:4 = last BE, 3:0 = first BE.
 *
 * @throws VpciError `VPCI_TLP` when the PASID is not 0..0xfffff or a byte enable is not 0..15.
 */
export function encodeOhcA1({ noWrite, pasid, lastBe, firstBe }: OhcA1): number {
  checkByteEnable(lastBe);
  checkByteEnable(firstBe);
  let dw = (noWrite ? OHC_NO_WRITE : 0) | (lastBe << 4) | firstBe;
  if (pasid !== null) {
    checkPasid(pasid.pasid);
    dw |= OHC_PASID_VALID | (pasid.pasid << 8);
    dw |= (pasid.execute ? OHC_EXECUTE : 0) | (pasid.privileged ? OHC_PRIVILEGED : 0);
  }
  return dw >>> 0;
}

/** The fields of an OHC-A1. With PV = 0, PASID, PMR and ER are reserved and not looked at. */
export function decodeOhcA1(dw: number): OhcA1 {
  const pasid: TlpPasid = {
    pasid: (dw >>> 8) & PASID_LIMIT,
    execute: (dw & OHC_EXECUTE) !== 0,
    privileged: (dw & OHC_PRIVILEGED) !== 0,
  };
  return {
    noWrite: (dw & OHC_NO_WRITE) !== 0,
    pasid: (dw & OHC_PASID_VALID) === 0 ? null : pasid,
    lastBe: (dw >>> 4) & 0xf,
    firstBe: dw & 0xf,
  };
}

function checkPasid(pasid: number): void {
  if (Number.isInteger(pasid) && pasid >= 0 && pasid <= PASID_LIMIT) return;
  throw new VpciError('VPCI_TLP', `PASID ${pasid} does not fit a TLP: give a whole number of 0..0xfffff`);
}

function checkByteEnable(be: number): void {
  if (Number.isInteger(be) && be >= 0 && be <= 0xf) return;
  throw new VpciError('VPCI_TLP', `byte enables ${be}: give 4 bits, 0..15`);
}
