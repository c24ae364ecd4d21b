// Bed G: an unmodified Linux programs our remapping unit, and attaches and detaches PASIDs; our endpoint sends requests
// after every step, and what the unit says about each must be what Linux set up.
import { beforeAll, describe, expect, it } from 'vitest';
import type { Verdict } from 'vpci/vtd';
import { bed } from '../../support/beds.ts';
import { kernelRelease } from '../host-kernel/kernel.ts';
import {
  type BrokenUnit,
  IgnoresInvalidations,
  IgnoresIotlbInvalidations,
  IgnoresPasidCacheInvalidations,
  IgnoresPasids,
  MasksPasids,
} from './broken-units.ts';
import { boot, type Boot, readReport, reportOf, unrecorded, whyNotHere } from './machine.ts';
import { baseTable } from './table.ts';

bed('linux-iommu', whyNotHere)('PASIDs attached and detached by Linux', () => {
  describe('16 bits, first stage', () => {
    let run: Boot;
    /** Verdicts at the moments when Linux switched PASID on while the unit did not translate yet. */
    const early: Verdict[] = [];
    beforeAll(async () => {
      run = await boot({
        mode: 'base',
        onMachine: ({ unit, engine }) => {
          engine.function.on('pasid-control', ({ enable }) => {
            const translates = unit.iommu.readRegister(0x1c, 4) >>> 31 === 1;
            if (!enable || translates) return;
            early.push(
              unit.iommu.request({ endpoint: engine.function, pasid: 5, address: 0, access: 'read' }),
            );
          });
        },
      });
    }, 150_000);

    it('is the kernel that was built, and nothing goes wrong in the service', () => {
      expect(run.release).toBe(kernelRelease());
      expect([run.run.exitCode, run.errors]).toEqual([0, []]);
    });

    it('decides every request as Linux set it up', () => {
      expect(run.steps).toEqual(baseTable({ width: 16, unmapped: '71h' }));
    });

    it('refuses in the time between PASID Enable and Translation Enable', () => {
      expect(early).toEqual([{ status: 'unsupported-request', reason: 'translation-disabled' }]);
    });

    it('reads no table for a PASID beyond the width', () => {
      const { unit, engine } = run;
      const { steps, verdict } = unit.iommu.explain({
        endpoint: engine.function,
        pasid: 0x10000,
        address: 0x1000_0000,
        access: 'read',
      });
      expect(verdict).toEqual({ status: 'unsupported-request', reason: 'pasid-beyond-width' });
      expect(steps.map(({ address }) => address)).toEqual(steps.map(() => null));
    });

    it('interrupts Linux, which reads the same faults as we recorded', () => {
      // It reports three in five seconds; see modes.test.ts for more.
      const recorded = run.faults.filter(({ code }) => code !== undefined).map(reportOf);
      const reported = run.reported.map((line) => readReport(line).report);
      expect(reported.slice(0, 3)).toEqual(recorded.slice(0, 3));
      expect(unrecorded(reported, recorded)).toEqual([]);
    });
  });

  it('20 bits, and a scope that is a bridge', async () => {
    const { steps } = await boot({ mode: 'base', engine: { pasidWidth: 20 }, scope: 'bridge' });
    expect(steps).toEqual(baseTable({ width: 20, unmapped: '71h' }));
  }, 150_000);

  it('the second stage only, and a unit for all devices', async () => {
    const { steps } = await boot({ mode: 'base', unit: { firstStage: false }, scope: 'all' });
    expect(steps).toEqual(baseTable({ width: 16, unmapped: '79h' }));
  }, 150_000);

  it('with memory that is reached by messages', async () => {
    const { steps, errors, transport } = await boot({ mode: 'base', transport: 'net' });
    expect(transport).toBe('net');
    expect(steps).toEqual(baseTable({ width: 16, unmapped: '71h' }));
    expect(errors).toEqual([]);
  }, 150_000);

  describe('a model that is wrong', () => {
    const models: [name: string, model: BrokenUnit, wrong: readonly string[]][] = [
      [
        'ignores invalidations',
        IgnoresInvalidations,
        [
          'PASID 5, detached: read "written-by-the-device"',
          'PASID 6, page unmapped: read "other-address-space"',
          'PASID 6, another page mapped: read "other-address-space"',
          'no PASID, function detached: read "written-by-the-device"',
          'PASID 6, function detached: read "other-address-space"',
        ],
      ],
      [
        'ignores invalidations of translations',
        IgnoresIotlbInvalidations,
        [
          'PASID 6, page unmapped: read "other-address-space"',
          'PASID 6, another page mapped: read "other-address-space"',
          'PASID 6, function detached: read "other-address-space"',
        ],
      ],
      [
        'ignores invalidations of PASID table entries',
        IgnoresPasidCacheInvalidations,
        [
          'PASID 5, detached: read "written-by-the-device"',
          'no PASID, function detached: read "written-by-the-device"',
        ],
      ],
      [
        'ignores PASIDs',
        IgnoresPasids,
        [
          'PASID 5, function attached: read "hello-from-guest"',
          'PASID 6, not attached: read "written-by-the-device"',
          'PASID 0x1234, not attached: read "written-by-the-device"',
          'PASID 6: read "written-by-the-device"',
          'largest PASID: read "written-by-the-device"',
          'one more than the largest, sent all the same: read "written-by-the-device"',
          'PASID 5, detached: read "written-by-the-device"',
          'PASID 6, still in the second: read "written-by-the-device"',
          'PASID 6, page unmapped: read "written-by-the-device"',
          'PASID 6, another page mapped: read "written-by-the-device"',
          'PASID 6, function detached: rejected 59h',
        ],
      ],
      [
        'looks at 8 bits of a PASID',
        MasksPasids,
        [
          'PASID 0x1234, not attached: rejected 59h',
          'largest PASID: rejected 51h',
          'one more than the largest, sent all the same: rejected 48h',
        ],
      ],
    ];

    it.each(models)(
      '%s: the table shows it',
      async (_name, Model, wrong) => {
        const { steps } = await boot({
          mode: 'base',
          makeIommu: (memory, options) => new Model({ ...options, memory }),
        });
        const right = baseTable({ width: 16, unmapped: '71h' });
        expect(steps.length).toBe(right.length);
        expect(steps.filter((line, i) => line !== right[i])).toEqual(wrong);
      },
      150_000,
    );
  });
});
