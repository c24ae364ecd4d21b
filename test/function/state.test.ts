import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ByteConfigSpace,
  createFunction,
  msiXCapability,
  type PassthroughOptions,
  type PciFunction,
} from '../../src/index.ts';
import {
  type Access,
  arbitraryAccess,
  arbitraryConfig,
  arbitraryOptions,
} from '../support/arbitrary-config.ts';
import { AER_HEAD, buildConfig, EXPRESS } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';
import { recordEvents } from '../support/recorded-events.ts';

function make(options: Partial<PassthroughOptions> = {}): PciFunction {
  return createFunction({
    physical: buildConfig({ extended: [AER_HEAD] }),
    pasid: { width: 16, execute: true },
    ...options,
  });
}

/** Near a capability or anywhere, as the reference test does it. */
function guest(fn: PciFunction, access: Access): void {
  if (access.kind === 'reset') {
    fn.reset(access.reset);
    return;
  }
  if (access.kind !== 'write') return;
  const { where } = access;
  const places = [...fn.capabilities, ...fn.extendedCapabilities].map(({ offset }) => offset);
  const at =
    'at' in where ? where.at : (places[where.index % Math.max(1, places.length)] ?? 0x100) + where.delta;
  fn.write(at, access.size, access.value);
}

function view(fn: PciFunction): number[] {
  const bytes = new Uint8Array(fn.size);
  fn.readInto(0, bytes);
  return [...bytes];
}

describe('saveState and restoreState', () => {
  it('bring back what the guest wrote, as JSON too', () => {
    const fn = make({ ats: true, pri: true });
    const at = fn.pasid?.offset ?? 0;
    fn.write(at + 6, 2, 3);
    fn.write(4, 2, 6);
    fn.write(0x108, 4, 0xffffffff);
    const state: unknown = JSON.parse(JSON.stringify(fn.saveState()));
    const other = make({ ats: true, pri: true });
    other.restoreState(state);
    expect(view(other)).toEqual(view(fn));
    expect(other.endpointState).toEqual(fn.endpointState);
    expect(other.saveState()).toEqual(fn.saveState());
    expect(other.canIssue(5)).toBe(true);
  });

  it('carry what the guest wrote to the bits that reach the device, as a guest’s write would', () => {
    const registers = buildConfig({ express: { deviceCapabilities: 0x1000_0000 }, extended: [AER_HEAD] });
    new DataView(registers.buffer).setUint16(EXPRESS + 8, 0x2810, true);
    const host = (): ByteConfigSpace => new ByteConfigSpace(registers.slice());
    const source = make({ physical: host() });
    source.write(EXPRESS + 8, 2, 0x0007);
    source.write(EXPRESS + 0x28, 2, 0x0040);
    const physical = host();
    const fn = make({ physical });
    const writes = recordEvents(fn, 'host-write');
    fn.restoreState(JSON.parse(JSON.stringify(source.saveState())));
    expect(view(fn)).toEqual(view(source));
    expect([physical.read(EXPRESS + 8, 2), physical.read(EXPRESS + 0x28, 2)]).toEqual([0x2000, 0x0040]);
    expect(writes.map(([, { offset, size }]) => [offset, size])).toEqual([
      [EXPRESS + 8, 2],
      [EXPRESS + 0x28, 1],
    ]);
    writes.length = 0;
    fn.restoreState(source.saveState());
    expect(writes, 'nothing is written that is so already').toEqual([]);
  });

  it('leave passed-through ranges to the embedder, who knows the device', () => {
    const ranges = { passthroughRanges: [[0x200, 0x208]] } as const;
    const source = make(ranges);
    source.write(0x200, 4, 0x1234);
    const fn = make(ranges);
    fn.restoreState(source.saveState());
    expect(fn.read(0x200, 4)).toBe(0);
  });

  it('record the offset of the PASID capability', () => {
    expect(make().saveState().pasid).toMatchObject({ offset: 0xff8, width: 16 });
    expect(make({ pasid: undefined }).saveState().pasid).toBeNull();
  });

  it('hold for any function and any guest', () => {
    fc.assert(
      fc.property(
        arbitraryConfig,
        arbitraryOptions,
        fc.array(arbitraryAccess, { maxLength: 20 }),
        fc.array(arbitraryAccess, { maxLength: 20 }),
        (bytes, { passthroughRanges: _ranges, ...options }, before, after) => {
          const twin = (): PciFunction =>
            createFunction({ ...options, onPasidRefused: 'omit', physical: bytes.slice() });
          const fn = twin();
          for (const access of before) guest(fn, access);
          const state: unknown = JSON.parse(JSON.stringify(fn.saveState()));
          const seen = view(fn);
          const other = twin();
          for (const access of after) guest(other, access);
          for (const one of [twin(), other]) {
            one.restoreState(state);
            expect(view(one)).toEqual(seen);
            expect(one.endpointState).toEqual(fn.endpointState);
            expect(one.saveState()).toEqual({ ...fn.saveState(), touched: true });
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it('freeze the width like an access', () => {
    const fn = make();
    fn.read(0, 4);
    const other = make();
    other.restoreState(fn.saveState());
    expect(other.saveState().touched).toBe(true);
  });

  it.each([
    ['undefined', undefined],
    ['null', null],
    ['a number', 1],
    ['an empty object', {}],
    ['another version', { ...make().saveState(), version: 2 }],
    ['another size', { ...make().saveState(), size: 256 }],
    ['no registers', { ...make().saveState(), registers: undefined }],
    ['damaged registers', { ...make().saveState(), registers: [[4]] }],
    ['damaged registers', { ...make().saveState(), registers: [[4, 'x', 'y']] }],
    ['values beyond 32 bits', edited(([offset, mask]) => [offset, mask, 2 ** 32])],
    ['negative values', edited(([offset, mask]) => [offset, mask, -1])],
    ['no register at all', { ...make().saveState(), registers: [] }],
    ['a register too few', { ...make().saveState(), registers: make().saveState().registers.slice(1) }],
    ['registers elsewhere', edited(([offset, mask, value]) => [offset + 4, mask, value])],
    ['registers with other bits', edited(([offset, mask, value]) => [offset, mask ^ 1, value])],
    [
      'another device',
      make({ physical: buildConfig({ extended: [AER_HEAD], bytes: [[2, [0x99]]] }) }).saveState(),
    ],
    ['another BAR', make({ bars: [{ index: 0, size: 0x1000 }] }).saveState()],
    ['no interrupts', { ...make().saveState(), interrupts: undefined }],
    [
      'an MSI-X table that is not there',
      {
        ...make().saveState(),
        interrupts: { level: false, msiPending: 0, msiX: { table: [], pending: [] } },
      },
    ],
    [
      'pending messages without MSI',
      { ...make().saveState(), interrupts: { level: false, msiPending: 1, msiX: null } },
    ],
    ['a damaged flag', { ...make().saveState(), touched: 'yes' }],
    ['PASID elsewhere', make({ pasidOffset: 0x200 }).saveState()],
    ['another width', make({ pasid: { width: 15, execute: true } }).saveState()],
    ['other permissions', make({ pasid: { width: 16 } }).saveState()],
    ['another control rule', make({ control: 'drop' }).saveState()],
    ['no PASID', make({ pasid: undefined }).saveState()],
  ])('refuse %s, and change nothing', (_name, state) => {
    const fn = make();
    fn.write(4, 2, 6);
    const before = view(fn);
    const message = refusal('VPCI_STATE', () => fn.restoreState(state));
    expect(message).toContain('cannot be restored');
    expect(view(fn)).toEqual(before);
  });

  it('refuse an MSI-X table of another length, and one with nonsense', () => {
    const location = { bar: 0, offset: 0 };
    const fn = createFunction({
      vendorId: 1,
      deviceId: 1,
      classCode: 0,
      capabilities: [msiXCapability(4, location, { bar: 0, offset: 0x800 })],
      bars: [{ index: 0, size: 0x1000 }],
    });
    const state = fn.saveState();
    const table = state.interrupts.msiX?.table ?? [];
    for (const msiX of [
      null,
      { table: [], pending: [] },
      { table: table.slice(1), pending: [0, 0] },
      { table, pending: [0] },
      { table: table.map(() => 0.5), pending: [0, 0] },
      { table: table.map(() => -1), pending: [0, 0] },
    ]) {
      refusal('VPCI_STATE', () => fn.restoreState({ ...state, interrupts: { ...state.interrupts, msiX } }));
    }
    expect(fn.barRead(0, 12, 4)).toBe(1);
  });

  it('take no bit that a guest cannot change', () => {
    const fn = make();
    const before = view(fn);
    const registers = fn.saveState().registers.map(([offset, mask]) => [offset, mask, 0xffffffff]);
    fn.restoreState({ ...fn.saveState(), registers });
    const at = fn.pasid?.offset ?? 0;
    expect(fn.read(at, 4)).toBe(0x0001001b);
    expect(fn.read(at + 4, 4)).toBe(0x00031002);
    expect(view(fn)[0x34]).toBe(before[0x34]);
    expect(view(fn)[0]).toBe(before[0]);
  });
});

/** A state whose registers `edit` changed. */
function edited(edit: (register: readonly [number, number, number]) => readonly number[]): unknown {
  const state = make().saveState();
  return { ...state, registers: state.registers.map(edit) };
}
