import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { replay } from '../../src/trace/index.ts';
import { answers, endpointConfig, errorOf } from './support.ts';

// Lines that want to end the replay, or to fill the machine.

const bdf = '00:02.0';
const add = { op: 'function', bdf, config: endpointConfig() };
const unit = { op: 'iommu', model: 'table' };

interface ErrorAnswer {
  readonly error: { readonly code: string; readonly message: string };
}

function errorsOf(...lines: readonly (object | string)[]): ErrorAnswer['error'][] {
  return answers(...lines)
    .filter((answer): answer is ErrorAnswer => 'error' in answer)
    .map(({ error }) => error);
}

describe('a value', () => {
  const deep = '['.repeat(50_000) + ']'.repeat(50_000);
  const long = 'x'.repeat(5_000_000);
  it.each<[string, string, string]>([
    ['nested deeper than anything can print', 'bad-field', `{"op":"cfg.read","bdf":${deep}}`],
    ['in an object', 'bad-field', `{"op":"function","bdf":"00:01.0","config":{"a":${deep}}}`],
    ['of an entry', 'bad-field', `{"op":"iommu","model":"table","covers":[${deep}]}`],
    ['longer than a line of a screen', 'bad-field', `{"op":"cfg.read","bdf":"${long}"}`],
    ['as an op', 'unknown-op', `{"op":"${long}"}`],
    ['as a field', 'bad-field', `{"op":"events","${long}":1}`],
    ['as a path', 'no-dump', `{"op":"function","bdf":"00:01.0","dump":"${long}"}`],
    ['as a name', 'no-snapshot', `{"op":"restore","name":"${long}"}`],
    ['as an option', 'bad-field', `{"op":"iommu","model":"vtd","options":{"${long}":1}}`],
    ['as the name of a unit', 'no-iommu', `{"op":"counters","name":"${long}"}`],
  ])('%s: %s', (_, code, line) => {
    const [error] = errorsOf(line);
    expect(error?.code).toBe(code);
    expect(error?.message.length).toBeLessThanOrEqual(1000);
  });

  // From 268 million digits on BigInt throws; that many take half a minute here.
  it('of more digits than a number can have', () => {
    const digits = 'f'.repeat(1_000_000);
    expect(errorOf(`{"op":"reg.write","offset":0,"size":8,"value":"0x${digits}"}`)).toBe('no-iommu');
    expect(errorOf(unit, `{"op":"reg.write","offset":0,"size":8,"value":"0x${digits}"}`)).toBe('bad-field');
  });

  it('with leading zeros is a value', () => {
    expect(answers({ op: 'cfg.read', bdf, offset: '0x0000000000000000000000', size: 1 })).toEqual([
      { value: 0xff },
    ]);
  });
});

describe('guest memory and snapshots', () => {
  it('are 256 MiB together, and what does not fit leaves what there was', () => {
    // Untouched, it takes no memory of the machine.
    const large = { op: 'mem', base: 0, size: '0xffff000' };
    const small = { op: 'mem', base: '0x40000000', size: '0x2000' };
    const lines = [
      large,
      { op: 'mem.write', address: 0, hex: 'aa' },
      { op: 'snapshot', name: 'a' },
      small,
      { op: 'mem.read', address: 0, size: 1 },
      { ...large, size: '0x1000' },
      small,
      { op: 'mem.read', address: '0x40000000', size: 1 },
      { op: 'snapshot', name: 'a' },
      { op: 'mem.write', address: 0, hex: 'bb' },
      { op: 'restore', name: 'a' },
      { op: 'mem.read', address: 0, size: 1 },
    ];
    expect(answers(...lines)).toMatchObject([
      { error: { code: 'bad-field' } },
      { error: { code: 'bad-field' } },
      { hex: 'aa' },
      { hex: '00' },
      { hex: '00' },
    ]);
  });

  it('of the same name take the place of the one before', () => {
    const [a, b] = [
      { op: 'snapshot', name: 'a' },
      { op: 'snapshot', name: 'b' },
    ];
    const memory = { op: 'mem', base: 0, size: '0x6000000' };
    expect(errorsOf(memory, a, a)).toEqual([]);
    expect(errorsOf(memory, a, b)).toMatchObject([{ code: 'bad-field' }]);
  });

  it('count what they keep of functions, too', () => {
    const lines = Array.from({ length: 8 }, (_, fn) => ({ ...add, bdf: `00:02.${fn}` }));
    const large = { op: 'mem', base: 0, size: 0x1000_0000 - 0x2000 };
    expect(errorOf(...lines, { op: 'snapshot', name: 'a' })).toBeUndefined();
    expect(errorOf(large, ...lines, { op: 'snapshot', name: 'a' })).toBe('bad-field');
  });

  it('have 1024 regions', () => {
    const lines = Array.from({ length: 1025 }, (_, i) => ({ op: 'mem', base: 0x1000 * i, size: 8 }));
    expect(errorsOf(...lines)).toMatchObject([{ code: 'bad-field' }]);
    expect(errorsOf(...lines.slice(1), { op: 'mem', base: 0x1000, size: 16 })).toEqual([]);
  });
});

describe('events', () => {
  it('are kept up to 65,536, and the rest is counted', () => {
    const command = (value: number): object => ({ op: 'cfg.write', bdf, offset: 4, size: 2, value });
    const two = [command(4), command(0)];
    const writes = Array.from({ length: 0x8002 }, () => two).flat();
    const asked = { op: 'events' };
    const lines = [add, ...writes, asked, command(4), asked].map((line) => JSON.stringify(line));
    const results = [...replay(lines)].slice(1) as unknown as { events: unknown[] }[];
    expect(results.map(({ events }) => events.length)).toEqual([0x10001, 1]);
    expect(results[0]?.events.at(-1)).toEqual({ type: 'lost', count: 4 });
    expect(results[1]?.events).toMatchObject([{ type: 'command' }]);
  });
});

describe('writes that reached the physical side', () => {
  it('are kept up to 65,536, and the rest is counted', () => {
    const line = JSON.stringify({ op: 'cfg.write', bdf, offset: 0x300, size: 1, value: 1 });
    const made = JSON.stringify({ ...add, passthrough: [[0x300, 0x304]] });
    const asked = JSON.stringify({ op: 'host.writes', bdf });
    const lines = [made, ...Array.from({ length: 0x10003 }, () => line), asked, line, asked];
    const counts = [...replay(lines)].slice(1).map((result) => {
      const { writes, lost } = result as unknown as { writes: readonly unknown[]; lost?: number };
      return [writes.length, lost];
    });
    expect(counts).toEqual([
      [0x10000, 3],
      [1, undefined],
    ]);
  });
});

describe('vIOMMUs', () => {
  it('are 64', () => {
    const lines = Array.from({ length: 65 }, (_, i) => ({ ...unit, name: String(i) }));
    expect(errorsOf(...lines)).toMatchObject([{ code: 'bad-field' }]);
    expect(errorsOf(...lines.slice(1), { ...unit, name: '7' })).toEqual([]);
  });
});

describe('any lines', () => {
  const ops = [
    ['segment', 'ecam', 'buses'],
    ['function', 'bdf', 'config', 'pasid', 'pasidOffset', 'ats', 'pri', 'passthrough', 'bars', 'rom'],
    ['rootPort', 'bdf', 'secondary', 'subordinate'],
    ['endpoint', 'rid', 'pasidWidth', 'ats', 'pri'],
    ['remove', 'bdf'],
    ['reset', 'bdf', 'kind'],
    ['cfg.read', 'bdf', 'offset', 'size'],
    ['cfg.write', 'bdf', 'offset', 'size', 'value'],
    ['ecam.write', 'address', 'size', 'value'],
    ['pio.write', 'port', 'size', 'value'],
    ['host.writes', 'bdf'],
    ['iommu', 'model', 'name', 'covers', 'options'],
    ['mem', 'base', 'size'],
    ['mem.write', 'address', 'hex'],
    ['table.attach', 'bdf', 'rid', 'pasid'],
    ['table.map', 'rid', 'pasid', 'iova', 'gpa', 'size', 'perms'],
    ['dma', 'bdf', 'rid', 'address', 'access', 'pasid', 'at'],
    ['explain', 'rid', 'address', 'access'],
    ['page.request', 'rid', 'prgi', 'address', 'last'],
    ['reg.write', 'offset', 'size', 'value', 'name'],
    ['events'],
    ['snapshot', 'name'],
    ['restore', 'name'],
  ] as const;
  const values: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
    bdf: fc.constantFrom('00:01.0', '00:02.0', '01:00.0', '02:00.0', '01:00.1'),
    rid: fc.constantFrom(0x8, 0x10, 0x100, 0x200, 0xffffff),
    config: fc.constant(endpointConfig()),
    size: fc.constantFrom(1, 2, 4, 8, 0x1000),
    offset: fc.constantFrom(4, 0x18, 0x19, 0x3e, 0xffe, 0x10, 0x48),
    model: fc.constantFrom('table', 'vtd'),
    access: fc.constantFrom('read', 'write', 'execute'),
    name: fc.constantFrom('a', 'b', null),
    covers: fc.constantFrom(null, ['01:00.0'], ['00:02.0', '02:00.0']),
    options: fc.constantFrom(null, { pasidWidth: 8 }, { pasidWidth: 20 }),
    pasid: fc.constantFrom(null, 5, 1000, { width: 16 }),
    secondary: fc.constantFrom(1, 2),
    perms: fc.constant('rw'),
    kind: fc.constantFrom('flr', 'bus'),
    hex: fc.constant('0102'),
    value: fc.constantFrom(0, 1, 6, 0x010100, 0x020200, '0xffffffff', '0xffffffffffffffff'),
  };
  const line = fc.constantFrom(...ops).chain(([op, ...fields]) =>
    fc
      .tuple(
        ...fields.map((field) =>
          fc.oneof(
            {
              weight: 20,
              arbitrary: values[field] ?? fc.constantFrom(0, 0x1000, '0x2000', 0xb0100004, null),
            },
            { weight: 1, arbitrary: fc.jsonValue() },
          ),
        ),
      )
      .map((all) => JSON.stringify({ op, ...Object.fromEntries(fields.map((field, i) => [field, all[i]])) })),
  );

  it('never throw, and functions stay where they are', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ weight: 20, arbitrary: line }, fc.string()), { maxLength: 60 }),
        (lines) => {
          const first = JSON.stringify({ ...add, pasid: { width: 16 } });
          const asked = JSON.stringify({ op: 'host.read', bdf, offset: 0, size: 4 });
          const last = [...replay([first, ...lines, asked])].at(-1);
          const isThere = last?.['value'] !== undefined;
          const mayBeGone = lines.some((one) => one.includes('"remove"') || one.includes('"trace"'));
          expect(isThere || mayBeGone).toBe(true);
        },
      ),
      { numRuns: Number(process.env['VPCI_RUNS'] ?? 150) },
    );
  });
});
