import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withCode } from '../viommu/support.ts';
import { type DmarTable, dmarTable, mcfgTable } from '../../src/acpi/index.ts';
import { bed } from '../support/beds.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

/** One of everything. */
const FULL: DmarTable = {
  hostAddressWidth: 46,
  oemId: 'VPCI',
  oemTableId: 'TEST',
  oemRevision: 0x20,
  interruptRemapping: true,
  x2apicOptOut: true,
  units: [
    { registers: 0xfed9_1000, segment: 1 },
    {
      registers: 0xe000_0000n,
      scopes: [
        {
          path: [
            [2, 0],
            [0, 0],
          ],
        },
        { kind: 'bridge', startBus: 0x40, path: [[0x1c, 7]] },
        { kind: 'ioapic', enumerationId: 9, startBus: 0xf0, path: [[0x1f, 0]] },
        { kind: 'hpet', enumerationId: 1, startBus: 0xf0, path: [[0xf, 0]] },
      ],
    },
  ],
  atsr: [{}, { segment: 2, scopes: [{ kind: 'bridge', path: [[1, 0]] }] }],
  satc: [{ atcRequired: true, scopes: [{ path: [[3, 1]] }] }],
};

describe('dmarTable', () => {
  it('is the table that a Linux guest accepted', () => {
    const table = dmarTable({
      hostAddressWidth: 47,
      units: [
        {
          registers: 0xe000_0000,
          scopes: [
            {
              path: [
                [2, 0],
                [0, 0],
              ],
            },
          ],
        },
      ],
      atsr: [{}],
    });
    expect(table).toHaveLength(82);
    expect(Buffer.from(table.subarray(0, 4)).toString()).toBe('DMAR');
    expect(sum(table)).toBe(0);
    expect(hex(table.subarray(36))).toBe(
      [
        '2e00',
        '00'.repeat(10),
        '00001a000000',
        '0000',
        '000000e000000000',
        '010a0000',
        '0000',
        '02000000',
        '0200080001000000',
      ].join(''),
    );
  });

  it('lists devices with a translation cache', () => {
    const table = dmarTable({ units: [], satc: FULL.satc ?? [] });
    expect(hex(table.subarray(48))).toBe(['05001000', '01000000', '01080000', '0000', '0301'].join(''));
  });

  it('puts the unit for all the rest last', () => {
    const table = dmarTable(FULL);
    expect(sum(table)).toBe(0);
    const at = hex(table).indexOf(['00001000', '0100', '0100', '0010d9fe00000000'].join(''));
    expect(at).toBeGreaterThan(hex(table).indexOf('000000e000000000'));
  });

  it.each<[string, DmarTable]>([
    ['registers', { units: [{ registers: 0x1001 }] }],
    ['segment', { units: [{ registers: 0, segment: 0x1_0000 }] }],
    ['path', { units: [{ registers: 0, scopes: [{ path: [] }] }] }],
    ['device', { units: [{ registers: 0, scopes: [{ path: [[32, 0]] }] }] }],
    ['function', { units: [{ registers: 0, scopes: [{ path: [[0, 8]] }] }] }],
    ['startBus', { units: [{ registers: 0, scopes: [{ startBus: 256, path: [[0, 0]] }] }] }],
    ['hostAddressWidth', { hostAddressWidth: 65, units: [] }],
    ['oemId', { oemId: 'TOO LONG', units: [] }],
    ['oemRevision', { oemRevision: -1, units: [] }],
    [
      'length of a structure',
      {
        units: [{ registers: 0, scopes: Array.from({ length: 9000 }, () => ({ path: [[0, 0]] as const })) }],
      },
    ],
  ])('refuses a %s out of range', (what, table) => {
    expect(() => dmarTable(table)).toThrow(withCode('VPCI_BAD_ARGUMENT'));
    expect(() => dmarTable(table)).toThrow(what);
  });
});

describe('mcfgTable', () => {
  it('has a header, 8 bytes of nothing, and an entry of 16 bytes for each range', () => {
    const table = mcfgTable([
      { base: 0xb000_0000 },
      { base: 1n << 40n, segment: 3, startBus: 0x10, endBus: 0x1f },
    ]);
    expect(table).toHaveLength(36 + 8 + 32);
    expect(sum(table)).toBe(0);
    expect(hex(table.subarray(36))).toBe(
      [
        '0000000000000000',
        '000000b000000000',
        '0000',
        '00',
        'ff',
        '00000000',
        '0000000000010000',
        '0300',
        '10',
        '1f',
        '00000000',
      ].join(''),
    );
    expect(new DataView(table.buffer).getUint32(4, true)).toBe(table.length);
  });

  it('has as many ranges as there are', () => {
    const ranges = Array.from({ length: 20_000 }, (_, segment) => ({ base: 0, segment }));
    expect(mcfgTable(ranges)).toHaveLength(36 + 8 + 20_000 * 16);
  });

  it('refuses what cannot be', () => {
    expect(() => mcfgTable([{ base: 0x1000 }])).toThrow(withCode('VPCI_BAD_ARGUMENT'));
    expect(() => mcfgTable([{ base: 0, startBus: 2, endBus: 1 }])).toThrow(withCode('VPCI_BAD_ARGUMENT'));
    expect(() => mcfgTable([{ base: 2 ** 60 }])).toThrow(withCode('VPCI_BAD_ARGUMENT'));
  });
});

/** What iasl says about a table, or why it cannot be asked. */
function disassemble(name: string, table: Uint8Array): string {
  const folder = mkdtempSync(join(tmpdir(), 'vpci-acpi-'));
  try {
    writeFileSync(join(folder, `${name}.dat`), table);
    const { status, stdout, stderr } = spawnSync('iasl', ['-d', `${name}.dat`], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(status, stdout + stderr).toBe(0);
    return readFileSync(join(folder, `${name}.dsl`), 'utf8');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const missing = (): string | undefined =>
  spawnSync('iasl', ['-v']).error === undefined ? undefined : 'no iasl: install acpica-tools';

bed('iasl', missing)('iasl reads', () => {
  it('a DMAR table', () => {
    // Older versions do not know SATC.
    const text = disassemble('dmar', dmarTable({ ...FULL, satc: [] }));
    expect(text).not.toMatch(/Incorrect|Invalid|Error|Unknown|\*\*\*\*/);
    const values = [...text.matchAll(/^\[[^\]]*\]\s+(.+?) : (.+?)$/gm)].map(
      (match) => `${match[1]}: ${match[2]}`,
    );
    const wanted = [
      'Signature: "DMAR"    [DMA Remapping table]',
      'Oem ID: "VPCI  "',
      'Oem Table ID: "TEST    "',
      'Host Address Width: 2D',
      'Flags: 03',
      'Subtable Type: 0000 [Hardware Unit Definition]',
      'Register Base Address: 00000000E0000000',
      'Device Scope Type: 01 [PCI Endpoint Device]',
      'PCI Path: 02,00',
      'PCI Path: 00,00',
      'Device Scope Type: 02 [PCI Bridge Device]',
      'PCI Path: 1C,07',
      'Device Scope Type: 03 [IOAPIC Device]',
      'Enumeration ID: 09',
      'Device Scope Type: 04 [Message-capable HPET Device]',
      'Register Base Address: 00000000FED91000',
      'Subtable Type: 0002 [Root Port ATS Capability]',
    ];
    for (const value of wanted) expect(values, text).toContain(value);
  });

  it('an MCFG table', () => {
    const text = disassemble('mcfg', mcfgTable([{ base: 0xb000_0000, endBus: 0x3f }]));
    expect(text).not.toMatch(/Incorrect|Invalid|Error|Unknown|\*\*\*\*/);
    expect(text).toMatch(/Base Address : 00000000B0000000/);
    expect(text).toMatch(/End Bus Number : 3F/);
  });
});
