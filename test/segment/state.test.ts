import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createRootPort, type PciFunction, PciSegment } from '../../src/index.ts';
import { refusal } from '../support/expect-code.ts';
import { endpoint, number, ridOf } from '../support/topologies.ts';

const LINE = 0x3c;

/** Functions at `bdfs`, in that order, each with its BDF's number in its Interrupt Line. */
function filled(...bdfs: readonly string[]): PciSegment {
  const segment = new PciSegment();
  for (const bdf of bdfs) segment.add(bdf, endpoint(1)).write(LINE, 1, Number.parseInt(bdf.slice(3, 5), 16));
  return segment;
}

const lines = (segment: PciSegment): Record<string, number> =>
  Object.fromEntries([...segment.functions()].map(([rid, fn]) => [rid >>> 3, fn.read(LINE, 1)]));

describe('a state of a segment', () => {
  it('goes to the functions at the same addresses, whatever the order in which they came', () => {
    const state = filled('00:01.0', '00:02.0', '00:03.0').saveState();
    const other = filled('00:03.0', '00:01.0', '00:02.0');
    for (const [, fn] of other.functions()) fn.write(LINE, 1, 0);
    other.restoreState(JSON.parse(JSON.stringify(state)));
    expect(lines(other)).toEqual({ 1: 1, 2: 2, 3: 3 });
    expect(other.saveState().functions).toEqual(expect.arrayContaining([...state.functions]));
  });

  it('goes to the same places behind ports, whatever the bus numbers were', () => {
    const make = (backwards: boolean): { segment: PciSegment; fns: readonly PciFunction[] } => {
      const segment = new PciSegment();
      const bdfs = ['00:01.0', '00:02.0'];
      const ports = (backwards ? bdfs.toReversed() : bdfs).map((bdf) => segment.add(bdf, createRootPort()));
      const inOrder = backwards ? ports.toReversed() : ports;
      const fns = inOrder.map((port, i) => segment.plug(port, endpoint(i)));
      return { segment, fns };
    };
    const one = make(false);
    for (const [i, port] of ['00:01.0', '00:02.0'].entries()) {
      const fn = one.segment.function(port);
      if (fn !== undefined) number(fn, 0, 2 - i, 2 - i);
    }
    for (const [i, fn] of one.fns.entries()) fn.write(LINE, 1, 0x10 + i);
    const state = one.segment.saveState();
    expect(state.functions.map(({ place }) => place)).toEqual([
      '00:01.0',
      '00:02.0',
      '00:01.0/00.0',
      '00:02.0/00.0',
    ]);
    const other = make(true);
    other.segment.restoreState(state);
    expect(other.fns.map(ridOf)).toEqual([0x200, 0x100]);
    expect(other.fns.map((fn) => fn.read(LINE, 1))).toEqual([0x10, 0x11]);
  });

  it('is refused where a function is missing, on either side, by name', () => {
    const state = filled('00:01.0', '00:02.0').saveState();
    for (const present of [['00:01.0'], ['00:01.0', '00:03.0']]) {
      const segment = filled(...present);
      const before = segment.saveState();
      expect(refusal('VPCI_STATE', () => segment.restoreState(state))).toContain('00:02.0');
      expect(segment.saveState()).toEqual(before);
    }
    expect(
      refusal('VPCI_STATE', () => filled('00:01.0', '00:02.0', '00:03.0').restoreState(state)),
    ).toContain('00:03.0');
  });

  it('is checked as a whole before anything changes', () => {
    const [first, second] = filled('00:01.0', '00:02.0').saveState().functions;
    const segment = filled('00:01.0', '00:02.0');
    segment.pioWrite(0xcf8, 4, 0x80000800);
    for (const [, fn] of segment.functions()) fn.write(LINE, 1, 0x77);
    const before = segment.saveState();
    const damaged: unknown[] = [
      null,
      { version: 2 },
      { version: 2, configAddress: 0, functions: [null] },
      { version: 2, configAddress: 0, functions: [first, { place: '00:02.0', state: { version: 1 } }] },
      { version: 2, configAddress: 0, functions: [first, { place: '00:02.0', state: null }] },
      { version: 2, configAddress: 0, functions: [first, first] },
      { version: 2, configAddress: 0, functions: [first, { ...second, place: 'x'.repeat(1e6) }] },
      { version: 1, configAddress: 0, functions: [first, second] },
    ];
    for (const configAddress of [-1, 0.5, 2 ** 32, Number.NaN, '0', null])
      damaged.push({ version: 2, configAddress, functions: [first, second] });
    for (const state of damaged) {
      expect(refusal('VPCI_STATE', () => segment.restoreState(state)).length).toBeLessThan(300);
      expect(segment.saveState()).toEqual(before);
    }
    segment.restoreState({ version: 2, configAddress: 0xffffffff, functions: [second, first] });
    expect(lines(segment)).toEqual({ 1: 1, 2: 2 });
    expect(segment.pioRead(0xcf8, 4), 'bits that are hardwired stay').toBe(0x80fffffc);
  });

  it('of anything at all is refused with VPCI_STATE or taken', () => {
    const segment = filled('00:01.0', '00:02.0');
    const good = segment.saveState();
    fc.assert(
      fc.property(fc.nat({ max: 400 }), fc.jsonValue(), (at, junk) => {
        let left = at;
        // One value of the state, wherever, becomes something else.
        const state: unknown = JSON.parse(JSON.stringify(good), (_key, value: unknown) =>
          left-- === 0 ? junk : value,
        );
        const before = segment.saveState();
        try {
          segment.restoreState(state);
        } catch {
          refusal('VPCI_STATE', () => segment.restoreState(state));
          expect(segment.saveState()).toEqual(before);
        }
        segment.restoreState(good);
      }),
      { numRuns: 300 },
    );
  });

  it('tells apart what is behind a port that was taken out', () => {
    const segment = new PciSegment();
    const ports = ['00:01.0', '00:02.0'].map((bdf) => segment.add(bdf, createRootPort()));
    for (const [i, port] of ports.entries()) segment.plug(port, endpoint(i)).write(LINE, 1, i);
    for (const port of ports) segment.remove(port);
    const state = segment.saveState();
    expect(state.functions.map(({ place }) => place)).toEqual(['-/00.0', '-/00.0#2']);
    segment.restoreState(state);
    expect(segment.saveState()).toEqual(state);
  });
});
