import { ACS_CAPABILITY, ACS_CONTROL } from '../capabilities/acs.ts';
import * as id from '../../pci/capability-ids.ts';
import * as exp from '../../pci/express.ts';
import { VpciError } from '../../pci/vpci-error.ts';
import { block, type CapabilityBlock } from './capability-block.ts';

/** Role-based error reporting and extended tags (PCIe 7.5.3.3). */
const DEVICE_CAPABILITIES = 0x00008020;
/** Relaxed ordering and no snoop enabled, 512-byte reads: the power-on values (PCIe 7.5.3.4). */
const DEVICE_CONTROL = 0x2810;
/** One lane at 2.5 GT/s, which is enough for a link that is not there (PCIe 7.5.3.6). */
const LINK = 0x0011;
const DATA_LINK_LAYER_ACTIVE_REPORTING = 0x00100000;
/** Surprise and capable of hot-plug, no command completed events: PCIe 7.5.3.9. */
const SLOT_CAPABILITIES = 0x00040060;
const ATTENTION_BUTTON_AND_INDICATORS = 0x0000001b;

/** Options of {@link expressCapability}. */
export interface ExpressOptions {
  /**
   * Device/Port Type, 4 bits (PCIe 7.5.3.2, table 7-19): 0 endpoint, 1 legacy endpoint, 9 RC integrated endpoint, and
   * others. Default 0.
   */
  readonly deviceType?: number;
  /** Function Level Reset can be initiated. Default true for endpoints. */
  readonly flr?: boolean;
  /** End-End TLP Prefix and Extended Fmt supported. Default: what PASID makes of it; true for ports. */
  readonly endEndPrefix?: boolean;
  /** A port's slot takes functions while the guest runs. Default false. */
  readonly hotPlug?: boolean;
  /** Physical Slot Number of a port, 13 bits. Default 0: no slot. */
  readonly slot?: number;
}

/** The PCI Express Capability, version 2 (PCIe 7.5.3). */
export function expressCapability(options: ExpressOptions = {}): CapabilityBlock {
  const { deviceType = exp.DEVICE_TYPE_ENDPOINT, hotPlug = false, slot = 0 } = options;
  const port = deviceType >= exp.DEVICE_TYPE_ROOT_PORT && deviceType <= exp.DEVICE_TYPE_DOWNSTREAM_PORT;
  const { flr = !port, endEndPrefix = port } = options;
  const downstream = port && deviceType !== exp.DEVICE_TYPE_UPSTREAM_PORT;
  return block(id.CAP_PCI_EXPRESS, false, exp.EXP_LENGTH_V2, (view) => {
    const slotBit = downstream && slot !== 0 ? exp.EXP_SLOT_IMPLEMENTED : 0;
    view.setUint16(exp.EXP_CAPABILITIES, 2 | (deviceType << exp.EXP_DEVICE_PORT_TYPE_SHIFT) | slotBit, true);
    const flrBit = flr ? exp.EXP_FUNCTION_LEVEL_RESET_CAPABILITY : 0;
    view.setUint32(exp.EXP_DEVICE_CAPABILITIES, DEVICE_CAPABILITIES | flrBit, true);
    view.setUint16(exp.EXP_DEVICE_CONTROL, DEVICE_CONTROL, true);
    if (deviceType !== exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT) {
      view.setUint32(
        exp.EXP_LINK_CAPABILITIES,
        LINK | (downstream ? DATA_LINK_LAYER_ACTIVE_REPORTING : 0),
        true,
      );
      view.setUint16(exp.EXP_LINK_STATUS, LINK, true);
    }
    if (slotBit !== 0) {
      const hot = hotPlug ? SLOT_CAPABILITIES | ATTENTION_BUTTON_AND_INDICATORS : 0;
      view.setUint32(exp.EXP_SLOT_CAPABILITIES, (hot | (slot << 19)) >>> 0, true);
    }
    const prefix =
      exp.EXP_END_END_TLP_PREFIX_SUPPORTED |
      exp.EXP_EXTENDED_FMT_FIELD_SUPPORTED |
      exp.EXP_MAX_END_END_TLP_PREFIXES_ONE;
    if (endEndPrefix) view.setUint32(exp.EXP_DEVICE_CAPABILITIES_2, prefix, true);
  });
}

/** MSI with `vectors` (1, 2, 4 .. 32), 64-bit addresses, and per-vector masking unless switched off (PCIe 7.7.1). */
export function msiCapability(vectors = 1, masking = true): CapabilityBlock {
  const log = Math.log2(vectors);
  if (!Number.isInteger(log) || log < 0 || log > 5) {
    throw new VpciError('VPCI_BAD_ARGUMENT', `${vectors} MSI vectors: there are 1, 2, 4, 8, 16 or 32`);
  }
  return block(id.CAP_MSI, false, masking ? 24 : 14, (view) => {
    view.setUint16(2, 0x0080 | (masking ? 0x0100 : 0) | (log << 1), true);
  });
}

/** Where an MSI-X structure is: BAR 0..5 and an offset in it, a multiple of 8. */
export interface MsiXLocation {
  readonly bar: number;
  readonly offset: number;
}

/** MSI-X with `vectors` (1..2048) and its table and pending bits in BARs (PCIe 7.7.2). */
export function msiXCapability(vectors: number, table: MsiXLocation, pba: MsiXLocation): CapabilityBlock {
  if (!Number.isInteger(vectors) || vectors < 1 || vectors > 2048) {
    throw new VpciError('VPCI_BAD_ARGUMENT', `${vectors} MSI-X vectors: there are 1 to 2048`);
  }
  for (const { bar, offset } of [table, pba]) {
    if (Number.isInteger(bar) && bar >= 0 && bar <= 5 && offset >= 0 && offset < 2 ** 32 && offset % 8 === 0)
      continue;
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      `MSI-X at offset ${offset} of BAR ${bar}: give BAR 0 to 5 and a multiple of 8`,
    );
  }
  return block(id.CAP_MSI_X, false, 12, (view) => {
    view.setUint16(2, vectors - 1, true);
    view.setUint32(4, table.offset + table.bar, true);
    view.setUint32(8, pba.offset + pba.bar, true);
  });
}

/** Power Management version 3 (PCIe 7.5.2); `keepsState`: No_Soft_Reset, the state survives D3hot. */
export function powerManagementCapability(keepsState = true): CapabilityBlock {
  return block(id.CAP_POWER_MANAGEMENT, false, 8, (view) => {
    view.setUint16(2, 3, true);
    view.setUint16(4, keepsState ? 0x0008 : 0, true);
  });
}

/** Advanced Error Reporting (PCIe 7.8.4), with the log of prefixes. */
export function aerCapability(): CapabilityBlock {
  return {
    ...block(id.EXT_CAP_AER, true, 0x48, (view) => {
      view.setUint32(0x0c, 0x00462030, true);
      view.setUint32(0x14, 0x0000e000, true);
    }),
    version: 2,
  };
}

/** The same for a root port, whose Root Error Command the guest writes (PCIe 7.8.4.9). */
export function rootAerCapability(): CapabilityBlock {
  const made = aerCapability();
  const writable = new Uint8Array(made.bytes.length);
  writable[0x2c] = 0x07;
  return { ...made, writable };
}

/** Device Serial Number, 64 bits (PCIe 7.9.3). */
export function serialNumberCapability(serialNumber: bigint): CapabilityBlock {
  return block(id.EXT_CAP_DEVICE_SERIAL_NUMBER, true, 12, (view) => view.setBigUint64(4, serialNumber, true));
}

/** Access Control Services of a port (PCIe 7.7.11): source validation, redirection and forwarding. */
export function acsCapability(): CapabilityBlock {
  return block(id.EXT_CAP_ACS, true, 8, (view) => {
    view.setUint16(ACS_CAPABILITY, 0x001d, true);
    view.setUint16(ACS_CONTROL, 0, true);
  });
}

/** A Vendor-Specific capability (PCIe 7.9.4) with `data` after its length byte; `writable` as in {@link CapabilityBlock}. */
export function vendorSpecificCapability(data: Uint8Array, writable?: Uint8Array): CapabilityBlock {
  const length = 3 + data.length;
  if (length > 0xc0)
    throw new VpciError('VPCI_BAD_ARGUMENT', `${data.length} bytes of vendor-specific data: at most 189`);
  const made = block(id.CAP_VENDOR_SPECIFIC, false, length, (view) => view.setUint8(2, length));
  made.bytes.set(data, 3);
  return { ...made, writable: shifted(writable, 3, length) };
}

/** A Vendor-Specific Extended Capability (PCIe 7.9.5) with `data` after its two headers. */
export function vendorSpecificExtendedCapability(
  vsecId: number,
  revision: number,
  data: Uint8Array,
  writable?: Uint8Array,
): CapabilityBlock {
  const length = 8 + data.length;
  if (length > 0xf00)
    throw new VpciError('VPCI_BAD_ARGUMENT', `${data.length} bytes of vendor-specific data: at most 3832`);
  const made = block(id.EXT_CAP_VENDOR_SPECIFIC, true, length, (view) =>
    view.setUint32(4, ((vsecId & 0xffff) | ((revision & 0xf) << 16) | (length << 20)) >>> 0, true),
  );
  made.bytes.set(data, 8);
  return { ...made, writable: shifted(writable, 8, length) };
}

function shifted(mask: Uint8Array | undefined, by: number, length: number): Uint8Array | undefined {
  if (mask === undefined) return undefined;
  const all = new Uint8Array(length);
  all.set(mask.subarray(0, length - by), by);
  return all;
}
