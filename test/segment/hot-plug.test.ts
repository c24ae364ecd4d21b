import { describe, expect, it } from 'vitest';
import {
  createDownstreamPort,
  createRootPort,
  createUpstreamPort,
  type PciFunction,
  PciSegment,
} from '../../src/index.ts';
import { refusal } from '../support/expect-code.ts';
import { recordEvents } from '../support/recorded-events.ts';
import { endpoint, number } from '../support/topologies.ts';

// Hot-plug as the guest's driver sees it: Slot Status, the link, and interrupts (PCIe 6.7.3, 7.5.3.8 to 7.5.3.11).

const SLOT_CONTROL = 0x40 + 0x18;
const SLOT_STATUS = 0x40 + 0x1a;
const LINK_STATUS = 0x40 + 0x12;
const MSI = 0x7c;

const ATTENTION = 0x0001;
const PRESENCE_CHANGED = 0x0008;
const PRESENT = 0x0040;
const LINK_CHANGED = 0x0100;
const LINK_ACTIVE = 0x2000;
/** Slot Control: attention button, presence detect and link state changed enables, and the interrupt's. */
const ENABLES = 0x0001 | 0x0008 | 0x1000;
const INTERRUPT_ENABLE = 0x0020;

interface Slot {
  readonly segment: PciSegment;
  readonly port: PciFunction;
}

/** A root port with a slot that the guest has looked at. */
function emptySlot(hotPlug = true): Slot {
  const segment = new PciSegment();
  const port = segment.add('00:01.0', createRootPort({ slot: 1, hotPlug }));
  port.read(0, 4);
  return { segment, port };
}

/** The guest's driver takes interrupts, by MSI or by the pin. */
function listen({ segment, port }: Slot, by: 'msi' | 'pin'): string[] {
  const log: string[] = [];
  port.write(SLOT_STATUS, 2, 0xffff);
  port.write(SLOT_CONTROL, 2, 0x03c0 | ENABLES | INTERRUPT_ENABLE);
  port.write(0x04, 2, 0x0004);
  if (by === 'msi') {
    port.write(MSI + 4, 4, 0xfee00000);
    port.write(MSI + 12, 2, 0x4321);
    port.write(MSI + 2, 2, 1);
  }
  port.on('msi', ({ address, data }) => log.push(`msi ${address.toString(16)} ${data.toString(16)}`));
  segment.on('intx', ({ device, pin, asserted }) => log.push(`intx ${device}.${pin} ${asserted}`));
  return log;
}

describe('Slot Status and the link', () => {
  it('of a slot that was filled before the guest looked show no change', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort({ slot: 1, hotPlug: true }));
    segment.plug(port, endpoint(1));
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT);
    expect(port.read(LINK_STATUS, 2)).toBe(LINK_ACTIVE | 0x0011);
  });

  it('follow what is put in and taken out', () => {
    const { segment, port } = emptySlot();
    expect([port.read(SLOT_STATUS, 2), port.read(LINK_STATUS, 2)]).toEqual([0, 0x0011]);
    const fn = segment.plug(port, endpoint(1));
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT | PRESENCE_CHANGED | LINK_CHANGED);
    expect(port.read(LINK_STATUS, 2)).toBe(LINK_ACTIVE | 0x0011);
    port.write(SLOT_STATUS, 2, PRESENCE_CHANGED);
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT | LINK_CHANGED);
    port.write(SLOT_STATUS, 2, LINK_CHANGED);
    segment.remove(fn);
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENCE_CHANGED | LINK_CHANGED);
    expect(port.read(LINK_STATUS, 2)).toBe(0x0011);
  });

  it('change with the first function of a card that comes, and with the last that goes', () => {
    const { segment, port } = emptySlot();
    const fns = [0, 1].map((fn) => segment.plug(port, endpoint(fn), { fn }));
    port.write(SLOT_STATUS, 2, 0xffff);
    segment.plug(port, endpoint(2), { fn: 2 });
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT);
    for (const fn of fns) segment.remove(fn);
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT);
    number(port, 0, 1, 1);
    segment.remove('01:00.2');
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENCE_CHANGED | LINK_CHANGED);
  });

  it('survive a reset of the port, but for the changes', () => {
    const { segment, port } = emptySlot();
    segment.plug(port, endpoint(1));
    port.write(SLOT_CONTROL, 2, 0);
    segment.reset();
    expect([port.read(SLOT_STATUS, 2), port.read(SLOT_CONTROL, 2)]).toEqual([PRESENT, 0x03c0]);
    expect(port.read(LINK_STATUS, 2)).toBe(LINK_ACTIVE | 0x0011);
  });

  it('without a slot only the link says so', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    port.read(0, 4);
    segment.plug(port, endpoint(1));
    expect([port.read(0x40 + 0x14, 4), port.read(SLOT_STATUS, 2)]).toEqual([0, 0]);
    expect(port.read(LINK_STATUS, 2)).toBe(LINK_ACTIVE | 0x0011);
  });

  it('an upstream port has no Data Link Layer Link Active: its ports behind are on an internal bus', () => {
    const segment = new PciSegment();
    const root = segment.add('00:01.0', createRootPort());
    const upstream = segment.plug(root, createUpstreamPort());
    const port = segment.plug(upstream, createDownstreamPort({ slot: 3, hotPlug: true }));
    segment.plug(port, endpoint(1));
    expect([root, upstream, port].map((one) => one.read(LINK_STATUS, 2) & LINK_ACTIVE)).toEqual([
      LINK_ACTIVE,
      0,
      LINK_ACTIVE,
    ]);
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENT);
  });
});

describe('the interrupt of a port', () => {
  it('is a message when something begins to wait, and none while it does', () => {
    const slot = emptySlot();
    const log = listen(slot, 'msi');
    const { segment, port } = slot;
    const fn = segment.plug(port, endpoint(1));
    expect(log.splice(0)).toEqual(['msi fee00000 4321']);
    // All event bits must be cleared before the port sends again (PCIe 6.7.3.4).
    segment.remove(fn);
    port.port?.pressAttentionButton();
    expect(log).toEqual([]);
    port.write(SLOT_STATUS, 2, port.read(SLOT_STATUS, 2));
    segment.plug(port, endpoint(2));
    expect(log).toEqual(['msi fee00000 4321']);
  });

  it('is a level on the pin for as long as something waits', () => {
    const slot = emptySlot();
    const log = listen(slot, 'pin');
    const { segment, port } = slot;
    segment.plug(port, endpoint(1));
    expect(log.splice(0)).toEqual(['intx 1.1 true']);
    port.write(SLOT_STATUS, 2, PRESENCE_CHANGED);
    expect(log).toEqual([]);
    port.write(SLOT_STATUS, 2, LINK_CHANGED);
    expect(log.splice(0)).toEqual(['intx 1.1 false']);
    port.port?.pressAttentionButton();
    expect(log.splice(0)).toEqual(['intx 1.1 true']);
    port.write(SLOT_CONTROL, 2, 0x03c0 | ENABLES);
    expect(log.splice(0)).toEqual(['intx 1.1 false']);
  });

  it.each([
    ['attention button', 0x0001, ATTENTION],
    ['presence detect', 0x0008, PRESENCE_CHANGED],
    ['link state', 0x1000, LINK_CHANGED],
  ])('for %s changes needs their own enable', (_name, enable, status) => {
    for (const enabled of [true, false]) {
      const slot = emptySlot();
      const log = listen(slot, 'msi');
      const { segment, port } = slot;
      port.write(SLOT_CONTROL, 2, INTERRUPT_ENABLE | (enabled ? enable : ENABLES & ~enable));
      if (status === ATTENTION) port.port?.pressAttentionButton();
      else segment.plug(port, endpoint(1));
      expect(port.read(SLOT_STATUS, 2) & status).toBe(status);
      const others = status === ATTENTION ? 0 : 1;
      expect(log).toHaveLength(enabled ? 1 : others);
    }
  });

  it('comes when the guest enables what waits already', () => {
    for (const by of ['msi', 'pin'] as const) {
      const slot = emptySlot();
      const log = listen(slot, by);
      const { port } = slot;
      port.write(SLOT_CONTROL, 2, 0x03c0);
      port.port?.pressAttentionButton();
      expect(log).toEqual([]);
      port.write(SLOT_CONTROL, 2, 0x03c0 | ENABLES | INTERRUPT_ENABLE);
      expect(log).toEqual([by === 'msi' ? 'msi fee00000 4321' : 'intx 1.1 true']);
    }
  });

  it('does not come from a port without a slot', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const log = listen({ segment, port }, 'msi');
    port.port?.pressAttentionButton();
    segment.plug(port, endpoint(1));
    expect([log, port.read(SLOT_STATUS, 2)]).toEqual([[], 0]);
  });
});

describe('a hot-plug port', () => {
  it('needs a slot', () => {
    for (const make of [createRootPort, createDownstreamPort])
      refusal('VPCI_BAD_ARGUMENT', () => make({ hotPlug: true }));
  });
});

describe('Slot Control', () => {
  it('is announced with power and indicators when it changes', () => {
    const { port } = emptySlot();
    const events = recordEvents(port, 'slot-control');
    port.write(SLOT_CONTROL, 2, 0x03c0);
    expect(events, 'what it was').toEqual([]);
    port.write(SLOT_CONTROL, 2, 0x0400 | 0x0040 | 0x0200);
    port.write(SLOT_STATUS, 2, 0xffff);
    port.write(SLOT_CONTROL, 2, 0x03c0);
    expect(events.map(([, event]) => event)).toEqual([
      { powerOff: true, attentionIndicator: 1, powerIndicator: 2 },
      { powerOff: false, attentionIndicator: 3, powerIndicator: 3 },
    ]);
    expect(port.port?.slotControl).toBe(0x03c0);
  });
});

describe('removal as Linux does it: the button, then the power', () => {
  it('the embedder takes the function out when the guest switches the slot off', () => {
    const slot = emptySlot();
    const log = listen(slot, 'msi');
    const { segment, port } = slot;
    const fn = segment.plug(port, endpoint(1));
    number(port, 0, 1, 1);
    port.write(SLOT_STATUS, 2, 0xffff);
    port.on('slot-control', ({ powerOff }) => {
      if (powerOff) segment.remove(fn);
    });
    port.port?.pressAttentionButton();
    port.write(SLOT_STATUS, 2, ATTENTION);
    expect(segment.ecamRead(segment.ecamAddress('01:00.0'), 4)).toBe(0x00011234);
    port.write(SLOT_CONTROL, 2, 0x07c0 | ENABLES | INTERRUPT_ENABLE);
    expect(segment.ecamRead(segment.ecamAddress('01:00.0'), 4)).toBe(0xffffffff);
    expect(port.read(SLOT_STATUS, 2)).toBe(PRESENCE_CHANGED | LINK_CHANGED);
    expect(log).toHaveLength(3);
  });
});
