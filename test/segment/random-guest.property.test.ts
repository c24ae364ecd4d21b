import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import type { PciFunction } from '../../src/index.ts';
import { arbitraryStep, drive, makeWorld, type World } from '../support/random-topology.ts';
import { checkAddresses, checkDecoding } from '../support/segment-checks.ts';

// Any guest and any devices on a whole topology. VPCI_RUNS=n for a longer hunt.

const numRuns = Number(process.env['VPCI_RUNS'] ?? 60);
vi.setConfig({ testTimeout: 60_000 + 200 * numRuns });
const steps = fc.array(arbitraryStep, { minLength: 1, maxLength: 80 });

const EVENTS = [
  'pasid-control',
  'ats-control',
  'pri-control',
  'reset',
  'command',
  'power-state',
  'bar',
  'intx',
  'msi',
  'msi-route',
  'rid',
  'slot-control',
] as const;

/** All that a guest can read of a function. */
function everything(fn: PciFunction): unknown {
  const config = new Uint8Array(fn.size);
  fn.readInto(0, config);
  const table = Array.from({ length: 0x500 / 4 }, (_, i) => fn.barRead(0, 0x7fc + 4 * i, 4));
  return {
    config: Buffer.from(config).toString('hex'),
    table,
    bars: fn.bars,
    endpoint: { ...fn.endpointState },
  };
}

function byPlace({ segment }: World): unknown {
  const { functions, ...state } = segment.saveState();
  return { ...state, functions: Object.fromEntries(functions.map((one) => [one.place, one.state])) };
}

function view({ segment, all }: World): unknown {
  const windows = segment.windows().map(({ fn, ...window }) => ({ ...window, fn: all.indexOf(fn) }));
  const table = [...segment.functions()].map(([rid, fn]) => [rid, all.indexOf(fn)]);
  return { windows, table, cam: segment.pioRead(0xcf8, 4), functions: all.map(everything) };
}

/** What everybody hears of each function from now on. */
function listen({ all, segment }: World): unknown[][] {
  const heard = all.map((): unknown[] => []);
  for (const [i, fn] of all.entries())
    for (const name of EVENTS) fn.on(name, (event) => heard[i]?.push([name, event]));
  segment.on('intx', ({ fn, ...event }) => heard[all.indexOf(fn)]?.push(['line', event]));
  return heard;
}

function check({ segment, placed, all, iommu }: World): void {
  checkAddresses(segment, placed);
  checkDecoding(segment, placed);
  for (const fn of all) {
    const { rid, pasidWidth } = fn.endpointState;
    if (rid === -1) continue;
    // The unit has the same endpoint behind that requester ID: one PASID beyond its width is out of range for it.
    const request = { rid, pasid: 2 ** pasidWidth, address: 0n, access: 'read', size: 1 } as const;
    if (pasidWidth !== 0) expect(iommu.request(request)).toMatchObject({ reason: 'pasid-beyond-width' });
  }
}

describe('any guest', () => {
  it('is never thrown at, and addresses, windows and bus numbers always agree', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const world = makeWorld();
        for (const [i, step] of all.entries()) {
          drive(world, step);
          if (i % 8 === 0) check(world);
        }
        check(world);
      }),
      { numRuns },
    );
  });

  it('moves its pins in pairs: what rises falls, and what fell can rise', () => {
    fc.assert(
      fc.property(steps, (all) => {
        const world = makeWorld();
        const up = new Set<PciFunction>();
        world.segment.on('intx', ({ fn, asserted, pin }) => {
          expect([pin >= 1 && pin <= 4, up.has(fn)]).toEqual([true, !asserted]);
          if (asserted) up.add(fn);
          else up.delete(fn);
        });
        const errors: unknown[] = [];
        world.segment.onListenerError = (error) => errors.push(error);
        for (const step of all) drive(world, step);
        world.segment.reset();
        expect(errors).toEqual([]);
        expect([...up]).toEqual([]);
      }),
      { numRuns },
    );
  });
});

describe('a state', () => {
  it('restored into a fresh topology reads the same everywhere, and saves the same', () => {
    fc.assert(
      fc.property(steps, fc.boolean(), (all, backwards) => {
        const world = makeWorld();
        for (const step of all) drive(world, step);
        const saved = world.segment.saveState();
        const fresh = makeWorld(backwards);
        fresh.segment.restoreState(JSON.parse(JSON.stringify(saved)));
        expect(byPlace(fresh)).toEqual(byPlace(world));
        check(fresh);
        expect(view(fresh)).toEqual(view(world));
      }),
      { numRuns },
    );
  });

  it('restored into one that was used reads the same, too', () => {
    fc.assert(
      fc.property(steps, steps, (before, after) => {
        const world = makeWorld();
        for (const step of before) drive(world, step);
        const saved = JSON.stringify(world.segment.saveState());
        const seen = view(world);
        for (const step of after) drive(world, step);
        world.segment.restoreState(JSON.parse(saved));
        check(world);
        expect(view(world)).toEqual(seen);
      }),
      { numRuns },
    );
  });

  it('goes on the same after that', () => {
    fc.assert(
      fc.property(steps, steps, fc.boolean(), (before, after, backwards) => {
        const world = makeWorld();
        for (const step of before) drive(world, step);
        const fresh = makeWorld(backwards);
        fresh.segment.restoreState(world.segment.saveState());
        const heard = [world, fresh].map(listen);
        for (const step of after) {
          drive(world, step);
          drive(fresh, step);
        }
        expect(view(fresh)).toEqual(view(world));
        expect(heard[1]).toEqual(heard[0]);
      }),
      { numRuns },
    );
  });
});
