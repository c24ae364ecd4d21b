// Bed A for functions that exist in software only: the real lspci decodes every building block, the ports and what is
// behind them, without complaint and with the fields that were asked for.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import {
  acsCapability,
  aerCapability,
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  expressCapability,
  formatBdf,
  msiCapability,
  msiXCapability,
  PciSegment,
  powerManagementCapability,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
} from '../../src/index.ts';
import { bed } from '../support/beds.ts';
import { Enumeration } from '../support/linux-enumeration.ts';

function lspciMissing(): string | undefined {
  return spawnSync('lspci', ['--version']).error === undefined
    ? undefined
    : 'no lspci; Debian package pciutils has it';
}

/** Every function within reach, as `lspci -xxxx` prints it. */
function dump(segment: PciSegment): string {
  const lines: string[] = [];
  for (const [rid, fn] of segment.functions()) {
    lines.push(`${formatBdf(rid)} `);
    const bytes = new Uint8Array(fn.size);
    fn.readInto(0, bytes);
    for (let at = 0; at < bytes.length; at += 16) {
      const row = [...bytes.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, '0'));
      lines.push(`${at.toString(16).padStart(2, '0')}: ${row.join(' ')}`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

interface Decoded {
  /** lspci's text per function, by bus, device and function. */
  readonly functions: ReadonlyMap<string, string>;
  readonly complaints: string;
  readonly tree: string;
}

function lspci(segment: PciSegment): Decoded {
  const folder = mkdtempSync(join(tmpdir(), 'vpci-lspci-'));
  try {
    const file = join(folder, 'dump.txt');
    writeFileSync(file, dump(segment));
    const { stdout, stderr } = spawnSync('lspci', ['-F', file, '-vvvnn'], { encoding: 'utf8' });
    const blocks = stdout.split('\n\n').filter((block) => block.trim() !== '');
    const tree = execFileSync('lspci', ['-F', file, '-t', '-n'], { encoding: 'utf8' });
    // Without kernel modules on this machine lspci says so; that is not about the dump.
    const complaints = stderr
      .split('\n')
      .filter((line) => !line.includes('libkmod'))
      .join('\n');
    return { functions: new Map(blocks.map((block) => [block.slice(0, 7), block])), complaints, tree };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function everything(): PciSegment {
  const segment = new PciSegment();
  const device = createFunction({
    vendorId: 0x1234,
    deviceId: 0x5678,
    classCode: 0x020000,
    revisionId: 7,
    subsystemVendorId: 0xabcd,
    subsystemId: 0xef01,
    interruptPin: 2,
    capabilities: [
      expressCapability(),
      msiCapability(8),
      msiXCapability(33, { bar: 0, offset: 0x800 }, { bar: 2, offset: 0x100 }),
      powerManagementCapability(),
      vendorSpecificCapability(Uint8Array.of(0xde, 0xad)),
      aerCapability(),
      serialNumberCapability(0x0123_4567_89ab_cdefn),
      acsCapability(),
      vendorSpecificExtendedCapability(0xbeef, 3, Uint8Array.of(1, 2, 3, 4)),
    ],
    pasid: { width: 20, execute: true, privileged: true },
    ats: true,
    pri: true,
    bars: [
      { index: 0, size: 0x1000 },
      { index: 1, size: 0x20, kind: 'io' },
      { index: 2, size: 0x100000, kind: 'memory64', prefetchable: true },
    ],
    rom: 0x10000,
  });
  segment.add(
    '00:00.0',
    createFunction({ vendorId: 0x1111, deviceId: 1, classCode: 0x060000, capabilities: [] }),
  );
  segment.add(
    '00:01.0',
    createFunction({
      vendorId: 0x1111,
      deviceId: 2,
      classCode: 0x0b4000,
      present: 'rciep',
      pasid: { width: 8 },
    }),
  );
  const root = segment.add('00:02.0', createRootPort({ slot: 5, hotPlug: true }));
  const upstream = segment.plug(root, createUpstreamPort());
  const downstream = segment.plug(upstream, createDownstreamPort({ slot: 6 }), { device: 1 });
  segment.plug(downstream, device);
  segment.plug(downstream, createFunction({ vendorId: 0x1234, deviceId: 0x9999, classCode: 0x040300 }), {
    fn: 1,
  });
  if (new Enumeration(segment).found.size !== 7) throw new Error('seven functions');
  for (const port of [root, upstream, downstream]) {
    port.write(0x1c, 2, 0xc0c0);
    port.write(0x20, 4, 0xe010e000);
    port.write(0x24, 4, 0x00110001);
    port.write(0x28, 4, 0x20);
    port.write(0x2c, 4, 0x20);
    port.write(0x04, 2, 0x0507);
  }
  device.write(0x10, 4, 0xe0000000);
  device.write(0x14, 4, 0xc000);
  device.write(0x18, 4, 0);
  device.write(0x1c, 4, 0x20);
  device.write(0x30, 4, 0xe0100001);
  device.write(0x04, 2, 0x0507);
  device.write((device.pasid?.offset ?? 0) + 6, 2, 0x0005);
  return segment;
}

const DEVICE = '03:00.0';

bed('lspci', lspciMissing)('lspci decodes', () => {
  let decoded: Decoded;
  beforeAll(() => {
    decoded = lspci(everything());
  });
  const at = (bdf: string): string => decoded.functions.get(bdf) ?? '';

  it('every function, without complaint', () => {
    expect(decoded.complaints).toBe('');
    expect([...decoded.functions.keys()]).toEqual([
      '00:00.0',
      '00:01.0',
      '00:02.0',
      '01:00.0',
      '02:01.0',
      '03:00.0',
      '03:00.1',
    ]);
    for (const text of decoded.functions.values()) {
      expect(text).not.toMatch(/<(chain (looped|broken)|unreadable|access denied|ignored)|!!!|unknown|\?\?/i);
    }
  });

  it('the tree of buses', () => {
    expect(decoded.tree.replaceAll(/\s+/g, ' ')).toContain(
      '02.0-[01-03]----00.0-[02-03]----01.0-[03]--+-00.0',
    );
  });

  it.each([
    '[0200]: Device [1234:5678] (rev 07)',
    'Device [abcd:ef01]',
    'Control: I/O+ Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR+ FastB2B- DisINTx+',
    'Status: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-',
    'Interrupt: pin B routed to IRQ 0',
    'Region 0: Memory at e0000000 (32-bit, non-prefetchable)',
    'Region 1: I/O ports at c000',
    'Region 2: Memory at 2000000000 (64-bit, prefetchable)',
    'Expansion ROM at e0100000',
    'Express (v2) Endpoint',
    'ExtTag+ AttnBtn- AttnInd- PwrInd- RBE+ FLReset+',
    'MaxPayload 128 bytes, MaxReadReq 512 bytes',
    'RlxdOrd+ ExtTag- PhantFunc- AuxPwr- NoSnoop+ FLReset-',
    'Port #0, Speed 2.5GT/s, Width x1',
    'MSI: Enable- Count=1/8 Maskable+ 64bit+',
    'MSI-X: Enable- Count=33 Masked-',
    'Vector table: BAR=0 offset=00000800',
    'PBA: BAR=2 offset=00000100',
    'Power Management version 3',
    'Status: D0 NoSoftRst+ PME-Enable- DSel=0 DScale=0 PME-',
    'Vendor Specific Information: Len=05',
    'Advanced Error Reporting',
    'Device Serial Number 01-23-45-67-89-ab-cd-ef',
    'Access Control Services',
    'ACSCap:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-',
    'Vendor Specific Information: ID=beef Rev=3 Len=00c',
    'Address Translation Service (ATS)',
    'ATSCap:\tInvalidate Queue Depth: 00',
    'ATSCtl:\tEnable-, Smallest Translation Unit: 00',
    'Page Request Interface (PRI)',
    'PRICtl: Enable- Reset-',
    'PRISta: RF- UPRGI- Stopped+',
    'Page Request Capacity: 00000200, Page Request Allocation: 00000000',
    'Process Address Space ID (PASID)',
    'PASIDCap: Exec+ Priv+, Max PASID Width: 14',
    'PASIDCtl: Enable+ Exec- Priv+',
    'EETLPPrefix+, MaxEETLPPrefixes 1',
  ])('of the endpoint: %s', (line) => {
    expect(at(DEVICE)).toContain(line);
  });

  it('an RC integrated endpoint without a link', () => {
    const text = at('00:01.0');
    expect(text).toContain('Root Complex Integrated Endpoint');
    expect(text).toContain('PASIDCap: Exec- Priv-, Max PASID Width: 08');
    expect(text).not.toContain('LnkCap');
  });

  it.each([
    ['00:02.0', 'Express (v2) Root Port (Slot+)'],
    ['00:02.0', 'Bus: primary=00, secondary=01, subordinate=03, sec-latency=0'],
    ['00:02.0', 'Slot #5'],
    ['00:02.0', 'AttnBtn+ PwrCtrl+ MRL- AttnInd+ PwrInd+ HotPlug+ Surprise+'],
    ['00:02.0', 'NoCompl+'],
    ['00:02.0', 'PresDet+'],
    ['00:02.0', 'DLActive+'],
    ['00:02.0', 'RootCtl: ErrCorrectable- ErrNon-Fatal- ErrFatal- PMEIntEna- CRSVisible-'],
    ['00:02.0', 'RootCmd: CERptEn- NFERptEn- FERptEn-'],
    ['00:02.0', 'I/O behind bridge: c000-cfff [size=4K] [16-bit]'],
    ['00:02.0', 'Memory behind bridge: e0000000-e01fffff [size=2M] [32-bit]'],
    ['00:02.0', 'Prefetchable memory behind bridge: 0000002000000000-00000020001fffff [size=2M] [64-bit]'],
    ['00:02.0', 'MSI: Enable- Count=1/1 Maskable- 64bit+'],
    ['00:02.0', 'EETLPPrefix+'],
    ['00:02.0', 'Access Control Services'],
    ['01:00.0', 'Express (v2) Upstream Port'],
    ['01:00.0', 'Bus: primary=01, secondary=02, subordinate=03, sec-latency=0'],
    ['01:00.0', 'EETLPPrefix+'],
    ['01:00.0', 'DLActive-'],
    ['02:01.0', 'Express (v2) Downstream Port (Slot+)'],
    ['02:01.0', 'Slot #6'],
    ['02:01.0', 'AttnBtn- PwrCtrl- MRL- AttnInd- PwrInd- HotPlug- Surprise-'],
    ['02:01.0', 'Bus: primary=02, secondary=03, subordinate=03, sec-latency=0'],
    ['02:01.0', 'Access Control Services'],
    ['03:00.1', '[0403]: Device [1234:9999]'],
  ])('of the port or neighbour at %s: %s', (bdf, line) => {
    expect(at(bdf)).toContain(line);
  });
});
