import { describe, expect, it } from 'vitest';
import {
  createFunction,
  createRootPort,
  createUpstreamPort,
  createDownstreamPort,
  type PciFunction,
  PciSegment,
  type SegmentIntxEvent,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { addSwitch, endpoint } from '../support/topologies.ts';

// Where interrupt pins come out on the root bus (PCIe 2.2.8.1, table 2-21): each bridge turns the pin by the device
// number on its secondary side.

type Wire = readonly [device: number, pin: number, asserted: boolean];

function record(segment: PciSegment): Wire[] {
  const wires: Wire[] = [];
  segment.on('intx', ({ device, pin, asserted }: SegmentIntxEvent) => wires.push([device, pin, asserted]));
  return wires;
}

const PINS = [1, 2, 3, 4] as const;

describe('the swizzle', () => {
  it('is none for functions on the root bus', () => {
    const segment = new PciSegment();
    for (const pin of PINS) {
      const fn = segment.add(
        `00:${(8 + pin).toString(16).padStart(2, '0')}.${pin}`,
        endpoint(1, { interruptPin: pin }),
      );
      expect(segment.interruptRoute(fn)).toEqual({ device: 8 + pin, pin });
    }
  });

  it('keeps pins behind a root port, where there is device 0 only', () => {
    const segment = new PciSegment();
    const port = segment.add('00:1c.3', createRootPort());
    for (const [fn, pin] of PINS.entries()) {
      const one = segment.plug(port, endpoint(fn, { interruptPin: pin }), { fn });
      expect(segment.interruptRoute(one)).toEqual({ device: 0x1c, pin });
    }
  });

  it('turns pins by the device numbers of downstream ports, at each level', () => {
    const segment = new PciSegment();
    const { downstream } = addSwitch(segment, '00:03.0', 6);
    for (const [outer, port] of downstream.entries()) {
      const upstream = segment.plug(port, createUpstreamPort());
      for (const device of [0, 1, 2, 3, 7, 31]) {
        const inner = segment.plug(upstream, createDownstreamPort(), { device });
        expect(segment.interruptRoute(inner)).toEqual({ device: 3, pin: ((device + outer) % 4) + 1 });
        for (const [fn, pin] of PINS.entries()) {
          const one = segment.plug(inner, endpoint(fn, { interruptPin: pin }), { fn });
          // A function's device is 0; the downstream port's and the outer port's count.
          expect(segment.interruptRoute(one)).toEqual({
            device: 3,
            pin: ((pin - 1 + device + outer) % 4) + 1,
          });
        }
      }
    }
  });

  it('does not depend on bus numbers', () => {
    const segment = new PciSegment();
    const { downstream, root } = addSwitch(segment, '00:03.0', 2);
    const [, port] = downstream;
    if (port === undefined) throw new Error('two ports');
    const fn = segment.plug(port, endpoint(1, { interruptPin: 4 }));
    expect(segment.interruptRoute(fn)).toEqual({ device: 3, pin: 1 });
    root.write(0x18, 4, 0x00ff0500);
    expect(segment.interruptRoute(fn)).toEqual({ device: 3, pin: 1 });
  });

  it('of a function without a pin is pin 0', () => {
    const segment = new PciSegment();
    const { downstream } = addSwitch(segment, '00:03.0', 2);
    const [, port] = downstream;
    if (port === undefined) throw new Error('two ports');
    expect(segment.interruptRoute(segment.plug(port, endpoint(1)))).toEqual({ device: 3, pin: 0 });
  });
});

describe('the intx event of the segment', () => {
  function behindSwitch(): { segment: PciSegment; fn: PciFunction; parts: ReturnType<typeof addSwitch> } {
    const segment = new PciSegment();
    const parts = addSwitch(segment, '00:03.0', 2);
    const [, port] = parts.downstream;
    if (port === undefined) throw new Error('two ports');
    return { segment, parts, fn: segment.plug(port, endpoint(1, { interruptPin: 1 })) };
  }

  it('says line, level and function', () => {
    const { segment, fn } = behindSwitch();
    const events: SegmentIntxEvent[] = [];
    segment.on('intx', (event) => events.push(event));
    fn.setInterrupt(true);
    fn.setInterrupt(true);
    fn.setInterrupt(false);
    expect(events).toEqual([
      { device: 3, pin: 2, asserted: true, fn },
      { device: 3, pin: 2, asserted: false, fn },
    ]);
  });

  it('tells functions that share a line apart', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fns = [0, 1].map((fn) => segment.plug(port, endpoint(fn, { interruptPin: 1 }), { fn }));
    const seen: boolean[] = [];
    segment.on('intx', ({ fn, asserted }) => seen.push(fn === fns[0] && asserted));
    for (const fn of fns) fn.setInterrupt(true);
    expect(seen).toEqual([true, false]);
  });

  it('comes with Interrupt Disable, MSI and resets as for the pin', () => {
    const { segment, fn } = behindSwitch();
    const wires = record(segment);
    fn.setInterrupt(true);
    fn.write(0x04, 2, 0x0400);
    fn.write(0x04, 2, 0);
    fn.reset('flr');
    expect(wires.map(([, , asserted]) => asserted)).toEqual([true, false, true, false]);
  });

  it('falls when the function is taken out with its line up (PCIe 2.2.8.1)', () => {
    const { segment, fn } = behindSwitch();
    const wires = record(segment);
    fn.setInterrupt(true);
    segment.remove(fn);
    fn.setInterrupt(true);
    expect(wires).toEqual([
      [3, 2, true],
      [3, 2, false],
    ]);
  });

  it('falls when a port above is taken out, and is silent while it is', () => {
    const { segment, fn, parts } = behindSwitch();
    const wires = record(segment);
    fn.setInterrupt(true);
    segment.remove(parts.upstream);
    expect(wires.splice(0)).toEqual([
      [3, 2, true],
      [3, 2, false],
    ]);
    fn.setInterrupt(true);
    fn.setInterrupt(false);
    expect(wires).toEqual([]);
    segment.plug(parts.root, parts.upstream);
    fn.setInterrupt(true);
    expect(wires).toEqual([[3, 2, true]]);
  });

  it('of a Secondary Bus Reset is a falling one for all below', () => {
    const { segment, fn, parts } = behindSwitch();
    const wires = record(segment);
    fn.setInterrupt(true);
    parts.root.write(0x3e, 2, 0x0040);
    expect(wires.map(([, , asserted]) => asserted)).toEqual([true, false]);
  });

  it('of a passed-through function is the device number it is shown with', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:1f.2', createFunction({ physical: buildConfig({ bytes: [[0x3d, [3]]] }) }));
    const wires = record(segment);
    fn.setInterrupt(true);
    expect(wires).toEqual([[0x1f, 3, true]]);
  });
});
