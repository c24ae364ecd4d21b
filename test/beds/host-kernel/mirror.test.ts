// Bed E, IommufdMirror: a monitor under Node hands the PASIDs of its guest to a real iommufd. The IOMMU behind that is our
// own VT-d unit, driven by the kernel; so nested translation is there, and the device sends requests with PASIDs.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { scratchFolder } from '../qemu/qemu.ts';
import { makeGuestImage } from './guest-image.ts';
import { kernelMissing } from './kernel.ts';
import { type OwnUnitMachine, runOwnUnit } from './own-unit.ts';
import { jsonLines } from './guest.ts';
import { testMockDevice } from './mock-device.ts';

// Fault codes of VT-d (7.1.3): no PASID table entry; first stage not present, not writable.
const NO_ENTRY = 'rejected 0x59';
const NOT_PRESENT = 'rejected 0x71';
const NOT_WRITABLE = 'rejected 0x85';

bed('kernel', kernelMissing)('IommufdMirror on a real kernel', () => {
  const folder = scratchFolder();
  let machine: OwnUnitMachine;
  let checks: ReadonlyMap<string, unknown>;
  let steps: ReadonlyMap<string, unknown>;

  beforeAll(async () => {
    machine = await runOwnUnit(folder.path, await makeGuestImage(folder.path), {
      engine: 'node engine-in-guest.mjs',
      mock: 'node mock-in-guest.mjs',
      log: 'dmesg | grep -E "WARNING:|BUG:|Oops|Call Trace" || true',
    });
    checks = jsonLines(machine.run('engine').out, 'check');
    steps = jsonLines(machine.run('engine').out, 'step');
  }, 600_000);
  afterAll(() => folder[Symbol.dispose]());

  const check = (name: string): unknown => {
    const line = checks.get(name);
    if (line === undefined) throw new Error(`the guest did not come to "${name}"`);
    return typeof line === 'object' && line !== null && 'result' in line ? line.result : undefined;
  };

  it('comes to its end, and neither kernel nor QEMU complains', () => {
    expect(machine.run('engine').code).toBe(0);
    expect(steps.get('end')).toMatchObject({ ok: true });
    expect(machine.run('log').out).toBe('');
    expect(machine.errors).toEqual([]);
  });

  describe('of a TableIommu', () => {
    it.each([
      ['nothing attached', [NO_ENTRY, NO_ENTRY]],
      // Requests without PASID are attached to nothing that is mapped.
      ['attached, nothing mapped', [NOT_PRESENT, NOT_PRESENT]],
      ['mapped', ['done', 0x1111_1111, 'read 0x11111111']],
      ['each its own', ['done', 'read 0x11111111', 'read 0x22222222', 'read 0x33333333']],
      ['another PASID', NO_ENTRY],
      ['read only', ['read 0x11111111', NOT_WRITABLE, 0x1111_1111]],
      ['unmapped', [NOT_PRESENT, 'read 0x22222222']],
      ['mapped elsewhere', 'read 0x44444444'],
      ['detached', [NO_ENTRY, 'read 0x22222222', [null, 6, 0xffff]]],
      ['PASID 0', [[0, 'pasid-0']]],
      ['closed', [NO_ENTRY, NO_ENTRY]],
    ])('a device meets: %s', (name, expected) => {
      expect(check(`table: ${name}`)).toEqual(expected);
    });

    it.each([
      ['table', { attached: [[5], [null, 5], [5]], failures: [] }],
      ['cut', { attached: [5], failures: [] }],
      [
        'beyond',
        {
          failures: [{ pasid: 0x1_0000, reason: 'host', text: expect.stringContaining('EINVAL') }],
          blocked: true,
          after: [],
        },
      ],
      ['pasid-0', { failures: [{ pasid: 0, reason: 'pasid-0' }], blocked: true }],
      ['closed', { closed: [], again: [5], reset: [], failures: [] }],
    ])('the host follows: %s', (name, expected) => {
      expect(steps.get(name)).toMatchObject({ ok: true, ...expected });
    });
  });

  describe('of a VtdIommu, nested', () => {
    it.each([
      ['translation off', [NO_ENTRY, []]],
      ['no PASID configured', [NO_ENTRY, []]],
      ['two PASIDs', ['read 0x10000005', 'read 0x10000009', NO_ENTRY, NOT_PRESENT, [5, 9]]],
      ['written', ['done', 0x7777_7777]],
      // Before the guest's invalidation came down to the hardware, and after it.
      ['mapped elsewhere', ['read 0x77777777', 'read 0x10000009']],
      ['unmapped', [NOT_PRESENT, 'read 0x10000009']],
      ['page request', ['read 0x55555555', [[5, '0x40000000']]]],
      ['entry gone', [NO_ENTRY, [5]]],
      ['translation off again', [NO_ENTRY, []]],
      ['failures', []],
    ])('a device meets: %s', (name, expected) => {
      expect(check(`nested: ${name}`)).toEqual(expected);
    });

    it('attaches, replaces for page requests, and detaches', () => {
      expect(check('nested: events')).toEqual([
        ...[5, 9].map((pasid) => ['attached', pasid]),
        ...[5, 9, 5, 9].map((pasid) => ['replaced', pasid]),
        ...[9, 5].map((pasid) => ['detached', pasid]),
      ]);
    });

    it('the host follows: nested', () => {
      expect(steps.get('nested')).toMatchObject({
        ok: true,
        before: [],
        attached: [null, 7],
        replaced: true,
        failures: [],
      });
    });
  });

  describe("with the mock device of the kernel's own test", () => testMockDevice(() => machine.run('mock')));
});
