import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { replay } from '../../src/trace/index.ts';
import { endpointConfig, errorOf, results } from './support.ts';

const bdf = '01:00.0';
const add = { op: 'function', bdf, config: endpointConfig() };
const unit = { op: 'iommu', model: 'table' };
const dma = { op: 'dma', bdf, pasid: 1, address: 0, access: 'read' };

describe('a line that cannot be carried out', () => {
  it.each<[string, string, ...(object | string)[]]>([
    ['is no JSON', 'bad-line', '{"op":'],
    ['is no object', 'bad-line', '[1]'],
    ['has no op', 'bad-line', '{"bdf":"01:00.0"}'],
    ['has an op that there is not', 'unknown-op', { op: 'constructor' }],
    ['is of another version', 'unsupported', { op: 'trace', version: 2 }],
    ['has a field that its op has not', 'bad-field', { ...add, pasidOfset: 0x200 }],
    ['has a field of another op', 'bad-field', { op: 'events', bdf }],
    ['has a field that a PASID has not', 'bad-field', { ...add, pasid: { width: 1, exec: true } }],
    [
      'has a field that a BAR has not',
      'bad-field',
      { ...add, bars: [{ index: 0, size: 4096, kindd: 'io' }] },
    ],
    ['has an op among its options', 'bad-field', { ...unit, options: { op: 'iommu.options' } }],
    ['has an unknown option of VT-d', 'bad-field', { op: 'iommu', model: 'vtd', options: { speed: 1 } }],
    ['has null for what must be there', 'bad-field', { op: 'remove', bdf: null }],
    ['names another model', 'unsupported', { op: 'iommu', model: 'amdvi' }],
    ['names no model', 'bad-field', { op: 'iommu', model: 'x' }],
    ['has an unknown option', 'bad-field', { ...unit, options: { speed: 1 } }],
    ['has no bdf', 'bad-field', { op: 'cfg.read', offset: 0, size: 1 }],
    ['has a bdf that is none', 'bad-field', { op: 'cfg.read', bdf: '1:2', offset: 0, size: 1 }],
    ['has no offset', 'bad-field', add, { op: 'cfg.read', bdf, size: 1 }],
    ['has a negative offset', 'bad-field', add, { op: 'cfg.read', bdf, offset: -1, size: 1 }],
    ['has a fraction', 'bad-field', add, { op: 'cfg.read', bdf, offset: 0.5, size: 1 }],
    ['reads 3 bytes', 'bad-field', add, { op: 'cfg.read', bdf, offset: 0, size: 3 }],
    [
      'writes more than 64 bits',
      'bad-field',
      { op: 'cfg.write', bdf, offset: 0, size: 8, value: '0x10000000000000000' },
    ],
    ['has registers of a wrong length', 'bad-field', { op: 'function', bdf, config: '00' }],
    ['has registers that are no hex', 'bad-field', { op: 'function', bdf, config: 'zz' }],
    ['has ranges that are no pairs', 'bad-field', { ...add, passthrough: [[1]] }],
    ['has a flag that is no flag', 'bad-field', { ...add, ats: 1 }],
    ['has a choice that there is not', 'bad-field', { ...add, control: 'keep' }],
    ['names a dump, and there are no files', 'no-dump', { op: 'function', bdf, dump: 'x' }],
    ['asks about a function that is not there', 'no-function', { op: 'host.read', bdf, offset: 0, size: 1 }],
    ['removes a function that is not there', 'no-function', { op: 'remove', bdf }],
    ['has a request for no unit', 'no-iommu', add, dma],
    ['attaches behind no unit', 'no-iommu', add, { op: 'table.attach', bdf, pasid: 1 }],
    ['counts for no unit', 'no-iommu', { op: 'counters' }],
    ['has a PASID of 21 bits', 'bad-field', unit, add, { ...dma, pasid: 0x100000 }],
    ['reads memory that is not there', 'no-memory', { op: 'mem.read', address: 0, size: 1 }],
    ['restores what was not kept', 'no-snapshot', { op: 'restore', name: 'x' }],
    ['adds a function where there is one', 'VPCI_BDF_TAKEN', add, add],
    ['asks for too wide a PASID', 'VPCI_PASID_WIDTH', { ...add, pasid: { width: 21 } }],
    ['asks for a misaligned place', 'VPCI_PASID_OFFSET', { ...add, pasid: { width: 1 }, pasidOffset: 0x202 }],
    [
      'asks for a place that is taken',
      'VPCI_CAPABILITY_COLLISION',
      { ...add, pasid: { width: 1 }, pasidOffset: 0x104 },
    ],
    [
      'maps what is not attached',
      'VPCI_IOMMU_MAP',
      unit,
      add,
      { op: 'table.map', bdf, pasid: 1, iova: 0, gpa: 0, size: 4096, perms: 'r' },
    ],
    ['makes a unit too wide', 'VPCI_PASID_WIDTH', { ...unit, options: { pasidWidth: 21 } }],
    ['has a misaligned window', 'VPCI_ECAM', { op: 'segment', ecam: 1 }],
  ])('%s: %s', (_, code, ...lines) => {
    expect(errorOf(...lines)).toBe(code);
  });

  it('says which fields there are', () => {
    expect(results({ op: 'events', all: true }, { ...add, pasid: { exec: true } })).toMatchObject([
      { error: { message: '"events" has no field "all": it takes none' } },
      {
        error: { message: '"function.pasid" has no field "exec": it takes width, execute, privileged' },
      },
    ]);
  });

  it('has null for what may be absent, as if it were', () => {
    const fields = {
      pasidOffset: null,
      control: null,
      ats: null,
      pri: null,
      present: null,
      passthrough: null,
    };
    const line = { ...add, ...fields, pasid: { width: 4, execute: null, privileged: null } };
    expect(
      results({ ...line, bars: [{ index: 0, size: 16, kind: null, prefetchable: null }], rom: null }),
    ).toEqual(results({ ...add, pasid: { width: 4 }, bars: [{ index: 0, size: 16 }] }));
    const none = { name: null, covers: null, options: null };
    expect(
      results(
        { ...unit, ...none },
        { ...dma, bdf: null, rid: 0, pasid: null, size: null, privileged: null, at: null },
      ),
    ).toEqual(results(unit, { op: 'dma', rid: 0, address: 0, access: 'read' }));
  });

  it.each([{ version: 2 }, { version: 'x' }, {}, { version: 1, minor: 1 }])(
    'ends the run where it names another version, or none: %o',
    (version) => {
      expect(
        results({ op: 'trace', version: 1 }, { op: 'trace', ...version }, { op: 'events' }, 'nonsense'),
      ).toMatchObject([{ i: 2, error: {} }]);
    },
  );

  it('does not end the run', () => {
    expect(results('nonsense', { op: 'events' })).toMatchObject([
      { i: 1, error: { code: 'bad-line' } },
      { i: 2 },
    ]);
  });

  it('says what is wrong with a field, and what it takes', () => {
    expect(results(add, { op: 'cfg.read', bdf, offset: 'x', size: 1 })).toMatchObject([
      { i: 1 },
      { error: { message: '"offset" of "cfg.read" is "x": it takes a whole number from 0 to 0xffffffff' } },
    ]);
  });

  it('leaves what was there before', () => {
    expect(results(unit, add, { ...unit, options: { pasidWidth: 21 } }, dma).at(-1)).toMatchObject({
      reason: 'pasid-not-supported',
    });
  });
});

describe('dumps that a trace names', () => {
  const captures = new URL('../../vmm-glue/captures/', import.meta.url);
  const readDump = (path: string): Uint8Array => readFileSync(new URL(path, captures));
  const run = (...lines: object[]): object[] => [
    ...replay(
      lines.map((line) => JSON.stringify(line)),
      { readDump },
    ),
  ];

  it('are read through the host', () => {
    expect(
      run({ op: 'function', bdf: '00:03.0', dump: 'igb-82576.txt', pasid: { width: 16 } }),
    ).toMatchObject([{ offset: 0xff8 }]);
  });

  it.each([
    ['missing.txt', 'no-dump'],
    ['README.md', 'VPCI_DUMP'],
  ])('%s: %s', (dump, code) => {
    expect(run({ op: 'function', bdf, dump })).toMatchObject([{ error: { code } }]);
  });

  it('refuse PASID as the library does', () => {
    expect(run({ op: 'function', bdf, dump: 'root-port.txt', pasid: { width: 16 } })).toMatchObject([
      { error: { code: 'VPCI_PASID_REFUSED' } },
    ]);
  });
});
