/**
 * Capability IDs of PCI and PCI Express with the names of the PCI Code and ID Assignment specification
 * (sections 2 and 3), up to PCIe 6.
 *
 * @module
 */

/** ID of the null capability and of the null extended capability: no registers but its header (PCIe 7.9.28). */
export const CAP_NULL = 0x00;
export const CAP_POWER_MANAGEMENT = 0x01;
export const CAP_AGP = 0x02;
export const CAP_VPD = 0x03;
export const CAP_SLOT_ID = 0x04;
export const CAP_MSI = 0x05;
export const CAP_COMPACT_PCI_HOT_SWAP = 0x06;
export const CAP_PCI_X = 0x07;
export const CAP_HYPERTRANSPORT = 0x08;
export const CAP_VENDOR_SPECIFIC = 0x09;
export const CAP_DEBUG_PORT = 0x0a;
export const CAP_COMPACT_PCI_CRC = 0x0b;
export const CAP_HOT_PLUG = 0x0c;
export const CAP_BRIDGE_SUBSYSTEM = 0x0d;
export const CAP_AGP_8X = 0x0e;
export const CAP_SECURE_DEVICE = 0x0f;
export const CAP_PCI_EXPRESS = 0x10;
export const CAP_MSI_X = 0x11;
export const CAP_SATA = 0x12;
export const CAP_ADVANCED_FEATURES = 0x13;
export const CAP_ENHANCED_ALLOCATION = 0x14;
export const CAP_FLATTENING_PORTAL_BRIDGE = 0x15;

export const EXT_CAP_NULL = 0x00;
export const EXT_CAP_AER = 0x01;
export const EXT_CAP_VC = 0x02;
export const EXT_CAP_DEVICE_SERIAL_NUMBER = 0x03;
export const EXT_CAP_POWER_BUDGETING = 0x04;
export const EXT_CAP_RC_LINK_DECLARATION = 0x05;
export const EXT_CAP_RC_INTERNAL_LINK_CONTROL = 0x06;
export const EXT_CAP_RC_EVENT_COLLECTOR = 0x07;
export const EXT_CAP_MFVC = 0x08;
export const EXT_CAP_VC_MFVC = 0x09;
export const EXT_CAP_RCRB = 0x0a;
export const EXT_CAP_VENDOR_SPECIFIC = 0x0b;
export const EXT_CAP_CONFIGURATION_ACCESS_CORRELATION = 0x0c;
export const EXT_CAP_ACS = 0x0d;
export const EXT_CAP_ARI = 0x0e;
export const EXT_CAP_ATS = 0x0f;
export const EXT_CAP_SR_IOV = 0x10;
export const EXT_CAP_MR_IOV = 0x11;
export const EXT_CAP_MULTICAST = 0x12;
export const EXT_CAP_PAGE_REQUEST = 0x13;
export const EXT_CAP_RESIZABLE_BAR = 0x15;
export const EXT_CAP_DYNAMIC_POWER_ALLOCATION = 0x16;
export const EXT_CAP_TPH_REQUESTER = 0x17;
export const EXT_CAP_LATENCY_TOLERANCE_REPORTING = 0x18;
export const EXT_CAP_SECONDARY_PCI_EXPRESS = 0x19;
export const EXT_CAP_PROTOCOL_MULTIPLEXING = 0x1a;
export const EXT_CAP_PASID = 0x1b;
export const EXT_CAP_LN_REQUESTER = 0x1c;
export const EXT_CAP_DOWNSTREAM_PORT_CONTAINMENT = 0x1d;
export const EXT_CAP_L1_PM_SUBSTATES = 0x1e;
export const EXT_CAP_PRECISION_TIME_MEASUREMENT = 0x1f;
export const EXT_CAP_M_PCIE = 0x20;
export const EXT_CAP_FRS_QUEUING = 0x21;
export const EXT_CAP_READINESS_TIME_REPORTING = 0x22;
export const EXT_CAP_DVSEC = 0x23;
export const EXT_CAP_VF_RESIZABLE_BAR = 0x24;
export const EXT_CAP_DATA_LINK_FEATURE = 0x25;
export const EXT_CAP_PHYSICAL_LAYER_16GT = 0x26;
export const EXT_CAP_LANE_MARGINING = 0x27;
export const EXT_CAP_HIERARCHY_ID = 0x28;
export const EXT_CAP_NPEM = 0x29;
export const EXT_CAP_PHYSICAL_LAYER_32GT = 0x2a;
export const EXT_CAP_ALTERNATE_PROTOCOL = 0x2b;
export const EXT_CAP_SFI = 0x2c;
export const EXT_CAP_SHADOW_FUNCTIONS = 0x2d;
export const EXT_CAP_DOE = 0x2e;
export const EXT_CAP_DEVICE_3 = 0x2f;
export const EXT_CAP_IDE = 0x30;
export const EXT_CAP_PHYSICAL_LAYER_64GT = 0x31;
export const EXT_CAP_FLIT_LOGGING = 0x32;
export const EXT_CAP_FLIT_PERFORMANCE_MEASUREMENT = 0x33;
export const EXT_CAP_FLIT_ERROR_INJECTION = 0x34;
export const EXT_CAP_STREAMLINED_VC = 0x35;
export const EXT_CAP_MMIO_REGISTER_BLOCK_LOCATOR = 0x36;

const CAPABILITY_NAMES: readonly string[] = [
  'Null',
  'Power Management',
  'AGP',
  'VPD',
  'Slot Identification',
  'MSI',
  'CompactPCI Hot Swap',
  'PCI-X',
  'HyperTransport',
  'Vendor-Specific',
  'Debug Port',
  'CompactPCI Central Resource Control',
  'PCI Hot-Plug',
  'PCI Bridge Subsystem Vendor ID',
  'AGP 8x',
  'Secure Device',
  'PCI Express',
  'MSI-X',
  'Serial ATA Data/Index',
  'Advanced Features',
  'Enhanced Allocation',
  'Flattening Portal Bridge',
];

const EXTENDED_CAPABILITY_NAMES: readonly (string | undefined)[] = [
  'Null',
  'Advanced Error Reporting',
  'Virtual Channel',
  'Device Serial Number',
  'Power Budgeting',
  'Root Complex Link Declaration',
  'Root Complex Internal Link Control',
  'Root Complex Event Collector Endpoint Association',
  'Multi-Function Virtual Channel',
  'Virtual Channel (with MFVC)',
  'RCRB Header',
  'Vendor-Specific',
  'Configuration Access Correlation',
  'Access Control Services',
  'Alternative Routing-ID Interpretation',
  'Address Translation Services',
  'Single Root I/O Virtualization',
  'Multi-Root I/O Virtualization',
  'Multicast',
  'Page Request Interface',
  undefined,
  'Resizable BAR',
  'Dynamic Power Allocation',
  'TPH Requester',
  'Latency Tolerance Reporting',
  'Secondary PCI Express',
  'Protocol Multiplexing',
  'Process Address Space ID',
  'LN Requester',
  'Downstream Port Containment',
  'L1 PM Substates',
  'Precision Time Measurement',
  'PCI Express over M-PHY',
  'FRS Queuing',
  'Readiness Time Reporting',
  'Designated Vendor-Specific',
  'VF Resizable BAR',
  'Data Link Feature',
  'Physical Layer 16.0 GT/s',
  'Lane Margining at the Receiver',
  'Hierarchy ID',
  'Native PCIe Enclosure Management',
  'Physical Layer 32.0 GT/s',
  'Alternate Protocol',
  'System Firmware Intermediary',
  'Shadow Functions',
  'Data Object Exchange',
  'Device 3',
  'Integrity and Data Encryption',
  'Physical Layer 64.0 GT/s',
  'Flit Logging',
  'Flit Performance Measurement',
  'Flit Error Injection',
  'Streamlined Virtual Channel',
  'MMIO Register Block Locator',
];

/** Name of a standard capability ID (8 bits), or undefined when PCIe 6 does not assign it. */
export function capabilityName(id: number): string | undefined {
  return CAPABILITY_NAMES[id];
}

/** Name of an extended capability ID (16 bits), or undefined when PCIe 6 does not assign it. */
export function extendedCapabilityName(id: number): string | undefined {
  return EXTENDED_CAPABILITY_NAMES[id];
}
