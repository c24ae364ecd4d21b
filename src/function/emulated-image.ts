import { ByteConfigSpace, EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import { CAP_PCI_EXPRESS } from '../pci/capability-ids.ts';
import * as exp from '../pci/express.ts';
import * as reg from '../pci/header.ts';
import { checkId, type EmulatedOptions } from './function-options.ts';

/** Where the PCI Express Capability of an emulated function stands. */
const EXPRESS_OFFSET = 0x40;
/** FLR, role-based error reporting, extended tags (PCIe 7.5.3.3). */
const DEVICE_CAPABILITIES = 0x10008020;
/** Relaxed ordering and no snoop enabled, 512-byte reads: the power-on values (PCIe 7.5.3.4). */
const DEVICE_CONTROL = 0x2810;
/** One lane at 2.5 GT/s, which is enough for a link that is not there (PCIe 7.5.3.6). */
const LINK_CAPABILITIES = 0x00000011;
const LINK_STATUS = 0x0011;

/**
 * Registers of a function that exists in software only, with a PCI Express Capability of version 2.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` when an ID does not fit its register.
 */
export function emulatedImage(options: EmulatedOptions): ByteConfigSpace {
  const { vendorId, deviceId, classCode, revisionId = 0 } = options;
  const { subsystemVendorId = vendorId, subsystemId = deviceId } = options;
  checkId(vendorId, 16, 'vendorId');
  checkId(deviceId, 16, 'deviceId');
  checkId(classCode, 24, 'classCode');
  checkId(revisionId, 8, 'revisionId');
  checkId(subsystemVendorId, 16, 'subsystemVendorId');
  checkId(subsystemId, 16, 'subsystemId');
  const image = new ByteConfigSpace(new Uint8Array(EXTENDED_CONFIG_SPACE_SIZE));
  image.write(reg.VENDOR_ID, 2, vendorId);
  image.write(reg.DEVICE_ID, 2, deviceId);
  image.write(reg.STATUS, 2, reg.STATUS_CAPABILITIES_LIST);
  image.write(reg.REVISION_ID, 4, revisionId | (classCode << 8));
  image.write(reg.SUBSYSTEM_VENDOR_ID, 2, subsystemVendorId);
  image.write(reg.SUBSYSTEM_ID, 2, subsystemId);
  image.write(reg.CAPABILITIES_POINTER, 1, EXPRESS_OFFSET);
  writeExpress(image, EXPRESS_OFFSET);
  return image;
}

function writeExpress(image: ByteConfigSpace, offset: number): void {
  image.write(offset, 2, CAP_PCI_EXPRESS);
  image.write(
    offset + exp.EXP_CAPABILITIES,
    2,
    2 | (exp.DEVICE_TYPE_ENDPOINT << exp.EXP_DEVICE_PORT_TYPE_SHIFT),
  );
  image.write(offset + exp.EXP_DEVICE_CAPABILITIES, 4, DEVICE_CAPABILITIES);
  image.write(offset + exp.EXP_DEVICE_CONTROL, 2, DEVICE_CONTROL);
  image.write(offset + exp.EXP_LINK_CAPABILITIES, 4, LINK_CAPABILITIES);
  image.write(offset + exp.EXP_LINK_STATUS, 2, LINK_STATUS);
}
