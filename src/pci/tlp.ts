import { decodePasidPrefix, encodePasidPrefix, PASID_PREFIX, type TlpPasid } from './tlp-pasid.ts';
import { VpciError } from './vpci-error.ts';

/**
 * Memory-request TLPs outside flit mode: the optional PASID prefix and the header of 3 or 4 DW (PCIe 2.2.4,
 * 2.2.7, 10.2.2), most significant byte first.
 *
 * @module
 */

/** What the request does: MRd, MWr, or one of the three AtomicOps. */
export type TlpKind = 'read' | 'write' | 'fetch-add' | 'swap' | 'compare-swap';

/** The AT field: 00b, 01b and 10b; 11b is reserved. */
export type TlpAddressType = 'untranslated' | 'translation' | 'translated';

/** A memory request. */
export interface MemoryTlp {
  readonly kind: TlpKind;
  /** Requester ID, 16 bits. */
  readonly requester: number;
  /** Bus address of the first DW, 64 bits, a multiple of 4; of a Translation Request a multiple of 4096. */
  readonly address: bigint;
  /** DWs, 1..1024: of the data, or of the completion that is asked for. */
  readonly length: number;
  /** Tag, 10 bits. */
  readonly tag: number;
  /** Traffic class, 3 bits. */
  readonly trafficClass: number;
  /** Attr: ID-based ordering (4), relaxed ordering (2), no snoop (1). */
  readonly attributes: number;
  readonly at: TlpAddressType;
  /** Byte enables of the first and the last DW, 4 bits each; the last is 0 when there is one DW. */
  readonly firstBe: number;
  readonly lastBe: number;
  /** NW of a Translation Request. */
  readonly noWrite: boolean;
  /** Null without a PASID prefix. */
  readonly pasid: TlpPasid | null;
}

/** A memory request to encode: what is left out is 0, false, null, `untranslated`, or all bytes enabled. */
export type MemoryTlpInit = Pick<MemoryTlp, 'kind' | 'requester' | 'address' | 'length'> & Partial<MemoryTlp>;

/** Why bytes are no memory request that this codec knows. */
export type TlpFailure =
  | 'truncated'
  | 'unsupported-prefix'
  | 'repeated-pasid-prefix'
  | 'reserved-pasid-bits'
  | 'not-a-memory-request'
  | 'reserved-address-type'
  | 'translation-length'
  | 'byte-enables'
  | 'atomic-length'
  | 'atomic-alignment'
  | 'crosses-4k';

/** A decoded request with the bytes that prefix and header take, or the reason why there is none. */
export type DecodedTlp =
  | { readonly ok: true; readonly tlp: MemoryTlp; readonly headerBytes: number }
  | { readonly ok: false; readonly failure: TlpFailure };

/** What an IOMMU has to know of a memory request. */
export interface TlpRequest {
  readonly rid: number;
  readonly pasid: number | null;
  readonly address: bigint;
  readonly access: 'read' | 'write' | 'execute' | 'atomic';
  /** Bytes from the first enabled one to the last; 0 for a zero-length read. */
  readonly size: number;
  readonly privileged: boolean;
  readonly noWrite: boolean;
  readonly at: TlpAddressType;
}

const FMT_4DW = 0x2000_0000;
/** Fmt of a prefix, local or End-End. */
const FMT_PREFIX = 4;
const FMT_TYPE_MASK = 0xdf00_0000;
const TH = 0x0001_0000;
const NO_WRITE = 1n;
const PAGE_OFFSET = 0xfffn;

/** Fmt and Type of the 3 DW form, in bits 31:24 of the first DW. */
const FMT_TYPE: Readonly<Record<TlpKind, number>> = {
  read: 0x0000_0000,
  write: 0x4000_0000,
  'fetch-add': 0x4c00_0000,
  swap: 0x4d00_0000,
  'compare-swap': 0x4e00_0000,
};
const KINDS: readonly TlpKind[] = ['read', 'write', 'fetch-add', 'swap', 'compare-swap'];
const ADDRESS_TYPES: readonly TlpAddressType[] = ['untranslated', 'translation', 'translated'];

/**
 * Prefix and header of a memory request: 4 DW when the address needs more than 32 bits, else 3.
 *
 * @throws VpciError `VPCI_TLP` for a field out of range, or fields that together are no valid request.
 */
export function encodeTlp(init: MemoryTlpInit): Uint8Array {
  const tlp = complete(init);
  const failure = checkRanges(tlp) ?? checkTlp(tlp);
  if (failure !== undefined) {
    throw new VpciError('VPCI_TLP', `no valid memory request (${failure}): see MemoryTlp for the fields`);
  }
  const long = tlp.address >> 32n !== 0n;
  const prefix = tlp.pasid === null ? [] : [encodePasidPrefix(tlp.pasid)];
  const low = Number(tlp.address & 0xffff_ffffn) | (tlp.noWrite ? 1 : 0);
  const words = [
    ...prefix,
    firstWord(tlp) | (long ? FMT_4DW : 0),
    (tlp.requester << 16) | ((tlp.tag & 0xff) << 8) | (tlp.lastBe << 4) | tlp.firstBe,
    ...(long ? [Number(tlp.address >> 32n)] : []),
    low,
  ];
  const view = new DataView(new ArrayBuffer(words.length * 4));
  for (const [index, dw] of words.entries()) view.setUint32(index * 4, dw);
  return new Uint8Array(view.buffer);
}

/** Reads prefix and header at the start of `bytes`, which may hold anything. Never throws. */
export function decodeTlp(bytes: Uint8Array): DecodedTlp {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let pasid: TlpPasid | null = null;
  for (; at + 4 <= bytes.length && view.getUint8(at) >>> 5 === FMT_PREFIX; at += 4) {
    if (view.getUint8(at) !== PASID_PREFIX) return { ok: false, failure: 'unsupported-prefix' };
    if (pasid !== null) return { ok: false, failure: 'repeated-pasid-prefix' };
    pasid = decodePasidPrefix(view.getUint32(at)) ?? null;
    if (pasid === null) return { ok: false, failure: 'reserved-pasid-bits' };
  }
  if (at + 4 > bytes.length) return { ok: false, failure: 'truncated' };
  const first = view.getUint32(at);
  const kind = KINDS.find((candidate) => FMT_TYPE[candidate] === (first & FMT_TYPE_MASK) >>> 0);
  if (kind === undefined) return { ok: false, failure: 'not-a-memory-request' };
  const long = (first & FMT_4DW) !== 0;
  const headerBytes = at + (long ? 16 : 12);
  if (headerBytes > bytes.length) return { ok: false, failure: 'truncated' };
  const addressType = ADDRESS_TYPES[(first >>> 10) & 3];
  if (addressType === undefined) return { ok: false, failure: 'reserved-address-type' };
  const second = view.getUint32(at + 4);
  const address = long ? view.getBigUint64(at + 8) : BigInt(view.getUint32(at + 8));
  const tlp = decodeHeader(kind, addressType, first, second, address, pasid);
  const failure = checkTlp(tlp);
  return failure === undefined ? { ok: true, tlp, headerBytes } : { ok: false, failure };
}

/** A memory request in the words of a vIOMMU. */
export function tlpToRequest(tlp: MemoryTlp): TlpRequest {
  const { at, pasid, noWrite } = tlp;
  const common = {
    rid: tlp.requester,
    pasid: pasid === null ? null : pasid.pasid,
    privileged: pasid !== null && pasid.privileged,
    noWrite,
    at,
  };
  if (at === 'translation') {
    const access = pasid?.execute === true ? 'execute' : 'read';
    return { ...common, access, address: tlp.address, size: 4096 };
  }
  const { skipped, size } = enabledBytes(tlp);
  return { ...common, access: accessOf(tlp), address: tlp.address + BigInt(skipped), size };
}

function accessOf({ kind, pasid }: MemoryTlp): TlpRequest['access'] {
  // Execute Requested says something of reads only (PCIe 6.20.2).
  if (kind === 'read') return pasid?.execute === true ? 'execute' : 'read';
  return kind === 'write' ? 'write' : 'atomic';
}

/** Bytes in front of the first enabled one, and from there to the last. */
function enabledBytes({ kind, firstBe, lastBe, length }: MemoryTlp): { skipped: number; size: number } {
  if (kind !== 'read' && kind !== 'write') return { skipped: 0, size: length * 4 };
  if (firstBe === 0) return { skipped: 0, size: 0 };
  const skipped = 31 - Math.clz32(firstBe & -firstBe);
  const unused = Math.clz32(length === 1 ? firstBe : lastBe) - 28;
  return { skipped, size: length * 4 - skipped - unused };
}

function firstWord(tlp: MemoryTlp): number {
  const { tag, attributes, trafficClass } = tlp;
  const tagHigh = ((tag & 0x200) << 14) | ((tag & 0x100) << 11);
  const attr = ((attributes & 4) << 16) | ((attributes & 3) << 12);
  const at = ADDRESS_TYPES.indexOf(tlp.at) << 10;
  return FMT_TYPE[tlp.kind] | tagHigh | (trafficClass << 20) | attr | at | (tlp.length & 0x3ff);
}

function decodeHeader(
  kind: TlpKind,
  at: TlpAddressType,
  first: number,
  second: number,
  address: bigint,
  pasid: TlpPasid | null,
): MemoryTlp {
  const length = (first & 0x3ff) === 0 ? 1024 : first & 0x3ff;
  const translation = at === 'translation';
  // With TH set, the byte enables of a read carry a steering tag, and all bytes are enabled (2.2.7.1.1).
  const steered = kind === 'read' && (first & TH) !== 0;
  return {
    kind,
    requester: second >>> 16,
    address: address & ~(translation ? PAGE_OFFSET : 3n),
    length,
    tag: ((first >>> 14) & 0x200) | ((first >>> 11) & 0x100) | ((second >>> 8) & 0xff),
    trafficClass: (first >>> 20) & 7,
    attributes: ((first >>> 16) & 4) | ((first >>> 12) & 3),
    at,
    firstBe: steered ? 0xf : second & 0xf,
    lastBe: steered ? lastOf(length) : (second >>> 4) & 0xf,
    noWrite: translation && (address & NO_WRITE) !== 0n,
    pasid,
  };
}

function complete(init: MemoryTlpInit): MemoryTlp {
  return {
    tag: 0,
    trafficClass: 0,
    attributes: 0,
    at: 'untranslated',
    firstBe: 0xf,
    lastBe: lastOf(init.length),
    noWrite: false,
    pasid: null,
    ...init,
  };
}

function lastOf(length: number): number {
  return length === 1 ? 0 : 0xf;
}

/** What the fields of a request must be together. */
function checkTlp(tlp: MemoryTlp): TlpFailure | undefined {
  const { kind, length, address, at } = tlp;
  if (kind !== 'read' && at === 'translation') return 'reserved-address-type';
  if (at === 'translation') return length % 2 === 0 ? undefined : 'translation-length';
  if (kind !== 'read' && kind !== 'write') {
    const operands = kind === 'compare-swap' ? 2 : 1;
    if (length !== operands && length !== 2 * operands && !(operands === 2 && length === 8)) {
      return 'atomic-length';
    }
    return address % BigInt((length * 4) / operands) === 0n ? undefined : 'atomic-alignment';
  }
  const enabled = length === 1 ? tlp.lastBe === 0 : tlp.firstBe !== 0 && tlp.lastBe !== 0;
  if (!enabled) return 'byte-enables';
  return Number(address & PAGE_OFFSET) + length * 4 > 4096 ? 'crosses-4k' : undefined;
}

function checkRanges(tlp: MemoryTlp): string | undefined {
  const limits = { requester: 0xffff, tag: 0x3ff, trafficClass: 7, attributes: 7, firstBe: 0xf, lastBe: 0xf };
  for (const [name, limit] of Object.entries(limits)) {
    const value: unknown = Object.getOwnPropertyDescriptor(tlp, name)?.value;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > limit) {
      return `${name} is not 0..${limit}`;
    }
  }
  if (!Number.isInteger(tlp.length) || tlp.length < 1 || tlp.length > 1024) return 'length is not 1..1024';
  const translation = tlp.at === 'translation';
  if (tlp.noWrite && !translation) return 'noWrite is for translation requests';
  const step = translation ? 4096n : 4n;
  const inRange = tlp.address >= 0n && tlp.address < 1n << 64n && tlp.address % step === 0n;
  return inRange ? undefined : `address is not a multiple of ${step} of 64 bits`;
}
