import type { ByteConfigSpace } from '../pci/config-space.ts';
import type { PathAbove, PlacedSubject } from './path-above.ts';

/** A register as the guest reads it. */
export interface CheckedRegister {
  readonly name: string;
  /** Config-space offset in bytes. */
  readonly offset: number;
  /** Bytes: 1, 2 or 4. */
  readonly size: number;
  /** The bits that decide, in place; 0 when all do. */
  readonly mask: number;
  /** The whole register. */
  readonly value: number;
}

/** Every {@link LinuxCheck.id} in the order of the checks, with its title for people. */
export const LINUX_CHECKS = {
  'function-found': 'function found',
  'extended-space': 'extended space',
  'pasid-capability': 'PASID capability',
  'virtual-function': 'not a VF',
  'express-version': 'PCI Express version',
  'end-end-prefix': 'End-End TLP prefix',
  'end-end-prefix-above': 'prefix above',
  acs: 'ACS',
  'acs-above': 'ACS above',
  features: 'permissions',
} as const;

/** One of {@link LINUX_CHECKS}. */
export type LinuxCheckId = keyof typeof LINUX_CHECKS;

/** One check that Linux makes. */
export interface LinuxCheck {
  readonly id: LinuxCheckId;
  /** `unknown`: what decides is not in the dump. */
  readonly status: 'pass' | 'fail' | 'unknown';
  /** BDF of the port that is checked; null for the function itself. */
  readonly port: string | null;
  /** What was looked at; null when it is no register, or not in the dump. */
  readonly register: CheckedRegister | null;
  /** What was found, one sentence. */
  readonly message: string;
  /** What to do about it; null when there is nothing to do. */
  readonly remedy: string | null;
  /** Where Linux does it. */
  readonly linux: string;
}

/** What the checks need besides the function. */
export interface CheckContext {
  readonly above: PathAbove;
  /** Another function of the dump shares the device, so Linux takes it for multi-function whatever bit 7 says. */
  readonly sharesDevice: boolean;
  /** Permissions that the guest is going to ask for. */
  readonly execute: boolean;
  readonly privileged: boolean;
}

/** Remedy for a function of which the dump has too little. */
export const FULL_DUMP: string = 'dump it with "lspci -xxxx" as root, which gives all 4096 bytes';
/** Remedy for whatever is wrong above a function. */
export const PLACE_IT: string =
  'show the function behind a root port of vpci, or as an RC integrated endpoint (--as-rciep)';

/** The check of what the dump does not hold: whatever is above `top`. */
export function unknownAbove(
  base: Pick<LinuxCheck, 'id' | 'port' | 'linux'>,
  top: PlacedSubject | undefined,
): LinuxCheck {
  return {
    ...base,
    status: 'unknown',
    register: null,
    message: `the dump does not say what is above ${top?.bdf ?? 'the function'}`,
    remedy: `${PLACE_IT}, or give a dump that holds its ports`,
  };
}

/** The `size`-byte register at `offset`; the bits in `mask` decide. */
export function readRegister(
  guest: ByteConfigSpace,
  name: string,
  offset: number,
  size: number,
  mask: number,
): CheckedRegister {
  return { name, offset, size, mask, value: guest.read(offset, size) };
}
