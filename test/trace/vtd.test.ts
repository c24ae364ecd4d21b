import { describe, expect, it } from 'vitest';
import { replay } from '../../src/trace/index.ts';

type Line = Readonly<Record<string, unknown>>;

/** Results of a trace given as objects; line numbers do not count here. */
function run(...lines: readonly Line[]): unknown[] {
  return [...replay(lines.map((line) => JSON.stringify(line)))].map((result) => ({
    ...result,
    i: undefined,
  }));
}

const quads = (...values: readonly bigint[]): string =>
  values.map((value) => Buffer.from(BigUint64Array.of(value).buffer).toString('hex')).join('');

/** Memory, and a guest that has enabled scalable mode with PASID 5 through a first stage. */
const setUp: readonly Line[] = [
  { op: 'mem', base: 0, size: '0x100000' },
  { op: 'iommu', model: 'vtd' },
  { op: 'endpoint', rid: 0x100, pasidWidth: 20 },
  { op: 'mem.write', address: '0x1010', hex: quads(0x2001n) },
  { op: 'mem.write', address: '0x2000', hex: quads(0x300dn) },
  { op: 'mem.write', address: '0x3000', hex: quads(0x4001n) },
  { op: 'mem.write', address: 0x4000 + 5 * 64, hex: quads(0x49n, 0x80_0001n, 0x5000n) },
  { op: 'mem.write', address: '0x5000', hex: quads(0x6007n) },
  { op: 'mem.write', address: '0x6000', hex: quads(0x7007n) },
  { op: 'mem.write', address: '0x7000', hex: quads(0x8007n) },
  { op: 'mem.write', address: '0x8018', hex: quads(0x9_9005n) },
];
const enable: readonly Line[] = [
  { op: 'reg.write', offset: 0x20, size: 8, value: '0x1400' },
  { op: 'reg.write', offset: 0x18, size: 4, value: '0x40000000' },
  { op: 'reg.write', offset: 0x18, size: 4, value: '0x80000000' },
];
const dma = (more: Line): Line => ({
  op: 'dma',
  rid: 0x100,
  address: '0x3004',
  access: 'read',
  pasid: 5,
  ...more,
});

describe('a trace with a VT-d unit', () => {
  it('rejects until the guest has programmed it, then follows its tables', () => {
    expect(
      run(
        ...setUp,
        dma({}),
        ...enable,
        { op: 'reg.read', offset: 0x1c, size: 4 },
        dma({}),
        dma({ access: 'write' }),
        dma({ pasid: 6 }),
        dma({ at: 'translation' }),
        { op: 'mem.read', address: '0x8018', size: 8 },
        { op: 'reg.read', offset: 0x220, size: 8 },
        { op: 'counters' },
      ),
    ).toMatchObject([
      { status: 'unsupported-request', reason: 'translation-disabled' },
      { value: 0xc000_0000 },
      { status: 'translated', address: '0x99004', pageSize: '0x1000', permissions: 'r' },
      { status: 'unsupported-request', reason: 'no-write-permission', code: 0x85 },
      { status: 'unsupported-request', reason: 'pasid-entry-not-present', code: 0x59 },
      { status: 'ats', address: '0x99004', pageSize: '0x1000', permissions: 'r' },
      { hex: quads(0x9_9025n) },
      { value: '0x3000' },
      { accepted: 2, rejected: 3 },
    ]);
  });

  it('poisons memory', () => {
    expect(
      run(...setUp, ...enable, { op: 'mem.poison', address: '0x4140', size: 1, kind: 'access' }, dma({}), {
        op: 'mem.read',
        address: '0x4140',
        size: 1,
      }),
    ).toEqual([
      { status: 'unsupported-request', reason: 'pasid-entry-access-error', code: 0x58 },
      { hex: '49' },
    ]);
  });

  it('replaces memory at a base that exists with zeroes, poison and all', () => {
    expect(
      run(
        ...setUp,
        { op: 'mem.poison', address: '0x1000', size: 8, kind: 'corruption' },
        { op: 'mem', base: 0, size: '0x100000' },
        ...enable,
        dma({}),
        { op: 'mem.read', address: '0x1010', size: 2 },
      ),
    ).toEqual([
      { status: 'unsupported-request', reason: 'root-entry-not-present', code: 0x39 },
      { hex: '0000' },
    ]);
  });

  it('shows interrupts and explains', () => {
    const [programmed, , events, explanation] = run(
      ...setUp,
      ...enable,
      { op: 'events' },
      { op: 'reg.write', offset: 0x3c, size: 4, value: 0x21 },
      { op: 'reg.write', offset: 0x40, size: 4, value: '0xfee00000' },
      { op: 'reg.write', offset: 0x38, size: 4, value: 0 },
      dma({ pasid: 6 }),
      { op: 'events' },
      { op: 'explain', rid: 0x100, address: '0x3000', access: 'read', pasid: 5 },
    );
    // The root table, and translation on.
    const all = { type: 'pasid-invalidated', rid: 0x100, pasid: 'all' };
    expect(programmed).toEqual({ events: [all, all] });
    expect(events).toEqual({
      events: [
        { type: 'interrupt', cause: 'fault', address: '0xfee00000', data: 0x21 },
        {
          type: 'fault',
          rid: 0x100,
          pasid: 6,
          address: '0x3004',
          access: 'read',
          privileged: false,
          reason: 'pasid-entry-not-present',
          code: 0x59,
        },
      ],
    });
    const { steps, verdict } = explanation as { steps: Line[]; verdict: Line };
    expect(verdict['address']).toBe('0x99000');
    expect(steps.find(({ structure }) => structure === 'PASID table entry')).toMatchObject({
      address: '0x4140',
      raw: [0x49, 0, 0x80_0001, 0, 0x5000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      fields: { PGTT: 1, DID: 1, FSPTPTR: '0x5000' },
    });
  });

  it('takes options by name, and refuses others', () => {
    expect(
      run(
        {
          op: 'iommu',
          model: 'vtd',
          options: { version: 0x40, pasidWidth: 16, nesting: false, addressWidth: 39 },
        },
        { op: 'reg.read', offset: 0, size: 4 },
        { op: 'reg.read', offset: 0x10, size: 8 },
        { op: 'reg.read', offset: 8, size: 2 },
        { op: 'iommu', model: 'vtd', options: { firstStage: false, nesting: true } },
        { op: 'iommu', model: 'vtd', options: { nested: true } },
        { op: 'iommu', model: 'vtd', options: { nesting: 1 } },
        { op: 'iommu', model: 'vtd', options: { addressWidth: 40 } },
        { op: 'iommu', model: 'smmuv9' },
      ),
    ).toMatchObject([
      { value: 0x40 },
      { value: expect.stringMatching(/^0x/) },
      { value: 0x0286 },
      { error: { code: 'VPCI_BAD_ARGUMENT' } },
      { error: { code: 'bad-field' } },
      { error: { code: 'bad-field' } },
      { error: { code: 'bad-field' } },
      { error: { code: 'bad-field' } },
    ]);
  });

  it('has no memory but what was added', () => {
    expect(
      run(
        { op: 'mem.read', address: 0, size: 4 },
        { op: 'mem.write', address: 0, hex: '00' },
        { op: 'mem', base: 4, size: 8 },
        { op: 'mem', base: 0, size: 12 },
        { op: 'mem', base: 0, size: '0x1000000000' },
        { op: 'mem', base: 0, size: 16 },
        { op: 'mem', base: 8, size: 16 },
        { op: 'mem.write', address: 12, hex: '0102030405' },
        { op: 'mem.write', address: 12, hex: '01020304' },
        { op: 'mem.read', address: 0, size: 16 },
        { op: 'mem.poison', address: 0, size: 4, kind: 'arsenic' },
      ),
    ).toMatchObject([
      { error: { code: 'no-memory' } },
      { error: { code: 'no-memory' } },
      { error: { code: 'VPCI_MEMORY' } },
      { error: { code: 'VPCI_MEMORY' } },
      { error: { code: 'bad-field' } },
      { error: { code: 'VPCI_MEMORY' } },
      { error: { code: 'no-memory' } },
      { hex: '00000000000000000000000001020304' },
      { error: { code: 'bad-field' } },
    ]);
  });
});
