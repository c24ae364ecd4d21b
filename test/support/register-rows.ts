import type { Register } from './register-table.ts';

// The registers of PCIe chapter 7 that emulated functions and ports have, written down from the specification: RW,
// RW1C and sticky masks, and the values at power-on. Where an implementation may hardwire a field to 0, the
// documentation comments of this library decide.

/** Type 0 and type 1 share these (7.5.1.1). `pin`: Interrupt Pin. */
export function commonHeader(
  id: number,
  classAndRevision: number,
  headerType: number,
  capabilities: number,
  pin = 0,
): Register[] {
  return [
    { name: 'Vendor and Device ID', at: 0x00, size: 4, value: id },
    // I/O, memory, bus master, parity, SERR#, INTx disable; the PCI-only bits are hardwired to 0 (7.5.1.1.3).
    { name: 'Command', at: 0x04, size: 2, rw: 0x0547 },
    { name: 'Status', at: 0x06, size: 2, value: capabilities === 0 ? 0 : 0x0010, rw1c: 0xf900 },
    { name: 'Class Code and Revision ID', at: 0x08, size: 4, value: classAndRevision },
    { name: 'Cache Line Size', at: 0x0c, size: 1, rw: 0xff },
    { name: 'Header Type', at: 0x0e, size: 1, value: headerType },
    { name: 'Capabilities Pointer', at: 0x34, size: 1, value: capabilities },
    { name: 'Interrupt Line', at: 0x3c, size: 1, rw: 0xff },
    { name: 'Interrupt Pin', at: 0x3d, size: 1, value: pin },
  ];
}

export const TYPE_1: readonly Register[] = [
  { name: 'Bus Numbers', at: 0x18, size: 4, rw: 0x00ffffff },
  // 16-bit I/O addressing, 32-bit memory, 64-bit prefetchable memory (7.5.1.3.6 to 7.5.1.3.12).
  { name: 'I/O Base and Limit', at: 0x1c, size: 2, rw: 0xf0f0 },
  { name: 'Secondary Status', at: 0x1e, size: 2, rw1c: 0xf900 },
  { name: 'Memory Base and Limit', at: 0x20, size: 4, rw: 0xfff0fff0 },
  { name: 'Prefetchable Base and Limit', at: 0x24, size: 4, value: 0x00010001, rw: 0xfff0fff0 },
  { name: 'Prefetchable Base Upper', at: 0x28, size: 4, rw: 0xffffffff },
  { name: 'Prefetchable Limit Upper', at: 0x2c, size: 4, rw: 0xffffffff },
  // Parity, SERR#, ISA, VGA, VGA 16-bit, Secondary Bus Reset (7.5.1.3.13); Master Abort Mode is hardwired to 0.
  { name: 'Bridge Control', at: 0x3e, size: 2, rw: 0x005f },
];

/** Header of a standard capability. */
function header(at: number, id: number, next: number): Register {
  return { name: `header of ${id.toString(16)}`, at, size: 2, value: id | (next << 8) };
}

/** Header of an extended capability. */
export function extendedHeader(at: number, id: number, version: number, next = 0): Register {
  return {
    name: `header of extended ${id.toString(16)}`,
    at,
    size: 4,
    value: id + version * 2 ** 16 + next * 2 ** 20,
  };
}

export interface ExpressFields {
  readonly capabilities: number;
  readonly deviceCapabilities: number;
  readonly link?: { readonly capabilities: number; readonly control: number; readonly status: number };
  readonly slot?: { readonly capabilities: number };
  readonly root?: boolean;
  readonly deviceCapabilities2?: number;
}

/** PCI Express (7.5.3). Aux Power PM Enable is RWS. */
export function express(at: number, next: number, fields: ExpressFields): Register[] {
  const { link, slot, root = false } = fields;
  return [
    header(at, 0x10, next),
    { name: 'PCI Express Capabilities', at: at + 0x02, size: 2, value: fields.capabilities },
    { name: 'Device Capabilities', at: at + 0x04, size: 4, value: fields.deviceCapabilities },
    // Max Read Request Size 512, No Snoop and Relaxed Ordering on (7.5.3.4); bit 15 reads 0.
    { name: 'Device Control', at: at + 0x08, size: 2, value: 0x2810, rw: 0x7dff, sticky: 0x0400 },
    ...(link === undefined
      ? []
      : ([
          { name: 'Link Capabilities', at: at + 0x0c, size: 4, value: link.capabilities },
          { name: 'Link Control', at: at + 0x10, size: 2, rw: link.control },
          { name: 'Link Status', at: at + 0x12, size: 2, value: link.status },
        ] as const)),
    ...(slot === undefined
      ? []
      : ([
          { name: 'Slot Capabilities', at: at + 0x14, size: 4, value: slot.capabilities },
          // Both indicators off. Without command completed events their enable is hardwired to 0, and the interlock
          // control always reads 0 (7.5.3.10).
          { name: 'Slot Control', at: at + 0x18, size: 2, value: 0x03c0, rw: 0x17ef },
          { name: 'Slot Status', at: at + 0x1a, size: 2, rw1c: 0x011f },
        ] as const)),
    ...(root
      ? ([
          { name: 'Root Control', at: at + 0x1c, size: 2, rw: 0x001f },
          { name: 'Root Status', at: at + 0x20, size: 4, rw1c: 0x00010000 },
        ] as const)
      : []),
    { name: 'Device Capabilities 2', at: at + 0x24, size: 4, value: fields.deviceCapabilities2 ?? 0 },
    // Completion timeout, AtomicOp requester, IDO, LTR, 10-bit tags, OBFF (7.5.3.16).
    { name: 'Device Control 2', at: at + 0x28, size: 2, rw: 0x775f },
  ];
}

/** MSI (7.7.1) with Message Control `control`. */
export function msi(at: number, next: number, control: number): Register[] {
  const wide = (control & 0x80) !== 0;
  const extendedData = (control & 0x200) !== 0;
  const data = at + (wide ? 12 : 8);
  const rows: Register[] = [
    header(at, 0x05, next),
    {
      name: 'MSI Message Control',
      at: at + 2,
      size: 2,
      value: control,
      rw: extendedData ? 0x0471 : 0x0071,
    },
    { name: 'MSI Message Address', at: at + 4, size: 4, rw: 0xfffffffc },
    { name: 'MSI Message Data', at: data, size: 2, rw: 0xffff },
  ];
  if (wide) rows.push({ name: 'MSI Message Upper Address', at: at + 8, size: 4, rw: 0xffffffff });
  if (extendedData) rows.push({ name: 'MSI Extended Message Data', at: data + 2, size: 2, rw: 0xffff });
  if ((control & 0x100) !== 0) {
    const vectors = 2 ** ((control >>> 1) & 7);
    rows.push({ name: 'MSI Mask Bits', at: data + 4, size: 4, rw: 2 ** vectors - 1 });
    rows.push({ name: 'MSI Pending Bits', at: data + 8, size: 4 });
  }
  return rows;
}

/** MSI-X (7.7.2). */
export function msiX(at: number, next: number, vectors: number, table: number, pba: number): Register[] {
  return [
    header(at, 0x11, next),
    { name: 'MSI-X Message Control', at: at + 2, size: 2, value: vectors - 1, rw: 0xc000 },
    { name: 'MSI-X Table', at: at + 4, size: 4, value: table },
    { name: 'MSI-X PBA', at: at + 8, size: 4, value: pba },
  ];
}

/** Power Management (7.5.2). PME Enable and Status are sticky. */
export function powerManagement(
  at: number,
  next: number,
  capabilities: number,
  controlStatus: number,
): Register[] {
  return [
    header(at, 0x01, next),
    { name: 'Power Management Capabilities', at: at + 2, size: 2, value: capabilities },
    { name: 'PMCSR', at: at + 4, size: 2, value: controlStatus, rw: 0x0103, rw1c: 0x8000, sticky: 0x8100 },
  ];
}

/** AER (7.8.4). The masks are RWS; status and logs read as they are, since the host owns the errors. */
export function aer(at: number, next: number, root = false): Register[] {
  const errors = 0x0ffff030;
  return [
    extendedHeader(at, 0x0001, 2, next),
    { name: 'Uncorrectable Error Mask', at: at + 0x08, size: 4, rw: errors, sticky: errors },
    {
      name: 'Uncorrectable Error Severity',
      at: at + 0x0c,
      size: 4,
      value: 0x00462030,
      rw: errors,
      sticky: errors,
    },
    {
      name: 'Correctable Error Mask',
      at: at + 0x14,
      size: 4,
      value: 0x0000e000,
      rw: 0xf1c1,
      sticky: 0xf1c1,
    },
    { name: 'AER Capabilities and Control', at: at + 0x18, size: 4, rw: 0x0140, sticky: 0x0140 },
    ...(root ? ([{ name: 'Root Error Command', at: at + 0x2c, size: 4, rw: 0x7 }] as const) : []),
  ];
}

/** ACS of a port (7.7.11): source validation, P2P request and completion redirect, upstream forwarding. */
export function acs(at: number, next: number): Register[] {
  return [
    extendedHeader(at, 0x000d, 1, next),
    { name: 'ACS Capability', at: at + 4, size: 2, value: 0x001d },
    { name: 'ACS Control', at: at + 6, size: 2, rw: 0x001d },
  ];
}

/** ATS (10.5.1): page aligned requests, global invalidate; STU and Enable. */
export function ats(at: number, next: number): Register[] {
  return [
    extendedHeader(at, 0x000f, 1, next),
    { name: 'ATS Capability', at: at + 4, size: 2, value: 0x0060 },
    { name: 'ATS Control', at: at + 6, size: 2, rw: 0x801f },
  ];
}

/** Page Request (10.5.2). Stopped (bit 8 of Status) is the device's. */
export function pri(at: number, next: number): Register[] {
  return [
    extendedHeader(at, 0x0013, 1, next),
    { name: 'Page Request Control', at: at + 4, size: 2, rw: 0x0001 },
    { name: 'Page Request Status', at: at + 6, size: 2, value: 0x8100, rw1c: 0x0003, device: 0x0100 },
    { name: 'Outstanding Page Request Capacity', at: at + 8, size: 4, value: 512 },
    { name: 'Outstanding Page Request Allocation', at: at + 12, size: 4, rw: 0xffffffff },
  ];
}

/** PASID (7.8.9) with Execute and Privileged supported. */
export function pasid(at: number, next: number, width: number): Register[] {
  return [
    extendedHeader(at, 0x001b, 1, next),
    { name: 'PASID Capability', at: at + 4, size: 2, value: 0x0006 | (width << 8) },
    { name: 'PASID Control', at: at + 6, size: 2, rw: 0x0007 },
  ];
}
