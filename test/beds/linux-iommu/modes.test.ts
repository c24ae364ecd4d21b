// Bed G: nested translation, ATS and page requests, faults in the driver's words, legacy mode, and kernels as they come.
import { beforeAll, describe, expect, it } from 'vitest';
import type { EngineOrder } from 'vpci/linux-guest';
import type { ExplanationStep } from 'vpci/vtd';
import { bed } from '../../support/beds.ts';
import { kernels } from '../qemu/qemu.ts';
import { boot, type Boot, readReport, reportOf, whyNotHere } from './machine.ts';
import { START } from './table.ts';

bed('linux-iommu', whyNotHere)('what else Linux does with the unit', () => {
  describe('nested translation', () => {
    let run: Boot;
    beforeAll(async () => {
      run = await boot({ mode: 'nested' });
    }, 150_000);

    it('goes through the first stage of a user and the second stage below', () => {
      expect(run.steps).toEqual([
        ...START,
        'IOMMU: type 1, PASIDs of 16 bits',
        'second stage: ok',
        'first stage of the user: ok',
        'attach the function to the second stage: ok',
        'no PASID: read "hello-from-guest"',
        'attach PASID 10 to the second stage: ok',
        'PASID 10: read "hello-from-guest"',
        'PASID 10, unmapped: rejected 79h',
        'attach PASID 11 to the first stage of the user: ok',
        'PASID 11: read "hello-from-guest"',
        'PASID 11, a write: written',
        'the guest finds there: "written-by-the-device"',
        'PASID 11, read-only page: read "read-only-page"',
        'PASID 11, read-only page, a write: rejected 85h',
        'PASID 11, hole in the second stage: rejected 79h',
        'PASID 11, hole in the first stage: rejected 71h',
        'invalidate that page: ok',
        'PASID 11, the hole filled: read "mapped-later"',
        'PASID 11, an entry changed: read "written-by-the-device"',
        'invalidate that page: ok',
        'PASID 11, the change invalidated: read "mapped-later"',
        'detach PASID 11: ok',
        'PASID 11, detached: rejected 59h',
      ]);
    });

    it('is told of the pages that the user invalidates, and of no others', () => {
      const log = run.log.filter((line) => !line.startsWith('translation-invalidated - '));
      expect(log.slice(log.indexOf('read 11 done'))).toEqual([
        'read 11 done',
        'write 11 done',
        'read 11 done',
        'write 11 rejected',
        'read 11 rejected',
        'read 11 rejected',
        'translation-invalidated 11 0x3000+0x1000',
        'read 11 done',
        'read 11 done',
        'translation-invalidated 11 0x0+0x1000',
        'read 11 done',
        'pasid-invalidated 11',
        'pasid-invalidated all',
        'read 11 rejected',
        // The end: translation off.
        'pasid-invalidated all',
      ]);
    });
  });

  describe('ATS and page requests', () => {
    let run: Boot;
    beforeAll(async () => {
      run = await boot({ mode: 'ats', engine: { ats: true, pri: true }, atsr: true });
    }, 150_000);

    it('translates for a device with a translation cache, and asks the guest for pages', () => {
      expect(run.steps).toEqual([
        ...START,
        'IOMMU: type 1, PASIDs of 16 bits',
        'tables of the first address space: ok',
        'attach the function to the first: ok',
        'attach PASID 5 to the first: ok',
        'no PASID, translation held: read "hello-from-guest"',
        'PASID 5, translation asked for: translated',
        'PASID 5, translation held: read "hello-from-guest"',
        'PASID 5, a write: written',
        'the guest finds there: "written-by-the-device"',
        'PASID 5, page unmapped: rejected 71h',
        'PASID 5, another page mapped: read "another-page"',
        'detach PASID 5: ok',
        'PASID 5, detached: rejected 59h',
        'tables of the second address space, with a fault queue: ok',
        'attach PASID 9 to the second, with a fault queue: ok',
        'page request: PASID 9, address 30000000, permissions 1, last 1',
        'PASID 9, page given: read "mapped-on-page-fault"',
        'page request: PASID 9, address 30001000, permissions 1, last 1',
        'PASID 9, page refused: rejected 71h',
        'detach PASID 9: ok',
        'PASID 9, detached: rejected 59h',
      ]);
    });

    it('hears of invalidations before Linux says that they are done, and of the answers', () => {
      const log = run.log.filter((line) => !/^(?:translation|pasid)-invalidated/.test(line));
      expect(log.slice(log.indexOf('read - done'))).toEqual([
        'read - done',
        'translate 5 done',
        'read 5 done',
        'write 5 done',
        'atc-invalidated - 0x10000000+0x1000',
        'atc-invalidated 5 0x10000000+0x1000',
        'read 5 rejected',
        'read 5 done',
        'atc-invalidated 5 whole',
        'read 5 rejected',
        'page-request 9 0 0x30000000',
        'page-response 9 0 0',
        'read 9 done',
        'page-request 9 1 0x30001000',
        'page-response 9 1 1',
        'read 9 rejected',
        'atc-invalidated 9 whole',
        'atc-invalidated 9 whole',
        'read 9 rejected',
      ]);
      // A translated request has no PASID, and reaches memory as it is.
      const held = run.requests.filter(({ order, outcome }) => order.ats === true && outcome === 'done');
      expect(held.map(({ verdict }) => verdict?.status)).toEqual(held.map(() => 'bypass'));
      expect(held.length).toBe(5);
    });
  });

  describe('faults', () => {
    let run: Boot;
    beforeAll(async () => {
      run = await boot({
        mode: 'faults',
        onMachine: ({ engine }) => {
          // Linux prints ten lines in five seconds: a fault takes three, but eight at once take ten.
          engine.once('request', () => {
            for (const order of WRONG) void engine.order({ data: new Uint8Array(8), ...order });
          });
        },
      });
    }, 150_000);

    it('are the same in the words of Linux', () => {
      expect(run.faults.length).toBe(WRONG.length);
      expect(run.reported.map((line) => readReport(line).report)).toEqual(run.faults.map(reportOf));
      expect(run.reported.map((line, i) => [run.faults[i]?.reason, readReport(line).words])).toEqual([
        ['first-stage-not-present', 'SM: Present bit in first-level paging entry is clear'],
        ['no-write-permission', 'SM: No write permission for Write/AtomicOp request'],
        ['pasid-entry-not-present', 'SM: Present bit in PASID Table Entry is clear'],
        ['pasid-directory-not-present', 'SM: Present bit in Directory Entry is clear'],
        ['first-stage-not-present', 'SM: Present bit in first-level paging entry is clear'],
        ['execute-not-supported', 'SM: ERE field is clear in PASID Table Entry'],
        ['privileged-not-enabled', 'SM: SRE field is clear in PASID Table Entry'],
        ['pasid-directory-not-present', 'SM: Present bit in Directory Entry is clear'],
      ]);
    });
  });

  it('legacy mode', async () => {
    const run = await boot({ mode: 'legacy', intelIommu: 'on,sm_off' });
    expect(run.steps).toEqual([
      'PASID Control of the endpoint: 0',
      'bind to vfio-pci: ok',
      'bind to iommufd: ok',
      'IOMMU: type 1, PASIDs of 0 bits',
      'no PASID, nothing attached: rejected 2h',
      'tables for PASIDs: ok',
      'tables: ok',
      'attach the function: ok',
      'no PASID: read "hello-from-guest"',
      'no PASID, a write: written',
      'the guest finds there: "written-by-the-device"',
      'no PASID, read-only page, a write: rejected 5h',
      'no PASID, unmapped: rejected 6h',
      'PASID 5: not sent',
      'PASID 5, sent all the same: rejected 31h',
      'no PASID, page unmapped: rejected 6h',
    ]);
    const reported = run.reported.slice(0, 3).map(readReport);
    expect(reported.map(({ report }) => report)).toEqual(run.faults.slice(0, 3).map(reportOf));
    expect(reported.map(({ words }, i) => [run.faults[i]?.reason, words])).toEqual([
      ['context-entry-not-present', 'Present bit in context entry is clear'],
      ['no-write-permission', 'PTE Write access is not set'],
      ['no-read-permission', 'PTE Read access is not set'],
    ]);
  }, 150_000);

  it.each(kernels())(
    'Linux %s, as it comes',
    async (kernel) => {
      const explained: (readonly ExplanationStep[])[] = [];
      const run = await boot({
        mode: 'probe',
        kernel,
        onMachine: ({ unit, engine }) => {
          engine.on('request', ({ order }) => {
            const { pasid, address } = order;
            explained.push(
              unit.iommu.explain({ endpoint: engine.function, pasid, address, access: 'read' }).steps,
            );
          });
        },
      });
      expect(run.steps).toEqual([
        'PASID Control of the endpoint: 7',
        'no PASID: rejected 71h',
        'PASID 5: rejected 59h',
        'PASID 0x1234: rejected 51h',
      ]);
      expect(run.release).toBe(kernel);
      // Without PASID, PASID 5, PASID 1234h: the same context entry, in which Linux has 64 Ki PASIDs (PDTS 3).
      expect(explained.length).toBe(3);
      for (const steps of explained) {
        expect(fieldsOf(steps, 'unit')).toMatchObject({ TES: true, TTM: 1 });
        expect(fieldsOf(steps, 'root entry')).toMatchObject({ bus: 1, half: 'lower', P: 1 });
        const context = {
          P: 1,
          FPD: 0,
          DTE: 0,
          PASIDE: 1,
          PRE: 0,
          EPTR: 0,
          PDTS: 3,
          RID_PASID: 0,
          RID_PRIV: 0,
        };
        expect(fieldsOf(steps, 'context entry')).toMatchObject(context);
      }
      const [none = [], five = [], beyond = []] = explained;
      expect(fieldsOf(none, 'PASID table entry')).toMatchObject({ PASID: 0, P: 1, PGTT: 1 });
      expect(fieldsOf(five, 'PASID table entry')).toMatchObject({ PASID: 5, P: 0 });
      expect(fieldsOf(beyond, 'PASID directory entry')).toMatchObject({ PASID: 0x1234, P: 0 });
      expect(beyond.map(({ structure }) => structure)).not.toContain('PASID table entry');
      expect(new Set(run.faults.map(reportOf))).toEqual(
        new Set(run.reported.map((line) => readReport(line).report)),
      );
    },
    150_000,
  );
});

function fieldsOf(steps: readonly ExplanationStep[], structure: string): ExplanationStep['fields'] {
  return steps.find((step) => step.structure === structure)?.fields ?? {};
}

/** Requests that must fail, each for another reason. */
const WRONG: readonly Omit<EngineOrder, 'data'>[] = [
  { kind: 'read', pasid: 5, address: 0x2000_0000n },
  { kind: 'write', pasid: 5, address: 0x1000_1000n },
  { kind: 'read', pasid: 6, address: 0x1000_0000n },
  { kind: 'read', pasid: 0x1234, address: 0x1000_0ff8n },
  { kind: 'write', pasid: null, address: 0x3000_0000n },
  { kind: 'execute', pasid: 5, address: 0x1000_0000n },
  { kind: 'read', pasid: 5, address: 0x1000_0000n, privileged: true },
  { kind: 'write', pasid: 0xffff, address: 0x1_2345_6000n },
];
