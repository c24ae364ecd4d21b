import { describe, expect, it } from 'vitest';
import {
  aerCapability,
  type CapabilityBlock,
  createFunction,
  type EmulatedOptions,
  expressCapability,
  type PciFunction,
  powerManagementCapability,
} from '../../src/index.ts';
import { AER_HEAD, buildConfig, EXPRESS } from '../support/config-builder.ts';
import { recordEvents } from '../support/recorded-events.ts';

// Power states (PCIe 5.3.1, 7.5.2), the resets (6.6.1, 6.6.2), and whether the function may issue requests.

const COMMAND = 0x04;
const BUS_MASTER = 0x0004;
const MEMORY = 0x0002;
const PM = 0x40;
const PMCSR = PM + 4;
const FLR_LENGTH = 0x3c;
const DEVICE_CONTROL = EXPRESS + 8;
const INITIATE_FLR = 0x8000;

function make(capabilities: readonly CapabilityBlock[], options: Partial<EmulatedOptions> = {}): PciFunction {
  const fn = createFunction({
    vendorId: 1,
    deviceId: 1,
    classCode: 0,
    bars: [{ index: 0, size: 0x1000 }],
    capabilities,
    ...options,
  });
  fn.write(0x10, 4, 0xe0000000);
  fn.write(COMMAND, 2, BUS_MASTER | MEMORY);
  return fn;
}

/** Power Management with `capabilities` (16 bits) and PMCSR as given. */
function pm(capabilities: number, controlStatus: number): CapabilityBlock {
  const bytes = new Uint8Array(8);
  bytes.set([0, 0, capabilities & 0xff, capabilities >>> 8, controlStatus & 0xff, controlStatus >>> 8]);
  return { id: 0x01, extended: false, version: 1, bytes };
}

const ALL_STATES = 0x0603;

describe('power states', () => {
  it('are D0 without power management', () => {
    const fn = make([]);
    fn.write(PMCSR, 2, 3);
    expect([fn.powerState, fn.canIssue()]).toEqual([0, true]);
  });

  it('change by PMCSR, once per change', () => {
    const fn = make([pm(ALL_STATES, 8)]);
    const events = recordEvents(fn, 'power-state');
    for (const state of [1, 1, 2, 3, 3, 0]) {
      fn.write(PMCSR, 2, state);
      expect([fn.powerState, fn.read(PMCSR, 2) & 3]).toEqual([state, state]);
    }
    expect(events.map(([, { state }]) => state)).toEqual([1, 2, 3, 0]);
  });

  it.each([
    [0x0003, [0, 3]],
    [0x0203, [0, 1, 3]],
    [0x0403, [0, 2, 3]],
    [0x0603, [0, 1, 2, 3]],
  ])('that do not exist are discarded (PM Capabilities %i)', (capabilities, states) => {
    for (const state of [0, 1, 2, 3]) {
      const fn = make([pm(capabilities, 8)]);
      const events = recordEvents(fn, 'power-state');
      fn.write(PMCSR, 2, 0x0100 | state);
      const reached = states.includes(state) ? state : 0;
      expect([fn.powerState, fn.read(PMCSR, 2)]).toEqual([reached, 0x0108 | reached]);
      expect(events).toHaveLength(reached === 0 ? 0 : 1);
    }
  });

  it.each([1, 2, 3])('D%i neither decodes nor issues, and D0 does again', (state) => {
    const fn = make([pm(ALL_STATES, 8)]);
    const events = recordEvents(fn, 'bar');
    const seen = (): unknown[] => [fn.canIssue(), fn.bars[0]?.enabled];
    expect(seen()).toEqual([true, true]);
    fn.write(PMCSR, 1, state);
    expect(seen()).toEqual([false, false]);
    expect(fn.read(0, 4), 'configuration requests are answered in any state').toBe(0x00010001);
    fn.write(0x10, 4, 0xe1000000);
    expect(events.splice(0).map(([, { enabled }]) => enabled)).toEqual([false]);
    fn.write(PMCSR, 1, 0);
    expect(seen()).toEqual([true, true]);
    expect(events.map(([, { address, enabled }]) => [address, enabled])).toEqual([[0xe1000000, true]]);
  });

  it('D3hot to D0 resets a function that does not keep its state (PCIe 5.3.1.4)', () => {
    const fn = make([powerManagementCapability(false), aerCapability()]);
    fn.write(0x108, 4, 0x00100000);
    const events = recordEvents(fn, 'reset', 'bar', 'power-state');
    fn.write(PMCSR, 2, 0x0103);
    fn.write(PMCSR, 2, 0x0100);
    expect(events.map(([name]) => name)).toEqual(['bar', 'power-state', 'reset', 'power-state']);
    expect(events[2]).toEqual(['reset', { kind: 'd3hot' }]);
    expect([fn.read(COMMAND, 2), fn.read(0x10, 4), fn.canIssue()]).toEqual([0, 0, false]);
    expect([fn.read(PMCSR, 2), fn.read(0x108, 4)], 'sticky: PME Enable, error masks').toEqual([
      0x0100, 0x00100000,
    ]);
  });

  it('D3hot to D0 resets no function with No_Soft_Reset, nor does D1 or D2 to D0 any', () => {
    const keeps = make([powerManagementCapability(true)]);
    const other = make([pm(ALL_STATES, 0)]);
    for (const [fn, state] of [
      [keeps, 3],
      [other, 1],
      [other, 2],
    ] as const) {
      const events = recordEvents(fn, 'reset');
      fn.write(PMCSR, 2, state);
      fn.write(PMCSR, 2, 0);
      expect(events).toEqual([]);
      expect(fn.read(COMMAND, 2)).toBe(BUS_MASTER | MEMORY);
    }
  });

  it('of a passed-through function are virtual; the host is told by the event', () => {
    const physical = buildConfig({ standard: [{ offset: 0x80, id: 0x01, body: [0x03, 0x00, 0x00, 0x81] }] });
    const fn = createFunction({ physical });
    const events = recordEvents(fn, 'host-write', 'power-state', 'reset');
    expect(fn.read(0x84, 2)).toBe(0x8100);
    fn.write(0x84, 2, 0x8003);
    expect(fn.read(0x84, 2), 'PME Status is RW1C').toBe(0x0003);
    fn.write(0x84, 2, 0);
    expect(events.map(([name]) => name)).toEqual(['power-state', 'reset', 'power-state']);
  });

  it('a clipped structure has none', () => {
    const physical = buildConfig({ standard: [{ offset: 0xfc, id: 0x01, body: [0x03, 0x06] }] });
    const fn = createFunction({ physical });
    fn.write(0xfe, 2, 3);
    expect(fn.powerState).toBe(0);
  });
});

describe('Function Level Reset by Device Control', () => {
  const sticky = (fn: PciFunction): number => fn.read(0x108, 4);

  it.each([
    ['a word', (fn: PciFunction): void => fn.write(DEVICE_CONTROL, 2, INITIATE_FLR)],
    ['the upper byte', (fn: PciFunction): void => fn.write(DEVICE_CONTROL + 1, 1, 0x80)],
    ['a dword', (fn: PciFunction): void => fn.write(DEVICE_CONTROL, 4, INITIATE_FLR)],
    [
      'eight bytes',
      (fn: PciFunction): void => fn.writeFrom(EXPRESS + 4, Uint8Array.of(0, 0, 0, 0, 0, 0x80, 0, 0)),
    ],
  ])('written as %s resets everything but sticky bits', (_name, write) => {
    const fn = make([expressCapability(), aerCapability()], { pasid: { width: 8 } });
    const pasid = fn.pasid?.offset ?? 0;
    fn.write(0x108, 4, 0x00100000);
    fn.write(pasid + 6, 2, 1);
    fn.write(EXPRESS + 0x28, 2, 0x0400);
    const events = recordEvents(fn, 'reset');
    write(fn);
    expect(events).toEqual([['reset', { kind: 'flr' }]]);
    expect([
      fn.read(COMMAND, 2),
      fn.read(0x10, 4),
      fn.read(pasid + 6, 2),
      fn.read(EXPRESS + 0x28, 2),
    ]).toEqual([0, 0, 0, 0]);
    expect(fn.read(DEVICE_CONTROL, 2), 'the power-on value; Initiate FLR reads 0').toBe(0x2810);
    expect(sticky(fn)).toBe(0x00100000);
    expect(fn.endpointState.pasidEnable).toBe(false);
  });

  it('leaves Max_Payload_Size and the link as they are (PCIe 6.6.2)', () => {
    const fn = make([expressCapability()]);
    fn.write(DEVICE_CONTROL, 2, 0x0020);
    fn.write(EXPRESS + 0x10, 2, 0x0043);
    fn.write(DEVICE_CONTROL, 2, INITIATE_FLR | 0x0020);
    expect(fn.read(DEVICE_CONTROL, 2) & 0x00e0).toBe(0x0020);
    expect(fn.read(EXPRESS + 0x10, 2) & 0x0043, 'ASPM and common clock').toBe(0x0043);
    fn.reset('bus');
    expect([fn.read(DEVICE_CONTROL, 2), fn.read(EXPRESS + 0x10, 2)]).toEqual([0x2810, 0]);
  });

  it('leaves Aux Power PM Enable as it is, which is sticky (RWS), as any reset does', () => {
    for (const kind of ['flr', 'bus'] as const) {
      const fn = make([expressCapability()]);
      fn.write(DEVICE_CONTROL, 2, 0x0400);
      fn.reset(kind);
      expect(fn.read(DEVICE_CONTROL, 2)).toBe(0x2c10);
    }
  });

  it('is not there without the capability bit', () => {
    const fn = make([expressCapability({ flr: false })]);
    const events = recordEvents(fn, 'reset');
    fn.write(DEVICE_CONTROL, 2, 0xffff);
    expect(events).toEqual([]);
    expect(fn.read(DEVICE_CONTROL, 2)).toBe(0x7dff);
    expect(fn.read(EXPRESS + 4, 4) & 0x1000_0000).toBe(0);
  });

  it('of a passed-through function reaches the embedder, not the hardware', () => {
    const fn = createFunction({
      physical: buildConfig({ express: { deviceCapabilities: 0x1000_0000 }, extended: [AER_HEAD] }),
    });
    const events = recordEvents(fn, 'reset', 'host-write');
    fn.write(DEVICE_CONTROL, 2, INITIATE_FLR);
    expect(events.filter(([name]) => name === 'reset')).toHaveLength(1);
    for (const [, event] of events) if ('value' in event) expect(event.value & INITIATE_FLR).toBe(0);
  });

  it('does nothing for a write of 0, nor for a write elsewhere', () => {
    const fn = make([expressCapability()]);
    const events = recordEvents(fn, 'reset');
    fn.write(DEVICE_CONTROL, 1, 0xff);
    fn.write(DEVICE_CONTROL + 2, 2, 0xffff);
    fn.write(DEVICE_CONTROL, 2, 0x7fff);
    expect(events).toEqual([]);
    expect(FLR_LENGTH).toBe(fn.capabilities[0]?.length);
  });
});

describe('Function Level Reset by Advanced Features', () => {
  const af = (capabilities: number): CapabilityBlock => ({
    id: 0x13,
    extended: false,
    version: 1,
    bytes: Uint8Array.of(0, 0, 6, capabilities, 0, 0),
  });

  it('is initiated by bit 0 of Control, which reads 0', () => {
    const fn = make([af(0x03)]);
    const events = recordEvents(fn, 'reset');
    fn.write(PM + 4, 1, 0xfe);
    expect(events).toEqual([]);
    fn.write(PM + 4, 1, 0x01);
    expect(events).toEqual([['reset', { kind: 'flr' }]]);
    expect([fn.read(PM + 4, 1), fn.read(COMMAND, 2)]).toEqual([0, 0]);
    fn.write(PM, 4, 0xffffffff);
    expect(events, 'the bytes before are others').toHaveLength(1);
  });

  it('is not there without the capability bit', () => {
    const fn = make([af(0x01)]);
    const events = recordEvents(fn, 'reset');
    fn.write(PM + 4, 1, 0x01);
    expect(events).toEqual([]);
  });
});

describe('Page Request Control and Stopped', () => {
  const enabled = (): PciFunction => {
    const fn = make([expressCapability()], { pri: true });
    fn.write(at(fn) + 4, 2, 1);
    return fn;
  };
  const at = (fn: PciFunction): number => fn.extendedCapabilities.find(({ id }) => id === 0x13)?.offset ?? 0;
  const stopped = (fn: PciFunction): number => fn.read(at(fn) + 6, 2) & 0x0100;

  it('Stopped is set while disabled and idle (PCIe 10.5.2.3)', () => {
    const fn = enabled();
    expect(stopped(fn)).toBe(0);
    fn.write(at(fn) + 4, 2, 0);
    expect(stopped(fn)).toBe(0x0100);
  });

  it.each(['flr', 'bus'] as const)('and after a reset (%s)', (kind) => {
    const fn = enabled();
    fn.reset(kind);
    expect([fn.read(at(fn) + 4, 2), stopped(fn)]).toEqual([0, 0x0100]);
  });

  it('a restored state has it as it was', () => {
    const state: unknown = JSON.parse(JSON.stringify(enabled().saveState()));
    const fresh = make([expressCapability()], { pri: true });
    fresh.restoreState(state);
    expect([fresh.read(at(fresh) + 4, 2), stopped(fresh)]).toEqual([1, 0]);
  });
});

describe('canIssue', () => {
  function device(): PciFunction {
    return make([expressCapability()], { pasid: { width: 16 } });
  }

  it('needs Bus Master Enable', () => {
    const fn = device();
    expect([fn.canIssue(), fn.canIssue(null)]).toEqual([true, true]);
    fn.write(COMMAND, 2, 0xffff & ~BUS_MASTER);
    expect([fn.canIssue(), fn.canIssue(null)]).toEqual([false, false]);
  });

  it('needs PASID Enable for a PASID, and one that fits the width', () => {
    const fn = device();
    const control = (fn.pasid?.offset ?? 0) + 6;
    expect(fn.canIssue(5)).toBe(false);
    fn.write(control, 2, 1);
    expect([0, 5, 0xffff, 0x10000, 0xfffff, -1].map((pasid) => fn.canIssue(pasid))).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    fn.write(COMMAND, 2, 0);
    expect(fn.canIssue(5)).toBe(false);
  });

  it('never allows a PASID where none is shown', () => {
    expect(make([]).canIssue(0)).toBe(false);
  });
});
