import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createFunction,
  type EmulatedOptions,
  type EndpointSink,
  expressCapability,
  type FunctionEvents,
  type FunctionHost,
  msiCapability,
  msiXCapability,
  type PciFunction,
  PciSegment,
  powerManagementCapability,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { EventFollower, truthOf } from '../support/event-follower.ts';
import { recordEvents } from '../support/recorded-events.ts';

// Who follows a function: its vIOMMU, its segment, and those who listen. Each ends in the true state, whatever comes.

const numRuns = Number(process.env['VPCI_RUNS'] ?? 300);
const COMMAND = 0x04;
const STATUS = 0x06;
const BUS_MASTER = 0x0004;

function make(options: Partial<EmulatedOptions> = {}): PciFunction {
  return createFunction({
    vendorId: 1,
    deviceId: 1,
    classCode: 0,
    interruptPin: 2,
    capabilities: [
      expressCapability(),
      powerManagementCapability(false),
      msiCapability(8),
      msiXCapability(4, { bar: 0, offset: 0x100 }, { bar: 0, offset: 0x200 }),
    ],
    pasid: { width: 16, execute: true },
    ats: true,
    pri: true,
    bars: [
      { index: 0, size: 0x1000 },
      { index: 2, size: 0x100000, kind: 'memory64' },
      { index: 4, size: 0x40, kind: 'io' },
    ],
    rom: 0x800,
    ...options,
  });
}

function at(fn: PciFunction, id: number): number {
  return [...fn.capabilities, ...fn.extendedCapabilities].find((one) => one.id === id)?.offset ?? 0;
}

/** Bus Master, PASID Enable, an MSI-X vector that may fire, a decoding BAR, ATS, PRI and a line that is up. */
function drive(fn: PciFunction): void {
  fn.setInterrupt(true);
  fn.write(0x10, 4, 0xe0000000);
  fn.write(COMMAND, 2, 0x0006);
  fn.write(at(fn, 0x1b) + 6, 2, 1);
  fn.write(at(fn, 0x0f) + 6, 2, 0x8002);
  fn.write(at(fn, 0x13) + 4, 2, 1);
  fn.barWrite(0, 0x100, 4, 0xfee00000);
  fn.barWrite(0, 0x108, 4, 0x41);
  fn.barWrite(0, 0x10c, 4, 0);
}

const ALL: readonly (keyof FunctionEvents)[] = [
  'command',
  'pasid-control',
  'ats-control',
  'pri-control',
  'power-state',
  'bar',
  'intx',
  'msi-route',
  'reset',
  'slot-control',
];

class Sink implements EndpointSink {
  readonly pasidWidth = 20;
  readonly calls: string[] = [];
  readonly #log: (call: string) => void;
  constructor(log: (call: string) => void) {
    this.#log = log;
  }
  attachEndpoint(): void {
    this.#log('attach');
  }
  endpointChanged(_state: unknown, change: string): void {
    this.#log(change);
  }
  endpointReset(): void {
    this.#log('sink reset');
  }
  endpointMoved(): void {
    this.#log('moved');
  }
  detachEndpoint(): void {
    this.#log('detach');
  }
}

describe('a reset', () => {
  it.each(['flr', 'bus', 'd3hot'] as const)('(%s) tells everybody what it changed', (kind) => {
    const fn = make();
    const follower = new EventFollower(fn);
    drive(fn);
    fn.write(at(fn, 0x11) + 2, 2, 0x8000);
    fn.reset(kind);
    expect(follower.known).toEqual(truthOf(fn));
    expect(follower.known.routes).toEqual([]);
    expect(fn.endpointState).toMatchObject({ pasidEnable: false, atsEnable: false, priEnable: false });
  });

  it('settles everything before anybody hears of it: first the unit, then the segment, then listeners', () => {
    const fn = make();
    const log: string[] = [];
    const say = (who: string): void => {
      const { pasidEnable, atsEnable } = fn.endpointState;
      const command = new Uint8Array(2);
      fn.inspectInto(COMMAND, command);
      log.push(`${who} ${Number(pasidEnable)}${Number(atsEnable)} ${command[0]} ${fn.bars[0]?.enabled}`);
    };
    const host: FunctionHost = {
      decodeChanged: () => say('decode'),
      pinChanged: () => say('pin'),
      busNumbersChanged: () => say('buses'),
      linkChanged: () => say('link'),
      portReset: () => say('port reset'),
      passesRequests: () => true,
    };
    fn.attach({ rid: 8, sink: new Sink(say), host });
    drive(fn);
    for (const event of ALL) fn.on(event, () => say(event));
    log.length = 0;
    fn.reset('flr');
    expect(log.every((one) => one.endsWith(' 00 0 false'))).toBe(true);
    const names = log.map((one) => one.slice(0, -' 00 0 false'.length));
    expect(names.slice(0, 3)).toEqual(['sink reset', 'decode', 'pin']);
    expect(names[3]).toBe('reset');
    expect(names.slice(4).toSorted()).toEqual(
      [
        'ats-control',
        'bar',
        'command',
        'intx',
        // Vector 0: its entry is another, though it could not fire before either; and masked.
        'msi-route',
        'pasid-control',
        'pri-control',
      ].toSorted(),
    );
  });
});

describe('a restored state', () => {
  it('is told event by event', () => {
    const source = make();
    drive(source);
    source.write(at(source, 0x11) + 2, 2, 0x8000);
    const fn = make();
    const follower = new EventFollower(fn);
    const events = recordEvents(fn, ...ALL);
    fn.restoreState(source.saveState());
    expect(follower.known).toEqual(truthOf(source));
    expect(follower.known.routes).toEqual([['msi-x 0', 'fee00000:41']]);
    expect(new Set(events.map(([name]) => name))).toEqual(
      new Set(['command', 'pasid-control', 'ats-control', 'pri-control', 'bar', 'msi-route']),
    );
    const again = events.splice(0).length;
    fn.restoreState(source.saveState());
    expect([again > 0, events], 'the same again is nothing new').toEqual([true, []]);
  });

  it('is told for the pin and the power state', () => {
    const source = make();
    source.setInterrupt(true);
    const fn = make();
    const follower = new EventFollower(fn);
    fn.restoreState(source.saveState());
    expect(follower.known.asserted).toBe(true);
    source.write(at(source, 0x01) + 4, 2, 3);
    fn.restoreState(source.saveState());
    expect([follower.known.power, follower.known.asserted]).toEqual([3, false]);
  });

  it('is settled before anybody hears of it', () => {
    const source = make();
    drive(source);
    const fn = make();
    const log: string[] = [];
    const say = (who: string): void => {
      log.push(`${who} ${fn.endpointState.pasidEnable} ${fn.canIssue(1)} ${fn.bars[0]?.enabled}`);
    };
    fn.attach({ rid: 8, sink: new Sink(say), host: undefined });
    log.length = 0;
    for (const event of ALL) fn.on(event, () => say(event));
    fn.restoreState(source.saveState());
    expect(log[0]).toBe('restored true true true');
    expect(log.length).toBeGreaterThan(4);
    expect(log.every((one) => one.endsWith(' true true true'))).toBe(true);
  });
});

describe('MSI routes', () => {
  it('of vectors that are not allocated any more end (Enable and Multiple Message Enable in one write)', () => {
    const fn = make();
    const follower = new EventFollower(fn);
    const msi = at(fn, 0x05);
    fn.write(msi + 4, 4, 0xfee00000);
    fn.write(msi + 2, 2, 0x31);
    expect(follower.known.routes).toHaveLength(8);
    fn.write(msi + 2, 2, 0x11);
    expect(follower.known).toEqual(truthOf(fn));
    fn.write(msi + 2, 2, 0x31);
    fn.write(msi + 2, 2, 0);
    expect(follower.known.routes).toEqual([]);
  });

  it('are not told again by a write that changes nothing', () => {
    const fn = make();
    fn.write(at(fn, 0x11) + 2, 2, 0x8000);
    fn.write(at(fn, 0x05) + 4, 4, 0xfee00000);
    const events = recordEvents(fn, 'msi-route');
    fn.write(at(fn, 0x11), 1, 0x55);
    fn.write(at(fn, 0x11) + 2, 2, 0x8000);
    fn.write(at(fn, 0x05), 1, 0x55);
    fn.write(at(fn, 0x05) + 4, 4, 0xfee00000);
    expect(events).toEqual([]);
  });

  it('are all told when MSI-X goes off, though no vector could fire', () => {
    const fn = make();
    fn.write(at(fn, 0x11) + 2, 2, 0x8000);
    const events = recordEvents(fn, 'msi-route');
    fn.write(at(fn, 0x11) + 2, 2, 0);
    expect(events.map(([, { vector, enabled }]) => [vector, enabled])).toEqual(
      [0, 1, 2, 3].map((vector) => [vector, false]),
    );
  });
});

describe('what waits', () => {
  it.each([
    ['MSI', 0x05],
    ['MSI-X', 0x11],
  ])('of %s stays pending while the function may not master the bus, and goes when it may', (_name, id) => {
    const fn = make();
    const events = recordEvents(fn, 'msi');
    const [control, mask, unmask] =
      id === 0x05
        ? [1, () => fn.write(at(fn, id) + 16, 4, 1), () => fn.write(at(fn, id) + 16, 4, 0)]
        : [0x8000, () => fn.barWrite(0, 0x10c, 4, 1), () => fn.barWrite(0, 0x10c, 4, 0)];
    const pending = (): number => (id === 0x05 ? fn.read(at(fn, id) + 20, 4) : fn.barRead(0, 0x200, 4));
    fn.write(at(fn, id) + 2, 2, control);
    mask();
    fn.triggerMessage(0);
    unmask();
    expect([events.length, pending()]).toEqual([0, 1]);
    fn.write(COMMAND, 2, BUS_MASTER);
    expect([events.length, pending()]).toEqual([1, 0]);
    fn.write(COMMAND, 2, 0);
    fn.write(COMMAND, 2, BUS_MASTER);
    expect(events).toHaveLength(1);
  });
});

describe('what the host left behind', () => {
  it('in Interrupt Status is not the level of the pin', () => {
    const physical = buildConfig({
      bytes: [
        [COMMAND, [0, 4, 8, 0]],
        [0x3d, [1]],
      ],
    });
    const fn = createFunction({ physical });
    const events = recordEvents(fn, 'intx');
    expect(fn.read(STATUS, 2) & 8).toBe(0);
    fn.write(COMMAND, 2, 0);
    expect(events).toEqual([]);
    expect(fn.findings).toContainEqual(expect.objectContaining({ code: 'interrupt-state', offset: STATUS }));
  });

  it('in the pending bits of MSI is not ours to send', () => {
    const body = [0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0];
    const fn = createFunction({ physical: buildConfig({ standard: [{ offset: 0x80, id: 5, body }] }) });
    const events = recordEvents(fn, 'msi');
    expect(fn.read(0x94, 4)).toBe(0);
    fn.write(COMMAND, 2, BUS_MASTER);
    fn.write(0x82, 2, 1);
    fn.write(0x90, 4, 0);
    expect(events).toEqual([]);
    expect(fn.findings).toContainEqual(expect.objectContaining({ code: 'interrupt-state', offset: 0x94 }));
  });
});

describe('a function in D1 to D3hot', () => {
  it('keeps its pin down: it sends nothing but PME (PCIe 5.3.1.4)', () => {
    const fn = make();
    const events = recordEvents(fn, 'intx');
    const pm = at(fn, 0x01);
    fn.setInterrupt(true);
    fn.write(pm + 4, 2, 3);
    fn.setInterrupt(false);
    fn.setInterrupt(true);
    expect(events.map(([, { asserted }]) => asserted)).toEqual([true, false]);
    expect(fn.read(STATUS, 2) & 8).toBe(8);
  });
});

describe('listeners that change the function', () => {
  it('leave no other with yesterday’s news', () => {
    const fn = make();
    const control = at(fn, 0x1b) + 6;
    fn.on('pasid-control', ({ enable }) => {
      if (enable) fn.write(control, 2, 0);
    });
    const heard: boolean[] = [];
    fn.on('pasid-control', ({ enable }) => heard.push(enable));
    fn.write(control, 2, 1);
    expect(heard).toEqual([true, false]);
    expect(fn.endpointState.pasidEnable).toBe(false);
  });

  it('by another event, neither', () => {
    const fn = make();
    const pm = at(fn, 0x01) + 4;
    const heard: number[] = [];
    fn.on('reset', () => fn.write(pm, 2, 3));
    fn.on('power-state', ({ state }) => heard.push(state));
    fn.write(pm, 2, 3);
    fn.write(pm, 2, 0);
    expect([heard.at(-1), fn.powerState]).toEqual([3, 3]);
  });

  it('hear what they set off after what they hear', () => {
    const fn = make();
    const log: string[] = [];
    fn.on('command', () => {
      log.push('command begins');
      fn.reset('bus');
      fn.setInterrupt(true);
      log.push('command ends');
    });
    fn.on('reset', () => log.push('reset'));
    fn.on('intx', () => log.push('intx'));
    fn.once('command', () => log.push('second'));
    fn.write(COMMAND, 2, 1);
    expect(log.slice(0, 5)).toEqual(['command begins', 'command ends', 'second', 'reset', 'command begins']);
    expect(log.filter((one) => one === 'intx').length).toBeGreaterThan(0);
  });
});

describe('a function that drives its pin before it is placed', () => {
  it('tells its segment when it is', () => {
    const fn = make();
    fn.setInterrupt(true);
    const pins: unknown[] = [];
    const host: FunctionHost = {
      decodeChanged: () => undefined,
      pinChanged: (_fn, pin, asserted) => pins.push([pin, asserted]),
      busNumbersChanged: () => undefined,
      linkChanged: () => undefined,
      portReset: () => undefined,
      passesRequests: () => true,
    };
    fn.attach({ rid: 8, sink: undefined, host });
    expect(fn.read(STATUS, 2) & 8, 'its level is kept').toBe(8);
    fn.setInterrupt(false);
    expect(pins).toEqual([
      [2, true],
      [2, false],
    ]);
  });
});

describe('a segment', () => {
  it('hears of a pin that was driven before the function was added, once', () => {
    const fn = make();
    fn.setInterrupt(true);
    const segment = new PciSegment();
    const pins: unknown[] = [];
    segment.on('intx', ({ device, pin, asserted }) => pins.push([device, pin, asserted]));
    segment.add('00:03.0', fn);
    fn.setInterrupt(true);
    fn.setInterrupt(false);
    expect(pins).toEqual([
      [3, 2, true],
      [3, 2, false],
    ]);
  });
});

// ---- any guest -------------------------------------------------------------------------------------------------

const size = fc.constantFrom(1, 2, 4);
const value = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 4, 6, 7, 0x31, 0x8000, 0xc000, 0x0407, 0x8002, 0xe0000000, 0xffffffff),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('capability' as const),
      index: fc.nat({ max: 8 }),
      delta: fc.nat({ max: 0x1b }),
      size,
      value,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('register' as const),
      at: fc.constantFrom(0x04, 0x06, 0x10, 0x18, 0x1c, 0x20, 0x30),
      size,
      value,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('table' as const),
      at: fc.integer({ min: 0xfe, max: 0x140 }),
      size,
      value,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('pin' as const), level: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('message' as const), vector: fc.nat({ max: 7 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reset' as const),
      reset: fc.constantFrom('flr', 'bus' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('save', 'restore' as const) }) },
);

describe('whoever follows the events of any function', () => {
  it('knows the true state after every access, reset and restored state', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const fn = make();
        const follower = new EventFollower(fn);
        let saved: unknown = fn.saveState();
        for (const one of steps) {
          if (one.kind === 'capability') {
            const places = [...fn.capabilities, ...fn.extendedCapabilities];
            const place = places[one.index % places.length]?.offset ?? 0;
            fn.write(place + one.delta, one.size, one.value);
          } else if (one.kind === 'register') fn.write(one.at, one.size, one.value);
          else if (one.kind === 'table') fn.barWrite(0, one.at, one.size, one.value);
          else if (one.kind === 'pin') fn.setInterrupt(one.level);
          else if (one.kind === 'message') fn.triggerMessage(one.vector);
          else if (one.kind === 'reset') fn.reset(one.reset);
          else if (one.kind === 'save') saved = JSON.parse(JSON.stringify(fn.saveState()));
          else fn.restoreState(saved);
          expect(follower.known, JSON.stringify(one)).toEqual(truthOf(fn));
        }
      }),
      { numRuns },
    );
  });
});
