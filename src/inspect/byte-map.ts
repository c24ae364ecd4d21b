import type { Owner } from '../config/index.ts';
import type { PciFunction } from '../function/index.ts';
import { type Capability, EXTENDED_CHAIN_HEAD } from '../pci/capability-chain.ts';
import { EXT_CAP_PASID, extendedCapabilityName } from '../pci/capability-ids.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import { PASID_LENGTH } from '../pci/pasid.ts';
import type { GuestSubject } from './guest-subject.ts';

/** A capability in the guest's chain. */
export interface ShownCapability {
  /** Config-space offset in bytes. */
  readonly offset: number;
  /** 8 bits in the standard chain, 16 in the extended one. */
  readonly id: number;
  /** Capability Version, 4 bits; 0 in the standard chain. */
  readonly version: number;
  /** Bytes, header included. */
  readonly length: number;
  readonly name: string;
  /** Where its registers are read; `mixed`: some bits from either side. */
  readonly source: Owner['source'];
  /** For a capability made here: why it stands where it stands. Else null. */
  readonly placement: string | null;
}

/** A physical capability that the guest does not see. */
export interface HiddenCapability {
  /** Config-space offset in bytes. */
  readonly offset: number;
  readonly length: number;
  /** Null when only the guest's side of the function is known. */
  readonly id: number | null;
  readonly name: string | null;
  /** What is hidden and why, one sentence. */
  readonly reason: string;
}

/** A run of bytes with one owner. */
export interface ByteRangeOwner {
  /** First byte. */
  readonly start: number;
  /** First byte after it. */
  readonly end: number;
  /**
   * Where the guest's reads come from. `hidden`: a physical capability that the guest does not see. `free`: no
   * owner. `unclaimed`: no owner, but the physical function holds data there (findings say where). All three
   * read 0.
   */
  readonly source: Owner['source'] | 'hidden' | 'unclaimed' | 'free';
  /** What owns it, in the specification's words; how much data there is for `unclaimed`; empty for `free`. */
  readonly owner: string;
}

/** Bytes where a synthesized capability could go: `[start, end)`, extended space, without owner. */
export interface Gap {
  readonly start: number;
  readonly end: number;
}

/** The guest's chain, standard or extended, in its order. */
export function shownCapabilities(
  subject: GuestSubject,
  chain: PciFunction['capabilities'],
  explicitPasid: number | undefined,
): ShownCapability[] {
  const { fn } = subject;
  return chain.map((capability) => {
    const { offset, id, version, length, name } = capability;
    const source = fn.owners.find((one) => one.start <= offset && offset < one.end)?.source ?? 'virtual';
    const placement = capability.synthesized ? reasonOfPlace(subject, capability, explicitPasid) : null;
    return { offset, id, version, length, name, source, placement };
  });
}

/** Why a synthesized capability stands where it stands; the rules are those of the placement search. */
function reasonOfPlace(
  { fn }: GuestSubject,
  { id, offset, length }: Capability,
  explicitPasid: number | undefined,
): string {
  if (fn.findings.some((one) => one.code === 'capability-replaced' && one.offset === offset)) {
    return 'in the place of the physical one';
  }
  if (id === EXT_CAP_PASID && offset === explicitPasid) return 'where it was asked for';
  if (offset === EXTENDED_CHAIN_HEAD) return 'an empty chain begins at 0x100';
  if (offset + length === EXTENDED_CONFIG_SPACE_SIZE) return 'the last bytes of the space were free';
  const bodies = [
    ...fn.extendedCapabilities.filter((one) => !one.synthesized),
    ...fn.findings.filter((one) => one.code === 'capability-hidden'),
  ].filter((one) => one.offset >= EXTENDED_CHAIN_HEAD);
  const last = Math.max(EXTENDED_CHAIN_HEAD, ...bodies.map((one) => one.offset + one.length));
  return offset >= last
    ? 'the lowest gap behind the last capability; the last bytes of the space were taken'
    : 'the lowest gap; there was none behind the last capability';
}

/** What the physical function has and the guest does not see, by offset. */
export function hiddenCapabilities({ fn, physical }: GuestSubject): HiddenCapability[] {
  const hidden: HiddenCapability[] = [];
  for (const { code, offset, length, message } of fn.findings) {
    if (code !== 'capability-hidden' && code !== 'physical-pasid-hidden') continue;
    const outside = code === 'physical-pasid-hidden' ? EXT_CAP_PASID : undefined;
    const found = physical.find((one) => one.offset === offset);
    const id = outside ?? found?.id ?? null;
    const name = (outside === undefined ? found?.name : extendedCapabilityName(outside)) ?? null;
    hidden.push({ offset, length, id, name, reason: message });
  }
  return hidden.toSorted((a, b) => a.offset - b.offset);
}

/** The owner of every byte, without holes and in order. */
export function byteOwners({ fn }: GuestSubject, hidden: readonly HiddenCapability[]): ByteRangeOwner[] {
  const claims: ByteRangeOwner[] = [{ start: 0, end: fn.size, source: 'free', owner: '' }];
  for (const { offset, length, name } of hidden) {
    claims.push({
      start: offset,
      end: offset + length,
      source: 'hidden',
      owner: name ?? 'physical capability',
    });
  }
  for (const { start, end, source, name } of fn.owners) claims.push({ start, end, source, owner: name });
  // Later claims win: what the guest sees is there, whatever is hidden below it.
  const winner = new Uint16Array(fn.size);
  for (const [index, { start, end }] of claims.entries()) winner.fill(index, start, end);
  const ranges: ByteRangeOwner[] = [];
  for (let start = 0; start < fn.size; ) {
    const index = winner[start] ?? 0;
    let end = start + 1;
    while (end < fn.size && winner[end] === index) end++;
    const { source = 'free', owner = '' } = claims[index] ?? {};
    ranges.push(source === 'free' ? withoutOwner(fn, start, end) : { start, end, source, owner });
    start = end;
  }
  return ranges;
}

function withoutOwner(fn: PciFunction, start: number, end: number): ByteRangeOwner {
  let data = 0;
  for (const { code, offset, length } of fn.findings) {
    if (code !== 'unclaimed-bytes') continue;
    data += Math.max(0, Math.min(end, offset + length) - Math.max(start, offset));
  }
  if (data === 0) return { start, end, source: 'free', owner: '' };
  return { start, end, source: 'unclaimed', owner: `${data} of ${end - start} bytes hold data` };
}

/** Where a capability of at least the size of PASID's could go. */
export function synthesisGaps(owners: readonly ByteRangeOwner[]): Gap[] {
  return owners
    .filter(({ source }) => source === 'free' || source === 'unclaimed')
    .map(({ start, end }) => ({ start: Math.max(EXTENDED_CHAIN_HEAD, (start + 3) & ~3), end: end & ~3 }))
    .filter(({ start, end }) => end - start >= PASID_LENGTH);
}
