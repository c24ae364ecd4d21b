// Whatever an embedder or a guest configures, in whatever order, and whatever the host refuses meanwhile: the host has
// what the model has, and what it does not have the model refuses. The shim ends the process for what no mirror may do.
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { field, inWorld, list, removeScratch, whyNoShim } from './mirror-support.ts';

afterAll(removeScratch);

const RUNS = Number(process.env['VPCI_RUNS'] ?? 8);
const TIMEOUT = 120_000;

const pasid = fc.constantFrom(null, 0, 1, 5, 300);
const page = fc.integer({ min: 0, max: 12 });
const pages = fc.integer({ min: 1, max: 6 });
// Most of the time the host refuses nothing: a PASID that failed stays out until it is configured anew.
const refusal = fc.oneof(
  { weight: 3, arbitrary: fc.constant('') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      'IOMMU_IOAS_MAP:12',
      'IOMMU_HWPT_ALLOC:95',
      'ATTACH_PASID:16',
      'ATTACH_RID:16',
      'IOMMU_IOAS_ALLOC:12',
      'IOMMU_HWPT_INVALIDATE:22',
      'IOMMU_FAULT_QUEUE_ALLOC:95',
    ),
  },
);
const permissions = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom('r', 'rw', 'w', 'rx', 'x', 'rwx') },
  { weight: 1, arbitrary: fc.constant('rp') },
);

const tableOp = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant('attach'), pasid }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('detach'), pasid }) },
  {
    weight: 9,
    arbitrary: fc.record({
      op: fc.constant('map'),
      pasid,
      page,
      pages,
      permissions,
    }),
  },
  { weight: 6, arbitrary: fc.record({ op: fc.constant('unmap'), pasid, page, pages }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom('detachAll', 'reset', 'save', 'restore', 'save', 'restore') }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('pri'), on: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('fail'), fail: refusal }) },
);

const vtdOp = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('entry'),
      pasid: fc.constantFrom(0, 1, 5, 300, 0xf_ffff),
      pgtt: fc.constantFrom(undefined, 1, 1, 1, 2, 3, 4),
      table: fc.constantFrom(0x30_0000, 0x31_0000, 0x32_0000),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant('cache'), pasid: fc.constantFrom(0, 1, 5, 300, 0xf_ffff) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constantFrom('global', 'iotlb', 'off', 'on', 'reset') }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom('hold', 'hold', 'release') }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('rid'), ridPasid: fc.constantFrom(0, 1, 5) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('pri'), on: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('fail'), fail: refusal }) },
);

/** Each step left behind what was wanted, what the host has, and what the model should block and does not. */
function check(steps: unknown): void {
  expect(list(steps).length).toBeGreaterThan(0);
  for (const [i, step] of list(steps).entries()) {
    const unblocked = field(step, 'unblocked');
    expect({ i, host: field(step, 'host'), unblocked }).toEqual({
      i,
      host: field(step, 'wanted'),
      unblocked: [],
    });
  }
}

bed('vfio-shim', whyNoShim)('a mirror and its model', () => {
  it(
    'agree: a TableIommu',
    () => {
      fc.assert(
        fc.property(fc.array(tableOp, { minLength: 1, maxLength: 300, size: 'max' }), (ops) => {
          const { result } = inWorld(
            { WIDTH: '16' },
            `const { iommu, fn, mirror } = await w.tableWorld(root);
             const quietly = (call) => { try { call(); } catch ({ code }) { if (code !== 'VPCI_IOMMU_MAP') throw new Error(code); } };
             let saved = iommu.saveState();
             const run = {
               attach: ({ pasid }) => iommu.attach(fn, pasid),
               detach: ({ pasid }) => iommu.detach(fn, pasid),
               detachAll: () => iommu.detachAll(fn),
               reset: () => iommu.reset(),
               save: () => { saved = iommu.saveState(); },
               restore: () => iommu.restoreState(saved),
               map: ({ pasid, page, pages, permissions }) => quietly(() =>
                 iommu.map(fn, pasid, { iova: page * 4096, gpa: 0x10000 + page * 4096, size: pages * 4096, permissions })),
               unmap: ({ pasid, page, pages }) => quietly(() => iommu.unmap(fn, pasid, { iova: page * 4096, size: pages * 4096 })),
               pri: ({ on }) => w.enablePri(fn, on),
               fail: ({ fail }) => { process.env.VPCI_SHIM_FAIL = fail; },
             };
             const flags = (letters) => 1 | (letters.includes('w') ? 2 : 0) | (letters.includes('r') ? 4 : 0);
             const hex = (page) => '0x' + (page * 4096).toString(16);
             const steps = [];
             for (const op of ${JSON.stringify(ops)}) {
               run[op.op](op);
               const failed = new Set(mirror.failures.map(({ pasid }) => pasid));
               const wanted = {};
               for (const { pasid, mappings } of iommu.saveState().attachments) {
                 if (failed.has(pasid)) continue;
                 wanted[pasid] = mappings.filter(({ permissions }) => /[rw]/.test(permissions))
                   .map(({ iovaPage, gpaPage, pages, permissions }) => [hex(iovaPage), hex(pages), hex(gpaPage), flags(permissions)]);
               }
               const { rid, pasids } = w.hostState();
               const host = Object.fromEntries(Object.entries(pasids).map(([pasid, { areas }]) => [pasid, areas]));
               if (wanted[null] !== undefined) host[null] = rid?.areas ?? 'nothing';
               else if (rid !== null && rid.areas.length > 0) host[null] = rid.areas;
               else if ((rid === null) !== (Object.keys(pasids).length === 0)) host[null] = 'an empty one alone';
               steps.push({ wanted, host, unblocked: [...failed].filter((pasid) => !iommu.isBlocked(fn, pasid)) });
             }
             process.env.VPCI_SHIM_FAIL = '';
             mirror.close();
             const { rid, objects } = w.hostState();
             steps.push({ wanted: [null, 0], host: [rid, objects], unblocked: [] });
             return steps;`,
          );
          check(result);
        }),
        { numRuns: RUNS, interruptAfterTimeLimit: TIMEOUT / 2, markInterruptAsFailure: false },
      );
    },
    TIMEOUT,
  );

  it(
    'agree: a VtdIommu',
    () => {
      fc.assert(
        fc.property(fc.array(vtdOp, { minLength: 1, maxLength: 300, size: 'max' }), (ops) => {
          const { result } = inWorld(
            { WIDTH: '20' },
            `const { guest, fn, iommu, mirror } = await w.vtdWorld(root);
             const written = new Map(), live = new Map();
             let on = false, ridPasid = 0, liveRid;
             const look = (pasids) => {
               for (const pasid of pasids) {
                 if (on && written.has(pasid)) live.set(pasid, written.get(pasid));
                 else live.delete(pasid);
               }
               liveRid = on ? written.get(ridPasid) : undefined;
             };
             const all = () => look([0, 1, 5, 300, 0xf_ffff]);
             // By the queue: in effect once its tail is written.
             const later = [];
             const told = (call) => { later.push(call); if (!guest.hold) release(); };
             const release = () => { guest.release(); for (const call of later.splice(0)) call(); };
             const HELD = ['entry', 'cache', 'global', 'iotlb', 'hold'];
             const run = {
               entry: ({ pasid, pgtt, table }) => {
                 guest.entry(pasid, { pgtt, table });
                 if (pgtt === undefined) written.delete(pasid);
                 else written.set(pasid, { pgtt, table });
               },
               cache: ({ pasid }) => { if (!on) return; guest.pasidCache(pasid); told(() => look([pasid])); },
               global: () => { if (!on) return; guest.pasidCacheGlobal(); told(all); },
               iotlb: () => { if (on) guest.iotlbGlobal(); },
               hold: () => { guest.hold = true; },
               release: () => {},
               on: () => { if (on) return; guest.restartQueue(); guest.enable(); on = true; all(); },
               off: () => { if (!on) return; guest.unit.writeRegister(0x18, 4, 0); on = false; all(); },
               reset: () => { iommu.reset(); on = false; all(); },
               rid: (op) => { ({ ridPasid } = op); guest.context({ ridPasid }); if (on) { guest.contextGlobal(); all(); } else all(); },
               pri: (op) => { w.enablePri(fn, op.on); },
               fail: ({ fail }) => { process.env.VPCI_SHIM_FAIL = fail; },
             };
             const shown = (entry) => (entry.pgtt === 1 ? '0x' + entry.table.toString(16) : 'all of memory');
             const hostShown = (one) => one?.table ?? (one === null ? undefined : one.areas.length > 0 ? 'all of memory' : 'nothing');
             const steps = [];
             let priWas = fn.endpointState.priEnable;
             for (const op of ${JSON.stringify(ops)}) {
               // Page requests on or off is looked at everywhere: then entries count that no invalidation told of yet.
               if (!HELD.includes(op.op)) release();
               run[op.op](op);
               if (fn.endpointState.priEnable !== priWas) { priWas = fn.endpointState.priEnable; all(); }
               const failed = new Set(mirror.failures.map(({ pasid }) => pasid));
               const wanted = {};
               for (const [pasid, entry] of live) {
                 if (pasid !== ridPasid && !failed.has(pasid)) wanted[pasid] = pasid === 0 || entry.pgtt === 2 || entry.pgtt === 3 ? 'not possible' : shown(entry);
               }
               if (liveRid !== undefined && !failed.has(null)) wanted.rid = shown(liveRid);
               else if (Object.keys(wanted).length > 0) wanted.rid = 'nothing';
               const { rid, pasids } = w.hostState();
               const host = Object.fromEntries(Object.entries(pasids).map(([pasid, one]) => [pasid, hostShown(one)]));
               const ridShown = hostShown(rid);
               if (ridShown !== undefined) host.rid = ridShown;
               steps.push({ wanted, host, unblocked: [...failed].filter((pasid) => !iommu.isBlocked(fn, pasid)) });
             }
             process.env.VPCI_SHIM_FAIL = '';
             mirror.close();
             const { rid, objects } = w.hostState();
             steps.push({ wanted: [null, 0], host: [rid, objects], unblocked: [] });
             return steps;`,
          );
          check(result);
        }),
        { numRuns: RUNS, interruptAfterTimeLimit: TIMEOUT / 2, markInterruptAsFailure: false },
      );
    },
    TIMEOUT,
  );
});
