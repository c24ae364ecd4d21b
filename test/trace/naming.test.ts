import { describe, expect, it } from 'vitest';
import { answers, endpointConfig, errorOf, PASID, results } from './support.ts';

// Which function a line is about, and behind which vIOMMU it stands, wherever the guest takes it.

const bdf = '01:00.0';
const port = { op: 'rootPort', bdf: '00:01.0', secondary: 1 };
const add = { op: 'function', bdf, config: endpointConfig(), pasid: { width: 16 } };
const unit = { op: 'iommu', model: 'table' };
const busNumbers = (secondary: number): object => ({
  op: 'cfg.write',
  bdf: '00:01.0',
  offset: 0x18,
  size: 4,
  value: secondary * 0x010100,
});
const id = (at: string): object => ({ op: 'cfg.read', bdf: at, offset: 0, size: 4 });
const ID = { value: 0x2941_10de };
const NOBODY = { value: 0xffff_ffff };
const dma = { op: 'dma', bdf, pasid: 5, address: 0, access: 'read' };
const events = { op: 'events' };

describe('a function that the guest renumbered', () => {
  it('stays where it is when a vIOMMU comes', () => {
    expect(
      answers(port, add, busNumbers(2), unit, id('02:00.0'), id(bdf), busNumbers(3), id('03:00.0')).slice(1),
    ).toEqual([ID, NOBODY, ID]);
  });

  it('and when the segment is another one', () => {
    const lines = [
      port,
      add,
      busNumbers(2),
      { op: 'segment', buses: 3 },
      id('02:00.0'),
      busNumbers(1),
      id(bdf),
    ];
    expect(answers(...lines).slice(1)).toEqual([ID, ID]);
  });

  it('keeps its name, and cfg goes over the bus', () => {
    const lines = [
      unit,
      port,
      add,
      busNumbers(2),
      { op: 'host.read', bdf, offset: 0, size: 4 },
      { op: 'table.attach', bdf, pasid: 5 },
      dma,
      { ...dma, bdf: undefined, rid: 0x200 },
      { ...dma, bdf: undefined, rid: 0x100 },
      { op: 'host.read', bdf: '02:00.0', offset: 0, size: 4 },
    ];
    expect(answers(...lines).slice(1)).toMatchObject([
      ID,
      { reason: 'not-mapped' },
      { reason: 'not-mapped' },
      { reason: 'pasid-not-attached' },
      { error: { code: 'no-function' } },
    ]);
  });

  it('keeps its name from others, and leaves its address to them', () => {
    expect(errorOf(port, add, busNumbers(2), add)).toBe('VPCI_BDF_TAKEN');
    const other = { ...add, bdf: '02:00.0' };
    expect(errorOf(port, add, other, busNumbers(2), id(bdf), { op: 'reset', bdf })).toBeUndefined();
    expect(errorOf(port, { ...add, bdf: '00:01.0' })).toBe('VPCI_BDF_TAKEN');
  });

  it('out of reach answers nobody, and can be reset', () => {
    const lines = [port, add, busNumbers(0), id(bdf), { op: 'reset', bdf }, events];
    expect(answers(...lines).slice(1)).toMatchObject([
      NOBODY,
      {
        events: [
          { type: 'rid', rid: -1 },
          { type: 'reset', bdf },
        ],
      },
    ]);
  });

  it('is covered by its name', () => {
    const lines = [
      port,
      { ...unit, name: 'a' },
      add,
      busNumbers(2),
      { ...unit, name: 'b', covers: [bdf] },
      { op: 'table.attach', bdf, pasid: 5 },
      dma,
      { op: 'counters', name: 'b' },
    ];
    expect(answers(...lines).slice(1)).toMatchObject([{ reason: 'not-mapped' }, { rejected: 1 }]);
  });
});

describe('registers behind a port', () => {
  it('are out of reach while the port holds them in reset', () => {
    const hold = (value: number): object => ({
      op: 'cfg.write',
      bdf: '00:01.0',
      offset: 0x3e,
      size: 2,
      value,
    });
    const write = { op: 'cfg.write', bdf, offset: 4, size: 2, value: 6 };
    const read = { op: 'cfg.read', bdf, offset: 4, size: 2 };
    expect(answers(port, add, hold(0x40), id(bdf), write, hold(0), read).slice(1)).toEqual([
      NOBODY,
      { value: 0 },
    ]);
  });
});

describe('a vIOMMU that takes the place of another', () => {
  const wide = { ...unit, name: 'a', options: { pasidWidth: 20 }, covers: [bdf] };
  const narrow = { ...unit, name: 'b', options: { pasidWidth: 8 } };
  const look = { op: 'cfg.read', bdf, offset: PASID + 4, size: 2 };

  it('and covers others leaves no function behind a narrower one, nor without a place', () => {
    const lines = [narrow, wide, add, look, { ...wide, covers: ['03:00.0'] }, look, id(bdf), dma, events];
    expect(results(...lines)).toMatchObject([
      { i: 3, offset: PASID },
      { i: 4, value: 0x1000 },
      { i: 5, error: { code: 'VPCI_VIOMMU_TOO_NARROW' } },
      { i: 6, value: 0x1000 },
      { i: 7, ...ID },
      { i: 8, reason: 'pasid-not-attached' },
      { i: 9, events: [{ type: 'fault', name: 'a' }] },
    ]);
  });

  it('does so where nobody looked', () => {
    const lines = [narrow, wide, add, { ...wide, covers: ['03:00.0'] }, look, { op: 'counters', name: 'b' }];
    expect(answers(...lines).slice(1)).toMatchObject([{ value: 0x0800 }, { accepted: 0 }]);
  });

  it('leaves functions that it does not cover alone', () => {
    const map = { op: 'table.map', bdf, pasid: 5, iova: 0, gpa: 0, size: 4096, perms: 'r' };
    const lines = [
      unit,
      add,
      { op: 'table.attach', bdf, pasid: 5 },
      map,
      dma,
      { ...wide, covers: ['03:00.0'] },
      dma,
    ];
    expect(answers(...lines).slice(1)).toMatchObject([{ status: 'translated' }, { status: 'translated' }]);
  });
});
