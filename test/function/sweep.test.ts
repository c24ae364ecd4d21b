import { describe, expect, it } from 'vitest';
import {
  acsCapability,
  aerCapability,
  type CapabilityBlock,
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  type EmulatedOptions,
  expressCapability,
  msiCapability,
  msiXCapability,
  type PciFunction,
  powerManagementCapability,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
  type BarOptions,
} from '../../src/index.ts';
import * as rows from '../support/register-rows.ts';
import {
  differences,
  fill,
  type Register,
  RegisterTable,
  type Settle,
  sweep,
} from '../support/register-table.ts';

// Every register of emulated functions and ports, by the specification's tables: all sizes, offsets and overlaps.

interface Sweep {
  readonly make: () => PciFunction;
  readonly table: readonly Register[];
  readonly settle?: Settle;
  /** What is swept; everything else is compared before and after. */
  readonly from: number;
  readonly to: number;
}

const ID = 0x56781234;
const CLASS_AND_REVISION = 0x02000007;

function endpoint(options: Partial<EmulatedOptions>): PciFunction {
  return createFunction({
    vendorId: 0x1234,
    deviceId: 0x5678,
    classCode: 0x020000,
    revisionId: 7,
    ...options,
  });
}

/** A function with nothing but `blocks`, as deep as `rows` say. */
function withBlocks(
  blocks: readonly CapabilityBlock[],
  table: readonly Register[],
  from: number,
  to: number,
  bars: readonly BarOptions[] = [],
): Sweep {
  const first = blocks.some(({ extended }) => !extended) ? 0x40 : 0;
  return {
    make: () => endpoint({ capabilities: blocks, bars }),
    table: [...rows.commonHeader(ID, CLASS_AND_REVISION, 0, first), SUBSYSTEM, ...table],
    from,
    to,
  };
}

const SUBSYSTEM: Register = { name: 'Subsystem IDs', at: 0x2c, size: 4, value: ID };

/** A capability that no constructor makes: bytes from the header on, which is filled in. */
function raw(id: number, bytes: readonly number[]): CapabilityBlock {
  return { id, extended: false, version: 1, bytes: Uint8Array.from(bytes) };
}

const bar = (name: string, index: number, value: number, rw: number): Register => ({
  name,
  at: 0x10 + 4 * index,
  size: 4,
  value,
  rw,
});

const type0: Sweep = {
  make: () =>
    endpoint({
      subsystemVendorId: 0xabcd,
      subsystemId: 0xef01,
      interruptPin: 3,
      capabilities: [],
      bars: [
        { index: 0, size: 0x1000 },
        { index: 1, size: 0x20, kind: 'io' },
        { index: 2, size: 2 ** 33, kind: 'memory64', prefetchable: true },
        { index: 4, size: 16, kind: 'memory64' },
      ],
      rom: 0x10000,
    }),
  table: [
    ...rows.commonHeader(ID, CLASS_AND_REVISION, 0, 0, 3),
    { name: 'Subsystem IDs', at: 0x2c, size: 4, value: 0xef01abcd },
    bar('memory32', 0, 0, 0xfffff000),
    bar('io', 1, 1, 0xffffffe0),
    bar('memory64, low', 2, 0xc, 0),
    bar('memory64, high', 3, 0, 0xfffffffe),
    bar('small memory64, low', 4, 4, 0xfffffff0),
    bar('small memory64, high', 5, 0, 0xffffffff),
    { name: 'Expansion ROM', at: 0x30, size: 4, rw: 0xffff0001 },
  ],
  from: 0,
  to: 0x48,
};

/** Link Disable is reserved at the lower end of a link (7.5.3.7). */
const endpointLink = { capabilities: 0x11, control: 0x00cb, status: 0x0011 };
const portLink = { capabilities: 0x00100011, control: 0x00db, status: 0x0011 };
const expressEndpoint = {
  capabilities: 0x0002,
  deviceCapabilities: 0x00008020,
  link: endpointLink,
};

const pmAll = raw(0x01, [0, 0, 0x03, 0x06, 0x08, 0, 0, 0]);
const msi32 = (control: number, length: number): CapabilityBlock =>
  raw(0x05, [0, 0, control & 0xff, control >>> 8, ...Array.from({ length: length - 4 }, () => 0)]);

const writable = Uint8Array.from([0x00, 0xff, 0x0f, 0xf0, 0x81]);
const data = Uint8Array.from([1, 2, 3, 4, 5]);

const translation: Sweep = {
  make: () =>
    endpoint({
      capabilities: [expressCapability({ flr: false }), serialNumberCapability(0x0123_4567_89ab_cdefn)],
      pasid: { width: 16, execute: true, privileged: true },
      ats: true,
      pri: true,
    }),
  table: [
    ...rows.commonHeader(ID, CLASS_AND_REVISION, 0, 0x40),
    SUBSYSTEM,
    ...rows.express(0x40, 0, { ...expressEndpoint, deviceCapabilities2: 0x00700000 }),
    rows.extendedHeader(0x100, 0x0003, 1, 0x10c),
    { name: 'Serial Number, low', at: 0x104, size: 4, value: 0x89abcdef },
    { name: 'Serial Number, high', at: 0x108, size: 4, value: 0x01234567 },
    ...rows.pri(0x10c, 0x11c),
    ...rows.pasid(0x11c, 0xff8, 16),
    ...rows.ats(0xff8, 0),
  ],
  from: 0x100,
  to: 0x124,
};

/** A power state that does not exist is discarded (7.5.2.2). `at`: PMCSR. */
function onlyD0AndD3(at: number): Settle {
  return (table, before) => {
    const state = table.read(at) & 3;
    if (state === 1 || state === 2) table.bytes[at] = (table.read(at) & ~3) | ((before[at] ?? 0) & 3);
  };
}

const PORT_ID = 0x000c1b36;
const BRIDGE = 0x06040000;
const portHeader = [...rows.commonHeader(PORT_ID, BRIDGE, 1, 0x40, 1), ...rows.TYPE_1].map((row) =>
  // Interrupt Status follows the slot.
  row.name === 'Status' ? { ...row, device: 0x0008 } : row,
);
const portExpress = (type: number): rows.ExpressFields => ({
  capabilities: (type << 4) | 2,
  deviceCapabilities: 0x00008020,
  link: type === 5 ? endpointLink : portLink,
  deviceCapabilities2: 0x00700000,
});
const portMiddle = [...rows.msi(0x7c, 0x8c, 0x0080), ...rows.powerManagement(0x8c, 0, 0x0003, 0x0008)];

const hotPlugRootPort: Sweep = {
  make: () => createRootPort({ slot: 5, hotPlug: true }),
  table: [
    ...portHeader,
    ...rows.express(0x40, 0x7c, {
      ...portExpress(4),
      capabilities: 0x0142,
      slot: { capabilities: (5 << 19) | 0x0004007b },
      root: true,
    }),
    ...portMiddle,
    ...rows.aer(0x100, 0x148, true),
    ...rows.acs(0x148, 0),
  ],
  settle: onlyD0AndD3(0x90),
  from: 0x40,
  to: 0x94,
};

const SWEEPS: readonly (readonly [name: string, sweep: Sweep])[] = [
  ['the type 0 header, with every kind of BAR', type0],
  [
    'PCI Express of an endpoint',
    withBlocks([expressCapability({ flr: false })], rows.express(0x40, 0, expressEndpoint), 0x40, 0x7c),
  ],
  [
    'PCI Express of an RC integrated endpoint, which has no link',
    withBlocks(
      [expressCapability({ flr: false, deviceType: 9 })],
      rows.express(0x40, 0, { capabilities: 0x0092, deviceCapabilities: 0x00008020 }),
      0x40,
      0x7c,
    ),
  ],
  ['MSI, 64 bits, 32 masks', withBlocks([msiCapability(32)], rows.msi(0x40, 0, 0x018a), 0x40, 0x58)],
  ['MSI, 64 bits, no masks', withBlocks([msiCapability(1, false)], rows.msi(0x40, 0, 0x0080), 0x40, 0x50)],
  ['MSI, 32 bits, no masks', withBlocks([msi32(0x0004, 10)], rows.msi(0x40, 0, 0x0004), 0x40, 0x4c)],
  ['MSI, 32 bits, 32 masks', withBlocks([msi32(0x010a, 20)], rows.msi(0x40, 0, 0x010a), 0x40, 0x54)],
  [
    'MSI, 64 bits, extended data, 32 masks',
    withBlocks([msi32(0x038a, 24)], rows.msi(0x40, 0, 0x038a), 0x40, 0x58),
  ],
  [
    'MSI-X',
    withBlocks(
      [msiXCapability(33, { bar: 2, offset: 0x1000 }, { bar: 4, offset: 0x8 })],
      [
        ...rows.msiX(0x40, 0, 33, 0x1002, 0xc),
        bar('BAR 2', 2, 0, 0xffffc000),
        bar('BAR 4', 4, 0, 0xfffff000),
      ],
      0x40,
      0x4c,
      [
        { index: 2, size: 0x4000 },
        { index: 4, size: 0x1000 },
      ],
    ),
  ],
  [
    'Power Management, all states',
    withBlocks([pmAll], rows.powerManagement(0x40, 0, 0x0603, 0x0008), 0x40, 0x48),
  ],
  [
    'Power Management, D0 and D3hot',
    {
      ...withBlocks([powerManagementCapability()], rows.powerManagement(0x40, 0, 3, 8), 0x40, 0x48),
      settle: onlyD0AndD3(0x44),
    },
  ],
  ['AER', withBlocks([aerCapability()], rows.aer(0x100, 0), 0x100, 0x148)],
  ['ACS', withBlocks([acsCapability()], rows.acs(0x100, 0), 0x100, 0x108)],
  [
    'Advanced Features without FLR',
    withBlocks(
      [raw(0x13, [0, 0, 6, 0x00, 0x01, 0x00])],
      [
        { name: 'AF header', at: 0x40, size: 2, value: 0x0013 },
        { name: 'AF length and capabilities', at: 0x42, size: 2, value: 0x0006 },
        { name: 'AF Control', at: 0x44, size: 1, value: 0x01 },
      ],
      0x40,
      0x48,
    ),
  ],
  [
    'Vendor-Specific',
    withBlocks(
      [vendorSpecificCapability(data, writable)],
      [
        { name: 'VNDR header', at: 0x40, size: 2, value: 0x0009 },
        { name: 'VNDR length', at: 0x42, size: 1, value: 8 },
        { name: 'VNDR 0', at: 0x43, size: 1, value: 1 },
        { name: 'VNDR 1..4', at: 0x44, size: 4, value: 0x05040302, rw: 0x81f00fff },
      ],
      0x40,
      0x48,
    ),
  ],
  [
    'Vendor-Specific Extended',
    withBlocks(
      [vendorSpecificExtendedCapability(0xbeef, 3, data, writable)],
      [
        rows.extendedHeader(0x100, 0x000b, 1),
        { name: 'VSEC header', at: 0x104, size: 4, value: 0x00d3beef },
        { name: 'VSEC 0', at: 0x108, size: 1, value: 1 },
        { name: 'VSEC 1', at: 0x109, size: 1, value: 2, rw: 0xff },
        { name: 'VSEC 2', at: 0x10a, size: 1, value: 3, rw: 0x0f },
        { name: 'VSEC 3', at: 0x10b, size: 1, value: 4, rw: 0xf0 },
        { name: 'VSEC 4', at: 0x10c, size: 1, value: 5, rw: 0x81 },
      ],
      0x100,
      0x110,
    ),
  ],
  ['serial number, PRI and PASID', translation],
  ['ATS at the end of the space', { ...translation, from: 0xff8, to: 0x1004 }],
  ['PCI Express, MSI and PM of a hot-plug root port', hotPlugRootPort],
  ['AER and ACS of a root port', { ...hotPlugRootPort, from: 0x100, to: 0x150 }],
  ['the type 1 header', { ...hotPlugRootPort, from: 0, to: 0x48 }],
  [
    'an upstream port',
    {
      make: () => createUpstreamPort(),
      table: [
        ...portHeader,
        ...rows.express(0x40, 0x7c, portExpress(5)),
        ...portMiddle,
        ...rows.aer(0x100, 0),
      ],
      settle: onlyD0AndD3(0x90),
      from: 0x40,
      to: 0x94,
    },
  ],
  [
    'a downstream port without a slot',
    {
      make: () => createDownstreamPort(),
      table: [
        ...portHeader,
        ...rows.express(0x40, 0x7c, portExpress(6)),
        ...portMiddle,
        ...rows.aer(0x100, 0x148),
        ...rows.acs(0x148, 0),
      ],
      settle: onlyD0AndD3(0x90),
      from: 0x40,
      to: 0x94,
    },
  ],
];

describe('every access to every register', () => {
  it.each(SWEEPS)('%s', (_name, { make, table, settle, from, to }) => {
    expect(sweep(make(), new RegisterTable(table, settle), from, to)).toEqual([]);
  });
});

describe('a reset of the bus', () => {
  it.each(SWEEPS)('%s: power-on values again, but for sticky bits', (_name, { make, table, settle }) => {
    const fn = make();
    const model = new RegisterTable(table, settle);
    for (const ones of [true, false]) {
      fill(fn, model, ones);
      fn.reset('bus');
      model.reset();
      expect(differences(fn, model)).toEqual([]);
    }
  });
});
