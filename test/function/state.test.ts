import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions, type PciFunction } from '../../src/index.ts';
import { arbitraryAccess, arbitraryConfig, arbitraryOptions } from '../support/arbitrary-config.ts';
import { AER_HEAD, buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

function make(options: Partial<PassthroughOptions> = {}): PciFunction {
  return createFunction({
    physical: buildConfig({ extended: [AER_HEAD] }),
    pasid: { width: 16, execute: true },
    ...options,
  });
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
        (bytes, { passthroughRanges: _ranges, ats: _ats, pri: _pri, ...options }, accesses) => {
          const twin = (): PciFunction =>
            createFunction({ ...options, onPasidRefused: 'omit', physical: bytes.slice() });
          const fn = twin();
          for (const access of accesses) {
            if (access.kind !== 'write') continue;
            fn.write(
              'at' in access.where ? access.where.at : 0x40 + access.where.delta,
              access.size,
              access.value,
            );
          }
          const other = twin();
          other.restoreState(fn.saveState());
          expect(other.saveState()).toEqual(fn.saveState());
        },
      ),
      { numRuns: 100 },
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
    ['damaged registers', { ...make().saveState(), registers: [[4, 'x']] }],
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

  it('take no bit that a guest cannot change', () => {
    const fn = make();
    const before = view(fn);
    const registers = Array.from({ length: 1024 }, (_, i): [number, number] => [4 * i, -1]);
    fn.restoreState({ ...fn.saveState(), registers });
    const at = fn.pasid?.offset ?? 0;
    expect(fn.read(at, 4)).toBe(0x0001001b);
    expect(fn.read(at + 4, 4)).toBe(0x00031002);
    expect(view(fn)[0x34]).toBe(before[0x34]);
    expect(view(fn)[0]).toBe(before[0]);
  });

  it.each([
    [[[0x1000, 0]]],
    [[[-4, 0]]],
    [[[2, 0]]],
    [[[1e9, 0]]],
    [[[0xffd, 0]]],
    [[[0x107, -1]]],
    [[[0xffb, -1]]],
  ])('do not throw anything else for registers %o', (registers) => {
    const fn = make();
    const before = view(fn);
    try {
      fn.restoreState({ ...fn.saveState(), registers });
    } catch (error) {
      expect(error).toMatchObject({ code: 'VPCI_STATE' });
    }
    expect(view(fn)).toEqual(before);
  });
});
