import { hex } from '../pci/bdf.ts';
import { ByteConfigSpace, type ConfigSpace } from '../pci/config-space.ts';
import { checkPasidWidth, type PasidFeature } from '../pci/pasid.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { BarOptions } from './bars.ts';
import type { CapabilityBlock } from './blocks/index.ts';
import type { Present } from './guest-layout.ts';
import type { ByteRange } from './guest-plan.ts';

/** Options that passed-through and emulated functions share. */
export interface CommonOptions {
  /** What the host said about PASID. Absent or width 0: the guest sees no PASID capability. */
  readonly pasid?: PasidFeature | undefined;
  /** Upper limit for the width shown, in bits, 1..20. */
  readonly maxPasidWidth?: number | undefined;
  /** Offset of the PASID capability, 0x100..0xff8, a multiple of 4. Default: searched for; see `docs/pasid.md`. */
  readonly pasidOffset?: number | undefined;
  /**
   * What the guest's writes to PASID Control do. `latch` (default): they read back. `drop`: they vanish.
   * Neither reaches hardware and neither changes a verdict of the vIOMMU.
   */
  readonly control?: 'latch' | 'drop' | undefined;
  /**
   * When PASID, ATS or PRI cannot be shown: `throw` (default) refuses the function, `omit` leaves them out, with a
   * finding.
   */
  readonly onPasidRefused?: 'throw' | 'omit' | undefined;
  /** True: a virtual ATS capability. False: none. Default: as the physical function has it, read-only. */
  readonly ats?: boolean | undefined;
  /** The same for the Page Request capability. */
  readonly pri?: boolean | undefined;
  /** Device/Port Type that an endpoint shows. `rciep`: RC integrated endpoint, for the root bus. Default `as-is`. */
  readonly present?: Present | undefined;
  /** The BARs the guest may program. Default: the physical registers, read-only; none for an emulated function. */
  readonly bars?: readonly BarOptions[] | undefined;
  /** Bytes of the expansion ROM, a power of two of 2 KiB to 16 MiB. Default: no ROM when `bars` is given. */
  readonly rom?: number | undefined;
  /** Bits of Command that read 1 whatever the guest writes, 16 bits. Default 0. */
  readonly commandOnes?: number | undefined;
  /** Where the register state lives, 4096 bytes; a `SharedArrayBuffer` may be read by other threads. Default: its own. */
  readonly buffer?: ArrayBufferLike | undefined;
}

/** Options that a real function has no use for: its registers have them. */
const EMULATED_ONLY = [
  'classCode',
  'revisionId',
  'subsystemVendorId',
  'subsystemId',
  'interruptPin',
  'capabilities',
] as const;

/** Options that a function in software has no use for: there is nothing behind it. */
const PASSTHROUGH_ONLY = ['physical', 'rawConfig', 'passthroughRanges'] as const;

/** A real function given to a guest: `createFunction({ physical })`. */
export interface PassthroughOptions
  extends CommonOptions,
    Readonly<Partial<Record<(typeof EMULATED_ONLY)[number], undefined>>> {
  /** Its configuration space, or a dump of it. */
  readonly physical: ConfigSpace | Uint8Array;
  /** The same without the host's filter (sysfs `config`), to find the PASID capability that vfio-pci hides. */
  readonly rawConfig?: Uint8Array | undefined;
  /** `[start, end)` byte ranges outside any virtual register that the guest may read and write raw. */
  readonly passthroughRanges?: readonly ByteRange[] | undefined;
  /**
   * IDs of a virtual function, whose registers read ffff, both of them; from the PF's SR-IOV capability or sysfs. A
   * function whose registers have IDs shows those.
   */
  readonly vendorId?: number | undefined;
  readonly deviceId?: number | undefined;
}

/** A function that exists in software only: `createFunction({ vendorId, deviceId, ... })`. */
export interface EmulatedOptions
  extends CommonOptions,
    Readonly<Partial<Record<(typeof PASSTHROUGH_ONLY)[number], undefined>>> {
  /** Vendor ID, 16 bits. */
  readonly vendorId: number;
  /** Device ID, 16 bits. */
  readonly deviceId: number;
  /** Class code: base class, sub-class, programming interface, 24 bits. */
  readonly classCode: number;
  /** Revision ID, 8 bits. Default 0. */
  readonly revisionId?: number | undefined;
  /** Subsystem Vendor ID and Subsystem ID, 16 bits each. Default: the vendor's and device's own. */
  readonly subsystemVendorId?: number | undefined;
  readonly subsystemId?: number | undefined;
  /** 1..4 for INTA..INTD. Default 0: no pin. */
  readonly interruptPin?: number | undefined;
  /** Its capabilities, placed in this order. Default: a PCI Express Capability. PASID, ATS and PRI have options. */
  readonly capabilities?: readonly CapabilityBlock[] | undefined;
}

/** What `createFunction` takes. */
export type FunctionOptions = PassthroughOptions | EmulatedOptions;

/** True for a real function. @throws VpciError `VPCI_BAD_ARGUMENT` for options that mean nothing for its kind. */
export function isPassthrough(options: FunctionOptions): options is PassthroughOptions {
  const isReal = options.physical !== undefined;
  for (const name of isReal ? EMULATED_ONLY : PASSTHROUGH_ONLY) {
    if (options[name] === undefined) continue;
    const why = isReal ? 'a physical function, whose registers have it' : 'an emulated function';
    throw new VpciError('VPCI_BAD_ARGUMENT', `${name} means nothing for ${why}: leave it out`);
  }
  if (!isReal && options.vendorId === undefined)
    throw new VpciError('VPCI_BAD_ARGUMENT', 'give `physical`, or the IDs of an emulated function');
  return isReal;
}

/**
 * Refuses what no function can be made of.
 *
 * @throws VpciError `VPCI_PASID_WIDTH`, `VPCI_BAD_ARGUMENT`, `VPCI_PASSTHROUGH_RANGE` or `VPCI_MEMORY`.
 */
export function checkCommonOptions(options: CommonOptions): void {
  if (options.pasid !== undefined) checkPasidWidth(options.pasid.width, 'pasid.width');
  if (options.maxPasidWidth !== undefined) {
    checkPasidWidth(options.maxPasidWidth, 'maxPasidWidth');
    if (options.maxPasidWidth === 0) {
      throw new VpciError(
        'VPCI_PASID_WIDTH',
        'maxPasidWidth is 0: leave `pasid` out to show no PASID capability',
      );
    }
  }
  if (options.commandOnes !== undefined) checkId(options.commandOnes, 16, 'commandOnes');
  if (options.buffer !== undefined && options.buffer.byteLength < 0x1000) {
    throw new VpciError(
      'VPCI_MEMORY',
      `buffer has ${options.buffer.byteLength} bytes: a function's registers need 4096`,
    );
  }
}

/** Refuses ranges outside the space of `size` bytes and ranges that touch the physical PASID capability. */
export function checkPassthroughRanges(
  ranges: readonly ByteRange[],
  size: number,
  physicalPasids: readonly { readonly offset: number }[],
): void {
  for (const [start, end] of ranges) {
    const range = `the passed-through range [0x${hex(start)}, 0x${hex(end)})`;
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || start >= end || end > size) {
      throw new VpciError(
        'VPCI_PASSTHROUGH_RANGE',
        `${range} is not inside the ${size} bytes of the function`,
      );
    }
    const covered = physicalPasids.find(({ offset }) => start < offset + 8 && offset < end);
    if (covered !== undefined) {
      throw new VpciError(
        'VPCI_PASSTHROUGH_RANGE',
        `${range} covers the physical PASID capability at 0x${hex(covered.offset, 3)}: no guest may reach it; leave those 8 bytes out`,
      );
    }
  }
}

/** `value` as a whole number of `bits` bits. */
export function checkId(value: number, bits: number, name: string): void {
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return;
  throw new VpciError('VPCI_BAD_ARGUMENT', `${name} is ${value}: give a whole number of ${bits} bits`);
}

/** Bytes are a dump; anything else is the real thing. */
export function toConfigSpace(physical: ConfigSpace | Uint8Array): ConfigSpace {
  return physical instanceof Uint8Array ? new ByteConfigSpace(physical) : physical;
}
