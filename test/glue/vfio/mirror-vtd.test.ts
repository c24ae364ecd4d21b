import { afterAll, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { field, list, inWorld, removeScratch, whyNoShim } from './mirror-support.ts';
import { hostTree, runOnHost } from './shim.ts';

afterAll(removeScratch);

const HOST = { WIDTH: '20' };
const FIRST_STAGE = 1;
/** `IOMMU_HWPT_ALLOC_PASID`, with `IOMMU_HWPT_ALLOC_NEST_PARENT` and with `IOMMU_HWPT_FAULT_ID_VALID`. */
const PASID = 8;
const PARENT = 9;
const FAULTS = 12;

bed('vfio-shim', whyNoShim)('the mirror of a VtdIommu', () => {
  it('attaches nothing before the guest switched translation on, then what its entries say', () => {
    const { result } = inWorld(
      HOST,
      `const { guest, mirror, events } = await w.vtdWorld(root);
       guest.entry(0, { pgtt: 4 });
       guest.entry(5, { pgtt: ${FIRST_STAGE}, table: 0x30_0000, word2: 0x91n });
       const before = w.hostState();
       guest.enable();
       const on = w.hostState();
       guest.disable();
       const off = w.hostState();
       mirror.close();
       return { before, on, off, end: w.hostState(), events };`,
    );
    expect(field(result, 'before')).toMatchObject({ rid: null, pasids: {}, objects: 0 });
    expect(field(result, 'on')).toMatchObject({
      rid: {
        flags: PARENT,
        areas: [
          ['0x0', '0x800000', '0x0', 7],
          ['0x100000000', '0x800000', '0x100000000', 7],
        ],
      },
      // SRE, WPE and EAFE of the entry are bits 0, 4 and 7; those of the host 0, 2 and 1.
      pasids: { 5: { flags: PASID, table: '0x300000', s1: 7, width: 48, parentFlags: PARENT } },
    });
    expect(field(result, 'off')).toMatchObject({ rid: null, pasids: {} });
    expect(field(field(result, 'end'), 'objects')).toBe(0);
    expect(field(result, 'events')).toEqual([
      ['attached', null],
      ['attached', 5],
      ['detached', 5],
      ['detached', null],
    ]);
  });

  it('lets the device reach all of memory while translation is off, when it is told to', () => {
    const { result } = inWorld(
      HOST,
      `const { guest } = await w.vtdWorld(root, { bypass: true });
       const off = w.hostState();
       guest.enable();
       return [off, w.hostState()];`,
    );
    expect(result).toMatchObject([{ rid: { flags: PARENT }, pasids: {} }, { rid: null }]);
  });

  it('attaches, replaces and detaches with the invalidations of the PASID-cache', () => {
    const { result } = inWorld(
      HOST,
      `const { guest, events } = await w.vtdWorld(root);
       guest.enable();
       const tables = () => Object.entries(w.hostState().pasids).map(([pasid, { table, width }]) => [pasid, table, width]);
       const seen = [];
       guest.entry(70, { pgtt: 1, table: 0x30_0000 });
       seen.push(tables());
       guest.pasidCache(70);
       seen.push(tables());
       guest.pasidCache(70);
       guest.entry(70, { pgtt: 1, table: 0x31_0000, word2: 4n });
       guest.entry(0xf_ffff, { pgtt: 1, table: 0x32_0000 });
       guest.pasidCache(70);
       seen.push(tables());
       guest.pasidCacheGlobal();
       seen.push(tables());
       guest.entry(70);
       guest.pasidCache(70);
       seen.push(tables());
       guest.context({ present: false });
       guest.contextGlobal();
       seen.push([tables(), w.hostState().rid]);
       return { seen, events };`,
    );
    expect(field(result, 'seen')).toEqual([
      [],
      [['70', '0x300000', 48]],
      [['70', '0x310000', 57]],
      [
        ['70', '0x310000', 57],
        ['1048575', '0x320000', 48],
      ],
      [['1048575', '0x320000', 48]],
      [[], null],
    ]);
    expect(field(result, 'events')).toEqual([
      ['attached', 70],
      ['replaced', 70],
      ['attached', 0xf_ffff],
      ['detached', 70],
      ['detached', 0xf_ffff],
    ]);
  });

  it('passes invalidations on, to the page tables that they are about', () => {
    const { result } = inWorld(
      HOST,
      `const { guest } = await w.vtdWorld(root);
       guest.context({ ridPasid: 9 });
       guest.entry(9, { pgtt: 1, table: 0x33_0000 });
       guest.entry(5, { pgtt: 1, table: 0x30_0000 });
       guest.enable();
       w.hostState();
       guest.pasidIotlb(5, 0x12345000, 2);
       guest.pasidIotlb(5);
       guest.pasidIotlb(7);
       guest.pasidIotlb(9, 0x1000);
       const asked = w.hostState().invalidations.map(([, ...range]) => range);
       guest.iotlbGlobal();
       return [asked, w.hostState().invalidations.length, w.hostState().rid.table];`,
    );
    const all = ['0x0', '0xffffffffffffffff'];
    expect(result).toEqual([[['0x12344000', '0x4'], all, ['0x1000', '0x1']], 2, '0x330000']);
  });

  it('passes a PASID-cache invalidation of RID_PASID on to the page table of the requests without PASID', () => {
    const { result } = inWorld(
      HOST,
      `const { guest } = await w.vtdWorld(root);
       guest.context({ ridPasid: 9 });
       guest.entry(9, { pgtt: 1, table: 0x33_0000 });
       guest.enable();
       w.hostState();
       guest.pasidCache(9);
       return w.hostState().invalidations.map(([, ...range]) => range);`,
    );
    expect(result).toEqual([['0x0', '0xffffffffffffffff']]);
  });

  it('refuses a unit without caching mode, whose guest does not say when to attach', () => {
    const { result } = inWorld(
      HOST,
      `try {
         await w.vtdWorld(root, {}, { cachingMode: false });
       } catch ({ code, message }) {
         return { code, message };
       }`,
    );
    expect(result).toMatchObject({
      code: 'VPCI_UNSUPPORTED',
      message: expect.stringContaining('caching mode'),
    });
  });

  it.each([
    [2, 'second-stage translation'],
    [3, 'nested translation'],
  ])('cannot have PGTT %i: an event, and the PASID is blocked', (pgtt, words) => {
    const { result } = inWorld(
      HOST,
      `const { guest, iommu, events } = await w.vtdWorld(root);
       guest.enable();
       guest.entry(5, { pgtt: ${pgtt} });
       guest.pasidCache(5);
       const blocked = iommu.isBlocked(0x100, 5);
       guest.entry(5, { pgtt: 1 });
       guest.pasidCache(5);
       return { events, blocked, after: iommu.isBlocked(0x100, 5), pasids: Object.keys(w.hostState().pasids) };`,
    );
    expect(result).toEqual({
      events: [
        ['failure', 5, 'unsupported', expect.stringContaining(words)],
        ['attached', 5],
      ],
      blocked: true,
      after: false,
      pasids: ['5'],
    });
  });

  it('refuses PASID 0 beside another RID_PASID, and takes RID_PASID for no PASID', () => {
    const { result } = inWorld(
      HOST,
      `const { guest, events } = await w.vtdWorld(root);
       guest.context({ ridPasid: 9 });
       guest.entry(9, { pgtt: 1, table: 0x33_0000 });
       guest.entry(0, { pgtt: 1 });
       guest.enable();
       return [events, w.hostState()];`,
    );
    expect(result).toMatchObject([
      [
        ['attached', null],
        ['failure', 0, 'pasid-0', expect.stringContaining('PASID 0x0')],
      ],
      { rid: { table: '0x330000' }, pasids: {} },
    ]);
  });

  it.each([
    ['IOMMU_HWPT_ALLOC:95', '5'],
    ['ATTACH_PASID:22', '5'],
    ['IOMMU_HWPT_INVALIDATE:22', '5'],
  ])('blocks what the host refuses until the guest configures it anew: %s', (fail) => {
    const { result } = inWorld(
      HOST,
      `const { guest, iommu, events, mirror } = await w.vtdWorld(root);
       guest.enable();
       guest.entry(5, { pgtt: 1 });
       process.env.VPCI_SHIM_FAIL = '${fail}';
       guest.pasidCache(5);
       guest.pasidIotlb(5);
       const refused = [iommu.isBlocked(0x100, 5), Object.keys(w.hostState().pasids)];
       process.env.VPCI_SHIM_FAIL = '';
       guest.pasidCache(5);
       const again = [iommu.isBlocked(0x100, 5), Object.keys(w.hostState().pasids)];
       mirror.close();
       return { refused, again, end: w.hostState().objects, failures: events.filter(([event]) => event === 'failure') };`,
    );
    expect(result).toEqual({
      refused: [true, []],
      again: [false, ['5']],
      end: 0,
      failures: [
        ['failure', 5, 'host', expect.stringContaining(fail.startsWith('IOMMU') ? 'IOMMU_HWPT' : 'ATTACH')],
      ],
    });
  });

  it('gives the device up for a guest with more PASIDs than it may have', () => {
    const { result } = inWorld(
      HOST,
      `const { guest, iommu, events } = await w.vtdWorld(root, { maxPasids: 3 });
       for (const pasid of [1, 2, 3]) guest.entry(pasid, { pgtt: 1 });
       guest.enable();
       const three = Object.keys(w.hostState().pasids);
       guest.entry(4, { pgtt: 1 });
       guest.pasidCacheGlobal();
       const four = [w.hostState().rid, Object.keys(w.hostState().pasids), iommu.isBlocked(0x100, 1), iommu.isBlocked(0x100, null)];
       guest.entry(1);
       guest.pasidCache(1);
       return { three, four, again: [Object.keys(w.hostState().pasids), iommu.isBlocked(0x100, 2)], last: events.at(-4) };`,
    );
    expect(result).toEqual({
      three: ['1', '2', '3'],
      four: [null, [], true, true],
      again: [['2', '3', '4'], false],
      last: ['failure', 'all', 'too-many', expect.stringContaining('maxPasids')],
    });
  });

  it('looks once at all that one write of the queue invalidates, before the guest is told', () => {
    const { result, calls } = inWorld(
      HOST,
      `const { guest, mirror, events } = await w.vtdWorld(root);
       const PASIDS = 40, STATUS = 0x40_0000;
       for (let pasid = 1; pasid <= PASIDS; pasid++) guest.entry(pasid, { pgtt: pasid % 2 === 0 ? 1 : 3 });
       guest.enable();
       w.hostState();
       events.length = 0;
       const told = [];
       guest.unit.on('tables-invalidated', () => told.push(Number(guest.read(STATUS))));
       const wait = (value) => [0x25n | (BigInt(value) << 32n), BigInt(STATUS)];
       guest.submitAll(Array.from({ length: 15 }, (_, turn) => [
         [0x37n], [0x12n], [0x11n], [0x07n | (1n << 16n)],
         [0x16n | 0x20n | (1n << 16n) | (2n << 32n), 0x5000n + BigInt(turn) * 0x1000n],
         wait(turn + 1),
       ]).flat());
       return {
         told, status: Number(guest.read(STATUS)), events: events.length, failures: mirror.failures.length,
         invalidations: w.hostState().invalidations.length,
       };`,
    );
    expect(result).toEqual({ told: [0], status: 15, events: 20, failures: 20, invalidations: 20 });
    expect(calls.filter((call) => call.startsWith('IOMMU_HWPT_INVALIDATE'))).toHaveLength(20);
  });

  it('takes page requests to the guest by its queue, and its answers back', () => {
    const { result } = inWorld(
      HOST,
      `const { guest, fn, events } = await w.vtdWorld(root);
       guest.pageQueue();
       guest.entry(5, { pgtt: 1 });
       guest.enable();
       w.enablePri(fn);
       const { flags } = w.hostState().pasids[5];
       w.fault(3, 5, 33, 3, 0x7000n, 77);
       w.fault(3, 6, 34, 1, 0x9000n, 78);
       const refused = await w.nextResponse();
       const words = [guest.read(0x8000), guest.read(0x8008)].map((word) => '0x' + word.toString(16));
       guest.respond(5, 33, 0);
       const answered = w.response();
       guest.respond(5, 33, 0);
       return { flags, refused, words, answered, twice: w.response(), events };`,
    );
    expect(result).toMatchObject({
      flags: FAULTS,
      // PASID 6 has no entry: Invalid Request.
      refused: 78 * 256 + 1,
      // Type 1, PP, the requester, the PASID; read, write, last, group 33, the page.
      words: ['0x501000101', '0x710f'],
      answered: 77 * 256,
      twice: -1,
    });
    expect(list(result, 'events').slice(-1)).toEqual([['replaced', 5]]);
  });

  it.each([
    [{ ...HOST, TYPE: '4' }, 'is an AMD one'],
    [{ ...HOST, TYPE: '2' }, 'is arm-smmuv3'],
    [{ ...HOST, TYPE: '99' }, 'is of a type that is newer than this software;'],
    [{ ...HOST, ECAP: '0x80000000000' }, 'no nested translation'],
    [{ ...HOST, FAIL: 'IOMMU_GET_HW_INFO:95' }, 'does not say what it is'],
  ])('is unsupported on another host: %o', (kernel, words) => {
    const { result } = inWorld(
      kernel,
      `return await w.vtdWorld(root).then(() => 'made', ({ code, message }) => [code, message]);`,
    );
    expect(result).toEqual(['VPCI_UNSUPPORTED', expect.stringContaining(words)]);
  });

  it('leaves read-only memory out where nested translation cannot protect it', () => {
    const { result } = inWorld(
      { ...HOST, ERRATUM: '1' },
      `w.regions[1] = { ...w.regions[1], readOnly: true };
       const { guest } = await w.vtdWorld(root);
       guest.entry(0, { pgtt: 4 });
       guest.enable();
       return w.hostState().rid.areas;`,
    );
    expect(result).toEqual([['0x0', '0x800000', '0x0', 7]]);
  });

  it('does what the program of bed E, for a real kernel, expects', () => {
    const program = 'test/beds/host-kernel/mirror-in-guest.mjs';
    const { out, code, err } = runOnHost([program, '1:0.0', hostTree()], { WIDTH: '16', CAPS: '0' });
    expect([code, err]).toEqual([0, '']);
    const steps = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: string; ok: boolean });
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    const by = Object.fromEntries(steps.map((one) => [one.step, one]));
    expect(by).toMatchObject({
      open: { width: 16, attach: true },
      table: { attached: [[5], [null, 5], [5]], failures: [] },
      cut: { attached: [5], failures: [] },
      beyond: {
        failures: [{ pasid: 0x1_0000, reason: 'host', text: expect.stringContaining('EINVAL') }],
        blocked: true,
        after: [],
      },
      'pasid-0': { failures: [{ pasid: 0, reason: 'pasid-0' }], blocked: true },
      closed: { closed: [], again: [5], reset: [], failures: [] },
      nested: { before: [], attached: [null, 7], replaced: true, failures: [] },
      interrupts: { taken: { intx: true, msi: true, 'msi-x': true } },
    });
  });
});
