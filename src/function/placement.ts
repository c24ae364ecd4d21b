import { hex } from '../pci/bdf.ts';
import { EXTENDED_CHAIN_HEAD } from '../pci/capability-chain.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** Bytes that a synthesized capability must not cover. */
export interface Occupied {
  readonly start: number;
  readonly end: number;
  /** What is there, for the error message. */
  readonly name: string;
}

/** The last 8 bytes, where QEMU and Cloud Hypervisor put a PASID capability too: tried first. */
const PREFERRED_OFFSET = 0xff8;

/**
 * A free place of `size` bytes in extended config space: {@link PREFERRED_OFFSET}, else the lowest dword-aligned gap
 * from `lastBodyEnd` on, else the lowest gap. The same inputs give the same place always, because guests and migrations
 * depend on it. `VPCI_NO_SPACE` when there is none.
 */
export function findPlace(
  size: number,
  occupied: readonly Occupied[],
  lastBodyEnd: number,
  what: string,
): number | VpciError {
  const end = EXTENDED_CONFIG_SPACE_SIZE - size;
  const isFree = (offset: number): boolean => collision(offset, size, occupied) === undefined;
  const lowestFrom = (first: number): number | undefined => {
    for (let offset = first; offset <= end; offset += 4) if (isFree(offset)) return offset;
    return undefined;
  };
  const place =
    PREFERRED_OFFSET <= end && isFree(PREFERRED_OFFSET)
      ? PREFERRED_OFFSET
      : (lowestFrom((lastBodyEnd + 3) & ~3) ?? lowestFrom(EXTENDED_CHAIN_HEAD));
  return place ?? new VpciError('VPCI_NO_SPACE', `no ${size} free bytes for ${what} between 0x100 and 0xfff`);
}

/**
 * The refusal of an explicit place for `what` that is outside extended config space, misaligned, or taken:
 * `VPCI_PASID_OFFSET` or `VPCI_CAPABILITY_COLLISION`, whose message names what is there. Undefined for a free one.
 */
export function refusePlace(
  offset: number,
  size: number,
  occupied: readonly Occupied[],
  what: string,
): VpciError | undefined {
  const at = `${what} at 0x${hex(offset, 3)}`;
  const end = EXTENDED_CONFIG_SPACE_SIZE - size;
  if (!Number.isInteger(offset) || offset < EXTENDED_CHAIN_HEAD || offset > end) {
    return new VpciError(
      'VPCI_PASID_OFFSET',
      `${at} is out of range: choose an offset from 0x100 to 0x${hex(end)}`,
    );
  }
  if ((offset & 3) !== 0) {
    return new VpciError('VPCI_PASID_OFFSET', `${at} is misaligned: capabilities begin at a multiple of 4`);
  }
  const taken = collision(offset, size, occupied);
  if (taken === undefined) return undefined;
  return new VpciError(
    'VPCI_CAPABILITY_COLLISION',
    `${at} collides with ${taken.name} at 0x${hex(taken.start, 3)}..0x${hex(taken.end - 1, 3)}: choose another offset, or none to have one found`,
  );
}

function collision(offset: number, size: number, occupied: readonly Occupied[]): Occupied | undefined {
  return occupied.find(({ start, end }) => offset < end && start < offset + size);
}
