import { describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions, type PciFunction } from '../../src/index.ts';
import { AER_HEAD, type BuiltConfig, buildConfig, EXPRESS } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';
import { RecordingConfigSpace } from '../support/recording-config-space.ts';

// Design section 4, row by row: source, width, Exec/Priv, who may have it, Control, Device Capabilities 2.

type Options = Omit<PassthroughOptions, 'physical'>;

function make(options: Options, config: BuiltConfig = { extended: [AER_HEAD] }): PciFunction {
  return createFunction({ physical: buildConfig(config), ...options });
}

function codes(fn: PciFunction): string[] {
  return fn.findings.map(({ code }) => code);
}

/** The PASID registers as the guest reads them: header, Capability, Control. */
function registers(fn: PciFunction): { header: number; capability: number; control: number } {
  const at = fn.pasid?.offset ?? -1;
  return { header: fn.read(at, 4), capability: fn.read(at + 4, 2), control: fn.read(at + 6, 2) };
}

describe('source and width', () => {
  it.each([undefined, { width: 0 }, { width: 0, execute: true, privileged: true }])(
    '%o synthesizes nothing',
    (pasid) => {
      const fn = make({ pasid });
      expect(fn.pasid).toBeUndefined();
      expect(fn.extendedCapabilities.map(({ id }) => id)).toEqual([0x01]);
    },
  );

  it.each([
    [1, undefined, 1],
    [20, undefined, 20],
    [16, 20, 16],
    [16, 16, 16],
    [16, 7, 7],
    [20, 1, 1],
  ])('host %i, embedder %s: shows %i', (width, maxPasidWidth, shown) => {
    const fn = make({ pasid: { width }, maxPasidWidth });
    expect(fn.pasid?.width).toBe(shown);
    expect(registers(fn).capability).toBe(shown << 8);
  });

  it.each([21, 22, 25, 31, 32, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
    'refuses width %d',
    (width) => {
      const message = refusal('VPCI_PASID_WIDTH', () => make({ pasid: { width } }));
      expect(message).toContain('pasid.width');
      refusal('VPCI_PASID_WIDTH', () => make({ pasid: { width }, onPasidRefused: 'omit' }));
      refusal('VPCI_PASID_WIDTH', () => make({ maxPasidWidth: width }));
    },
  );

  it.each([
    [false, false, 0x1000],
    [true, false, 0x1002],
    [false, true, 0x1004],
    [true, true, 0x1006],
  ])('Exec %s, Priv %s: Capability %i', (execute, privileged, capability) => {
    const fn = make({ pasid: { width: 16, execute, privileged } });
    expect(registers(fn)).toEqual({ header: 0x0001001b, capability, control: 0 });
    expect(fn.pasid).toMatchObject({ width: 16, execute, privileged });
  });

  it('is the example of PCIe 7.8.9: width 20, Exec, Priv', () => {
    const fn = make({ pasid: { width: 20, execute: true, privileged: true } });
    const bytes = new Uint8Array(8);
    fn.readInto(fn.pasid?.offset ?? 0, bytes);
    expect([...bytes]).toEqual([0x1b, 0x00, 0x01, 0x00, 0x06, 0x14, 0x00, 0x00]);
  });

  it('says when the options exceed the physical capability', () => {
    const extended = [{ offset: 0x100, id: 0x1b, body: [0x02, 0x08, 0, 0] }];
    const finding = 'pasid-exceeds-physical';
    expect(codes(make({ pasid: { width: 8, execute: true } }, { extended }))).not.toContain(finding);
    expect(codes(make({ pasid: { width: 9 } }, { extended }))).toContain(finding);
    expect(codes(make({ pasid: { width: 8, privileged: true } }, { extended }))).toContain(finding);
  });
});

describe('who may have it', () => {
  it.each([0, 1, 9])('Device/Port Type %i may', (type) => {
    expect(make({ pasid: { width: 8 } }, { express: { type }, extended: [AER_HEAD] }).pasid).toBeDefined();
  });

  it.each([
    ['root port', 4],
    ['upstream', 5],
    ['downstream', 6],
    ['bridge', 7],
    ['bridge', 8],
    ['event collector', 10],
    ['15', 15],
  ])('a %s (type %i) may not', (name, type) => {
    const config = { express: { type }, extended: [AER_HEAD] };
    const message = refusal('VPCI_PASID_REFUSED', () => make({ pasid: { width: 8 } }, config));
    expect(message.toLowerCase()).toContain(name);
    const fn = make({ pasid: { width: 8 }, onPasidRefused: 'omit' }, config);
    expect(fn.pasid).toBeUndefined();
    expect(fn.findings.find(({ code }) => code === 'pasid-omitted')?.message.toLowerCase()).toContain(name);
  });

  it.each([
    ['type 1 header', { headerType: 1, extended: [AER_HEAD] }],
    ['type 2 header', { headerType: 2, extended: [AER_HEAD] }],
    ['no PCIe capability', { express: null, extended: [AER_HEAD] }],
    ['version 1', { express: { version: 1 }, extended: [AER_HEAD] }],
    ['version 0', { express: { version: 0 }, extended: [AER_HEAD] }],
  ] satisfies [string, BuiltConfig][])('a function with %s may not', (_name, config) => {
    refusal('VPCI_PASID_REFUSED', () => make({ pasid: { width: 8 } }, config));
    expect(codes(make({ pasid: { width: 8 }, onPasidRefused: 'omit' }, config))).toContain('pasid-omitted');
  });

  it.each([128, 256])('a function with %i bytes may not', (size) => {
    const message = refusal('VPCI_PASID_REFUSED', () => make({ pasid: { width: 8 } }, { size }));
    expect(message).toContain('256 bytes');
    const fn = make({ pasid: { width: 8 }, onPasidRefused: 'omit' }, { size });
    expect(fn.pasid).toBeUndefined();
    expect(codes(fn)).toContain('pasid-omitted');
    expect(fn.read(0x100, 4)).toBe(0xffffffff);
  });

  it('a multi-function type 0 header may', () => {
    expect(make({ pasid: { width: 8 } }, { headerType: 0x80, extended: [AER_HEAD] }).pasid).toBeDefined();
  });

  it('a port stays a port, however it is presented', () => {
    const config = { express: { type: 4 }, extended: [AER_HEAD] };
    refusal('VPCI_PASID_REFUSED', () => make({ pasid: { width: 8 }, present: 'rciep' }, config));
    expect(make({ present: 'rciep' }, config).read(EXPRESS + 2, 2)).toBe(0x42);
  });

  it('a presented type is virtual even where the device has it already', () => {
    const host = new RecordingConfigSpace(buildConfig());
    const fn = createFunction({ physical: host, present: 'endpoint', passthroughRanges: [[0x40, 0x44]] });
    expect(fn.findings.map(({ code }) => code)).not.toContain('device-type');
    fn.write(EXPRESS + 2, 1, 0x91);
    expect(fn.read(EXPRESS + 2, 1)).toBe(0x01);
    expect(host.bytes[EXPRESS + 2]).toBe(0x01);
  });

  it('a PCIe capability whose Device Capabilities 2 is cut off by its neighbour does not count', () => {
    // 0x64 would be Device Capabilities 2; an MSI-X capability stands there.
    const config = { standard: [{ offset: 0x64, id: 0x11 }], extended: [AER_HEAD] };
    refusal('VPCI_PASID_REFUSED', () => make({ pasid: { width: 8 } }, config));
  });

  it('nor one at the end of the space', () => {
    const physical = buildConfig({ express: null, extended: [AER_HEAD] });
    physical.set([0x10], 0x06);
    physical.set([0xdc], 0x34);
    physical.set([0x10, 0, 2, 0], 0xdc);
    refusal('VPCI_PASID_REFUSED', () => createFunction({ physical, pasid: { width: 8 } }));
  });
});

describe('Control', () => {
  const supported = { width: 16, execute: true, privileged: true };

  it.each([
    [false, false, 0x1],
    [true, false, 0x3],
    [false, true, 0x5],
    [true, true, 0x7],
  ])('latches with Exec %s, Priv %s the bits %i', (execute, privileged, mask) => {
    const pasid = { width: 16, execute, privileged };
    const fn = make({ pasid });
    const control = (fn.pasid?.offset ?? 0) + 6;
    for (let value = 0; value <= 0xf; value++) {
      fn.write(control, 2, value | 0xfff0);
      expect(fn.read(control, 2)).toBe(value & mask);
    }
    fn.write(control, 1, 0xff);
    expect(fn.read(control, 1)).toBe(mask);
    fn.write(control - 2, 4, 0);
    expect(fn.read(control - 2, 4)).toBe(0x1000 | (mask & 6));
  });

  it('drops writes with that option', () => {
    const fn = make({ pasid: supported, control: 'drop' });
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.write(control, 2, 0xffff);
    expect(fn.read(control, 2)).toBe(0);
    expect(fn.pasid?.control).toBe('drop');
    expect(fn.endpointState.pasidEnable).toBe(false);
  });

  it.each(['flr', 'bus'] as const)('is cleared by a reset (%s)', (kind) => {
    const fn = make({ pasid: supported });
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.write(control, 2, 7);
    fn.reset(kind);
    expect(fn.read(control, 2)).toBe(0);
    expect(fn.endpointState).toMatchObject({ pasidEnable: false, executeEnable: false });
  });

  it('is cleared by the Function Level Reset of the guest', () => {
    const config = { express: { deviceCapabilities: 0x1000_0000 }, extended: [AER_HEAD] };
    const fn = make({ pasid: supported }, config);
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.write(control, 2, 7);
    fn.write(EXPRESS + 8, 2, 0x8000);
    expect(fn.read(control, 2)).toBe(0);
    expect(fn.read(EXPRESS + 9, 1) & 0x80).toBe(0);
  });

  it('is kept when the function has no FLR', () => {
    const fn = make({ pasid: supported });
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.write(control, 2, 7);
    fn.write(EXPRESS + 8, 2, 0x8000);
    expect(fn.read(control, 2)).toBe(7);
  });
});

describe('Device Capabilities 2', () => {
  it.each([
    [0x0000_0000, 0x0070_0000],
    [0x0010_0000, 0x0070_0000],
    [0x0080_0000, 0x0070_0000],
    [0x00c0_0000, 0x0070_0000],
    [0x0020_0000, 0x0030_0000],
    [0x0030_0000, 0x0030_0000],
    [0x00f0_0000, 0x00f0_0000],
    [0xff0f_ffff, 0xff7f_ffff],
  ])('of %i shows %i', (deviceCapabilities2, shown) => {
    const config = { express: { deviceCapabilities2 }, extended: [AER_HEAD] };
    const fn = make({ pasid: { width: 8 } }, config);
    expect(fn.read(EXPRESS + 0x24, 4)).toBe(shown);
    expect(codes(fn).includes('device-capabilities-2')).toBe(shown !== deviceCapabilities2);
    expect(make({}, config).read(EXPRESS + 0x24, 4)).toBe(deviceCapabilities2);
    fn.write(EXPRESS + 0x24, 4, 0);
    expect(fn.read(EXPRESS + 0x24, 4)).toBe(shown);
  });
});

describe('the path above', () => {
  it('an RC integrated endpoint has no link', () => {
    const physical = buildConfig({ express: { type: 0 }, extended: [AER_HEAD] });
    physical.fill(0xff, EXPRESS + 0x0c, EXPRESS + 0x14);
    physical.fill(0xff, EXPRESS + 0x2c, EXPRESS + 0x34);
    const fn = createFunction({ physical, pasid: { width: 8 }, present: 'rciep' });
    expect(fn.read(EXPRESS + 2, 2)).toBe(0x92);
    for (const at of [0x0c, 0x10, 0x2c, 0x30]) expect(fn.read(EXPRESS + at, 4)).toBe(0);
    expect(codes(fn)).toContain('device-type');
  });
});
