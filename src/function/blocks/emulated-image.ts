import { ByteConfigSpace, EXTENDED_CONFIG_SPACE_SIZE } from '../../pci/config-space.ts';
import * as reg from '../../pci/header.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import { checkId, type EmulatedOptions } from '../function-options.ts';
import { expressCapability } from './blocks.ts';
import type { CapabilityBlock } from './capability-block.ts';

/** Bits that a guest may write in a structure without rules of its own. */
export interface WritableBytes {
  readonly offset: number;
  readonly mask: Uint8Array;
}

/** Registers of an emulated function at power-on. */
export interface EmulatedImage {
  readonly space: ByteConfigSpace;
  readonly writable: readonly WritableBytes[];
}

/**
 * Registers of a function that exists in software only.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` when an ID does not fit its register, `VPCI_NO_SPACE` when the capabilities
 * do not fit.
 */
export function emulatedImage(options: EmulatedOptions, headerType = 0): EmulatedImage {
  const { vendorId, deviceId, classCode, revisionId = 0, interruptPin = 0 } = options;
  const { subsystemVendorId = vendorId, subsystemId = deviceId } = options;
  checkId(vendorId, 16, 'vendorId');
  checkId(deviceId, 16, 'deviceId');
  checkId(classCode, 24, 'classCode');
  checkId(revisionId, 8, 'revisionId');
  checkId(subsystemVendorId, 16, 'subsystemVendorId');
  checkId(subsystemId, 16, 'subsystemId');
  if (![0, 1, 2, 3, 4].includes(interruptPin)) {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      `interruptPin is ${interruptPin}: 0 for none, 1 to 4 for INTA to INTD`,
    );
  }
  const space = new ByteConfigSpace(new Uint8Array(EXTENDED_CONFIG_SPACE_SIZE));
  space.write(reg.VENDOR_ID, 2, vendorId);
  space.write(reg.DEVICE_ID, 2, deviceId);
  space.write(reg.REVISION_ID, 4, revisionId | (classCode << 8));
  space.write(reg.HEADER_TYPE, 1, headerType);
  if (headerType === 0) {
    space.write(reg.SUBSYSTEM_VENDOR_ID, 2, subsystemVendorId);
    space.write(reg.SUBSYSTEM_ID, 2, subsystemId);
  }
  space.write(reg.INTERRUPT_PIN, 1, interruptPin);
  return { space, writable: placeBlocks(space, options.capabilities ?? [expressCapability()]) };
}

function placeBlocks(space: ByteConfigSpace, blocks: readonly CapabilityBlock[]): WritableBytes[] {
  const writable: WritableBytes[] = [];
  let standardEnd = reg.HEADER_END;
  let extendedEnd = 0x100;
  let standardLink = reg.CAPABILITIES_POINTER;
  let extendedLink = 0;
  for (const { id, extended, version, bytes, writable: mask } of blocks) {
    const offset = extended ? extendedEnd : standardEnd;
    const end = (offset + bytes.length + 3) & ~3;
    if (end > (extended ? EXTENDED_CONFIG_SPACE_SIZE : 0x100)) {
      throw new VpciError(
        'VPCI_NO_SPACE',
        `the capabilities do not fit: ${bytes.length} bytes at 0x${offset.toString(16)}`,
      );
    }
    space.bytes.set(bytes, offset);
    if (extended) {
      space.write(offset, 4, id | (version << 16));
      if (extendedLink !== 0) space.write(extendedLink, 4, space.read(extendedLink, 4) | (offset << 20));
      extendedLink = offset;
      extendedEnd = end;
    } else {
      space.write(offset, 2, id);
      space.write(standardLink, 1, offset);
      space.write(reg.STATUS, 2, reg.STATUS_CAPABILITIES_LIST);
      standardLink = offset + 1;
      standardEnd = end;
    }
    if (mask !== undefined) writable.push({ offset, mask });
  }
  return writable;
}
