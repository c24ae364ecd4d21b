import { afterAll, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { field, list, inWorld, removeScratch, whyNoShim } from './mirror-support.ts';

afterAll(removeScratch);

const WIDTH = { WIDTH: '16' };
/** `IOMMU_HWPT_ALLOC_PASID`. */
const PASID = 8;

bed('vfio-shim', whyNoShim)('the mirror of a TableIommu', () => {
  it('attaches the requests without PASID first, and has the same mappings', () => {
    const { result, calls } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror, events } = await w.tableWorld(root);
       const before = w.hostState();
       iommu.attach(fn, 5);
       iommu.map(fn, 5, { iova: 0x10000, gpa: 0x2000, size: 0x3000, permissions: 'rw' });
       iommu.map(fn, 5, { iova: 0xffff_f000_0000n, gpa: 0x1_0000_1000n, size: 0x1000, permissions: 'rx' });
       iommu.attach(fn);
       iommu.map(fn, null, { iova: 0, gpa: 0x7f_f000, size: 0x1000, permissions: 'w' });
       const after = w.hostState();
       mirror.close();
       return { before, after, end: w.hostState(), events };`,
    );
    expect(field(result, 'before')).toMatchObject({ rid: null, pasids: {}, objects: 0 });
    expect(field(result, 'after')).toMatchObject({
      rid: { flags: PASID, areas: [['0x0', '0x1000', '0x7ff000', 3]] },
      pasids: {
        5: {
          flags: PASID,
          areas: [
            ['0x10000', '0x3000', '0x2000', 7],
            ['0xfffff0000000', '0x1000', '0x100001000', 5],
          ],
        },
      },
    });
    expect(field(result, 'end')).toMatchObject({ rid: null, pasids: {}, objects: 0 });
    expect(field(result, 'events')).toEqual([
      ['attached', 5],
      ['attached', null],
      ['detached', 5],
      ['detached', null],
    ]);
    expect(calls).toContain('IOMMU_IOAS_MAP ok');
  });

  it('leaves the requests without PASID on a page table that maps nothing while only PASIDs are attached', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn } = await w.tableWorld(root);
       iommu.attach(fn);
       iommu.map(fn, null, { iova: 0, gpa: 0, size: 0x1000, permissions: 'r' });
       iommu.attach(fn, 9);
       iommu.detach(fn);
       const empty = w.hostState();
       iommu.detach(fn, 9);
       return [empty, w.hostState()];`,
    );
    expect(result).toMatchObject([
      { rid: { flags: PASID, areas: [] }, pasids: { 9: { areas: [] } } },
      { rid: null, pasids: {} },
    ]);
  });

  it('lets a listener configure anew what the host refused', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror } = await w.tableWorld(root);
       iommu.attach(fn, 5);
       mirror.once('failure', () => {
         iommu.detach(fn, 5);
         iommu.attach(fn, 5);
         iommu.map(fn, 5, { iova: 0x1000, gpa: 0x2000, size: 0x1000, permissions: 'r' });
       });
       iommu.map(fn, 5, { iova: 0, gpa: 0, size: 0x1000, permissions: 'rp' });
       return [mirror.failures, iommu.isBlocked(fn, 5), w.hostState().pasids];`,
    );
    expect(result).toEqual([
      [],
      false,
      { 5: expect.objectContaining({ areas: [['0x1000', '0x1000', '0x2000', 5]] }) },
    ]);
  });

  it('leaves the blocks of a function alone that took its requester ID', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror, segment } = await w.tableWorld(root);
       segment.remove(fn);
       const other = segment.add('01:00.0', w.aFunction());
       iommu.block(other, 5);
       mirror.close();
       return iommu.isBlocked(other, 5);`,
    );
    expect(result).toBe(true);
  });

  it('cuts mappings by mapping what is left again, and reaches over regions of memory', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn } = await w.tableWorld(root);
       iommu.attach(fn, 1);
       iommu.map(fn, 1, { iova: 0x10000, gpa: 0x20000, size: 0x10000, permissions: 'rw' });
       iommu.unmap(fn, 1, { iova: 0x14000, size: 0x1000 });
       const cut = w.hostState().pasids[1].areas;
       iommu.unmap(fn, 1, { iova: 0, size: 0x12000 });
       const left = w.hostState().pasids[1].areas;
       iommu.unmap(fn, 1, { iova: 0, size: 0x10000_0000 });
       return [cut, left, w.hostState().pasids[1].areas];`,
    );
    expect(result).toEqual([
      [
        ['0x10000', '0x4000', '0x20000', 7],
        ['0x15000', '0xb000', '0x25000', 7],
      ],
      [
        ['0x12000', '0x2000', '0x22000', 7],
        ['0x15000', '0xb000', '0x25000', 7],
      ],
      [],
    ]);
  });

  it('takes over what was configured before it, and a state that is restored', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror, make } = await w.tableWorld(root);
       iommu.attach(fn, 3);
       iommu.map(fn, 3, { iova: 0x5000, gpa: 0x6000, size: 0x1000, permissions: 'rw' });
       const state = iommu.saveState();
       mirror.close();
       const again = make();
       const taken = w.hostState();
       iommu.reset();
       const reset = w.hostState();
       iommu.restoreState(state);
       return { taken, reset, restored: w.hostState(), attached: again.attached };`,
    );
    const mapped = { rid: {}, pasids: { 3: { areas: [['0x5000', '0x1000', '0x6000', 7]] } } };
    expect(result).toMatchObject({ taken: mapped, reset: { rid: null, pasids: {} }, restored: mapped });
    expect(field(result, 'attached')).toEqual([3]);
  });

  it('follows the function to another requester ID, and lets go when it leaves', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn } = await w.tableWorld(root);
       iommu.attach(0x100, 1);
       iommu.attach(0x200, 2);
       // As a segment does it when a bridge gets another bus number.
       fn.endpointState.rid = 0x200;
       iommu.endpointMoved(fn.endpointState, 0x100);
       const moved = Object.keys(w.hostState().pasids);
       iommu.detachEndpoint(fn.endpointState);
       return [moved, w.hostState().rid];`,
    );
    expect(result).toEqual([['2'], null]);
  });

  it('refuses PASID 0 with an event, and never sends it', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, events, mirror } = await w.tableWorld(root);
       iommu.attach(fn, 0);
       iommu.map(fn, 0, { iova: 0, gpa: 0, size: 0x1000, permissions: 'rw' });
       const asked = iommu.request({ rid: 0x100, pasid: 0, address: 0, access: 'read' });
       const failures = mirror.failures.map(({ pasid, reason }) => [pasid, reason]);
       iommu.detach(fn, 0);
       return { asked, failures, events, host: w.hostState(), after: mirror.failures.length };`,
    );
    expect(field(result, 'asked')).toMatchObject({ status: 'unsupported-request', reason: 'blocked' });
    expect(field(result, 'failures')).toEqual([[0, 'pasid-0']]);
    expect(field(result, 'events')).toEqual([
      ['failure', 0, 'pasid-0', expect.stringContaining('PASID 0x0')],
    ]);
    expect(result).toMatchObject({ host: { rid: null }, after: 0 });
  });

  it.each([
    ['IOMMU_IOAS_ALLOC:12', 'IOMMU_IOAS_ALLOC'],
    ['IOMMU_HWPT_ALLOC:95', 'IOMMU_HWPT_ALLOC'],
    ['ATTACH_PASID:16', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT'],
    ['VFIO_DEVICE_ATTACH_IOMMUFD_PT:19', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT'],
    ['IOMMU_IOAS_MAP:12', 'IOMMU_IOAS_MAP'],
  ])('refuses a PASID while the host refuses it: %s', (fail, call) => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, events, mirror } = await w.tableWorld(root);
       const mapping = { iova: 0, gpa: 0, size: 0x1000, permissions: 'rw' };
       const ask = () => { const { status, reason } = iommu.request({ rid: 0x100, pasid: 5, address: 0, access: 'read' }); return { status, reason }; };
       process.env.VPCI_SHIM_FAIL = '${fail}';
       iommu.attach(fn, 5);
       iommu.map(fn, 5, mapping);
       const refused = { asked: ask(), host: w.hostState(), failures: mirror.failures.length };
       process.env.VPCI_SHIM_FAIL = '';
       iommu.detach(fn, 5);
       iommu.attach(fn, 5);
       iommu.map(fn, 5, mapping);
       const again = { asked: ask(), pasids: w.hostState().pasids, failures: mirror.failures.length };
       mirror.close();
       return { refused, again, events, end: w.hostState().objects };`,
    );
    expect(field(result, 'refused')).toMatchObject({
      asked: { reason: 'blocked' },
      host: { rid: null, pasids: {}, objects: expect.any(Number) },
      failures: 1,
    });
    expect(field(result, 'again')).toMatchObject({ asked: { status: 'translated' }, failures: 0 });
    expect(field(field(result, 'again'), 'pasids')).toHaveProperty('5');
    const failures = list(result, 'events').filter((event) => list(event)[0] === 'failure');
    expect(failures).toEqual([
      ['failure', 5, 'host', expect.stringMatching(new RegExp(`^${call} on .* failed: E`))],
    ]);
    expect(field(result, 'end')).toBe(0);
  });

  it.each([
    ["{ iova: 0, gpa: 0, size: 0x1000, permissions: 'rp' }", 'privileged requests only'],
    ["{ iova: 0, gpa: 0x4000_0000, size: 0x1000, permissions: 'r' }", 'no guest memory'],
    ["{ iova: 0, gpa: 0x7f_f000, size: 0x2000, permissions: 'r' }", 'no guest memory'],
  ])('cannot have %s', (mapping, words) => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, events } = await w.tableWorld(root);
       iommu.attach(fn, 5);
       iommu.map(fn, 5, ${mapping});
       return [events, w.hostState().pasids, iommu.isBlocked(fn, 5)];`,
    );
    expect(result).toEqual([
      [
        ['attached', 5],
        ['detached', 5],
        ['failure', 5, 'unsupported', expect.stringContaining(words)],
      ],
      {},
      true,
    ]);
  });

  it('keeps a PASID blocked that the host does not give back, and takes it back at the next chance', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror } = await w.tableWorld(root);
       iommu.attach(fn, 5);
       process.env.VPCI_SHIM_FAIL = 'DETACH_PASID:16';
       iommu.detach(fn, 5);
       const stuck = [Object.keys(w.hostState().pasids), mirror.failures.map(({ pasid }) => pasid), iommu.isBlocked(fn, 5)];
       process.env.VPCI_SHIM_FAIL = '';
       mirror.close();
       return [stuck, w.hostState()];`,
    );
    expect(result).toMatchObject([[['5'], [5], true], { rid: null, pasids: {} }]);
  });

  it('gives all PASIDs up when the requests without one cannot be refused any more', () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, mirror } = await w.tableWorld(root);
       iommu.attach(fn);
       iommu.attach(fn, 5);
       process.env.VPCI_SHIM_FAIL = 'ATTACH_RID:16';
       iommu.detach(fn);
       return [w.hostState(), mirror.failures.map(({ pasid }) => pasid), iommu.isBlocked(fn, 5)];`,
    );
    expect(result).toMatchObject([{ rid: null, pasids: {} }, [5], true]);
  });

  it.each([
    ['group', '0', 'VPCI_UNSUPPORTED', 'open it by cdev'],
    ['cdev', '8', 'VPCI_MEMORY', 'whole pages'],
  ])('says what it cannot mirror: opened by %s, memory at %s', (via, offset, code, words) => {
    const { result } = inWorld(
      WIDTH,
      `const { TableIommu } = await import('vpci/table');
       const { PciSegment } = await import('vpci');
       const device = await vfio.openVfioDevice('1:0.0', { root, via: '${via}' });
       const iommu = new TableIommu();
       const endpoint = w.aFunction();
       new PciSegment({ iommu }).add('01:00.0', endpoint);
       const memory = [{ base: 0, buffer: w.regions[0].buffer, offset: ${offset}, size: 4096 }];
       try { new vfio.IommufdMirror({ device, iommu, endpoint, memory }); return ['made']; }
       catch ({ code, message }) { return [code, message]; }`,
    );
    expect(result).toEqual([code, expect.stringContaining(words)]);
  });

  it('forwards page requests with a fault queue while the guest has them on', async () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn, events } = await w.tableWorld(root);
       iommu.attach(fn, 5);
       const heard = [];
       iommu.on('page-request', (event) => heard.push({ ...event, address: Number(event.address) }));
       w.enablePri(fn);
       const flags = w.hostState().pasids[5].flags;
       const request = new Promise((resolve) => iommu.once('page-request', resolve));
       w.fault(3, 5, 17, 3, 0x7000, 99);
       await request;
       iommu.respond(fn, { pasid: 5, prgi: 17, response: 0 });
       const first = w.response();
       w.fault(3, 6, 18, 1, 0x8000, 100);
       const refused = await w.nextResponse();
       w.enablePri(fn, false);
       return { flags, heard, first, refused, off: w.hostState().pasids[5].flags, events };`,
    );
    expect(result).toMatchObject({
      flags: PASID | 4,
      heard: [{ rid: 0x100, pasid: 5, prgi: 17, read: true, write: true, last: true, address: 0x7000 }],
      first: 99 * 256,
      refused: 100 * 256 + 1,
      off: PASID,
    });
    expect(field(result, 'events')).toEqual([
      ['attached', 5],
      ['replaced', 5],
      ['replaced', 5],
    ]);
  });

  it('refuses a group whose index comes again before its answer, and leaves none open', async () => {
    const { result } = inWorld(
      WIDTH,
      `const { iommu, fn } = await w.tableWorld(root);
       iommu.attach(fn, 5);
       let heard = 0;
       iommu.on('page-request', () => { heard += 1; });
       w.enablePri(fn);
       w.fault(1, 5, 17, 1, 0x6000, 98);
       w.fault(3, 5, 17, 1, 0x7000, 98);
       w.fault(3, 5, 17, 1, 0x8000, 99);
       while (heard < 3) await new Promise((resolve) => setTimeout(resolve, 5));
       const refused = [w.response(), w.response()];
       iommu.respond(fn, { pasid: 5, prgi: 17, response: 0 });
       return { refused, answered: [w.response(), w.response()] };`,
    );
    expect(result).toEqual({ refused: [98 * 256 + 1, -1], answered: [99 * 256, -1] });
  });
});
