import { describe, expect, it } from 'vitest';
import { answers, DEVICE_CONTROL, endpointConfig, PASID } from './support.ts';

const bdf = '01:00.0';
const pasid = 5;
const add = { op: 'function', bdf, config: endpointConfig(), pasid: { width: 16 } };
const unit = { op: 'iommu', model: 'table' };
const enable = { op: 'cfg.write', bdf, offset: PASID + 6, size: 2, value: 1 };
const control = { op: 'cfg.read', bdf, offset: PASID + 6, size: 2 };
const attach = { op: 'table.attach', bdf, pasid };
const dma = { op: 'dma', bdf, pasid, address: 0, access: 'read' };

describe('reset', () => {
  it.each(['flr', 'bus'])('%s clears the latches', (kind) => {
    expect(answers(add, enable, control, { op: 'reset', bdf, kind }, control).slice(1)).toEqual([
      { value: 1 },
      { value: 0 },
    ]);
  });

  it('is what Initiate Function Level Reset does', () => {
    const initiate = { op: 'cfg.write', bdf, offset: DEVICE_CONTROL, size: 2, value: 0xa810 };
    expect(answers(add, enable, initiate, control).at(-1)).toEqual({ value: 0 });
  });
});

describe('snapshot and restore', () => {
  it('bring back registers and tables', () => {
    const map = { op: 'table.map', bdf, pasid, iova: 0, gpa: '0x70000000', size: '0x1000', perms: 'r' };
    expect(
      answers(
        unit,
        add,
        enable,
        attach,
        map,
        { op: 'snapshot', name: 'before' },
        { op: 'reset', bdf },
        { op: 'table.detach', bdf, pasid },
        control,
        dma,
        { op: 'restore', name: 'before' },
        control,
        dma,
      ).slice(1),
    ).toMatchObject([
      { value: 0 },
      { reason: 'pasid-not-attached' },
      { value: 1 },
      { status: 'translated', address: '0x70000000' },
    ]);
  });

  it('refuse a state of other functions', () => {
    expect(
      answers(add, { op: 'snapshot', name: 'a' }, { op: 'remove', bdf }, { op: 'restore', name: 'a' }).at(-1),
    ).toMatchObject({ error: { code: 'VPCI_STATE' } });
  });

  it('refuse a state of a function elsewhere, and say which is missing', () => {
    const other = { ...add, bdf: '00:02.0' };
    const taken = { op: 'snapshot', name: 'a' };
    const lines = [add, enable, taken, { op: 'remove', bdf }, other, { op: 'restore', name: 'a' }];
    const [, , answer, register] = answers(...lines, { ...control, bdf: '00:02.0' });
    expect(answer).toMatchObject({ error: { code: 'VPCI_STATE', message: expect.stringContaining(bdf) } });
    expect(register).toEqual({ value: 0 });
  });

  it('go to the functions that were there, whatever came in between', () => {
    const other = { ...add, bdf: '00:02.0' };
    const lines = [add, other, enable, { op: 'snapshot', name: 'a' }, { op: 'remove', bdf }, add];
    expect(
      answers(...lines, { op: 'restore', name: 'a' }, control, { ...control, bdf: '00:02.0' }).slice(3),
    ).toEqual([{ value: 1 }, { value: 0 }]);
  });

  it('change nothing where a vIOMMU of another model took the name', () => {
    const named = { ...unit, name: 'u' };
    const lines = [
      { op: 'mem', base: 0, size: 4096 },
      named,
      add,
      enable,
      { op: 'snapshot', name: 'a' },
      { op: 'mem.write', address: 0, hex: 'ff' },
      { op: 'iommu', model: 'vtd', name: 'u' },
      { op: 'cfg.write', bdf, offset: PASID + 6, size: 2, value: 0 },
      { op: 'events' },
      { op: 'restore', name: 'a' },
      { op: 'events' },
      control,
      { op: 'mem.read', address: 0, size: 1 },
      { op: 'restore', name: 'b' },
    ];
    expect(answers(...lines).slice(2)).toMatchObject([
      { error: { code: 'VPCI_STATE' } },
      {},
      { value: 0 },
      { hex: 'ff' },
      { error: { code: 'no-snapshot' } },
    ]);
  });

  it('refuse a state of a function that shows something else', () => {
    expect(
      answers(
        add,
        { op: 'snapshot', name: 'a' },
        { op: 'remove', bdf },
        { ...add, pasid: { width: 8 } },
        { op: 'restore', name: 'a' },
      ).at(-1),
    ).toMatchObject({ error: { code: 'VPCI_STATE' } });
  });
});

describe('guest memory', () => {
  it('is as it was where more does not fit, in place of it or beside it', () => {
    const read = { op: 'mem.read', address: 0x1000, size: 2 };
    const lines = [
      { op: 'mem', base: 0x1000, size: 0x1000 },
      { op: 'mem', base: 0x2000, size: 0x1000 },
      { op: 'mem.write', address: 0x1000, hex: 'abcd' },
      { op: 'mem', base: 0x1000, size: 0x1008 },
      read,
      { op: 'mem', base: 0x1000, size: 0x1001 },
      read,
      { op: 'mem', base: 0xff8, size: 16 },
      read,
    ];
    expect(answers(...lines)).toMatchObject([
      { error: { code: 'VPCI_MEMORY' } },
      { hex: 'abcd' },
      { error: { code: 'VPCI_MEMORY' } },
      { hex: 'abcd' },
      { error: { code: 'VPCI_MEMORY' } },
      { hex: 'abcd' },
    ]);
  });

  it('is what was written, and zeroes after it was added anew', () => {
    const read = { op: 'mem.read', address: 0x1ffe, size: 4 };
    expect(
      answers(
        { op: 'mem', base: 0x1000, size: 0x2000 },
        { op: 'mem.write', address: '0x1fff', hex: '0a 0b' },
        read,
        { op: 'mem', base: 0x1000, size: 0x1000 },
        { op: 'mem', base: 0x2000, size: 0x1000 },
        read,
      ),
    ).toEqual([{ hex: '000a0b00' }, { hex: '00000000' }]);
  });
});
