import { describe, expect, it } from 'vitest';
import {
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  type PciFunction,
  PciSegment,
} from '../../src/index.ts';
import { buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';
import { Enumeration } from '../support/linux-enumeration.ts';
import { addSwitch, endpoint, number, ridOf } from '../support/topologies.ts';

// Where functions hang, and which address leads to them (PCIe 7.3.3, 7.5.1.3.3 to 7.5.1.3.5).

const MULTI_FUNCTION = 0x80;
const idAt = (segment: PciSegment, bdf: string): number => segment.ecamRead(segment.ecamAddress(bdf) + 2, 2);
const isMulti = (fn: PciFunction): boolean => (fn.read(0x0e, 1) & MULTI_FUNCTION) !== 0;

describe('behind a root port', () => {
  it('a function is out of reach until a bus number leads to it', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(0xa0));
    expect(ridOf(fn)).toBeUndefined();
    expect([...segment.functions()].map(([, one]) => one)).toEqual([port]);
    for (const bus of ['00', '01', '02']) expect(idAt(segment, `${bus}:00.0`)).toBe(0xffff);
    number(port, 0, 1, 1);
    expect(ridOf(fn)).toBe(0x0100);
    expect([idAt(segment, '01:00.0'), segment.function('01:00.0')]).toEqual([0xa0, fn]);
    number(port, 0, 0x42, 0x42);
    expect([idAt(segment, '01:00.0'), idAt(segment, '42:00.0')]).toEqual([0xffff, 0xa0]);
    number(port, 0, 0, 0);
    expect([idAt(segment, '42:00.0'), idAt(segment, '00:00.0'), ridOf(fn)]).toEqual([
      0xffff,
      0xffff,
      undefined,
    ]);
  });

  it.each([
    ['one write of four bytes', (port: PciFunction): void => port.write(0x18, 4, 0x00_05_05_00)],
    [
      'bytes, secondary first',
      (port: PciFunction): void => {
        port.write(0x19, 1, 5);
        port.write(0x1a, 1, 5);
      },
    ],
    ['a word that is not aligned', (port: PciFunction): void => port.write(0x19, 2, 0x0505)],
    [
      'eight bytes with its neighbours',
      (port: PciFunction): void => port.writeFrom(0x16, Uint8Array.of(0, 0, 0, 5, 5, 0, 0, 0)),
    ],
  ])('bus numbers come in %s', (_name, write) => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(1));
    write(port);
    expect(ridOf(fn)).toBe(0x0500);
  });

  it('only device 0 is there', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    expect(refusal('VPCI_PLUG', () => segment.plug(port, endpoint(1), { device: 1 }))).toContain(
      'devices 0 to 0',
    );
    segment.plug(port, endpoint(2), { fn: 1 });
    number(port, 0, 1, 1);
    const answers = Array.from({ length: 256 }, (_, low) => segment.function(0x100 | low) !== undefined);
    expect(answers.indexOf(true)).toBe(1);
    expect(answers.lastIndexOf(true)).toBe(1);
  });

  it('numbers that lead upwards, or to the own bus, lead nowhere', () => {
    const segment = new PciSegment();
    const port = segment.add('05:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(1));
    for (const secondary of [0, 3, 5]) {
      number(port, 5, secondary, 0xff);
      expect(ridOf(fn)).toBeUndefined();
    }
    number(port, 5, 6, 0xff);
    expect(ridOf(fn)).toBe(0x0600);
  });

  it('two ports with one number: one of them has it, and nobody is lost when that is set right', () => {
    const segment = new PciSegment();
    const ports = ['00:01.0', '00:02.0'].map((bdf) => segment.add(bdf, createRootPort()));
    const fns = ports.map((port, i) => segment.plug(port, endpoint(i + 1)));
    for (const port of ports) number(port, 0, 1, 1);
    expect(fns.map(ridOf).filter((rid) => rid === 0x100)).toHaveLength(1);
    for (const [i, port] of ports.entries()) number(port, 0, i + 1, i + 1);
    expect(fns.map(ridOf)).toEqual([0x100, 0x200]);
    expect([idAt(segment, '01:00.0'), idAt(segment, '02:00.0')]).toEqual([1, 2]);
  });

  it('a function at a fixed address keeps it', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fixed = segment.add('01:00.0', endpoint(1));
    const fn = segment.plug(port, endpoint(2));
    number(port, 0, 1, 1);
    expect([segment.function('01:00.0'), ridOf(fn)]).toEqual([fixed, undefined]);
    segment.remove(fixed);
    expect([segment.function('01:00.0'), ridOf(fn)]).toEqual([fn, 0x100]);
    refusal('VPCI_BDF_TAKEN', () => segment.add('01:00.0', fixed));
  });
});

describe('as Linux enumerates it', () => {
  it('a root bus, a switch with two ports, and a switch behind a switch', () => {
    const segment = new PciSegment();
    segment.add('00:00.0', endpoint(0x10, { present: 'rciep' }));
    const slot = segment.add('00:02.0', createRootPort());
    segment.plug(slot, endpoint(0x20));
    segment.plug(slot, endpoint(0x21), { fn: 1 });
    segment.plug(slot, endpoint(0x25), { fn: 5 });
    const outer = addSwitch(segment, '00:03.0', 3);
    const [first, second, third] = outer.downstream;
    if (first === undefined || second === undefined || third === undefined) throw new Error('three ports');
    segment.plug(first, endpoint(0x30));
    const upstream = segment.plug(second, createUpstreamPort());
    const inner = segment.plug(upstream, createDownstreamPort(), { device: 4 });
    segment.plug(inner, endpoint(0x40));
    const expected = {
      '0000:00:00.0': 0x00101234,
      '0000:00:02.0': 0x000c1b36,
      '0000:00:03.0': 0x000c1b36,
      '0000:01:00.0': 0x00201234,
      '0000:01:00.1': 0x00211234,
      '0000:01:00.5': 0x00251234,
      '0000:02:00.0': 0x000c1b36,
      '0000:03:00.0': 0x000c1b36,
      '0000:03:01.0': 0x000c1b36,
      '0000:03:02.0': 0x000c1b36,
      '0000:04:00.0': 0x00301234,
      '0000:05:00.0': 0x000c1b36,
      '0000:06:04.0': 0x000c1b36,
      '0000:07:00.0': 0x00401234,
    };
    const withoutDomain = (bdf: string): string => (bdf.length > 7 ? bdf : `0000:${bdf}`);
    // Twice: the second time everything has numbers already.
    for (let i = 0; i < 2; i++) {
      const { found } = new Enumeration(segment);
      expect(Object.fromEntries([...found].map(([bdf, id]) => [withoutDomain(bdf), id]))).toEqual(expected);
    }
    expect([...segment.functions()].length).toBe(14);
    expect(outer.root.read(0x18, 4) & 0xffffff).toBe(0x08_02_00);
    expect(third.read(0x18, 4) & 0xffffff).toBe(0x08_08_03);
  });
});

describe('behind a switch', () => {
  it('the numbers of every port above must lead there', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 2);
    const [port] = downstream;
    if (port === undefined) throw new Error('a port');
    const fn = segment.plug(port, endpoint(1));
    number(root, 0, 1, 9);
    number(upstream, 1, 2, 9);
    number(port, 2, 5, 5);
    expect([upstream, port, fn].map(ridOf)).toEqual([0x100, 0x200, 0x500]);
    number(upstream, 1, 2, 4);
    expect([upstream, port, fn].map(ridOf), 'beyond the subordinate number').toEqual([
      0x100,
      0x200,
      undefined,
    ]);
    number(upstream, 1, 2, 9);
    number(root, 0, 1, 4);
    expect(ridOf(fn), 'beyond that of the root port').toBeUndefined();
    number(root, 0, 3, 9);
    expect([upstream, port, fn].map(ridOf), 'below the bus of the switch').toEqual([
      0x300,
      undefined,
      undefined,
    ]);
    number(upstream, 3, 4, 9);
    expect([upstream, port, fn].map(ridOf)).toEqual([0x300, 0x400, 0x500]);
    expect([...segment.functions()].map(([rid]) => rid)).toEqual([0x008, 0x300, 0x400, 0x408, 0x500]);
  });

  it('downstream ports are devices 0 to 31', () => {
    const segment = new PciSegment();
    const { upstream } = addSwitch(segment, '00:01.0', 0);
    for (let device = 0; device < 32; device++) segment.plug(upstream, createDownstreamPort(), { device });
    refusal('VPCI_PLUG', () => segment.plug(upstream, createDownstreamPort(), { device: 32 }));
    refusal('VPCI_PLUG', () => segment.plug(upstream, createDownstreamPort(), { device: 31 }));
    expect(segment.plug(upstream, createDownstreamPort(), { device: 31, fn: 7 })).toBeDefined();
  });
});

describe('several functions in a slot', () => {
  it('have the multi-function bit while there are several', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const [a, b, c] = [0, 1, 2].map((fn) => segment.plug(port, endpoint(fn), { fn }));
    if (a === undefined || b === undefined || c === undefined) throw new Error('three functions');
    expect([a, b, c, port].map(isMulti)).toEqual([true, true, true, false]);
    segment.remove(a);
    expect([b, c].map(isMulti)).toEqual([true, true]);
    segment.remove(c);
    expect(isMulti(b)).toBe(false);
    const elsewhere = segment.add('00:05.0', a);
    expect(isMulti(elsewhere), 'the bit belongs to the slot').toBe(false);
  });

  it('so at fixed addresses, and devices beside them do not count', () => {
    const segment = new PciSegment();
    const fns = ['00:04.0', '00:04.7', '00:05.0', '00:03.7'].map((bdf, i) => segment.add(bdf, endpoint(i)));
    expect(fns.map(isMulti)).toEqual([true, true, false, false]);
    segment.remove('00:04.0');
    expect(fns.slice(1).map(isMulti)).toEqual([false, false, false]);
  });

  it('the bit of a passed-through function follows the slot, whatever its hardware says', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:04.0', createFunction({ physical: buildConfig({ headerType: 0x80 }) }));
    expect(isMulti(fn)).toBe(false);
    segment.add('00:04.1', endpoint(1));
    expect(isMulti(fn)).toBe(true);
  });

  it('the downstream ports of a switch are slots of their own', () => {
    const segment = new PciSegment();
    const { downstream } = addSwitch(segment, '00:01.0', 3);
    expect(downstream.map(isMulti)).toEqual([false, false, false]);
  });
});

describe('taking out and putting back', () => {
  it('a port takes what is behind it out of reach, and brings it back', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 1);
    const [port] = downstream;
    if (port === undefined) throw new Error('a port');
    const fn = segment.plug(port, endpoint(1));
    const enumeration = new Enumeration(segment);
    expect(enumeration.found.size).toBe(4);
    segment.remove(root);
    expect([root, upstream, port, fn].map(ridOf)).toEqual([undefined, undefined, undefined, undefined]);
    expect([...segment.functions()]).toEqual([]);
    segment.add('00:01.0', root);
    expect([root, upstream, port, fn].map(ridOf), 'its bus numbers are as they were').toEqual([
      0x008, 0x100, 0x200, 0x300,
    ]);
  });

  it('a switch port in the middle likewise', () => {
    const segment = new PciSegment();
    const { root, upstream, downstream } = addSwitch(segment, '00:01.0', 1);
    const [port] = downstream;
    if (port === undefined) throw new Error('a port');
    const fn = segment.plug(port, endpoint(1));
    expect(new Enumeration(segment).found.size).toBe(4);
    segment.remove('01:00.0');
    expect([root, upstream, port, fn].map(ridOf)).toEqual([0x008, undefined, undefined, undefined]);
    segment.plug(root, upstream);
    expect([root, upstream, port, fn].map(ridOf)).toEqual([0x008, 0x100, 0x200, 0x300]);
  });
});

describe('refusals', () => {
  it.each([{ device: -1 }, { device: 0.5 }, { device: Number.NaN }, { fn: 8 }, { fn: -1 }, { fn: 1.5 }])(
    'a place that does not exist: %o',
    (place) => {
      const segment = new PciSegment();
      const port = segment.add('00:01.0', createRootPort());
      const fn = endpoint(1);
      refusal('VPCI_PLUG', () => segment.plug(port, fn, place));
      expect(segment.plug(port, fn), 'nothing happened to it').toBe(fn);
    },
  );

  it('a place that is taken, a function that is placed, a port that is none or elsewhere', () => {
    const segment = new PciSegment();
    const port = segment.add('00:01.0', createRootPort());
    const fn = segment.plug(port, endpoint(1));
    refusal('VPCI_PLUG', () => segment.plug(port, endpoint(2)));
    refusal('VPCI_FUNCTION_ATTACHED', () => segment.plug(port, fn, { fn: 1 }));
    refusal('VPCI_FUNCTION_ATTACHED', () => segment.add('00:02.0', fn));
    refusal('VPCI_PLUG', () => segment.plug(fn, endpoint(2)));
    refusal('VPCI_PLUG', () => segment.plug(createRootPort(), endpoint(2)));
    refusal('VPCI_PLUG', () => new PciSegment().plug(port, endpoint(2)));
    refusal('VPCI_BDF_TAKEN', () => segment.add('00:01.0', endpoint(2)));
  });

  it('a port behind itself', () => {
    const segment = new PciSegment();
    const root = segment.add('00:01.0', createRootPort());
    const upstream = segment.plug(root, createUpstreamPort());
    const port = segment.plug(upstream, createDownstreamPort());
    segment.remove(upstream);
    refusal('VPCI_PLUG', () => segment.plug(port, upstream));
    refusal('VPCI_PLUG', () => segment.plug(upstream, upstream));
    expect(segment.plug(root, upstream)).toBe(upstream);
  });

  it('removing what is not there', () => {
    const segment = new PciSegment();
    const fn = segment.add('00:01.0', endpoint(1));
    refusal('VPCI_NO_FUNCTION', () => segment.remove('00:02.0'));
    expect(segment.remove(fn)).toBe(fn);
    refusal('VPCI_NO_FUNCTION', () => segment.remove(fn));
    refusal('VPCI_NO_FUNCTION', () => segment.remove(endpoint(2)));
  });

  it('a function of another segment', () => {
    const [one, other] = [new PciSegment(), new PciSegment()];
    const fn = one.add('00:01.0', endpoint(1));
    other.add('00:01.0', endpoint(2));
    refusal('VPCI_NO_FUNCTION', () => other.remove(fn));
    expect(one.function('00:01.0')).toBe(fn);
  });
});
