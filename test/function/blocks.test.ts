import { describe, expect, it } from 'vitest';
import {
  acsCapability,
  aerCapability,
  type CapabilityBlock,
  createFunction,
  createRootPort,
  type EmulatedOptions,
  expressCapability,
  msiCapability,
  type PciFunction,
  powerManagementCapability,
  serialNumberCapability,
  vendorSpecificCapability,
  vendorSpecificExtendedCapability,
} from '../../src/index.ts';
import { refusal } from '../support/expect-code.ts';

// Emulated functions out of building blocks: what is where, and what is refused.

function make(options: Partial<EmulatedOptions> = {}): PciFunction {
  return createFunction({ vendorId: 0x1234, deviceId: 0x5678, classCode: 0x020000, ...options });
}

function chain(fn: PciFunction): string[] {
  return [...fn.capabilities, ...fn.extendedCapabilities].map(
    ({ id, offset, length }) => `${offset.toString(16)}:${id.toString(16)}+${length.toString(16)}`,
  );
}

describe('a device model in five lines', () => {
  it('is an Express endpoint with FLR', () => {
    const fn = make();
    expect(chain(fn)).toEqual(['40:10+3c']);
    expect([fn.size, fn.read(0x42, 2), fn.read(0x44, 4)]).toEqual([4096, 0x0002, 0x10008020]);
    expect(fn.findings).toEqual([]);
  });

  it('may have no capability at all', () => {
    const fn = make({ capabilities: [] });
    expect([chain(fn), fn.read(0x06, 2), fn.read(0x34, 1), fn.read(0x100, 4)]).toEqual([[], 0, 0, 0]);
  });

  it('has the IDs that it was given', () => {
    const fn = make({ revisionId: 0xab, subsystemVendorId: 0x1111, subsystemId: 0x2222, interruptPin: 4 });
    expect([0x00, 0x08, 0x2c].map((at) => fn.read(at, 4))).toEqual([0x56781234, 0x020000ab, 0x22221111]);
    expect(fn.read(0x3d, 1)).toBe(4);
    expect(make().read(0x2c, 4), "by default the vendor's and device's own").toBe(0x56781234);
  });
});

describe('capabilities', () => {
  it('stand in the order given, one after the other, each where a dword begins', () => {
    const fn = make({
      capabilities: [
        vendorSpecificCapability(Uint8Array.of(1, 2)),
        aerCapability(),
        msiCapability(),
        serialNumberCapability(1n),
        expressCapability(),
        acsCapability(),
        powerManagementCapability(),
        vendorSpecificExtendedCapability(1, 0, Uint8Array.of(1)),
      ],
    });
    expect(chain(fn)).toEqual([
      '40:9+5',
      '48:5+18',
      '60:10+3c',
      '9c:1+8',
      // Without prefixes to log the structure ends earlier than its place.
      '100:1+2c',
      '148:3+c',
      '154:d+8',
      '15c:b+9',
    ]);
    expect(
      [0x41, 0x49, 0x61, 0x9d].map((at) => fn.read(at, 1)),
      'links',
    ).toEqual([0x48, 0x60, 0x9c, 0]);
    expect([0x102, 0x14a, 0x156, 0x15e].map((at) => fn.read(at, 2) >>> 4)).toEqual([0x148, 0x154, 0x15c, 0]);
  });

  it('are not changed by the function that is made of them', () => {
    const block = vendorSpecificCapability(Uint8Array.of(7), Uint8Array.of(0xff));
    const [one, other] = [make({ capabilities: [block] }), make({ capabilities: [block] })];
    one.write(0x43, 1, 0x55);
    expect([one.read(0x43, 1), other.read(0x43, 1)]).toEqual([0x55, 7]);
    expect([...block.bytes]).toEqual([0, 0, 4, 7]);
  });

  it('beyond 192 bytes of standard and 3840 of extended space are refused', () => {
    const vendor = (bytes: number): CapabilityBlock => vendorSpecificCapability(new Uint8Array(bytes - 3));
    expect(chain(make({ capabilities: [vendor(0xc0)] }))).toEqual(['40:9+c0']);
    refusal('VPCI_NO_SPACE', () => make({ capabilities: [vendor(0xbc), vendor(8)] }));
    const extended = (bytes: number): CapabilityBlock =>
      vendorSpecificExtendedCapability(1, 0, new Uint8Array(bytes - 8));
    expect(chain(make({ capabilities: [extended(0xf00)] }))).toEqual(['100:b+f00']);
    refusal('VPCI_NO_SPACE', () => make({ capabilities: [extended(0xefc), extended(12)] }));
  });

  it.each([
    ['vendor-specific data', () => vendorSpecificCapability(new Uint8Array(190))],
    ['extended vendor-specific data', () => vendorSpecificExtendedCapability(1, 0, new Uint8Array(0xef9))],
  ])('too much %s is refused', (_name, build) => {
    refusal('VPCI_BAD_ARGUMENT', build);
  });
});

describe('No_Soft_Reset, FLR, slots and prefixes', () => {
  it('are what was asked for', () => {
    expect(make({ capabilities: [powerManagementCapability(false)] }).read(0x44, 2)).toBe(0);
    expect(make({ capabilities: [powerManagementCapability()] }).read(0x44, 2)).toBe(8);
    expect(make({ capabilities: [expressCapability({ flr: false })] }).read(0x44, 4)).toBe(0x8020);
    expect(make({ capabilities: [expressCapability({ endEndPrefix: true })] }).read(0x64, 4)).toBe(
      0x00700000,
    );
  });

  it('a port has a slot when it has a number', () => {
    const slot = (options: Parameters<typeof createRootPort>[0]): [number, number] => {
      const port = createRootPort(options);
      return [port.read(0x42, 2), port.read(0x54, 4)];
    };
    expect(slot({})).toEqual([0x0042, 0]);
    expect(slot({ slot: 0x1fff })).toEqual([0x0142, 0xfff80000]);
    expect(slot({ slot: 1, hotPlug: true })).toEqual([0x0142, 0x000c007b]);
  });

  it('a port may do without prefixes and ACS', () => {
    const port = createRootPort({ endEndPrefix: false, acs: false, vendorId: 0xabcd, deviceId: 0x1111 });
    expect([port.read(0, 4), port.read(0x64, 4)]).toEqual([0x1111abcd, 0]);
    expect(port.extendedCapabilities.map(({ id }) => id)).toEqual([0x01]);
  });
});

describe('refusals', () => {
  it.each([
    { vendorId: 0x10000 },
    { vendorId: -1 },
    { deviceId: 1.5 },
    { classCode: 0x1000000 },
    { revisionId: 0x100 },
    { subsystemVendorId: 0x10000 },
    { subsystemId: Number.NaN },
    { interruptPin: 5 },
    { interruptPin: -1 },
    { commandOnes: 0x10000 },
  ])('%o', (options) => {
    const message = refusal('VPCI_BAD_ARGUMENT', () => make(options));
    expect(message).toContain(Object.keys(options)[0]);
  });

  it.each([0x2000, -1, 0.5])('slot %d', (slot) => {
    refusal('VPCI_BAD_ARGUMENT', () => createRootPort({ slot }));
  });

  it.each([{ vendorId: 0x10000 }, { deviceId: -1 }])('a port with %o', (options) => {
    refusal('VPCI_BAD_ARGUMENT', () => createRootPort(options));
  });
});
