import fc from 'fast-check';
import {
  aerCapability,
  createDownstreamPort,
  createRootPort,
  createUpstreamPort,
  expressCapability,
  msiCapability,
  msiXCapability,
  type PciFunction,
  PciSegment,
  powerManagementCapability,
  vendorSpecificCapability,
} from '../../src/index.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { portsAbove, type Put } from './segment-checks.ts';
import { endpoint, number } from './topologies.ts';

/** A topology with everything in it: ports, a switch, cards, BARs of every kind, all capabilities. */
export interface World {
  readonly segment: PciSegment;
  readonly iommu: TableIommu;
  /** In the order in which they were put in place. */
  readonly all: readonly PciFunction[];
  readonly placed: Map<PciFunction, Put>;
}

function device(deviceId: number): PciFunction {
  return endpoint(deviceId, {
    interruptPin: (deviceId % 4) + 1,
    capabilities: [
      expressCapability(),
      deviceId % 2 === 0
        ? msiCapability(4)
        : msiXCapability(5, { bar: 0, offset: 0x800 }, { bar: 0, offset: 0xc00 }),
      powerManagementCapability(deviceId % 3 === 0),
      vendorSpecificCapability(Uint8Array.of(1, 2, 3, 4, 5), Uint8Array.of(0, 0xff, 0x0f, 0, 0xf0)),
      aerCapability(),
    ],
    pasid: { width: 16, execute: true, privileged: deviceId % 2 === 0 },
    ats: true,
    pri: true,
    bars: [
      { index: 0, size: 0x1000, read: () => 0x5a },
      { index: 1, size: 0x40, kind: 'io' },
      { index: 2, size: 0x400000, kind: 'memory64', prefetchable: true },
    ],
    rom: 0x800,
  });
}

type Plugged = Exclude<Put, { readonly rid: number }>;

/** The same world always, put in place in one order or the other. */
export function makeWorld(backwards = false): World {
  const iommu = new TableIommu({ pasidWidth: 20 });
  const segment = new PciSegment({ iommu });
  const placed = new Map<PciFunction, Put>();
  const fixed = (rid: number, fn: PciFunction) => (): void => {
    segment.add(rid, fn);
  };
  const plugged =
    (one: PciFunction, { port, ...where }: Plugged) =>
    (): void => {
      segment.plug(port, one, where);
    };
  // Ports before what is behind them, which nobody can help; siblings in either order.
  const steps: (() => void)[][] = [[], [], [], []];
  const put = (level: number, fn: PciFunction, where: Put): PciFunction => {
    placed.set(fn, where);
    steps[level]?.push('rid' in where ? fixed(where.rid, fn) : plugged(fn, where));
    return fn;
  };
  put(0, device(0x10), { rid: 0x000 });
  put(0, device(0x11), { rid: 0x010 });
  const slot = put(0, createRootPort({ slot: 1, hotPlug: true }), { rid: 0x018 });
  for (const fn of [0, 1]) put(1, device(0x20 + fn), { port: slot, device: 0, fn });
  const root = put(0, createRootPort(), { rid: 0x020 });
  const upstream = put(1, createUpstreamPort(), { port: root, device: 0, fn: 0 });
  for (const i of [0, 1]) {
    const port = put(2, createDownstreamPort(), { port: upstream, device: i, fn: 0 });
    put(3, device(0x30 + i), { port, device: 0, fn: 0 });
  }
  put(0, createRootPort(), { rid: 0x028 });
  for (const level of steps) for (const step of backwards ? level.toReversed() : level) step();
  return { segment, iommu, all: [...placed.keys()], placed };
}

// ---- what guests and devices do ------------------------------------------------------------------------------

export type Step =
  | {
      readonly kind: 'config';
      readonly target: number;
      readonly at: number;
      readonly size: number;
      readonly value: number;
    }
  | {
      readonly kind: 'ecam';
      readonly rid: number;
      readonly at: number;
      readonly size: number;
      readonly value: number;
    }
  | { readonly kind: 'pio'; readonly port: number; readonly size: number; readonly value: number }
  | { readonly kind: 'mmio'; readonly address: number; readonly size: number; readonly value: number }
  | {
      readonly kind: 'bar';
      readonly target: number;
      readonly at: number;
      readonly size: number;
      readonly value: number;
    }
  | { readonly kind: 'interrupt'; readonly target: number; readonly vector: number }
  | { readonly kind: 'slot'; readonly target: number }
  /** Bus numbers and a memory window all the way down to the target, and its large BAR at the address. */
  | {
      readonly kind: 'path';
      readonly target: number;
      readonly bus: number;
      readonly bar: number;
      /** Memory Base and Memory Limit. */
      readonly window: number;
    }
  | { readonly kind: 'reset'; readonly target: number; readonly reset: 'flr' | 'bus' };

const size = fc.constantFrom(1, 2, 4);
const anyValue = fc.oneof(
  fc.constantFrom(0, 0xffffffff, 1, 2, 6, 7, 0x8000, 0xc000, 0x40, 0x0407),
  fc.integer({ min: 0, max: 0xffffffff }),
);
/** Bus numbers and addresses that a guest could mean, so that things get within reach. */
const busNumbers = fc
  .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 7 }))
  .map(([primary, secondary, subordinate]) => primary | (secondary << 8) | (subordinate << 16));
const barValue = fc.constantFrom(0xe0000000, 0xe0001000, 0xe0100001, 0xc000, 0xc040, 0xffffffff, 0);
const windowValue = fc.constantFrom(0xfff00000, 0x0000fff0, 0xe000e000, 0xe010e000, 0xe020e010, 0xfff0fff0);
/** Megabytes around a BAR of 4 MiB at 0xe0000000: windows that begin or end inside it, hold it, or miss it. */
const windowAround = fc
  .tuple(fc.integer({ min: 0xdff, max: 0xe05 }), fc.integer({ min: 0, max: 3 }))
  .map(([first, more]) => ((first << 4) | ((first + more) << 20)) >>> 0);
const registerOffset = fc.oneof(
  fc.constantFrom(0x04, 0x06, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x3c, 0x3e),
  fc.integer({ min: 0x40, max: 0xff }),
  fc.integer({ min: 0x100, max: 0x1a0 }),
  fc.integer({ min: 0, max: 0x1003 }),
);
const target = fc.nat({ max: 11 });

/** From here on, an offset is a capability of the target, 0x100 apart, and an offset in it. */
const IN_CAPABILITY = 0x10000;
const capabilityOffset = fc
  .tuple(fc.nat({ max: 9 }), fc.nat({ max: 0x1c }))
  .map(([index, delta]) => IN_CAPABILITY + 0x100 * index + delta);

function resolve(fn: PciFunction, at: number): number {
  if (at < IN_CAPABILITY) return at;
  const places = [...fn.capabilities, ...fn.extendedCapabilities];
  const place = places[((at - IN_CAPABILITY) >>> 8) % places.length];
  return (place?.offset ?? 0) + (at & 0xff);
}

const arbitraryRegisterWrite: fc.Arbitrary<{ at: number; size: number; value: number }> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ at: fc.constant(0x18), size: fc.constant(4), value: busNumbers }) },
  {
    weight: 3,
    arbitrary: fc.record({
      at: fc.constant(0x04),
      size: fc.constant(2),
      value: fc.constantFrom(7, 3, 0, 0x407),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      at: fc.constantFrom(0x10, 0x14, 0x18, 0x1c, 0x30),
      size: fc.constant(4),
      value: barValue,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ at: fc.constantFrom(0x1c, 0x20, 0x24), size: fc.constant(4), value: windowValue }),
  },
  { weight: 6, arbitrary: fc.record({ at: registerOffset, size, value: anyValue }) },
);

const rid = fc.oneof(
  fc.constantFrom(0x000, 0x010, 0x018, 0x020, 0x028, 0x100, 0x101, 0x200, 0x208, 0x300),
  fc.nat({ max: 0x7ff }),
);
const address = fc.oneof(
  fc.integer({ min: 0xe0000000 - 4, max: 0xe0002004 }),
  fc.integer({ min: 0xb0000000 - 4, max: 0xb0300000 }),
  fc.double({ min: 0, max: 2 ** 53, noNaN: true }).map(Math.floor),
);

export const arbitraryStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(target, arbitraryRegisterWrite)
      .map(([index, write]): Step => ({ kind: 'config', target: index, ...write })),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('config' as const),
      target,
      at: capabilityOffset,
      size,
      value: anyValue,
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(rid, arbitraryRegisterWrite)
      .map(([one, write]): Step => ({ kind: 'ecam', rid: one, ...write })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('pio' as const),
      port: fc.oneof(fc.constantFrom(0xcf8, 0xcfc, 0xcfe, 0xc000, 0xc03e, 0xc040), fc.nat({ max: 0xffff })),
      size,
      value: fc.oneof(
        anyValue,
        rid.map((one) => (0x80000000 + one * 0x100 + 0x04) >>> 0),
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('mmio' as const), address, size, value: anyValue }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('bar' as const),
      target,
      at: fc.oneof(fc.integer({ min: 0x7fd, max: 0x852 }), fc.integer({ min: 0xbfd, max: 0xc0a })),
      size,
      value: anyValue,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('interrupt' as const),
      target,
      vector: fc.integer({ min: -2, max: 6 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('slot' as const), target }) },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('path' as const),
      // Those behind ports.
      target: fc.constantFrom(3, 4, 8, 10),
      bus: fc.integer({ min: 1, max: 4 }),
      bar: fc.constantFrom(0xe000_0000, 0xe000_0000, 0xe040_0000),
      window: windowAround,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reset' as const),
      target,
      reset: fc.constantFrom('flr' as const, 'bus' as const),
    }),
  },
);

/** Does `step`. Resets of ports by their embedder go through the segment, which is told of nothing else. */
export function drive({ segment, all, placed }: World, step: Step): void {
  const fn = 'target' in step ? all[step.target % all.length] : undefined;
  if (step.kind === 'ecam')
    segment.ecamWrite(segment.ecamBase + step.rid * 0x1000 + step.at, step.size, step.value);
  else if (step.kind === 'pio') {
    segment.pioWrite(step.port, step.size, step.value);
    segment.pioRead(step.port, step.size);
  } else if (step.kind === 'mmio') {
    segment.mmioWrite(step.address, step.size, step.value);
    segment.mmioRead(step.address, step.size);
  } else if (fn === undefined) return;
  else if (step.kind === 'config') fn.write(resolve(fn, step.at), step.size, step.value);
  else if (step.kind === 'bar') {
    fn.barWrite(0, step.at, step.size, step.value);
    fn.barRead(0, step.at, step.size);
  } else if (step.kind === 'interrupt') {
    if (step.vector < 0) fn.setInterrupt(step.vector === -1);
    else fn.triggerMessage(step.vector);
  } else if (step.kind === 'slot') fn.port?.pressAttentionButton();
  else if (step.kind === 'path') {
    const ports = portsAbove(placed, fn).toReversed();
    for (const [i, port] of ports.entries()) {
      number(port, i === 0 ? 0 : step.bus + i - 1, step.bus + i, 7);
      port.write(0x20, 4, step.window);
      port.write(0x04, 2, 7);
    }
    fn.write(0x18, 4, step.bar);
    fn.write(0x1c, 4, 0);
    fn.write(0x04, 2, 7);
  } else if (fn.port === undefined) fn.reset(step.reset);
  else segment.reset(step.reset);
}
