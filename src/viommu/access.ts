/**
 * The access bits of the hot door, {@link Viommu.translate}: what a request wants, in one small integer.
 *
 * @module
 */

/** Memory read. */
export const ACCESS_READ = 0x01;
/** Memory write. Combined with {@link ACCESS_READ}, the request needs both rights. */
export const ACCESS_WRITE = 0x02;
/** Execute Requested: a read whose data will be executed (PCIe 6.20.2). Exists only with a PASID. */
export const ACCESS_EXECUTE = 0x04;
/** Privileged Mode Requested (PCIe 6.20.2). Exists only with a PASID. */
export const ACCESS_PRIVILEGED = 0x08;
/** An AtomicOp (PCIe 6.15): needs read and write, whose bits it contains. */
export const ACCESS_ATOMIC = 0x13;
/** AT = 01b, an ATS Translation Request (PCIe 10.2.2). */
export const ACCESS_TRANSLATION = 0x20;
/** AT = 10b, the address is a translated one (PCIe 10.2.1). */
export const ACCESS_TRANSLATED = 0x40;
/** NW of a Translation Request: the function does not ask for the right to write (PCIe 10.2.2). */
export const ACCESS_NO_WRITE = 0x80;

/** The `pasid` argument of a request that carries none. */
export const NO_PASID = -1;

/** What {@link ACCESS_ATOMIC} has and a read with a write has not. */
const ATOMIC_ALONE = 0x10;
const ATOMIC = 0x13;
const RIGHTS = 0x07;
const ALL = 0xff;
const ADDRESS_TYPE = 0x60;

/** What a request does with the memory, in words. */
export type AccessKind = 'read' | 'write' | 'execute' | 'atomic';

/** The AT field in words (PCIe 2.2.4.1, 10.2.1). */
export type AddressType = 'untranslated' | 'translation' | 'translated';

/** True when `access` is a set of access bits that a request can have. */
export function isAccess(access: number): boolean {
  if ((access & ALL) !== access || (access & RIGHTS) === 0) return false;
  if ((access & ADDRESS_TYPE) === ADDRESS_TYPE) return false;
  return (access & ATOMIC_ALONE) === 0 || (access & ATOMIC) === ATOMIC;
}

/** The word for the rights in `access`: the strongest one when there are several. */
export function accessKind(access: number): AccessKind {
  if ((access & ATOMIC_ALONE) !== 0) return 'atomic';
  if ((access & ACCESS_EXECUTE) !== 0) return 'execute';
  return (access & ACCESS_WRITE) === 0 ? 'read' : 'write';
}

/** The word for the AT field in `access`. */
export function addressType(access: number): AddressType {
  if ((access & ACCESS_TRANSLATION) !== 0) return 'translation';
  return (access & ACCESS_TRANSLATED) === 0 ? 'untranslated' : 'translated';
}

/** 1 for each set of access bits that {@link isAccess} is true for. */
export const VALID_ACCESS: Uint8Array = Uint8Array.from({ length: ALL + 1 }, (_, access) =>
  isAccess(access) ? 1 : 0,
);
