import { describe, expect, it } from 'vitest';
import { ByteConfigSpace, createFunction, PciSegment } from '../../src/index.ts';
import { AER_HEAD, buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

// CAM and ECAM with the rules of real hardware for bytes, words and dwords (PCI 3.0 3.2.2.3.2, PCIe 7.2.2).

const ECAM = 0xb000_0000;

function make(): { segment: PciSegment; hosts: ByteConfigSpace[] } {
  const segment = new PciSegment({ ecamBase: ECAM });
  const hosts = ['00:00.0', '00:00.1', '01:1f.7'].map((bdf, index) => {
    const bytes = buildConfig({ extended: [AER_HEAD] });
    bytes[0] = 0xa0 + index;
    bytes.fill(0x11 * (index + 1), 0xf00);
    bytes.fill(0xe0 + index, 0x10, 0x28);
    const host = new ByteConfigSpace(bytes);
    segment.add(bdf, createFunction({ physical: host, passthroughRanges: [[0xf00, 0x1000]] }));
    return host;
  });
  return { segment, hosts };
}

function select(bdf: number, register: number): number {
  return (0x80000000 | (bdf << 8) | register) >>> 0;
}

describe('ECAM', () => {
  it('says where a function is', () => {
    const { segment } = make();
    expect(segment.ecamAddress('00:00.0')).toBe(ECAM);
    expect(segment.ecamAddress('00:00.1')).toBe(ECAM + 0x1000);
    expect(segment.ecamAddress('01:1f.7')).toBe(ECAM + 0x1ff000);
    expect(segment.ecamSize).toBe(0x1000_0000);
  });

  it('reads and writes bytes, words and dwords', () => {
    const { segment, hosts } = make();
    const at = segment.ecamAddress('01:1f.7');
    expect(segment.ecamRead(at, 4)).toBe(0x157280a2);
    expect([0, 1, 2, 3].map((i) => segment.ecamRead(at + i, 1))).toEqual([0xa2, 0x80, 0x72, 0x15]);
    expect(segment.ecamRead(at + 1, 2)).toBe(0x7280);
    segment.ecamWrite(at + 0xf00, 4, 0x12345678);
    segment.ecamWrite(at + 0xf05, 1, 0x1ab);
    segment.ecamWrite(at + 0xf09, 2, 0xcdef);
    expect([...(hosts[2]?.bytes.subarray(0xf00, 0xf0c) ?? [])]).toEqual([
      0x78, 0x56, 0x34, 0x12, 0x33, 0xab, 0x33, 0x33, 0x33, 0xef, 0xcd, 0x33,
    ]);
  });

  it('answers all-ones for absent functions and outside the window', () => {
    const { segment, hosts } = make();
    const before = hosts.map(({ bytes }) => [...bytes]);
    const addresses = [ECAM + 0x2000, ECAM + 0x100000, ECAM - 4, ECAM + 0x1000_0000, 0, 2 ** 40, -8];
    for (const address of addresses) {
      segment.ecamWrite(address, 4, 0);
      expect([1, 2, 4].map((size) => segment.ecamRead(address, size))).toEqual([0xff, 0xffff, 0xffffffff]);
    }
    expect(hosts.map(({ bytes }) => [...bytes])).toEqual(before);
  });

  it('splits an access at the border of two functions, and of a function and nothing', () => {
    const { segment, hosts } = make();
    const border = ECAM + 0x1000;
    expect(segment.ecamRead(border - 2, 4)).toBe(0x80a1_1111);
    expect(segment.ecamRead(border - 1, 2)).toBe(0xa111);
    segment.ecamWrite(border - 2, 4, 0xffff_5566);
    expect([...(hosts[0]?.bytes.subarray(0xffc) ?? [])]).toEqual([0x11, 0x11, 0x66, 0x55]);
    expect(segment.ecamRead(border, 2), 'IDs are read-only').toBe(0x80a1);
    expect(segment.ecamRead(ECAM + 0x2000 - 2, 4)).toBe(0xffff2222);
    segment.ecamWrite(ECAM + 0x200000 - 1, 2, 0x1234);
    expect(hosts[2]?.bytes[0xfff]).toBe(0x34);
  });

  it('ends with its last bus', () => {
    const segment = new PciSegment({ ecamBase: 0x1_0000_0000n, buses: 1 });
    const physical = new Uint8Array(4096).fill(0x5a, 0, 4);
    segment.add('00:1f.7', createFunction({ physical, passthroughRanges: [[0xffc, 0x1000]] }));
    expect(segment.ecamSize).toBe(0x100000);
    expect(segment.ecamRead(segment.ecamAddress('00:1f.7'), 4)).toBe(0x5a5a5a5a);
    expect(segment.ecamRead(0x1_000f_fffe, 4)).toBe(0xffff0000);
    expect(segment.ecamRead(0x1_0010_0000, 4)).toBe(0xffffffff);
  });

  it.each([
    { ecamBase: 1 },
    { ecamBase: 0x1000 },
    { buses: 0 },
    { buses: 257 },
    { buses: 1.5 },
    { ecamBase: -0x100000 },
    { ecamBase: 2n ** 53n },
  ])('refuses %o', (options) => {
    refusal('VPCI_ECAM', () => new PciSegment(options));
  });

  it('has no address for a bus beyond it', () => {
    const segment = new PciSegment({ buses: 1 });
    expect(segment.ecamAddress('00:1f.7')).toBe(0xb000_0000 + 0xff000);
    expect(refusal('VPCI_ECAM', () => segment.ecamAddress('01:00.0'))).toContain('bus 1 ');
  });

  it.each([0, 3, 5, 8, -1, 1.5, Number.NaN])('refuses accesses of %d bytes, whoever is there', (size) => {
    const segment = new PciSegment({ buses: 1 });
    const fn = segment.add(
      '00:02.0',
      createFunction({
        vendorId: 1,
        deviceId: 1,
        classCode: 0,
        bars: [
          { index: 0, size: 0x1000 },
          { index: 1, size: 0x10, kind: 'io' },
        ],
      }),
    );
    fn.write(0x10, 4, 0xe000_0000);
    fn.write(0x14, 4, 0xc000);
    fn.write(0x04, 2, 3);
    segment.pioWrite(0xcf8, 4, 0x8000_0000);
    const absent = segment.ecamAddress('00:03.0');
    const beyond = segment.ecamBase + segment.ecamSize;
    for (const address of [
      absent,
      absent + 0xffe,
      beyond,
      beyond - 2,
      0xe000_0000,
      0xe000_0ffe,
      0xd000_0000,
    ]) {
      refusal('VPCI_ACCESS_SIZE', () => segment.mmioRead(address, size));
      refusal('VPCI_ACCESS_SIZE', () => segment.mmioWrite(address, size, 0));
      refusal('VPCI_ACCESS_SIZE', () => segment.ecamRead(address, size));
      refusal('VPCI_ACCESS_SIZE', () => segment.ecamWrite(address, size, 0));
    }
    for (const port of [0xcfc, 0xcfe, 0xc000, 0xc00e, 0x80]) {
      refusal('VPCI_ACCESS_SIZE', () => segment.pioRead(port, size));
      refusal('VPCI_ACCESS_SIZE', () => segment.pioWrite(port, size, 0));
    }
  });

  it('takes 8 bytes through readInto and writeFrom', () => {
    const { segment, hosts } = make();
    const fn = segment.function('00:00.1');
    const eight = new Uint8Array(8);
    fn?.readInto(0, eight);
    expect([...eight.subarray(0, 4)]).toEqual([0xa1, 0x80, 0x72, 0x15]);
    fn?.writeFrom(0xf04, Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]));
    expect([...(hosts[1]?.bytes.subarray(0xf03, 0xf0d) ?? [])]).toEqual([0x22, 1, 2, 3, 4, 5, 6, 7, 8, 0x22]);
  });
});

describe('ports 0xcf8 and 0xcfc', () => {
  it('read and write the selected dword in any aligned piece', () => {
    const { segment, hosts } = make();
    segment.pioWrite(0xcf8, 4, select(0x0001, 0x10));
    expect(segment.pioRead(0xcf8, 4)).toBe(select(0x0001, 0x10));
    expect(segment.pioRead(0xcfc, 4)).toBe(0xe1e1e1e1);
    segment.pioWrite(0xcf8, 4, select(0x01ff, 0x00));
    expect([0xcfc, 0xcfd, 0xcfe, 0xcff].map((port) => segment.pioRead(port, 1))).toEqual([
      0xa2, 0x80, 0x72, 0x15,
    ]);
    expect(segment.pioRead(0xcfe, 2)).toBe(0x1572);
    segment.pioWrite(0xcf8, 4, select(0x0000, 0x0c));
    segment.pioWrite(0xcfc, 1, 0x40);
    segment.pioWrite(0xcf8, 4, select(0x0000, 0x3c));
    segment.pioWrite(0xcfc, 2, 0x0b0b);
    expect(segment.function('00:00.0')?.read(0x0c, 1)).toBe(0x40);
    expect(segment.function('00:00.0')?.read(0x3c, 2)).toBe(0x000b);
    expect(hosts[0]?.bytes[0x0c]).toBe(0);
  });

  it('reach 256 bytes only: bits 1:0 and 30:24 of CONFIG_ADDRESS are nothing', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0x0000, 0x13));
    expect(segment.pioRead(0xcfc, 4)).toBe(0xe0e0e0e0);
    segment.pioWrite(0xcf8, 4, 0xff00_0010);
    expect(segment.pioRead(0xcf8, 4) & 0x7f000003).toBe(0);
    expect(segment.pioRead(0xcfc, 4)).toBe(0xe0e0e0e0);
  });

  it('answer all-ones without the enable bit and for absent functions', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0, 0x0c));
    segment.pioWrite(0xcfc, 1, 1);
    for (const address of [0x0000_000c, select(0x0002, 0x0c), select(0xffff, 0x0c)]) {
      segment.pioWrite(0xcf8, 4, address);
      segment.pioWrite(0xcfc, 4, 0xffffffff);
      expect([1, 2, 4].map((size) => segment.pioRead(0xcfc, size))).toEqual([0xff, 0xffff, 0xffffffff]);
    }
    expect(segment.function(0)?.read(0x0c, 1)).toBe(1);
  });

  it('ignore CONFIG_ADDRESS in pieces: only a dword at 0xcf8 is one', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0, 0x10));
    for (const [port, size] of [
      [0xcf8, 1],
      [0xcf8, 2],
      [0xcfa, 2],
      [0xcf9, 1],
      [0xcfb, 1],
    ] as const) {
      segment.pioWrite(port, size, 0);
      expect(segment.pioRead(port, size)).toBe(2 ** (8 * size) - 1);
    }
    expect(segment.pioRead(0xcf8, 4)).toBe(select(0, 0x10));
  });

  it('leave other ports alone', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0, 0));
    for (const port of [0xcf4, 0xcf7, 0xd00, 0, 0xffff]) expect(segment.pioRead(port, 1)).toBe(0xff);
  });
});

describe('functions', () => {
  it('come and go', () => {
    const { segment } = make();
    const fn = segment.function('00:00.1');
    expect(segment.remove('00:00.1')).toBe(fn);
    expect(segment.function('00:00.1')).toBeUndefined();
    expect(segment.ecamRead(segment.ecamAddress('00:00.1'), 4)).toBe(0xffffffff);
    refusal('VPCI_NO_FUNCTION', () => segment.remove('00:00.1'));
    if (fn === undefined) throw new Error('no function');
    expect(segment.add('02:00.0', fn)).toBe(fn);
    expect(fn.endpointState.rid).toBe(0x200);
  });

  it('have a place each', () => {
    const { segment } = make();
    const other = createFunction({ physical: buildConfig() });
    refusal('VPCI_BDF_TAKEN', () => segment.add('00:00.0', other));
    expect(other.endpointState.rid).toBe(-1);
    for (const bdf of ['00:20.0', '00:00.8', 'x', '', -1, 0x10000, 0.5, '1:00:00.0']) {
      refusal('VPCI_BDF', () => segment.add(bdf, other));
    }
  });

  it('may be removed by their own listener, in the middle of an access', () => {
    const segment = new PciSegment();
    const fn = createFunction({ physical: buildConfig({ extended: [AER_HEAD] }), pasid: { width: 4 } });
    segment.add('00:01.0', fn);
    const control = segment.ecamAddress('00:01.0') + (fn.pasid?.offset ?? 0) + 6;
    fn.once('pasid-control', () => segment.remove('00:01.0'));
    segment.ecamWrite(control, 2, 1);
    expect(segment.ecamRead(control, 2)).toBe(0xffff);
    expect(fn.read((fn.pasid?.offset ?? 0) + 6, 2)).toBe(1);
  });
});

describe('state', () => {
  it('comes back with CONFIG_ADDRESS and every function', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0x01ff, 0x3c));
    segment.pioWrite(0xcfc, 1, 0x55);
    const state: unknown = JSON.parse(JSON.stringify(segment.saveState()));
    const twin = make().segment;
    twin.restoreState(state);
    expect(twin.pioRead(0xcf8, 4)).toBe(select(0x01ff, 0x3c));
    expect(twin.pioRead(0xcfc, 1)).toBe(0x55);
    expect(twin.saveState()).toEqual(segment.saveState());
  });

  it('of other functions is refused, and nothing changes', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0x01ff, 0x3c));
    const state = segment.saveState();
    const twin = make().segment;
    twin.remove('00:00.1');
    refusal('VPCI_STATE', () => twin.restoreState(state));
    for (const bad of [undefined, null, 5, {}, { ...state, version: 9 }, { ...state, functions: 1 }]) {
      refusal('VPCI_STATE', () => twin.restoreState(bad));
    }
    expect(twin.pioRead(0xcf8, 4) >>> 31).toBe(0);
  });

  it('is cleared by a reset', () => {
    const { segment } = make();
    segment.pioWrite(0xcf8, 4, select(0, 0x3c));
    segment.pioWrite(0xcfc, 1, 0x55);
    segment.reset();
    expect(segment.pioRead(0xcf8, 4) >>> 31).toBe(0);
    expect(segment.function(0)?.read(0x3c, 1)).toBe(0);
  });
});
