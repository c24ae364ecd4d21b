import { describe, expect, it } from 'vitest';
import {
  createRootPort,
  expressCapability,
  msiCapability,
  type PciFunction,
  PciSegment,
  powerManagementCapability,
} from '../../src/index.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { recordEvents } from '../support/recorded-events.ts';
import { addSwitch, endpoint, number, ridOf } from '../support/topologies.ts';

// What a port does to the functions below it: bus mastering, power, link and resets.

const COMMAND = 0x04;
const BUS_MASTER = 4;
const BRIDGE_CONTROL = 0x3e;
const SECONDARY_BUS_RESET = 0x40;
/** Of the express capability, which every function here has at 0x40. */
const LINK_CONTROL = 0x40 + 0x10;
const LINK_STATUS = 0x40 + 0x12;
const LINK_DISABLE = 0x10;
const LINK_ACTIVE = 0x2000;
const SLOT_CONTROL = 0x40 + 0x18;
const SLOT_STATUS = 0x40 + 0x1a;
const PRESENT = 0x40;
const LINK_CHANGED = 0x100;

interface Bed {
  readonly segment: PciSegment;
  readonly port: PciFunction;
  readonly fn: PciFunction;
}

function capabilityAt(fn: PciFunction, id: number): number {
  const found = fn.capabilities.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no capability ${id}`);
  return found.offset;
}

/** A root port with a hot-plug slot, and a function on bus 1 with MSI, power management and a BAR at 0xe0000000. */
function bed(): Bed {
  const segment = new PciSegment();
  const port = segment.add('00:01.0', createRootPort({ slot: 1, hotPlug: true }));
  const fn = segment.plug(
    port,
    endpoint(1, {
      interruptPin: 1,
      capabilities: [expressCapability(), msiCapability(1), powerManagementCapability()],
      bars: [{ index: 0, size: 0x1000, read: () => 0x5a }],
      pasid: { width: 16 },
    }),
  );
  number(port, 0, 1, 1);
  port.write(0x20, 4, 0xe000_e000);
  port.write(COMMAND, 2, 2 | BUS_MASTER);
  start(fn);
  return { segment, port, fn };
}

/** As a driver does: a BAR, bus mastering, one MSI vector. */
function start(fn: PciFunction): void {
  const msi = capabilityAt(fn, 5);
  fn.write(0x10, 4, 0xe000_0000);
  fn.write(msi + 4, 4, 0xfee0_0000);
  fn.write(msi + 2, 2, 1);
  fn.write(COMMAND, 2, 2 | BUS_MASTER);
}

/** What a guest sees of 01:00.0. */
function seen({ segment }: Bed): readonly [ecam: number, cam: number, mmio: number] {
  segment.pioWrite(0xcf8, 4, 0x80010000);
  return [
    segment.ecamRead(segment.ecamAddress('01:00.0'), 4),
    segment.pioRead(0xcfc, 4),
    segment.mmioRead(0xe000_0000, 1),
  ];
}

const THERE = [0x0001_1234, 0x0001_1234, 0x5a];
const SILENT = [0xffff_ffff, 0xffff_ffff, 0xff];

function power(fn: PciFunction, state: number): void {
  fn.write(capabilityAt(fn, 1) + 4, 2, state);
}

describe('Bus Master of a port (PCIe 7.5.1.1.3)', () => {
  it('lets requests of what is below through, messages included', () => {
    const { port, fn } = bed();
    const sent = recordEvents(fn, 'msi');
    expect([fn.canIssue(), fn.triggerMessage(0), sent.splice(0).length]).toEqual([true, true, 1]);
    port.write(COMMAND, 2, 2);
    fn.triggerMessage(0);
    expect([fn.canIssue(), sent.length]).toEqual([false, 0]);
    port.write(COMMAND, 2, 2 | BUS_MASTER);
    expect(fn.canIssue()).toBe(true);
  });

  it('of every port above', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 1);
    const ports = [root, upstream, ...downstream];
    const fn = segment.plug(downstream[0] ?? root, endpoint(1));
    for (const [depth, one] of ports.entries()) number(one, depth, depth + 1, ports.length);
    for (const one of [...ports, fn]) one.write(COMMAND, 2, BUS_MASTER);
    expect(fn.canIssue()).toBe(true);
    for (const port of ports) {
      port.write(COMMAND, 2, 0);
      expect(fn.canIssue()).toBe(false);
      port.write(COMMAND, 2, BUS_MASTER);
    }
    expect(fn.canIssue()).toBe(true);
  });

  it('has no say over the pin, nor over a function at a fixed address', () => {
    const { segment, port, fn } = bed();
    fn.write(capabilityAt(fn, 5) + 2, 2, 0);
    port.write(COMMAND, 2, 0);
    const log: boolean[] = [];
    segment.on('intx', ({ asserted }) => log.push(asserted));
    fn.setInterrupt(true);
    expect(log).toEqual([true]);
    const beside = segment.add('01:00.1', endpoint(2));
    beside.write(COMMAND, 2, BUS_MASTER);
    expect(beside.canIssue()).toBe(true);
  });
});

describe('a port in D3hot (PCIe 5.3.1.4)', () => {
  it('passes nothing on, and the function below is as it was after that', () => {
    const all = bed();
    const { segment, port, fn } = all;
    expect(seen(all)).toEqual(THERE);
    power(port, 3);
    expect(seen(all)).toEqual(SILENT);
    expect(fn.canIssue()).toBe(false);
    segment.ecamWrite(segment.ecamAddress('01:00.0') + COMMAND, 2, 0);
    expect([segment.configSpace('01:00.0'), segment.function('01:00.0'), ridOf(fn)]).toEqual([
      undefined,
      fn,
      0x100,
    ]);
    power(port, 0);
    expect(seen(all)).toEqual(THERE);
    expect([fn.canIssue(), segment.configSpace('01:00.0')]).toEqual([true, fn.space]);
  });

  it('nor do functions that get their address meanwhile answer', () => {
    const { segment, port, fn } = bed();
    const { root, upstream, downstream } = addSwitch(segment, '00:02.0', 1);
    const below = segment.plug(downstream[0] ?? root, endpoint(7));
    number(root, 0, 2, 9);
    number(upstream, 2, 3, 9);
    number(downstream[0] ?? root, 3, 4, 4);
    const read = (): number[] =>
      [0x100, 0x200, 0x300, 0x400].map((rid) => segment.ecamRead(segment.ecamAddress(rid), 2));
    expect(read()).toEqual([0x1234, 0x1b36, 0x1b36, 0x1234]);
    power(upstream, 3);
    power(port, 3);
    expect(read()).toEqual([0xffff, 0x1b36, 0xffff, 0xffff]);
    // Through the function itself: the guest cannot.
    number(downstream[0] ?? root, 3, 5, 5);
    number(port, 0, 6, 6);
    expect([below, fn].map(ridOf)).toEqual([0x500, 0x600]);
    expect([0x500, 0x600].map((rid) => segment.ecamRead(segment.ecamAddress(rid), 2))).toEqual([
      0xffff, 0xffff,
    ]);
  });
});

describe('Secondary Bus Reset (PCIe 7.5.1.3.13)', () => {
  it('keeps what is below in reset and out of reach for as long as it is held', () => {
    const all = bed();
    const { segment, port, fn } = all;
    const events = recordEvents(fn, 'reset');
    port.write(BRIDGE_CONTROL, 2, SECONDARY_BUS_RESET);
    expect(events.splice(0)).toEqual([['reset', { kind: 'bus' }]]);
    segment.ecamWrite(segment.ecamAddress('01:00.0') + COMMAND, 2, 6);
    expect(seen(all)).toEqual(SILENT);
    expect(port.read(LINK_STATUS, 2) & LINK_ACTIVE).toBe(0);
    port.write(BRIDGE_CONTROL, 2, 0);
    expect(events).toEqual([]);
    expect(seen(all)).toEqual([THERE[0], THERE[1], 0xff]);
    expect([fn.read(COMMAND, 2), fn.read(0x10, 4)]).toEqual([0, 0]);
    expect(port.read(LINK_STATUS, 2) & LINK_ACTIVE).toBe(LINK_ACTIVE);
    start(fn);
    expect(seen(all)).toEqual(THERE);
  });

  it('of an upstream port reaches what is below its downstream ports', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i)));
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    for (const [i, port] of downstream.entries()) number(port, 2, 3 + i, 3 + i);
    upstream.write(BRIDGE_CONTROL, 2, SECONDARY_BUS_RESET);
    expect([0x100, 0x200, 0x208].map((rid) => segment.configSpace(rid) === undefined)).toEqual([
      false,
      true,
      true,
    ]);
    expect(fns.map(ridOf), 'their ports lost their numbers').toEqual([undefined, undefined]);
    upstream.write(BRIDGE_CONTROL, 2, 0);
    expect(segment.ecamRead(segment.ecamAddress('02:01.0'), 2)).toBe(0x1b36);
  });

  it('is part of a saved state', () => {
    const all = bed();
    all.port.write(BRIDGE_CONTROL, 2, SECONDARY_BUS_RESET);
    const state = all.segment.saveState();
    const fresh = bed();
    fresh.segment.restoreState(state);
    expect(seen(fresh)).toEqual(SILENT);
    expect(fresh.port.read(LINK_STATUS, 2) & LINK_ACTIVE).toBe(0);
    fresh.port.write(BRIDGE_CONTROL, 2, 0);
    expect(seen(fresh).slice(0, 2)).toEqual(THERE.slice(0, 2));
  });

  it('is over with a reset of the port', () => {
    const all = bed();
    all.port.write(BRIDGE_CONTROL, 2, SECONDARY_BUS_RESET);
    all.segment.reset();
    number(all.port, 0, 1, 1);
    expect(seen(all).slice(0, 2)).toEqual(THERE.slice(0, 2));
    expect(all.port.read(LINK_STATUS, 2) & LINK_ACTIVE).toBe(LINK_ACTIVE);
  });
});

describe('Link Disable (PCIe 7.5.3.7)', () => {
  it('takes the link down: what is below is reset and out of reach until it comes up again', () => {
    const all = bed();
    const { port, fn } = all;
    const events = recordEvents(fn, 'reset');
    port.write(LINK_CONTROL, 2, LINK_DISABLE);
    expect(events.splice(0)).toEqual([['reset', { kind: 'bus' }]]);
    expect([port.read(LINK_CONTROL, 2), port.read(LINK_STATUS, 2) & LINK_ACTIVE]).toEqual([LINK_DISABLE, 0]);
    expect(seen(all)).toEqual(SILENT);
    port.write(LINK_CONTROL, 2, 0);
    expect(port.read(LINK_STATUS, 2) & LINK_ACTIVE).toBe(LINK_ACTIVE);
    expect([events, seen(all).slice(0, 2), fn.read(COMMAND, 2)]).toEqual([[], THERE.slice(0, 2), 0]);
  });

  it('is announced by the slot, where somebody is present', () => {
    const { segment, port } = bed();
    port.write(SLOT_STATUS, 2, 0xffff);
    port.write(SLOT_CONTROL, 2, 0x03c0 | 0x1020);
    const log: boolean[] = [];
    segment.on('intx', ({ asserted }) => log.push(asserted));
    for (const control of [LINK_DISABLE, LINK_DISABLE, 0]) {
      const changes = control !== (port.read(LINK_CONTROL, 2) & LINK_DISABLE);
      port.write(LINK_CONTROL, 2, control);
      expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT | (changes ? LINK_CHANGED : 0));
      port.write(SLOT_STATUS, 2, LINK_CHANGED);
    }
    expect(log).toEqual([true, false, true, false]);
    segment.remove('01:00.0');
    port.write(SLOT_STATUS, 2, 0xffff);
    port.write(LINK_CONTROL, 2, LINK_DISABLE);
    expect(port.read(SLOT_STATUS, 2), 'an empty slot has no link to lose').toBe(0);
    segment.plug(port, endpoint(3));
    expect([port.read(SLOT_STATUS, 2), port.read(LINK_STATUS, 2) & LINK_ACTIVE]).toEqual([PRESENT | 8, 0]);
  });

  it('is reserved at the lower end of a link', () => {
    const segment = new PciSegment();
    const { upstream, downstream } = addSwitch(segment, '00:01.0', 1);
    const fn = segment.plug(downstream[0] ?? upstream, endpoint(1, { capabilities: [expressCapability()] }));
    for (const one of [upstream, fn]) {
      one.write(LINK_CONTROL, 2, LINK_DISABLE);
      expect(one.read(LINK_CONTROL, 2)).toBe(0);
    }
  });
});

describe('a reset of a port (PCIe 6.6.1)', () => {
  it.each(['bus', 'd3hot'] as const)('(%s) resets what is below, at every level, once', (kind) => {
    const segment = new PciSegment({ iommu: new TableIommu() });
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i)));
    for (const fn of fns) fn.write(COMMAND, 2, BUS_MASTER);
    const log: string[] = [];
    for (const fn of [upstream, ...downstream, ...fns]) fn.on('reset', (event) => log.push(event.kind));
    root.reset(kind);
    expect(log).toEqual(['bus', 'bus', 'bus', 'bus', 'bus']);
    expect(fns.map((fn) => fn.read(COMMAND, 2))).toEqual([0, 0]);
  });

  it('of the whole segment is one of each function, of the kind that was asked for', () => {
    const { segment, port, fn } = bed();
    const log = [port, fn].map((one) => recordEvents(one, 'reset'));
    segment.reset('d3hot');
    expect(log).toEqual([[['reset', { kind: 'd3hot' }]], [['reset', { kind: 'd3hot' }]]]);
  });
});
