import { describe, expect, it } from 'vitest';
import { createRootPort, msiCapability, type PciFunction, PciSegment } from '../../src/index.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { type Placed, type Put, checkAddresses, checkDecoding } from '../support/segment-checks.ts';
import { addSwitch, endpoint, number, ridOf } from '../support/topologies.ts';

// Listeners that access, remove and plug inside an event. State changes first, then events (design, "Listeners").

interface Bed {
  readonly segment: PciSegment;
  readonly port: PciFunction;
  readonly fns: readonly PciFunction[];
  readonly placed: Map<PciFunction, Put>;
}

/** A root port with `count` functions of one card behind it, each with a BAR. */
function card(count: number): Bed {
  const segment = new PciSegment();
  const port = segment.add('00:01.0', createRootPort({ slot: 1, hotPlug: true }));
  const placed = new Map<PciFunction, Put>([[port, { rid: 0x008 }]]);
  const fns = Array.from({ length: count }, (_, fn) => {
    const one = segment.plug(port, endpoint(fn, { interruptPin: 1, bars: [{ index: 0, size: 0x1000 }] }), {
      fn,
    });
    placed.set(one, { port, device: 0, fn });
    return one;
  });
  return { segment, port, fns, placed };
}

function remove({ segment, placed }: Bed, fn: PciFunction): void {
  placed.delete(fn);
  segment.remove(fn);
}

function check({ segment, placed }: { segment: PciSegment; placed: Placed }): void {
  checkAddresses(segment, placed);
  checkDecoding(segment, placed);
}

function pair(fns: readonly PciFunction[]): readonly [PciFunction, PciFunction] {
  const [first, second] = fns;
  if (first === undefined || second === undefined) throw new Error('two functions');
  return [first, second];
}

describe('a listener of `rid`', () => {
  it('finds the function at its new address already', () => {
    const { segment, port, fns } = card(2);
    const seen: unknown[] = [];
    for (const fn of fns)
      fn.on('rid', ({ rid }) =>
        seen.push(rid === -1 ? rid : [segment.function(rid) === fn, ridOf(fn) === rid]),
      );
    number(port, 0, 1, 1);
    number(port, 0, 2, 2);
    number(port, 0, 0, 0);
    expect(seen).toEqual([[true, true], [true, true], [true, true], [true, true], -1, -1]);
  });

  it.each([0, 1])('that removes a neighbour (function %i listens) removes it for good', (listening) => {
    const bed = card(2);
    const listener = bed.fns[listening];
    const victim = bed.fns[1 - listening];
    if (listener === undefined || victim === undefined) throw new Error('two functions');
    listener.once('rid', () => remove(bed, victim));
    number(bed.port, 0, 1, 1);
    expect([ridOf(victim), bed.segment.function(0x100 | (1 - listening))]).toEqual([undefined, undefined]);
    expect(ridOf(listener)).toBe(0x100 | listening);
    check(bed);
  });

  it('that removes its own function', () => {
    const bed = card(3);
    const [first] = pair(bed.fns);
    first.once('rid', () => remove(bed, first));
    number(bed.port, 0, 1, 1);
    expect(bed.fns.map(ridOf)).toEqual([undefined, 0x101, 0x102]);
    check(bed);
  });

  it('that removes the port above', () => {
    const bed = card(3);
    const [first] = pair(bed.fns);
    first.once('rid', () => remove(bed, bed.port));
    number(bed.port, 0, 1, 1);
    expect([...bed.segment.functions()]).toEqual([]);
    expect(bed.fns.map(ridOf)).toEqual([undefined, undefined, undefined]);
  });

  it('that renumbers the port', () => {
    const bed = card(3);
    const [, second] = pair(bed.fns);
    second.once('rid', () => number(bed.port, 0, 7, 7));
    number(bed.port, 0, 1, 1);
    expect(bed.fns.map(ridOf)).toEqual([0x700, 0x701, 0x702]);
    check(bed);
  });

  it('that puts the old number back', () => {
    const bed = card(3);
    number(bed.port, 0, 1, 1);
    const [first] = pair(bed.fns);
    first.once('rid', () => number(bed.port, 0, 1, 1));
    number(bed.port, 0, 9, 9);
    expect(bed.fns.map(ridOf)).toEqual([0x100, 0x101, 0x102]);
    check(bed);
  });

  it('that takes the address for a fixed function', () => {
    const bed = card(2);
    const [first, second] = pair(bed.fns);
    const fixed = endpoint(0x99);
    first.once('rid', () => {
      bed.segment.add(0x101, fixed);
      bed.placed.set(fixed, { rid: 0x101 });
    });
    number(bed.port, 0, 1, 1);
    expect([ridOf(first), ridOf(second), bed.segment.function(0x101)]).toEqual([0x100, undefined, fixed]);
    check(bed);
  });

  it('that plugs another function', () => {
    const bed = card(1);
    const late = endpoint(0x99);
    bed.fns[0]?.once('rid', () => {
      bed.segment.plug(bed.port, late, { fn: 5 });
      bed.placed.set(late, { port: bed.port, device: 0, fn: 5 });
    });
    number(bed.port, 0, 1, 1);
    expect(ridOf(late)).toBe(0x105);
    check(bed);
  });

  it('during a swap', () => {
    const segment = new PciSegment();
    const ports = ['00:01.0', '00:02.0'].map((bdf) => segment.add(bdf, createRootPort()));
    const [a, b] = pair(ports);
    const [one, other] = pair(ports.map((port, i) => segment.plug(port, endpoint(i))));
    number(a, 0, 1, 1);
    number(b, 0, 2, 2);
    const state = segment.saveState();
    number(a, 0, 2, 2);
    number(b, 0, 1, 1);
    one.once('rid', () => segment.remove(other));
    segment.restoreState(state);
    expect([ridOf(one), ridOf(other)]).toEqual([0x100, undefined]);
    expect([...segment.functions()].map(([rid]) => rid)).toEqual([0x008, 0x010, 0x100]);
  });
});

describe('a listener of the vIOMMU', () => {
  it('that removes the function when it is attached', () => {
    const iommu = new TableIommu();
    const segment = new PciSegment({ iommu });
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1));
    iommu.once('endpoint', () => segment.remove(fn));
    number(port, 0, 1, 1);
    expect([ridOf(fn), segment.function('01:00.0')]).toEqual([undefined, undefined]);
  });
});

describe('a listener of `bar`', () => {
  it('that removes the function', () => {
    const bed = card(2);
    number(bed.port, 0, 1, 1);
    bed.port.write(0x20, 4, 0xfff00000);
    bed.port.write(0x04, 2, 2);
    const [first, second] = pair(bed.fns);
    for (const fn of [first, second]) fn.write(0x10, 4, 0xe0000000);
    second.write(0x04, 2, 2);
    first.on('bar', () => remove(bed, first));
    first.write(0x04, 2, 2);
    expect(bed.segment.windows().map(({ fn }) => fn)).toEqual([second]);
    check(bed);
  });
});

describe('a listener of `decode`', () => {
  it('that moves the BAR on', () => {
    const bed = card(1);
    number(bed.port, 0, 1, 1);
    bed.port.write(0x20, 4, 0xfff00000);
    bed.port.write(0x04, 2, 2);
    const [fn] = bed.fns;
    if (fn === undefined) throw new Error('a function');
    fn.write(0x10, 4, 0xe0000000);
    bed.segment.once('decode', () => fn.write(0x10, 4, 0xe1000000));
    fn.write(0x04, 2, 2);
    expect(bed.segment.windows().map(({ address }) => address)).toEqual([0xe1000000]);
    check(bed);
  });
});

describe('a listener of `reset`', () => {
  it('that removes a neighbour: it is not reset after that', () => {
    const bed = card(3);
    number(bed.port, 0, 1, 1);
    const [first, second] = pair(bed.fns);
    const log: string[] = [];
    first.once('reset', () => {
      log.push('first');
      remove(bed, second);
    });
    second.on('reset', () => log.push('second'));
    second.write(0x04, 2, 6);
    bed.port.write(0x3e, 2, 0x40);
    expect(log).toEqual(['first']);
    expect(second.read(0x04, 2)).toBe(6);
    check(bed);
    bed.segment.reset();
    check(bed);
  });

  it('that removes the function itself, in an FLR', () => {
    const bed = card(2);
    number(bed.port, 0, 1, 1);
    const [first] = pair(bed.fns);
    first.on('reset', () => remove(bed, first));
    bed.segment.ecamWrite(bed.segment.ecamAddress('01:00.0') + 0x48, 2, 0x8000);
    expect(ridOf(first)).toBeUndefined();
    check(bed);
  });
});

describe('a listener of `intx`', () => {
  it('that removes the function as its line rises: the line falls once', () => {
    const bed = card(1);
    const [fn] = bed.fns;
    if (fn === undefined) throw new Error('a function');
    const levels: boolean[] = [];
    bed.segment.on('intx', ({ asserted }) => {
      levels.push(asserted);
      if (asserted) remove(bed, fn);
    });
    fn.setInterrupt(true);
    expect(levels).toEqual([true, false]);
    check(bed);
  });

  it('that removes the function as its line falls in a removal', () => {
    const bed = card(2);
    const [fn] = pair(bed.fns);
    fn.setInterrupt(true);
    let removed = 0;
    fn.on('intx', () => {
      removed++;
      bed.segment.remove(fn);
    });
    remove(bed, fn);
    expect(removed).toBe(1);
    expect(ridOf(fn)).toBeUndefined();
    check(bed);
  });
});

describe('a listener of `command`, `pasid-control` and `msi`', () => {
  it('that writes the register again has the last word', () => {
    const fn = endpoint(1, { pasid: { width: 8 } });
    fn.once('command', () => fn.write(0x04, 2, 0));
    fn.write(0x04, 2, 6);
    expect([fn.read(0x04, 2), fn.canIssue()]).toEqual([0, false]);
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.once('pasid-control', () => fn.write(control, 2, 0));
    fn.write(control, 2, 1);
    expect([fn.read(control, 2), fn.endpointState.pasidEnable]).toEqual([0, false]);
  });

  it('that masks the next vector while pending ones are sent', () => {
    const fn = endpoint(1, { capabilities: [msiCapability(4)] });
    fn.write(0x04, 2, 4);
    fn.write(0x50, 4, 0xf);
    fn.write(0x42, 2, 0x21);
    for (const vector of [0, 1, 2]) fn.triggerMessage(vector);
    const sent: number[] = [];
    fn.on('msi', ({ vector }) => {
      sent.push(vector);
      if (sent.length === 1) fn.write(0x50, 4, 0xf);
    });
    fn.write(0x50, 4, 0);
    fn.write(0x50, 4, 0);
    expect(
      sent.toSorted((a, b) => a - b),
      'each message once, whenever it goes',
    ).toEqual([0, 1, 2]);
    expect(fn.read(0x54, 4)).toBe(0);
  });
});

describe('a listener that throws', () => {
  it('hurts neither the access nor the other listeners', () => {
    const { segment, port, fns } = card(2);
    const errors: unknown[] = [];
    const heard: number[] = [];
    for (const fn of fns) {
      fn.onListenerError = (error) => errors.push(error);
      fn.on('rid', () => {
        throw new Error('from a listener');
      });
      fn.on('rid', ({ rid }) => heard.push(rid));
    }
    segment.onListenerError = (error) => errors.push(error);
    segment.on('decode', () => {
      throw new Error('from a listener');
    });
    expect(() => number(port, 0, 1, 1)).not.toThrow();
    expect(heard).toEqual([0x100, 0x101]);
    expect(fns.map(ridOf)).toEqual([0x100, 0x101]);
    expect(errors.length).toBeGreaterThanOrEqual(3);
  });
});

describe('a removal in the middle of a switch', () => {
  it('leaves no function behind that can be reached', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i)));
    const [first, second] = pair(fns);
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    for (const [i, port] of downstream.entries()) number(port, 2, 3 + i, 3 + i);
    first.once('rid', () => segment.remove(upstream));
    number(upstream, 1, 2, 2);
    expect([upstream, ...downstream, first, second].map(ridOf)).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect([...segment.functions()].map(([, fn]) => fn)).toEqual([root]);
  });
});
