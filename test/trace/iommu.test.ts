import { describe, expect, it } from 'vitest';
import { answers, endpointConfig, PASID } from './support.ts';

const bdf = '01:00.0';
const rid = 0x100;
const pasid = 5;
const add = { op: 'function', bdf, config: endpointConfig(), pasid: { width: 16, execute: true } };
const unit = { op: 'iommu', model: 'table' };
const attach = { op: 'table.attach', bdf, pasid };
const map = {
  op: 'table.map',
  bdf,
  pasid,
  iova: '0x40000000',
  gpa: '0x70000000',
  size: '0x2000',
  perms: 'rw',
};
const dma = { op: 'dma', bdf, pasid, address: '0x40001040', access: 'read', size: 64 };
const rejected = (reason: string): object => ({ status: 'unsupported-request', reason });
const translated = { status: 'translated', address: '0x70001040', pageSize: '0x1000', permissions: 'rw' };

describe('a request', () => {
  it('is rejected until the PASID is attached and the address mapped, and again after detach', () => {
    expect(
      answers(
        unit,
        add,
        dma,
        attach,
        dma,
        map,
        dma,
        { ...dma, pasid: 4 },
        { ...dma, pasid: 0x10000 },
        { ...dma, access: 'execute' },
        { op: 'table.unmap', bdf, pasid, iova: '0x40000000', size: '0x2000' },
        dma,
        { op: 'table.detach', bdf, pasid },
        dma,
      ).slice(1),
    ).toEqual([
      rejected('pasid-not-attached'),
      rejected('not-mapped'),
      translated,
      rejected('pasid-not-attached'),
      rejected('pasid-beyond-width'),
      rejected('no-execute-permission'),
      rejected('not-mapped'),
      rejected('pasid-not-attached'),
    ]);
  });

  it('of no PASID has an attachment of its own', () => {
    expect(
      answers(
        unit,
        { ...attach, bdf: undefined, rid, pasid: null },
        { ...map, bdf: undefined, rid, pasid: null },
        { ...dma, bdf: undefined, rid, pasid: null },
        { ...dma, bdf: undefined, rid },
      ),
    ).toEqual([translated, rejected('pasid-not-attached')]);
  });

  it('passes an architectural unit while nothing is attached, within the width', () => {
    const options = { pasidWhenUnconfigured: 'architectural' };
    expect(
      answers({ ...unit, options }, add, dma, { ...dma, pasid: 0x10000 }, attach, { ...dma, pasid: 4 }).slice(
        1,
      ),
    ).toEqual([
      { status: 'bypass', address: '0x40001040' },
      rejected('pasid-beyond-width'),
      rejected('pasid-not-attached'),
    ]);
  });

  it('for a translation shows rights, or none with the reason', () => {
    const translation = { ...dma, at: 'translation' };
    expect(
      answers(
        unit,
        { ...add, ats: true },
        attach,
        map,
        translation,
        { ...translation, noWrite: true },
        { ...translation, address: 0 },
        { ...dma, at: 'translated' },
      ).slice(1),
    ).toEqual([
      { ...translated, status: 'ats' },
      { ...translated, status: 'ats', permissions: 'r' },
      { status: 'ats', permissions: '', reason: 'not-mapped' },
      rejected('translated-with-pasid'),
    ]);
  });

  it('of an endpoint without PASID is rejected for one', () => {
    expect(
      answers(
        unit,
        { op: 'endpoint', rid, pasidWidth: 0 },
        { ...dma, bdf: undefined, rid },
        { ...dma, bdf: undefined, rid, pasid: null },
      ),
    ).toEqual([rejected('pasid-not-supported'), rejected('not-attached')]);
  });

  it('that cannot be on a bus is an error', () => {
    expect(answers(unit, add, { ...dma, address: '0x40000fff', size: 2 }).at(-1)).toMatchObject({
      error: { code: 'VPCI_REQUEST' },
    });
  });
});

describe('explain', () => {
  it('gives the steps with addresses and wide fields as hex, and the verdict', () => {
    const [answer] = answers(unit, add, attach, map, { ...dma, op: 'explain', access: 'execute' }).slice(1);
    expect(answer).toMatchObject({ verdict: rejected('no-execute-permission') });
    const { steps } = answer as { steps: { structure: string; ok: boolean; address: unknown }[] };
    expect(steps.map(({ structure, ok }) => [structure, ok])).toEqual([
      ['endpoint', true],
      ['pasid', true],
      ['pasid', true],
      ['request', true],
      ['attachment', true],
      ['address', true],
      ['mapping', true],
      ['permissions', false],
    ]);
    expect(steps.at(-2)).toMatchObject({ address: null, fields: { gpa: '0x70000000', size: '0x2000' } });
  });
});

describe('page.request, counters and events', () => {
  const request = { op: 'page.request', bdf, pasid, read: true, last: true, prgi: 3, address: '0x1000' };

  it('page requests are queued or refused', () => {
    expect(answers(unit, { ...add, pri: true }, request, attach, request).slice(1)).toEqual([
      { queued: false, response: 1, pasid },
      { queued: true },
    ]);
  });

  it('counters count', () => {
    expect(answers(unit, add, dma, attach, map, dma, dma, { op: 'counters' }).at(-1)).toMatchObject({
      accepted: 2,
      rejected: 1,
      rejectedBy: { 'pasid-not-attached': 1 },
      iotlbHits: 1,
    });
  });

  it('events are drained in the order in which they came', () => {
    expect(
      answers(
        unit,
        add,
        { op: 'events' },
        { op: 'cfg.write', bdf, offset: PASID + 6, size: 2, value: 3 },
        dma,
        attach,
        map,
        { op: 'table.unmap', bdf, pasid, iova: '0x40001000', size: '0x1000' },
        { op: 'table.detach', bdf, pasid },
        { op: 'reset', bdf },
        { op: 'events' },
        { op: 'events' },
      ).slice(-2),
    ).toEqual([
      {
        events: [
          { type: 'pasid-control', bdf, enable: true, execute: true, privileged: false },
          {
            type: 'fault',
            rid,
            pasid,
            address: '0x40001040',
            access: 'read',
            privileged: false,
            reason: 'pasid-not-attached',
          },
          { type: 'translation-invalidated', rid, pasid, iova: '0x40001000', size: '0x1000' },
          { type: 'pasid-invalidated', rid, pasid },
          { type: 'reset', bdf, kind: 'flr' },
          { type: 'pasid-control', bdf, enable: false, execute: false, privileged: false },
        ],
      },
      { events: [] },
    ]);
  });
});

describe('several units', () => {
  const other = '02:00.0';

  it('translate for what they cover, the newest first', () => {
    const named = { ...unit, name: 'b', covers: [other] };
    expect(
      answers(
        unit,
        add,
        { ...add, bdf: other },
        named,
        attach,
        { ...attach, bdf: other },
        { ...map, bdf: other, gpa: '0x90000000' },
        dma,
        { ...dma, bdf: other },
        { op: 'counters', name: 'b' },
        { op: 'counters' },
        { op: 'counters', name: 'c' },
      ).slice(2),
    ).toMatchObject([
      rejected('not-mapped'),
      { ...translated, address: '0x90001040' },
      { accepted: 1, rejected: 0 },
      { accepted: 0, rejected: 1 },
      { error: { code: 'no-iommu' } },
    ]);
  });

  it('tell their events apart', () => {
    expect(
      answers({ ...unit, name: 'a' }, add, { op: 'events' }, dma, { op: 'events' }).at(-1),
    ).toMatchObject({ events: [{ type: 'fault', name: 'a' }] });
  });

  it('need a name when none is without', () => {
    expect(
      answers(
        { ...unit, name: 'a' },
        { ...unit, name: 'b' },
        { op: 'counters' },
        { op: 'counters', name: 'a' },
      ),
    ).toMatchObject([{ error: { code: 'no-iommu' } }, { accepted: 0 }]);
  });

  it('limit the width shown, and a unit without PASID takes the capability away', () => {
    const narrow = { ...unit, options: { pasidWidth: 8 } };
    const none = { ...unit, options: { pasidWidth: 0 } };
    const read = { op: 'cfg.read', bdf, offset: PASID, size: 8 };
    expect(answers(narrow, add, read).at(-1)).toEqual({ value: '0x8020001001b' });
    expect(answers(none, add, read)).toMatchObject([{ offset: null }, { value: '0x0' }]);
  });

  it('without a name replace the one before, with its attachments', () => {
    expect(answers(unit, add, attach, map, dma, unit, dma).slice(1)).toEqual([
      translated,
      rejected('pasid-not-attached'),
    ]);
  });

  it('of the table model have no registers', () => {
    expect(
      answers(
        unit,
        { op: 'reg.write', offset: 0, size: 4, value: 1 },
        { op: 'reg.write', offset: 0, size: 8, value: '0x1' },
        { op: 'reg.read', offset: 0, size: 2 },
        { op: 'reg.read', offset: 0, size: 8 },
      ),
    ).toEqual([{ value: 0xffff }, { value: '0xffffffffffffffff' }]);
  });
});

describe('a vIOMMU that comes after the function', () => {
  it('narrows the width that is shown, and the events say so and nothing else', () => {
    const narrow = { op: 'iommu', model: 'table', options: { pasidWidth: 8 } };
    const [, events] = answers(add, narrow, { op: 'events' });
    expect(events).toMatchObject({ events: [{ type: 'finding', bdf, code: 'pasid-width-limited' }] });
  });
});
