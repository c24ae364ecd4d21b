import { describe, expect, it } from 'vitest';
import { answers, DEVICE_CONTROL, endpointConfig, PASID, results } from './support.ts';

const bdf = '01:00.0';
const add = { op: 'function', bdf, config: endpointConfig(), pasid: { width: 16, execute: true } };
/** ECAM address of `offset` in 01:00.0. */
const ecam = (offset: number): number => 0xb000_0000 + 0x10_0000 + offset;

describe('the lines of a trace', () => {
  it('count from 1, blank lines and comments included', () => {
    expect(results('', '# a comment', add, '   ', { op: 'events' }).map(({ i }) => i)).toEqual([3, 5]);
  });

  it('may come as one text', () => {
    expect(results({ op: 'trace', version: 1 }, { op: 'events' })).toEqual([{ i: 2, events: [] }]);
  });
});

describe('function', () => {
  it('answers with the place of PASID and the findings', () => {
    expect(answers(add)).toMatchObject([{ offset: PASID, findings: [{ code: 'device-capabilities-2' }] }]);
  });

  it('answers with null when there is no PASID', () => {
    expect(answers({ op: 'function', bdf, config: endpointConfig() })).toEqual([
      { offset: null, findings: [] },
    ]);
  });

  it('takes an offset, drop, and virtual ATS (0xff8) and PRI (0x12c)', () => {
    const line = { ...add, pasidOffset: '0x200', control: 'drop', ats: true, pri: true };
    const [made, ...rest] = answers(
      line,
      { op: 'cfg.write', bdf, offset: 0x206, size: 2, value: 1 },
      { op: 'cfg.read', bdf, offset: 0x204, size: 4 },
      { op: 'cfg.read', bdf, offset: 0x100, size: 4 },
    );
    expect(made).toMatchObject({ offset: 0x200 });
    expect(rest).toEqual([{ value: 0x1002 }, { value: 0x12c1_0001 }]);
  });

  it('shows another device type', () => {
    expect(
      answers({ ...add, present: 'rciep' }, { op: 'cfg.read', bdf, offset: 0x42, size: 2 }).at(-1),
    ).toEqual({ value: 0x92 });
  });
});

describe('register access', () => {
  it.each([
    [1, 0xde],
    [2, 0x10de],
    [4, 0x2941_10de],
    [8, '0x100000294110de'],
  ])('reads %i bytes by cfg and ECAM alike', (size, value) => {
    const read = [
      { op: 'cfg.read', bdf, offset: 0, size },
      { op: 'ecam.read', address: ecam(0), size },
    ];
    expect(answers(add, ...read).slice(1)).toEqual([{ value }, { value }]);
  });

  it('reaches CONFIG_DATA through CONFIG_ADDRESS', () => {
    expect(
      answers(
        add,
        { op: 'pio.write', port: 0xcf8, size: 4, value: '0x80010000' },
        { op: 'pio.read', port: 0xcf8, size: 4 },
        { op: 'pio.read', port: 0xcfe, size: 2 },
        { op: 'pio.write', port: 0xcf8, size: 4, value: '0x80010004' },
        { op: 'pio.write', port: 0xcfc, size: 2, value: 6 },
        { op: 'cfg.read', bdf, offset: 4, size: 2 },
      ).slice(1),
    ).toEqual([{ value: 0x8001_0000 }, { value: 0x2941 }, { value: 6 }]);
  });

  it('writes 8 bytes through ECAM as two dwords', () => {
    expect(
      answers(
        add,
        { op: 'ecam.write', address: ecam(PASID), size: 8, value: '0x0003ffffffffffff' },
        { op: 'ecam.read', address: ecam(PASID), size: 8 },
      ).at(-1),
    ).toEqual({ value: '0x310020001001b' });
  });

  it('answers for an absent function as the bus does', () => {
    expect(
      answers(
        { op: 'cfg.read', bdf, offset: 0, size: 8 },
        { op: 'ecam.read', address: ecam(0), size: 2 },
        { op: 'cfg.write', bdf, offset: 0, size: 1, value: 0 },
        { op: 'ecam.read', address: 0, size: 1 },
      ),
    ).toEqual([{ value: '0xffffffffffffffff' }, { value: 0xffff }, { value: 0xff }]);
  });

  it('moves the window and the functions with a segment', () => {
    expect(
      answers(
        add,
        { op: 'segment', ecam: '0xe0000000', buses: 2 },
        { op: 'ecam.read', address: ecam(0), size: 2 },
        { op: 'ecam.read', address: '0xe0100000', size: 2 },
      ).slice(1),
    ).toEqual([{ value: 0xffff }, { value: 0x10de }]);
  });

  it('finds nothing where a function was removed', () => {
    expect(answers(add, { op: 'remove', bdf }, { op: 'cfg.read', bdf, offset: 0, size: 2 }).at(-1)).toEqual({
      value: 0xffff,
    });
  });
});

describe('the physical side', () => {
  it('sees the bits of Device Control that are its own, and no others', () => {
    expect(
      answers(
        add,
        { op: 'cfg.write', bdf, offset: DEVICE_CONTROL, size: 2, value: 0x00ff },
        { op: 'cfg.write', bdf, offset: 4, size: 2, value: 0xffff },
        { op: 'cfg.write', bdf, offset: PASID + 6, size: 2, value: 0xffff },
        { op: 'host.writes', bdf },
        { op: 'host.writes', bdf },
        { op: 'host.read', bdf, offset: DEVICE_CONTROL, size: 2 },
        { op: 'cfg.read', bdf, offset: DEVICE_CONTROL, size: 2 },
      ).slice(1),
    ).toEqual([
      { writes: [{ offset: DEVICE_CONTROL, size: 2, value: 0x2010 }] },
      { writes: [] },
      { value: 0x2010 },
      { value: 0x00ff },
    ]);
  });

  it('keeps a hidden PASID capability in a hole out of reach', () => {
    const config = endpointConfig((registers) => {
      registers.setUint32(0x200, 0x0001_001b, true);
      registers.setUint32(0x204, 0x0001_1400, true);
    });
    const line = { op: 'function', bdf, config, pasid: { width: 16 } };
    const writes = [1, 2, 4, 8].flatMap((size) =>
      Array.from({ length: 8 / size }, (_, i) => 0x200 + size * i).flatMap((offset) => [
        { op: 'cfg.write', bdf, offset, size, value: size === 8 ? '0xffffffffffffffff' : 0 },
        { op: 'ecam.write', address: ecam(offset), size, value: 0 },
      ]),
    );
    const [made, ...rest] = answers(
      line,
      { op: 'cfg.read', bdf, offset: 0x200, size: 8 },
      ...writes,
      { op: 'cfg.read', bdf, offset: 0x1fe, size: 4 },
      { op: 'host.writes', bdf },
      { op: 'host.read', bdf, offset: 0x200, size: 8 },
    );
    expect(made).toMatchObject({ offset: PASID });
    expect(JSON.stringify(made)).toContain('physical-pasid-hidden');
    expect(rest).toEqual([{ value: '0x0' }, { value: 0 }, { writes: [] }, { value: '0x114000001001b' }]);
  });

  it('sees what a passed-through range lets through', () => {
    const line = { ...add, passthrough: [['0x300', '0x304']] };
    expect(
      answers(
        line,
        { op: 'cfg.write', bdf, offset: 0x2ff, size: 4, value: '0x44332211' },
        { op: 'host.writes', bdf },
        { op: 'cfg.read', bdf, offset: 0x300, size: 4 },
      ).slice(1),
    ).toEqual([
      {
        writes: [
          { offset: 0x300, size: 2, value: 0x3322 },
          { offset: 0x302, size: 1, value: 0x44 },
        ],
      },
      { value: 0x443322 },
    ]);
  });
});
