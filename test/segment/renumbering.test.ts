import { describe, expect, it } from 'vitest';
import {
  createRootPort,
  type EndpointSink,
  type EndpointState,
  type PciFunction,
  PciSegment,
} from '../../src/index.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { recordEvents } from '../support/recorded-events.ts';
import { addSwitch, endpoint, number, ridOf } from '../support/topologies.ts';

// A function's requester ID follows the bus numbers, and so does the vIOMMU's verdict about it. The address spaces of
// the neutral unit stay with the requester ID, as a real unit's tables do.

const PASID = 5;
const IOVA = 0x4000_0000n;

interface Bed {
  readonly segment: PciSegment;
  readonly iommu: TableIommu;
  readonly changes: string[];
}

function bed(): Bed {
  const iommu = new TableIommu({ pasidWidth: 20 });
  const changes: string[] = [];
  iommu.on('endpoint', ({ rid, change, previousRid }) =>
    changes.push([change, rid, previousRid].filter((part) => part !== undefined).join(' ')),
  );
  return { segment: new PciSegment({ iommu }), iommu, changes };
}

/** Gives requester ID `rid` a page at {@link IOVA} that leads to `gpa`. */
function map(iommu: TableIommu, rid: number, gpa: bigint): void {
  iommu.attach(rid, PASID);
  iommu.map(rid, PASID, { iova: IOVA, gpa, size: 0x1000n, permissions: 'rw' });
}

/** What a read of `fn` with its PASID leads to: an address, or the reason against it. */
function verdict(iommu: TableIommu, fn: PciFunction): unknown {
  const answer = iommu.request({ endpoint: fn, pasid: PASID, address: IOVA, access: 'read', size: 64 });
  return answer.status === 'translated' ? answer.address : answer.status;
}

describe('another bus number', () => {
  it('and none: the function issues nothing then, and what it would ask is refused', () => {
    const { segment, iommu } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1, { pasid: { width: 16 } }));
    fn.write(0x04, 2, 0x4);
    port.write(0x04, 2, 0x4);
    expect(fn.canIssue()).toBe(false);
    number(port, 0, 1, 1);
    expect(fn.canIssue()).toBe(true);
    number(port, 0, 0, 0);
    expect(fn.canIssue()).toBe(false);
    expect(verdict(iommu, fn)).toBe('unsupported-request');
  });

  it('moves the endpoint of the vIOMMU, and the verdict follows', () => {
    const { segment, iommu, changes } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1, { pasid: { width: 16 } }));
    const rids = recordEvents(fn, 'rid');
    map(iommu, 0x100, 0x1000n);
    map(iommu, 0x200, 0x2000n);
    number(port, 0, 1, 1);
    expect(verdict(iommu, fn)).toBe(0x1000n);
    number(port, 0, 2, 2);
    expect(verdict(iommu, fn)).toBe(0x2000n);
    number(port, 0, 3, 3);
    expect(verdict(iommu, fn)).toBe('unsupported-request');
    number(port, 0, 0, 0);
    number(port, 0, 1, 1);
    expect(verdict(iommu, fn)).toBe(0x1000n);
    expect(rids.map(([, { previousRid, rid }]) => [previousRid, rid])).toEqual([
      [-1, 0x100],
      [0x100, 0x200],
      [0x200, 0x300],
      [0x300, -1],
      [-1, 0x100],
    ]);
    expect(changes).toEqual([
      'attached 256',
      'moved 512 256',
      'moved 768 512',
      'detached 768',
      'attached 256',
    ]);
  });

  it('keeps the latches of the function', () => {
    const { segment, changes } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1, { pasid: { width: 16 } }));
    number(port, 0, 1, 1);
    fn.write((fn.pasid?.offset ?? 0) + 6, 2, 1);
    number(port, 0, 2, 2);
    expect(fn.endpointState).toMatchObject({ rid: 0x200, pasidEnable: true, pasidWidth: 16 });
    expect(changes).toEqual(['attached 256', 'pasid-control 256', 'moved 512 256']);
  });

  it('of a function out of reach tells the vIOMMU nothing', () => {
    const { segment, changes } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1, { pasid: { width: 16 }, ats: true }));
    fn.write((fn.pasid?.offset ?? 0) + 6, 2, 1);
    segment.remove(fn);
    expect(changes).toEqual([]);
  });

  it('moves everything behind a switch', () => {
    const { segment, iommu } = bed();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i, { pasid: { width: 16 } })));
    number(root, 0, 1, 0xff);
    number(upstream, 1, 2, 0xff);
    for (const [i, port] of downstream.entries()) number(port, 2, 0x10 + i, 0x10 + i);
    map(iommu, 0x1000, 0xa000n);
    map(iommu, 0x1100, 0xb000n);
    expect(fns.map((fn) => verdict(iommu, fn))).toEqual([0xa000n, 0xb000n]);
    number(upstream, 1, 0x20, 0xff);
    expect(fns.map(ridOf), 'their buses are below the switch now').toEqual([undefined, undefined]);
    number(upstream, 1, 4, 0xff);
    expect(fns.map((fn) => verdict(iommu, fn))).toEqual([0xa000n, 0xb000n]);
    expect(downstream.map(ridOf)).toEqual([0x400, 0x408]);
  });
});

describe('two functions that change places', () => {
  it('get the verdicts of their new requester IDs', () => {
    const { segment, iommu } = bed();
    const ports = ['00:01.0', '00:02.0'].map((bdf) => segment.add(bdf, createRootPort(), null));
    const fns = ports.map((port, i) => segment.plug(port, endpoint(i + 1, { pasid: { width: 16 } })));
    const [a, b] = ports;
    if (a === undefined || b === undefined) throw new Error('two ports');
    map(iommu, 0x100, 0x1000n);
    map(iommu, 0x200, 0x2000n);
    number(a, 0, 1, 1);
    number(b, 0, 2, 2);
    expect(fns.map((fn) => verdict(iommu, fn))).toEqual([0x1000n, 0x2000n]);
    // As a guest must do it: the second port has the number of the first for a moment.
    number(a, 0, 2, 2);
    number(b, 0, 1, 1);
    expect(fns.map(ridOf)).toEqual([0x200, 0x100]);
    expect(fns.map((fn) => verdict(iommu, fn))).toEqual([0x2000n, 0x1000n]);
    expect([0x100, 0x200].map((rid) => segment.function(rid))).toEqual([fns[1], fns[0]]);
  });

  it('at once, by a restored state, too', () => {
    const make = (): [Bed, PciFunction[], PciFunction[]] => {
      const made = bed();
      const ports = ['00:01.0', '00:02.0'].map((bdf) => made.segment.add(bdf, createRootPort(), null));
      const fns = ports.map((port, i) => made.segment.plug(port, endpoint(i + 1, { pasid: { width: 16 } })));
      return [made, ports, fns];
    };
    const [source, sourcePorts] = make();
    for (const [i, port] of sourcePorts.entries()) number(port, 0, 2 - i, 2 - i);
    const [target, ports, fns] = make();
    for (const [i, port] of ports.entries()) number(port, 0, i + 1, i + 1);
    map(target.iommu, 0x100, 0x1000n);
    map(target.iommu, 0x200, 0x2000n);
    target.segment.restoreState(source.segment.saveState());
    expect(fns.map(ridOf)).toEqual([0x200, 0x100]);
    expect(fns.map((fn) => verdict(target.iommu, fn))).toEqual([0x2000n, 0x1000n]);
    expect([0x100, 0x200].map((rid) => target.segment.function(rid))).toEqual([fns[1], fns[0]]);
  });
});

/** A unit that can hold one endpoint per requester ID, and notes when it is asked for more. */
class StrictSink implements EndpointSink {
  readonly pasidWidth = 20;
  readonly conflicts: string[] = [];
  readonly byRid = new Map<number, EndpointState>();

  attachEndpoint(state: EndpointState): void {
    if (this.byRid.has(state.rid)) this.conflicts.push(`attach at ${state.rid}`);
    this.byRid.set(state.rid, state);
  }
  endpointChanged(): void {}
  endpointReset(): void {}
  endpointMoved(state: EndpointState, previousRid: number): void {
    if (this.byRid.get(previousRid) !== state) this.conflicts.push(`moved from ${previousRid}`);
    this.byRid.delete(previousRid);
    this.attachEndpoint(state);
  }
  detachEndpoint(state: EndpointState): void {
    if (this.byRid.get(state.rid) !== state) this.conflicts.push(`detached from ${state.rid}`);
    this.byRid.delete(state.rid);
  }
}

describe('no requester ID has two endpoints, not even for a moment', () => {
  /** Three ports with a function each; `numbers` are their secondary bus numbers. */
  function three(sink: EndpointSink, numbers: readonly number[]): [PciSegment, PciFunction[], PciFunction[]] {
    const segment = new PciSegment({ iommu: sink });
    const ports = numbers.map((_, i) => segment.add((i + 1) << 3, createRootPort(), null));
    const fns = ports.map((port, i) => segment.plug(port, endpoint(i)));
    for (const [i, port] of ports.entries()) number(port, 0, numbers[i] ?? 0, numbers[i] ?? 0);
    return [segment, ports, fns];
  }

  it.each([[[2, 1, 3]], [[2, 3, 1]], [[3, 1, 2]], [[1, 4, 2]], [[0, 1, 2]]])(
    'in a restored state with the numbers %o instead of 1, 2, 3',
    (numbers) => {
      const [source] = three(new StrictSink(), numbers);
      const sink = new StrictSink();
      const [target, , fns] = three(sink, [1, 2, 3]);
      target.restoreState(source.saveState());
      expect(sink.conflicts).toEqual([]);
      expect(fns.map(ridOf)).toEqual(numbers.map((bus) => (bus === 0 ? undefined : bus << 8)));
      expect(new Set(sink.byRid.keys())).toEqual(
        new Set(numbers.filter((bus) => bus !== 0).map((bus) => bus << 8)),
      );
    },
  );

  it('and a function whose address is the same in both states stays where it is', () => {
    const make = (buses: readonly [number, number]): [PciSegment, PciFunction] => {
      const segment = new PciSegment();
      const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 1);
      const [port] = downstream;
      if (port === undefined) throw new Error('a port');
      const fn = segment.plug(port, endpoint(1));
      number(root, 0, buses[0], 9);
      number(upstream, buses[0], buses[1], 9);
      number(port, buses[1], 5, 5);
      return [segment, fn];
    };
    const [source] = make([3, 4]);
    const [target, fn] = make([1, 2]);
    const events = recordEvents(fn, 'rid');
    target.restoreState(source.saveState());
    expect([ridOf(fn), events]).toEqual([0x500, []]);
  });

  it('when a port takes the number of another', () => {
    const sink = new StrictSink();
    const [, ports, fns] = three(sink, [1, 2, 3]);
    for (const port of ports) {
      for (const bus of [1, 2, 3, 2, 1]) {
        number(port, 0, bus, bus);
        expect(sink.conflicts).toEqual([]);
        for (const fn of fns)
          expect(sink.byRid.get(fn.endpointState.rid) ?? fn.endpointState).toBe(fn.endpointState);
      }
    }
  });
});

describe('a reset of a port itself', () => {
  it('clears its bus numbers, and what is behind it goes out of reach', () => {
    const { segment, changes } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1));
    number(port, 0, 1, 1);
    port.reset('bus');
    expect(port.read(0x18, 4)).toBe(0);
    expect([ridOf(fn), segment.function('01:00.0')]).toEqual([undefined, undefined]);
    expect(changes).toEqual(['attached 256', 'bus 256', 'detached 256']);
  });

  it('and a restored state of a port alone brings its bus numbers', () => {
    const { segment } = bed();
    const port = segment.add('00:01.0', createRootPort(), null);
    const fn = segment.plug(port, endpoint(1));
    number(port, 0, 1, 1);
    const state = port.saveState();
    number(port, 0, 7, 7);
    port.restoreState(state);
    expect([ridOf(fn), segment.function('01:00.0'), segment.function('07:00.0')]).toEqual([
      0x100,
      fn,
      undefined,
    ]);
  });
});

describe('Secondary Bus Reset', () => {
  const BRIDGE_CONTROL = 0x3e;
  const RESET = 0x0040;

  it('resets everything below through two levels of ports, once, and nothing else', () => {
    const { segment, changes } = bed();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i, { pasid: { width: 16 } })));
    const beside = segment.add('00:02.0', endpoint(9));
    const [first, second] = fns;
    if (first === undefined || second === undefined) throw new Error('two functions');
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    for (const [i, port] of downstream.entries()) number(port, 2, 3 + i, 3 + i);
    const log: string[] = [];
    for (const [name, fn] of Object.entries({
      root,
      upstream,
      port: downstream[0] ?? root,
      first,
      second,
      beside,
    }))
      fn.on('reset', ({ kind }) => log.push(`${name} ${kind}`));
    first.write((first.pasid?.offset ?? 0) + 6, 2, 1);
    first.write(0x04, 2, 4);
    changes.length = 0;

    root.write(BRIDGE_CONTROL, 2, RESET);
    expect(log.toSorted()).toEqual(['first bus', 'port bus', 'second bus', 'upstream bus']);
    expect([first.read(0x04, 2), first.endpointState.pasidEnable, first.canIssue()]).toEqual([
      0,
      false,
      false,
    ]);
    expect(root.read(0x18, 4), 'the port above keeps its numbers').toBe(0x09_01_00);
    expect([upstream, ...downstream, ...fns].map(ridOf)).toEqual([
      0x100,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(changes).toContain('bus 768');
    log.length = 0;
    root.write(BRIDGE_CONTROL, 2, RESET);
    root.write(BRIDGE_CONTROL, 2, 0);
    expect(log, 'only a rising bit resets').toEqual([]);
    root.write(BRIDGE_CONTROL, 1, RESET);
    expect(log).toHaveLength(4);
  });

  it('of a downstream port leaves its neighbour alone', () => {
    const { segment } = bed();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const fns = downstream.map((port, i) => segment.plug(port, endpoint(i)));
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    for (const [i, port] of downstream.entries()) number(port, 2, 3 + i, 3 + i);
    for (const fn of fns) fn.write(0x04, 2, 6);
    downstream[0]?.write(BRIDGE_CONTROL, 2, RESET);
    expect(fns.map((fn) => fn.read(0x04, 2))).toEqual([0, 6]);
    expect(fns.map(ridOf)).toEqual([0x300, 0x400]);
  });
});
