import { describe, expect, it } from 'vitest';
import { type CapabilityBlock, createFunction, msiCapability, type PciFunction } from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { recordEvents } from '../support/recorded-events.ts';

// MSI (PCIe 6.1.4, 7.7.1) as the device and the VMM use it.

const AT = 0x40;
const ENABLE = 0x0001;
const BUS_MASTER = 0x0004;

/** A function with the MSI structure that Message Control `control` describes; 0 in all other registers. */
function make(control: number, busMaster = true): PciFunction {
  const length = ((control & 0x80) === 0 ? 10 : 14) + ((control & 0x100) === 0 ? 0 : 10);
  const bytes = new Uint8Array(length);
  bytes.set([0, 0, control & 0xff, control >>> 8]);
  const block: CapabilityBlock = { id: 0x05, extended: false, version: 1, bytes };
  const fn = createFunction({
    vendorId: 1,
    deviceId: 1,
    classCode: 0,
    interruptPin: 1,
    capabilities: [block],
  });
  if (busMaster) fn.write(0x04, 2, BUS_MASTER);
  return fn;
}

const capable = (vectors: number): number => Math.log2(vectors) << 1;
const allocated = (vectors: number): number => Math.log2(vectors) << 4;

/** Programs address and data, and Message Control last. */
function program(fn: PciFunction, control: number, address: number, data: number): void {
  fn.write(AT + 4, 4, address % 2 ** 32);
  const wide = (fn.read(AT + 2, 2) & 0x80) !== 0;
  if (wide) fn.write(AT + 8, 4, Math.floor(address / 2 ** 32));
  fn.write(AT + (wide ? 12 : 8), 2, data & 0xffff);
  if ((fn.read(AT + 2, 2) & 0x200) !== 0) fn.write(AT + (wide ? 14 : 10), 2, data >>> 16);
  fn.write(AT + 2, 2, control);
}

describe('a message', () => {
  it('goes to the 32-bit address with 16 bits of data', () => {
    const fn = make(0);
    const events = recordEvents(fn, 'msi');
    program(fn, ENABLE, 0xfee01004, 0x4041);
    expect(fn.triggerMessage(0)).toBe(true);
    // One vector: no bit of the data is the function's to change.
    expect(events).toEqual([['msi', { kind: 'msi', vector: 0, address: 0xfee01004, data: 0x4041 }]]);
  });

  it('goes to the 64-bit address', () => {
    const fn = make(0x0080);
    const events = recordEvents(fn, 'msi');
    program(fn, ENABLE, 0x1f_ffff_ffff_fffc, 0x1234);
    expect(fn.triggerMessage(0)).toBe(true);
    expect(events).toEqual([['msi', { kind: 'msi', vector: 0, address: 0x1f_ffff_ffff_fffc, data: 0x1234 }]]);
  });

  it('to an address that no memory has goes nowhere', () => {
    const fn = make(0x0080);
    const events = recordEvents(fn, 'msi');
    fn.write(AT + 8, 4, 0xffffffff);
    fn.write(AT + 2, 2, ENABLE);
    expect(() => fn.triggerMessage(0)).not.toThrow();
    expect(events).toEqual([]);
  });

  it('is not sent while MSI is off', () => {
    const fn = make(0);
    const events = recordEvents(fn, 'msi');
    program(fn, 0, 0xfee00000, 0x30);
    expect(fn.triggerMessage(0)).toBe(false);
    fn.write(AT + 2, 2, ENABLE);
    expect(events, 'and is forgotten').toEqual([]);
  });

  it('is a memory write, and not sent while Bus Master Enable is clear (PCIe 7.5.1.1.3)', () => {
    const fn = make(0, false);
    const events = recordEvents(fn, 'msi');
    program(fn, ENABLE, 0xfee00000, 0x30);
    fn.triggerMessage(0);
    expect(events).toEqual([]);
  });

  it.each([1, 2, 4, 8, 16, 32])('of %i vectors has the vector in the low bits of the data', (vectors) => {
    const fn = make(capable(32));
    const events = recordEvents(fn, 'msi');
    program(fn, ENABLE | allocated(vectors), 0xfee00000, 0xffff);
    for (let vector = 0; vector < vectors; vector++) expect(fn.triggerMessage(vector)).toBe(true);
    expect(events.map(([, { data }]) => data)).toEqual(
      Array.from({ length: vectors }, (_, vector) => 0xffff - (vectors - 1) + vector),
    );
    for (const beyond of [vectors, 32, 64]) expect(fn.triggerMessage(beyond)).toBe(false);
  });

  it.each([-1, 1.5, Number.NaN])('of vector %d does not exist', (vector) => {
    const fn = make(capable(32));
    program(fn, ENABLE | allocated(32), 0xfee00000, 0);
    expect(fn.triggerMessage(vector)).toBe(false);
  });

  it('of a vector that the function never asked for does not exist, whatever the guest allocates', () => {
    for (const enable of [0x10, 0x50, 0x60, 0x70]) {
      const fn = make(capable(1));
      const routes = recordEvents(fn, 'msi-route');
      program(fn, ENABLE | enable, 0xfee00000, 0xffff);
      expect(fn.triggerMessage(1)).toBe(false);
      expect(Math.max(...routes.map(([, { vector }]) => vector))).toBe(0);
    }
  });

  it('has 32 bits of data with Extended Message Data, and 16 while that is off (PCIe 7.7.1.6)', () => {
    for (const base of [0x0200, 0x0280, 0x0300, 0x0380]) {
      const fn = make(base);
      const events = recordEvents(fn, 'msi');
      program(fn, ENABLE, 0xfee00000, 0xabcd1234);
      fn.triggerMessage(0);
      fn.write(AT + 2, 2, ENABLE | 0x0400);
      fn.triggerMessage(0);
      expect(events.map(([, { data }]) => data)).toEqual([0x1234, 0xabcd1234]);
    }
  });

  it('of a function without the feature never has more than 16 bits', () => {
    const fn = make(0x0080);
    program(fn, ENABLE | 0x0400, 0xfee00000, 0x1234);
    expect(fn.read(AT + 2, 2) & 0x0400).toBe(0);
    fn.write(AT + 14, 2, 0xffff);
    const events = recordEvents(fn, 'msi');
    fn.triggerMessage(0);
    expect(events[0]?.[1].data).toBe(0x1234);
  });
});

describe.each([0x0100, 0x0180])('masking (Message Control %i)', (base) => {
  const mask = AT + ((base & 0x80) === 0 ? 12 : 16);
  const pending = mask + 4;

  function ready(): PciFunction {
    const fn = make(base | capable(8));
    program(fn, ENABLE | allocated(8), 0xfee00000, 0x20);
    return fn;
  }

  it('holds a message back as pending, and unmasking sends it once', () => {
    const fn = ready();
    const events = recordEvents(fn, 'msi');
    fn.write(mask, 4, 0x06);
    expect([0, 1, 2, 2].map((vector) => fn.triggerMessage(vector))).toEqual([true, true, true, true]);
    expect(events.splice(0).map(([, { vector }]) => vector)).toEqual([0]);
    expect(fn.read(pending, 4)).toBe(0x06);
    fn.write(mask, 4, 0x02);
    expect(events.splice(0).map(([, { vector }]) => vector)).toEqual([2]);
    expect(fn.read(pending, 4)).toBe(0x02);
    fn.write(mask, 4, 0);
    fn.write(mask, 4, 0x02);
    fn.write(mask, 4, 0);
    expect(events.splice(0).map(([, { vector }]) => vector)).toEqual([1]);
    expect(fn.read(pending, 4)).toBe(0);
  });

  it('sends with the address and data of the moment of unmasking', () => {
    const fn = ready();
    const events = recordEvents(fn, 'msi');
    fn.write(mask, 4, 1);
    fn.triggerMessage(0);
    program(fn, ENABLE | allocated(8), 0xfee08000, 0x48);
    expect(events).toEqual([]);
    fn.write(mask, 4, 0);
    expect(events.map(([, { address, data }]) => [address, data])).toEqual([[0xfee08000, 0x48]]);
  });

  it('has pending bits that the guest cannot write', () => {
    const fn = ready();
    fn.write(mask, 4, 1);
    fn.triggerMessage(0);
    fn.write(pending, 4, 0);
    expect(fn.read(pending, 4)).toBe(1);
    fn.write(pending, 4, 0xffffffff);
    expect(fn.read(pending, 4)).toBe(1);
  });

  it.each(['flr', 'bus'] as const)('and what is pending end with a reset (%s)', (kind) => {
    const fn = ready();
    fn.write(mask, 4, 0xff);
    fn.triggerMessage(3);
    const events = recordEvents(fn, 'msi');
    fn.reset(kind);
    expect([fn.read(mask, 4), fn.read(pending, 4), fn.read(AT + 2, 2) & 0x71]).toEqual([0, 0, 0]);
    expect(events).toEqual([]);
    fn.write(0x04, 2, BUS_MASTER);
    program(fn, ENABLE, 0xfee00000, 0);
    expect(events).toEqual([]);
  });

  it('exists for the vectors of the function only: the other mask bits are reserved (PCIe 7.7.1.7)', () => {
    const fn = ready();
    fn.write(mask, 4, 0xffffffff);
    expect(fn.read(mask, 4)).toBe(0xff);
  });
});

describe('routes', () => {
  it('are told for every allocated vector, with whether it may fire', () => {
    const fn = make(0x0180 | capable(2));
    const events = recordEvents(fn, 'msi-route');
    program(fn, allocated(2), 0x1_fee0_0000, 0x31);
    expect(events.splice(0).every(([, { enabled }]) => !enabled)).toBe(true);
    fn.write(AT + 2, 2, ENABLE | allocated(2));
    const route = { kind: 'msi', address: 0x1_fee0_0000 };
    expect(events.splice(0).map(([, event]) => event)).toEqual([
      { ...route, vector: 0, data: 0x30, enabled: true },
      { ...route, vector: 1, data: 0x31, enabled: true },
    ]);
    fn.write(AT + 16, 4, 2);
    expect(events.splice(0).map(([, { vector, enabled }]) => [vector, enabled])).toEqual([
      [0, true],
      [1, false],
    ]);
    fn.write(AT + 2, 2, 0);
    expect(events.splice(0).at(0)?.[1]).toMatchObject({ vector: 0, enabled: false });
  });
});

describe('a structure that is cut off', () => {
  it.each([
    ['by the end of the space', { standard: [{ offset: 0xf4, id: 0x05, body: [0x80, 0] }] }],
    [
      'by its neighbour',
      {
        standard: [
          { offset: 0x80, id: 0x05, body: [0x80, 1] },
          { offset: 0x90, id: 0x09, body: [8] },
        ],
      },
    ],
  ])('%s sends nothing', (_name, config) => {
    const fn = createFunction({ physical: buildConfig(config) });
    const events = recordEvents(fn, 'msi', 'msi-route');
    const at = fn.capabilities.find(({ id }) => id === 0x05)?.offset ?? 0;
    fn.write(0x04, 2, BUS_MASTER);
    for (let offset = at + 4; offset < 0x100; offset += 4) fn.write(offset, 4, 0xfffffffc);
    fn.write(at + 2, 2, ENABLE);
    expect(fn.triggerMessage(0)).toBe(false);
    expect(events).toEqual([]);
  });
});

describe('msiCapability', () => {
  it.each([0, 3, 64, -1, Number.NaN, 1.5])('refuses %d vectors', (vectors) => {
    expect(() => msiCapability(vectors)).toThrow(expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }));
  });
});
