import { describe, expect, it } from 'vitest';
import { createFunction, createRootPort, type PciFunction, PciSegment } from '../../src/index.ts';
import type { EndpointSink } from '../../src/pci/endpoint.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';
import { endpoint, number, ridOf } from '../support/topologies.ts';

// Who is where: while listeners watch, where a vIOMMU refuses, and between vIOMMUs.

const isMulti = (fn: PciFunction): boolean => (fn.read(0x0e, 1) & 0x80) !== 0;

/** A vIOMMU that takes `pasidWidth` bits and throws where it is told to. */
function sink(pasidWidth: number, throwsAt?: number): EndpointSink & { readonly log: string[] } {
  const log: string[] = [];
  return {
    pasidWidth,
    log,
    attachEndpoint: ({ rid }) => {
      if (rid === throwsAt) throw new Error('no more room in the unit');
      log.push(`attach ${rid}`);
    },
    endpointChanged: () => undefined,
    endpointReset: () => undefined,
    endpointMoved: ({ rid }, previous) => log.push(`move ${previous} ${rid}`),
    detachEndpoint: ({ rid }) => log.push(`detach ${rid}`),
  };
}

describe('add', () => {
  it('has the function in place before anybody hears of it', () => {
    const segment = new PciSegment();
    const fn = endpoint(1);
    const seen: unknown[] = [];
    fn.on('rid', ({ rid }) => seen.push(segment.function(rid) === fn, segment.ecamRead(0xb0010000, 4)));
    segment.add('00:02.0', fn);
    expect(seen).toEqual([true, 0x00011234]);
  });

  it('leaves no room for another one that a listener adds', () => {
    const segment = new PciSegment();
    const fn = endpoint(1);
    const errors: unknown[] = [];
    fn.onListenerError = (error) => errors.push(error);
    fn.on('rid', () => segment.add('00:02.0', endpoint(2)));
    segment.add('00:02.0', fn);
    expect(errors).toMatchObject([{ code: 'VPCI_BDF_TAKEN' }]);
    expect([...segment.functions()]).toEqual([[0x10, fn]]);
  });

  it('gives way to one that a listener added before it had a place', () => {
    const segment = new PciSegment();
    const iommu = new TableIommu({ pasidWidth: 4 });
    const [fn, other] = [endpoint(1, { pasid: { width: 20 } }), endpoint(2)];
    fn.once('finding', () => segment.add('00:02.0', other));
    refusal('VPCI_BDF_TAKEN', () => segment.add('00:02.0', fn, iommu));
    expect([...segment.functions()]).toEqual([[0x10, other]]);
    expect(segment.add('00:03.0', fn, iommu), 'it is free').toBe(fn);
  });

  it('of a function that its listener takes out again', () => {
    const segment = new PciSegment();
    const [fn, iommu] = [endpoint(1), new TableIommu()];
    const rids: number[] = [];
    iommu.once('endpoint', () => segment.remove(fn));
    fn.on('rid', ({ rid }) => rids.push(rid));
    segment.add('00:02.0', fn, iommu);
    expect([[...segment.functions()], rids]).toEqual([[], [-1]]);
    segment.add('00:02.0', fn);
    expect(ridOf(fn)).toBe(0x10);
  });

  it('changes nothing where the vIOMMU throws', () => {
    const segment = new PciSegment();
    const neighbour = segment.add('00:02.1', endpoint(2));
    const fn = endpoint(1);
    const refusing = sink(20, 0x10);
    expect(() => segment.add('00:02.0', fn, refusing)).toThrow('no more room');
    expect([refusing.log, fn.endpointState.rid, segment.function('00:02.0')]).toEqual([[], -1, undefined]);
    expect([segment.configSpace('00:02.0'), isMulti(neighbour)]).toEqual([undefined, false]);
    segment.add('00:03.0', fn, refusing);
    expect(refusing.log).toEqual(['attach 24']);
  });
});

describe('only its segment', () => {
  it('moves a function that is in one', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    for (const fn of [segment.add('00:02.0', endpoint(1)), segment.plug(port, endpoint(2))]) {
      const before = ridOf(fn);
      refusal('VPCI_FUNCTION_ATTACHED', () => fn.detach());
      refusal('VPCI_FUNCTION_ATTACHED', () => fn.move(5));
      refusal('VPCI_FUNCTION_ATTACHED', () => fn.setMultiFunction(true));
      refusal('VPCI_FUNCTION_ATTACHED', () => fn.changeSink(sink(20)));
      expect([ridOf(fn), isMulti(fn)]).toEqual([before, false]);
      segment.remove(fn);
      fn.setMultiFunction(true);
      expect(isMulti(fn)).toBe(true);
    }
  });
});

describe('the multi-function bit', () => {
  it('counts fixed and plugged functions of a slot together, as the bus numbers are', () => {
    const segment = new PciSegment();
    const fixed = segment.add('01:00.1', endpoint(1));
    const port = segment.add('00:01.0', createRootPort());
    const plugged = segment.plug(port, endpoint(2));
    expect([fixed, plugged].map(isMulti)).toEqual([false, false]);
    number(port, 0, 1, 1);
    expect([fixed, plugged].map(isMulti)).toEqual([true, true]);
    number(port, 0, 2, 2);
    expect([fixed, plugged].map(isMulti)).toEqual([false, false]);
    number(port, 0, 1, 1);
    segment.remove(fixed);
    expect([fixed, plugged].map(isMulti)).toEqual([false, false]);
    segment.add('01:00.7', fixed);
    segment.remove(plugged);
    expect([fixed, plugged].map(isMulti)).toEqual([false, false]);
  });

  it('is no property of a function that was taken out', () => {
    const segment = new PciSegment();
    const one = segment.add('00:02.0', createFunction({ physical: buildConfig({ headerType: 0x80 }) }));
    segment.add('00:02.1', endpoint(2));
    expect(isMulti(one)).toBe(true);
    expect(isMulti(segment.remove(one))).toBe(false);
  });
});

describe('reattach', () => {
  it('puts functions behind other vIOMMUs where they are', () => {
    const [one, other] = [sink(20), sink(20)];
    const segment = new PciSegment({ iommu: one });
    const port = segment.add('00:01.0', createRootPort(), null);
    const [fixed, plugged, unreachable] = [
      segment.add('00:02.0', endpoint(1)),
      segment.plug(port, endpoint(2)),
      segment.plug(port, endpoint(3), { fn: 1 }),
    ];
    number(port, 0, 1, 1);
    number(port, 0, 0, 0);
    segment.remove(plugged);
    number(port, 0, 3, 3);
    segment.plug(port, plugged, { fn: 2 });
    number(port, 0, 0, 0);
    one.log.length = 0;
    const rids: unknown[] = [];
    for (const fn of [fixed, plugged, unreachable]) fn.on('rid', ({ rid }) => rids.push(rid));
    segment.reattach([
      [fixed, other],
      [plugged, null],
      [unreachable, other],
    ]);
    expect([one.log, other.log, rids]).toEqual([['detach 16'], ['attach 16'], []]);
    number(port, 0, 5, 5);
    expect([one.log, other.log]).toEqual([['detach 16'], ['attach 16', 'attach 1281']]);
    segment.reattach([[fixed, other]]);
    expect(other.log, 'it was there').toHaveLength(2);
  });

  it('checks all before the first one changes', () => {
    const segment = new PciSegment({ iommu: sink(20) });
    const fns = [1, 2].map((id) => segment.add(`00:0${id}.0`, endpoint(id, { pasid: { width: 16 } })));
    const [first, second] = fns;
    if (first === undefined || second === undefined) throw new Error('two functions');
    second.read(0, 4);
    const narrow = sink(8);
    const all = fns.map((fn) => [fn, narrow] as const);
    refusal('VPCI_VIOMMU_TOO_NARROW', () => segment.reattach(all));
    refusal('VPCI_NO_FUNCTION', () => segment.reattach([...all.slice(0, 1), [endpoint(3), null]]));
    expect([narrow.log, fns.map((fn) => fn.pasid?.width)]).toEqual([[], [16, 16]]);
    segment.reattach(all.slice(0, 1));
    expect([narrow.log, fns.map((fn) => fn.pasid?.width)]).toEqual([['attach 8'], [8, 16]]);
    segment.reattach([[first, sink(20)]]);
    expect(first.pasid?.width, 'nobody has looked').toBe(16);
  });
});
