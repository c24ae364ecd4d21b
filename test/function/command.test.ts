import { describe, expect, it } from 'vitest';
import {
  createFunction,
  type EmulatedOptions,
  msiCapability,
  msiXCapability,
  type PciFunction,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { recordEvents } from '../support/recorded-events.ts';

// Command and Status (PCIe 7.5.1.1.3, 7.5.1.1.4), and the interrupt pin (7.5.1.1.13, 6.1.2).

const COMMAND = 0x04;
const STATUS = 0x06;
const INTERRUPT_STATUS = 0x0008;
const INTERRUPT_DISABLE = 0x0400;
/** I/O, memory, bus master, parity, SERR#, Interrupt Disable. */
const RW = 0x0547;
const RW1C = 0xf900;

function make(options: Partial<EmulatedOptions> = {}): PciFunction {
  return createFunction({ vendorId: 0x1234, deviceId: 1, classCode: 0x020000, ...options });
}

describe('Command', () => {
  it('latches what PCIe defines, and the bits of conventional PCI are hardwired to 0', () => {
    const fn = make();
    for (let bit = 0; bit < 16; bit++) {
      fn.write(COMMAND, 2, 1 << bit);
      expect(fn.read(COMMAND, 2), `bit ${bit}`).toBe((1 << bit) & RW);
    }
  });

  it.each([0x0001, 0x0002, 0x0406, 0x0008, 0xffff])(
    'reads 1 in bits %i that are hardwired so',
    (commandOnes) => {
      const fn = make({ commandOnes });
      expect(fn.read(COMMAND, 2)).toBe(commandOnes);
      fn.write(COMMAND, 2, 0xffff);
      expect(fn.read(COMMAND, 2)).toBe(RW | commandOnes);
      fn.write(COMMAND, 2, 0);
      expect(fn.read(COMMAND, 2)).toBe(commandOnes);
      fn.reset('bus');
      expect(fn.read(COMMAND, 2)).toBe(commandOnes);
    },
  );

  it('is announced when it changes, and not when only Status was written', () => {
    const fn = make();
    const events = recordEvents(fn, 'command');
    fn.write(COMMAND, 2, 0x0406);
    expect(events.splice(0)).toEqual([
      ['command', { io: false, memory: true, busMaster: true, interruptDisable: true }],
    ]);
    fn.write(COMMAND, 2, 0x0406);
    fn.write(STATUS, 2, 0xffff);
    fn.write(COMMAND, 4, 0xffff0406);
    expect(events).toEqual([]);
    fn.write(COMMAND, 1, 0x01);
    expect(events.splice(0)).toEqual([
      ['command', { io: true, memory: false, busMaster: false, interruptDisable: true }],
    ]);
  });

  it('of a passed-through function is virtual', () => {
    const fn = createFunction({ physical: buildConfig({ bytes: [[COMMAND, [0x06, 0x04]]] }) });
    const events = recordEvents(fn, 'host-write');
    expect(fn.read(COMMAND, 2)).toBe(0x0406);
    fn.write(COMMAND, 2, 0x0001);
    expect(fn.read(COMMAND, 2)).toBe(0x0001);
    expect(events).toEqual([]);
    fn.reset('flr');
    expect(fn.read(COMMAND, 2)).toBe(0);
  });
});

describe('Status of an emulated function', () => {
  it('clears each error bit by a written 1, and no other', () => {
    for (let bit = 0; bit < 16; bit++) {
      const fn = make();
      const state = fn.saveState();
      const registers = state.registers.map(([at, mask, value]) =>
        at === COMMAND ? [at, mask, RW1C * 0x10000] : [at, mask, value],
      );
      fn.restoreState({ ...state, registers });
      expect(fn.read(STATUS, 2)).toBe(RW1C | 0x0010);
      fn.write(STATUS, 2, 1 << bit);
      expect(fn.read(STATUS, 2), `bit ${bit}`).toBe((RW1C & ~(1 << bit)) | 0x0010);
    }
  });

  it('has Capabilities List as long as there are capabilities', () => {
    expect(make().read(STATUS, 2)).toBe(0x0010);
    expect(make({ capabilities: [] }).read(STATUS, 2)).toBe(0);
  });
});

describe('the interrupt pin', () => {
  it.each([1, 2, 3, 4])('%i rises and falls with the level, once', (interruptPin) => {
    const fn = make({ interruptPin });
    const events = recordEvents(fn, 'intx');
    for (const level of [true, true, false, false, true]) {
      fn.setInterrupt(level);
      expect(fn.read(STATUS, 2) & INTERRUPT_STATUS).toBe(level ? INTERRUPT_STATUS : 0);
    }
    const pin = interruptPin;
    expect(events.map(([, event]) => event)).toEqual([
      { pin, asserted: true },
      { pin, asserted: false },
      { pin, asserted: true },
    ]);
    expect(fn.interruptPin).toBe(pin);
  });

  it('is silent where there is none', () => {
    const fn = make();
    const events = recordEvents(fn, 'intx');
    fn.setInterrupt(true);
    expect(events).toEqual([]);
    expect(fn.interruptPin).toBe(0);
  });

  it.each([0, 1, 2, 3, 4, 5, 0x80, 0xff])('of a passed-through function that reads %i', (pin) => {
    const fn = createFunction({ physical: buildConfig({ bytes: [[0x3d, [pin]]] }) });
    const events = recordEvents(fn, 'intx');
    expect(fn.read(0x3d, 1)).toBe(pin);
    // No header can have a pin above INTD; such a function has none.
    expect(fn.interruptPin).toBe(pin <= 4 ? pin : 0);
    fn.setInterrupt(true);
    expect(events.map(([, event]) => event)).toEqual(pin >= 1 && pin <= 4 ? [{ pin, asserted: true }] : []);
    expect(fn.read(STATUS, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
  });

  it('is held down by Interrupt Disable, while Interrupt Status shows the level', () => {
    const fn = make({ interruptPin: 1 });
    const events = recordEvents(fn, 'intx');
    fn.setInterrupt(true);
    fn.write(COMMAND, 2, INTERRUPT_DISABLE);
    expect(fn.read(STATUS, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
    fn.setInterrupt(false);
    fn.setInterrupt(true);
    expect(events.splice(0).map(([, { asserted }]) => asserted)).toEqual([true, false]);
    fn.write(COMMAND, 2, 0);
    expect(events.splice(0).map(([, { asserted }]) => asserted)).toEqual([true]);
  });

  it('is held down while MSI or MSI-X is enabled (PCIe 6.1.4.4)', () => {
    const location = { bar: 0, offset: 0 };
    for (const block of [msiCapability(1, false), msiXCapability(1, location, { bar: 0, offset: 0x10 })]) {
      const fn = make({ interruptPin: 2, capabilities: [block], bars: [{ index: 0, size: 0x1000 }] });
      const enable = block.id === 5 ? 0x0001 : 0x8000;
      const events = recordEvents(fn, 'intx');
      fn.setInterrupt(true);
      fn.write(0x42, 2, enable);
      fn.write(0x42, 2, 0);
      fn.write(0x42, 2, enable);
      fn.setInterrupt(false);
      fn.write(0x42, 2, 0);
      expect(events.map(([, { asserted }]) => asserted)).toEqual([true, false, true, false]);
    }
  });

  it.each(['flr', 'bus'] as const)('falls with a reset (%s)', (kind) => {
    const fn = make({ interruptPin: 1 });
    const events = recordEvents(fn, 'intx', 'reset');
    fn.setInterrupt(true);
    fn.reset(kind);
    expect(events).toEqual([
      ['intx', { pin: 1, asserted: true }],
      ['reset', { kind }],
      ['intx', { pin: 1, asserted: false }],
    ]);
    expect(fn.read(STATUS, 2) & INTERRUPT_STATUS).toBe(0);
  });

  it('cannot be driven by the guest', () => {
    const fn = make({ interruptPin: 1 });
    fn.write(STATUS, 2, 0xffff);
    fn.write(0x3d, 1, 4);
    expect([fn.read(STATUS, 2) & INTERRUPT_STATUS, fn.interruptPin]).toEqual([0, 1]);
    fn.setInterrupt(true);
    fn.write(STATUS, 2, 0xffff);
    expect(fn.read(STATUS, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
  });

  it('has a line register for software alone', () => {
    const fn = make({ interruptPin: 1 });
    fn.write(0x3c, 1, 0x5a);
    expect(fn.read(0x3c, 2)).toBe(0x015a);
  });
});
