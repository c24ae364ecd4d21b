import * as id from './capability-ids.ts';
import type { ConfigSpace } from './config-space.ts';
import * as exp from './express.ts';

/**
 * How many bytes a capability structure occupies. Capabilities do not say it themselves: most lengths follow
 * from the ID, the others from fields that this file reads. Bytes beyond a real structure's end may hold
 * registers that the specification does not know, so a length is never rounded up here.
 *
 * @module
 */

/** Facts about the function that some lengths depend on. */
export interface LengthContext {
  /** Config-space offset of the PCI Express Capability, 0 when there is none. */
  readonly expressOffset: number;
}

type LengthRule = number | ((space: ConfigSpace, offset: number, context: LengthContext) => number);

/** Bits `high`..`low` of `value`. */
function bits(value: number, high: number, low: number): number {
  return (value >>> low) & ((1 << (high - low + 1)) - 1);
}

const STANDARD_LENGTHS: ReadonlyMap<number, LengthRule> = new Map<number, LengthRule>([
  [id.CAP_NULL, 2],
  [id.CAP_POWER_MANAGEMENT, 8],
  [id.CAP_AGP, 12],
  [id.CAP_VPD, 8],
  [id.CAP_SLOT_ID, 4],
  [id.CAP_MSI, msiLength],
  [id.CAP_COMPACT_PCI_HOT_SWAP, 3],
  // Version in bits 13:12 of the PCI-X command register; the ECC registers came with version 1 (PCI-X 2.0).
  [id.CAP_PCI_X, (space, offset) => (bits(space.read(offset + 2, 2), 13, 12) === 0 ? 8 : 24)],
  [id.CAP_HYPERTRANSPORT, hyperTransportLength],
  [id.CAP_VENDOR_SPECIFIC, (space, offset) => Math.max(3, space.read(offset + 2, 1))],
  [id.CAP_DEBUG_PORT, 4],
  [id.CAP_COMPACT_PCI_CRC, 4],
  [id.CAP_HOT_PLUG, 8],
  [id.CAP_BRIDGE_SUBSYSTEM, 8],
  [id.CAP_AGP_8X, 12],
  [id.CAP_SECURE_DEVICE, 24],
  [id.CAP_PCI_EXPRESS, expressLength],
  [id.CAP_MSI_X, 12],
  // BAR location 1111b: the index and data registers follow in the structure itself (SATA 1.3.1 10.2).
  [id.CAP_SATA, (space, offset) => (bits(space.read(offset + 4, 1), 3, 0) === 0xf ? 16 : 8)],
  [id.CAP_ADVANCED_FEATURES, 6],
  [id.CAP_ENHANCED_ALLOCATION, enhancedAllocationLength],
  [id.CAP_FLATTENING_PORTAL_BRIDGE, 0x24],
]);

const EXTENDED_LENGTHS: ReadonlyMap<number, LengthRule> = new Map<number, LengthRule>([
  [id.EXT_CAP_NULL, 4],
  [id.EXT_CAP_AER, aerLength],
  [id.EXT_CAP_VC, virtualChannelLength],
  [id.EXT_CAP_DEVICE_SERIAL_NUMBER, 12],
  [id.EXT_CAP_POWER_BUDGETING, (space, offset) => (bits(space.read(offset + 12, 1), 1, 1) === 0 ? 16 : 20)],
  [id.EXT_CAP_RC_LINK_DECLARATION, (space, offset) => 16 + 16 * space.read(offset + 5, 1)],
  [id.EXT_CAP_RC_INTERNAL_LINK_CONTROL, 12],
  [id.EXT_CAP_RC_EVENT_COLLECTOR, (space, offset) => (bits(space.read(offset + 2, 1), 3, 0) < 2 ? 8 : 12)],
  [id.EXT_CAP_MFVC, virtualChannelLength],
  [id.EXT_CAP_VC_MFVC, virtualChannelLength],
  [id.EXT_CAP_RCRB, 20],
  [id.EXT_CAP_VENDOR_SPECIFIC, (space, offset) => Math.max(8, bits(space.read(offset + 4, 4), 31, 20))],
  [id.EXT_CAP_CONFIGURATION_ACCESS_CORRELATION, 8],
  [id.EXT_CAP_ACS, acsLength],
  [id.EXT_CAP_ARI, 8],
  [id.EXT_CAP_ATS, 8],
  [id.EXT_CAP_SR_IOV, 0x40],
  [id.EXT_CAP_MR_IOV, 0x40],
  [id.EXT_CAP_MULTICAST, 0x30],
  [id.EXT_CAP_PAGE_REQUEST, 16],
  [id.EXT_CAP_RESIZABLE_BAR, resizableBarLength],
  [id.EXT_CAP_DYNAMIC_POWER_ALLOCATION, (space, offset) => 17 + bits(space.read(offset + 4, 1), 4, 0)],
  [id.EXT_CAP_TPH_REQUESTER, tphLength],
  [id.EXT_CAP_LATENCY_TOLERANCE_REPORTING, 8],
  [id.EXT_CAP_SECONDARY_PCI_EXPRESS, (space, _offset, context) => 12 + 2 * laneCount(space, context)],
  [id.EXT_CAP_PROTOCOL_MULTIPLEXING, (space, offset) => 16 + 4 * bits(space.read(offset + 4, 1), 5, 0)],
  [id.EXT_CAP_PASID, 8],
  [id.EXT_CAP_LN_REQUESTER, 8],
  [id.EXT_CAP_DOWNSTREAM_PORT_CONTAINMENT, dpcLength],
  [id.EXT_CAP_L1_PM_SUBSTATES, (space, offset) => (bits(space.read(offset + 2, 1), 3, 0) < 2 ? 16 : 20)],
  [id.EXT_CAP_PRECISION_TIME_MEASUREMENT, 12],
  [id.EXT_CAP_M_PCIE, 28],
  [id.EXT_CAP_FRS_QUEUING, 16],
  [id.EXT_CAP_READINESS_TIME_REPORTING, 12],
  [id.EXT_CAP_DVSEC, (space, offset) => Math.max(10, bits(space.read(offset + 4, 4), 31, 20))],
  [id.EXT_CAP_VF_RESIZABLE_BAR, resizableBarLength],
  [id.EXT_CAP_DATA_LINK_FEATURE, 12],
  [id.EXT_CAP_PHYSICAL_LAYER_16GT, (space, _offset, context) => 0x20 + laneCount(space, context)],
  [id.EXT_CAP_LANE_MARGINING, (space, _offset, context) => 8 + 4 * laneCount(space, context)],
  [id.EXT_CAP_HIERARCHY_ID, 0x20],
  [id.EXT_CAP_NPEM, 16],
  [id.EXT_CAP_PHYSICAL_LAYER_32GT, (space, _offset, context) => 0x20 + laneCount(space, context)],
  [
    id.EXT_CAP_ALTERNATE_PROTOCOL,
    (space, offset) => (bits(space.read(offset + 4, 2), 8, 8) === 0 ? 0x14 : 0x18),
  ],
  [id.EXT_CAP_SFI, 20],
  [id.EXT_CAP_SHADOW_FUNCTIONS, (space, offset) => 8 + 4 * bits(space.read(offset + 4, 1), 3, 0) + 4],
  // Version 2 has no more registers; the data mailboxes are the last two dwords.
  [id.EXT_CAP_DOE, 24],
  [id.EXT_CAP_DEVICE_3, 16],
  [id.EXT_CAP_IDE, ideLength],
  [id.EXT_CAP_PHYSICAL_LAYER_64GT, (space, _offset, context) => 0x20 + laneCount(space, context)],
  [id.EXT_CAP_FLIT_LOGGING, 0x40],
  [id.EXT_CAP_FLIT_PERFORMANCE_MEASUREMENT, 0x24],
  [id.EXT_CAP_FLIT_ERROR_INJECTION, 0x24],
  [id.EXT_CAP_STREAMLINED_VC, (space, offset) => 0x14 + 12 * (1 + bits(space.read(offset + 4, 1), 2, 0))],
  [
    id.EXT_CAP_MMIO_REGISTER_BLOCK_LOCATOR,
    (space, offset) => Math.max(8, bits(space.read(offset + 4, 2), 11, 0)),
  ],
]);

/** Length in bytes of the standard capability `capabilityId` at `offset`; undefined when the ID is unknown. */
export function capabilityLength(
  space: ConfigSpace,
  capabilityId: number,
  offset: number,
): number | undefined {
  return apply(STANDARD_LENGTHS.get(capabilityId), space, offset, { expressOffset: 0 });
}

/** Length in bytes of the extended capability `capabilityId` at `offset`; undefined when the ID is unknown. */
export function extendedCapabilityLength(
  space: ConfigSpace,
  capabilityId: number,
  offset: number,
  context: LengthContext,
): number | undefined {
  return apply(EXTENDED_LENGTHS.get(capabilityId), space, offset, context);
}

function apply(
  rule: LengthRule | undefined,
  space: ConfigSpace,
  offset: number,
  context: LengthContext,
): number | undefined {
  return typeof rule === 'function' ? rule(space, offset, context) : rule;
}

/** Message Control bits: 7 64-bit, 8 per-vector masking, 9 extended message data (PCIe 7.7.1). */
function msiLength(space: ConfigSpace, offset: number): number {
  const control = space.read(offset + 2, 2);
  const wide = bits(control, 7, 7) === 1;
  if (bits(control, 8, 8) === 1) return wide ? 24 : 20;
  const data = bits(control, 9, 9) === 1 ? 4 : 2;
  return (wide ? 12 : 8) + data;
}

/** Capability type in bits 15:13 (slave, host) or 15:11 (all others) of the command register (HT 3.10 7.2). */
function hyperTransportLength(space: ConfigSpace, offset: number): number {
  const command = space.read(offset + 2, 2);
  if (bits(command, 15, 13) === 0) return 28;
  if (bits(command, 15, 13) === 1) return 24;
  switch (bits(command, 15, 11)) {
    case 0x10: // interrupt discovery and configuration
      return 8;
    case 0x15: // MSI mapping: bit 1 says that the address is fixed and not in the structure
      return bits(command, 1, 1) === 1 ? 4 : 12;
    case 0x18: // error retry
      return 8;
    default:
      return 4;
  }
}

/** PCIe 7.5.3: version 2 has every register; version 1 only those of its Device/Port Type. */
function expressLength(space: ConfigSpace, offset: number): number {
  const capabilities = space.read(offset + exp.EXP_CAPABILITIES, 2);
  if (bits(capabilities, 3, 0) >= 2) return exp.EXP_LENGTH_V2;
  switch (bits(capabilities, 7, 4)) {
    case exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT:
      return exp.EXP_LINK_CAPABILITIES;
    case exp.DEVICE_TYPE_ROOT_PORT:
    case exp.DEVICE_TYPE_RC_EVENT_COLLECTOR:
      return exp.EXP_DEVICE_CAPABILITIES_2;
    case exp.DEVICE_TYPE_DOWNSTREAM_PORT:
      return exp.EXP_ROOT_CONTROL;
    default:
      return exp.EXP_SLOT_CAPABILITIES;
  }
}

/** PCIe 7.8.5: Num Entries in bits 21:16 of the first dword; each entry has ES + 1 dwords, ES in its bits 2:0. */
function enhancedAllocationLength(space: ConfigSpace, offset: number): number {
  const bridge = (space.read(0x0e, 1) & 0x7f) === 1;
  let length = bridge ? 8 : 4;
  for (let entry = bits(space.read(offset + 2, 1), 5, 0); entry > 0 && offset + length < 0x100; entry--) {
    length += 4 * (1 + bits(space.read(offset + length, 1), 2, 0));
  }
  return length;
}

/** PCIe 7.8.4: root error registers for root ports and event collectors, prefix log where prefixes are supported. */
function aerLength(space: ConfigSpace, offset: number, context: LengthContext): number {
  // Version 3 came with flit mode, whose headers fill the longer log (PCIe 6.1 7.8.4.12).
  if (bits(space.read(offset + 2, 1), 3, 0) >= 3) return 0x60;
  if (context.expressOffset === 0) return 0x2c;
  const capabilities = space.read(context.expressOffset + exp.EXP_CAPABILITIES, 2);
  if (bits(capabilities, 3, 0) >= 2) {
    const deviceCapabilities2 = space.read(context.expressOffset + exp.EXP_DEVICE_CAPABILITIES_2, 4);
    if ((deviceCapabilities2 & exp.EXP_END_END_TLP_PREFIX_SUPPORTED) !== 0) return 0x48;
  }
  const type = bits(capabilities, 7, 4);
  return type === exp.DEVICE_TYPE_ROOT_PORT || type === exp.DEVICE_TYPE_RC_EVENT_COLLECTOR ? 0x38 : 0x2c;
}

/** PCIe 7.9.1, 7.9.2: the resource registers of each VC, and the arbitration tables they point to. */
function virtualChannelLength(space: ConfigSpace, offset: number): number {
  const capability1 = space.read(offset + 4, 4);
  const capability2 = space.read(offset + 8, 4);
  const channels = 1 + bits(capability1, 2, 0);
  const entryBits = 1 << bits(capability1, 11, 10);
  let length = 16 + 12 * channels;
  const vcTable = 16 * bits(capability2, 31, 24);
  // Phases of the largest table the VC arbiter offers, four bits each.
  const vcPhases = phases(bits(capability2, 3, 1), [32, 64, 128]);
  if (vcTable !== 0) length = Math.max(length, vcTable + vcPhases / 2);
  for (let channel = 0; channel < channels; channel++) {
    const resource = space.read(offset + 16 + 12 * channel, 4);
    const portTable = 16 * bits(resource, 31, 24);
    const portPhases = phases(bits(resource, 5, 1), [32, 64, 128, 128, 256]);
    if (portTable !== 0) length = Math.max(length, portTable + (portPhases * entryBits) / 8);
  }
  return length;
}

/** The size that the highest set bit of `select` stands for, 0 when none is set. */
function phases(select: number, sizes: readonly number[]): number {
  return sizes.findLast((_size, bit) => (select & (1 << bit)) !== 0) ?? 0;
}

/** PCIe 7.7.11: the egress control vector has a bit a port, 0 standing for 256. */
function acsLength(space: ConfigSpace, offset: number): number {
  const capability = space.read(offset + 4, 2);
  if (bits(capability, 5, 5) === 0) return 8;
  const vectorBits = bits(capability, 15, 8) || 256;
  return 8 + 4 * Math.ceil(vectorBits / 32);
}

/** PCIe 7.8.6: the first control register says how many BARs (1..6) have a pair of registers. */
function resizableBarLength(space: ConfigSpace, offset: number): number {
  return 4 + 8 * Math.max(1, Math.min(6, bits(space.read(offset + 8, 1), 7, 5)));
}

/** PCIe 7.9.13: the steering tag table is in the structure when ST Table Location is 01b. */
function tphLength(space: ConfigSpace, offset: number): number {
  const capability = space.read(offset + 4, 4);
  return bits(capability, 10, 9) === 1 ? 12 + 2 * (1 + bits(capability, 26, 16)) : 12;
}

/** PCIe 7.9.14: root ports with RP extensions have more registers and RP PIO Log Size dwords of log. */
function dpcLength(space: ConfigSpace, offset: number): number {
  const capability = space.read(offset + 4, 2);
  return bits(capability, 5, 5) === 0 ? 12 : 0x20 + 4 * bits(capability, 11, 8);
}

/** PCIe 7.9.26: link streams, then selective streams with their address association blocks. */
function ideLength(space: ConfigSpace, offset: number): number {
  const capability = space.read(offset + 4, 4);
  let length = 12;
  if (bits(capability, 0, 0) === 1) length += 8 * (1 + bits(capability, 15, 13));
  if (bits(capability, 1, 1) === 0) return length;
  for (let stream = 1 + bits(capability, 23, 16); stream > 0 && offset + length < 0x1000; stream--) {
    const blocks = bits(space.read(offset + length, 1), 3, 0);
    length += 20 + 12 * blocks;
  }
  return length;
}

/** Maximum Link Width of Link Capabilities, in lanes (PCIe 7.5.3.6); 0 when there is no link. */
function laneCount(space: ConfigSpace, context: LengthContext): number {
  if (context.expressOffset === 0) return 0;
  return bits(space.read(context.expressOffset + exp.EXP_LINK_CAPABILITIES, 4), 9, 4);
}
