import { describe, expect, it } from 'vitest';
import type { AtcInvalidation, InterruptEvent, PrgResponse } from '../../../src/viommu/index.ts';
import * as g from './guest.ts';

const IQE = 0x10;
const ITE = 0x40;

function running(options: ConstructorParameters<typeof g.Guest>[0] = {}, ttm = 1, wide = true): g.Guest {
  const guest = new g.Guest(options);
  guest.enable(ttm);
  guest.enableQueue(wide);
  return guest;
}

describe('the invalidation queue', () => {
  it('does what a driver expects: QIES, head, and the status of a wait', () => {
    const guest = new g.Guest();
    guest.enableQueue();
    expect(guest.reg(0x1c)).toBe(0x0400_0000);
    guest.enable();
    guest.invalidate(g.contextGlobal, g.pasidCacheGlobal, g.iotlbGlobal, g.wait(0x50_0004n, 0x1234));
    expect(guest.reg(0x80)).toBe(0x80);
    expect(guest.view.getUint32(0x50_0004, true)).toBe(0x1234);
    expect(guest.reg(0x34)).toBe(0);
    // The whole way round.
    for (let turn = 0; turn < 200; turn++) guest.invalidate(g.wait(0x50_0004n, turn));
    expect(guest.view.getUint32(0x50_0004, true)).toBe(199);
    expect(guest.reg(0x80)).toBe(guest.reg(0x88));
    guest.setReg(0x18, guest.reg(0x1c) & ~0x4400_0000);
    expect(guest.reg(0x80)).toBe(0);
  });

  it('interrupts for a wait, once until IWC is cleared', () => {
    const guest = running();
    const interrupts: InterruptEvent[] = [];
    guest.unit.on('interrupt', (event) => interrupts.push(event));
    guest.setReg(0xa4, 0x41);
    guest.setReg(0xa8, 0xfee0_1000);
    guest.setReg(0xac, 0x1);
    guest.setReg(0xa0, 0);
    guest.invalidate(g.wait(0n, 0, 0x10n), g.wait(0n, 0, 0x10n));
    expect(interrupts).toEqual([{ cause: 'invalidation-completion', address: 0x1_fee0_1000n, data: 0x41 }]);
    expect(guest.reg(0x9c)).toBe(1);
    guest.setReg(0x9c, 1);
    guest.invalidate(g.wait(0n, 0, 0x10n));
    expect(interrupts).toHaveLength(2);
    // Masked: pending until it is unmasked.
    guest.setReg(0x9c, 1);
    guest.setReg(0xa0, 0x8000_0000);
    guest.invalidate(g.wait(0n, 0, 0x10n));
    expect(interrupts).toHaveLength(2);
    expect(guest.reg(0xa0)).toBe(0xc000_0000);
    guest.setReg(0xa0, 0);
    expect(interrupts).toHaveLength(3);
    expect(guest.reg(0xa0)).toBe(0);
    // Masked, and serviced before it is unmasked.
    guest.setReg(0x9c, 1);
    guest.setReg(0xa0, 0x8000_0000);
    guest.invalidate(g.wait(0n, 0, 0x10n));
    guest.setReg(0x9c, 1);
    guest.setReg(0xa0, 0);
    expect(interrupts).toHaveLength(3);
  });

  const one = (low: bigint, high = 0n): readonly [bigint, bigint] => [low, high];
  it.each<readonly [string, readonly [bigint, bigint]]>([
    ['type 0', one(0n)],
    ['type 4 without interrupt remapping', one(4n)],
    ['type 10', one(0xan)],
    ['type 15', one(0xfn)],
    ['type with a high part', one(0x15n | (1n << 9n))],
    ['context: granularity 0', one(0x01n)],
    ['context: bit 6', one(0x11n | 0x40n)],
    ['context: bit 15', one(0x11n | 0x8000n)],
    ['context: bit 50', one(0x11n | (1n << 50n))],
    ['context: bit 64', one(0x11n, 1n)],
    ['IOTLB: granularity 0', one(0x02n)],
    ['IOTLB: bit 8', one(0x12n | 0x100n)],
    ['IOTLB: bit 32', one(0x12n | (1n << 32n))],
    ['IOTLB: bit 71', one(0x12n, 0x80n)],
    ['IOTLB: AM above MAMV', g.iotlbPages(1, 0n, 19)],
    ['device TLB: bit 4', one(0x03n | 0x10n)],
    ['device TLB: PFSID without DIT', one(0x03n | (1n << 52n))],
    ['device TLB: bit 65', one(0x03n, 2n)],
    ['wait: bit 8', one(0x05n | 0x100n)],
    ['wait: bit 16', one(0x05n | 0x1_0000n)],
    ['wait: bit 64', one(0x25n, 1n)],
    ['PASID IOTLB: granularity 0', one(0x06n)],
    ['PASID IOTLB: granularity 1', one(0x16n)],
    ['PASID IOTLB: bit 52', one(0x26n | (1n << 52n))],
    ['PASID IOTLB: bit 75', one(0x26n, 0x800n)],
    ['PASID IOTLB: AM above MAMV', g.pasidIotlbPages(1, 1, 0n, 19)],
    ['PASID cache: granularity 2', one(0x27n)],
    ['PASID cache: bit 64', one(0x37n, 1n)],
    ['PASID device TLB: bit 12', one(0x08n | 0x1000n)],
    ['PASID device TLB: bit 65', one(0x08n, 2n)],
    ['page response: bit 5', one(0x09n | 0x20n)],
    ['page response: bit 76', one(0x09n, 0x1000n)],
  ])('stops at an error: %s', (_name, descriptor) => {
    const guest = running();
    guest.invalidate(g.wait(0x50_0000n, 1), descriptor, g.wait(0x50_0000n, 2));
    expect(guest.reg(0x34)).toBe(IQE);
    expect(guest.reg(0x80)).toBe(0x20);
    expect(guest.view.getUint32(0x50_0000, true)).toBe(1);
    // What a driver does: puts something else in its place, and clears IQE.
    guest.write64(g.QUEUE + 0x20n, 0x11n);
    guest.write64(g.QUEUE + 0x28n, 0n);
    guest.setReg(0x34, IQE);
    expect(guest.reg(0x34)).toBe(0);
    expect(guest.view.getUint32(0x50_0000, true)).toBe(2);
  });

  it.each([4, 5, 6, 7])('checks word %i of a 256-bit descriptor', (word) => {
    const guest = running();
    guest.invalidate(g.wait(0x50_0000n, 1));
    guest.write64(g.QUEUE + 0x20n, 0x11n);
    guest.view.setUint32(0x2020 + word * 4, 1, true);
    guest.setReg(0x88, 0x40);
    expect(guest.reg(0x34)).toBe(IQE);
  });

  it('stops when the tail is inside a 256-bit descriptor, or beyond the queue', () => {
    for (const tail of [0x10, 0x1000, 0x7_ffe0]) {
      const guest = running();
      guest.setReg(0x88, tail);
      expect(guest.reg(0x34), tail.toString(16)).toBe(IQE);
    }
  });

  it('stops when the queue cannot be read', () => {
    const guest = running();
    guest.memory.poison(Number(g.QUEUE), 16, 'access');
    guest.setReg(0x88, 0x20);
    expect(guest.reg(0x34)).toBe(IQE);
  });

  // Table 26: TTM, DW, types that are allowed.
  it.each([
    [0, false, [1, 2, 3, 5]],
    [0, true, [1, 2, 3, 5]],
    [1, false, []],
    [1, true, [1, 2, 3, 5, 6, 7, 8, 9]],
    [2, false, []],
    [2, true, []],
    [3, false, []],
    [3, true, [1, 2, 3, 5, 6, 7, 8, 9]],
  ])('allows in mode %i with DW %s only types %j', (ttm, wide, allowed) => {
    const words: Record<number, bigint> = {
      1: 0x11n,
      2: 0x12n,
      3: 3n,
      5: 5n,
      6: 0x26n,
      7: 0x37n,
      8: 8n,
      9: 9n,
    };
    for (let type = 0; type < 16; type++) {
      const guest = running({}, ttm, wide);
      guest.invalidate([words[type] ?? BigInt(type), 0n]);
      expect(guest.reg(0x34), `type ${type}`).toBe(allowed.includes(type) ? 0 : IQE);
    }
  });

  it('takes types away with the features that they are for', () => {
    for (const [options, type] of [
      [{ deviceTlb: false }, 3n],
      [{ deviceTlb: false }, 8n],
      [{ pageRequests: false }, 9n],
    ] as const) {
      const guest = running(options);
      guest.invalidate([type, 0n]);
      expect(guest.reg(0x34)).toBe(IQE);
    }
  });

  it('processes what a listener adds, and survives being switched off by one', () => {
    const guest = running();
    guest.setReg(0xa0, 0);
    let calls = 0;
    guest.unit.on('interrupt', () => {
      calls++;
      if (calls === 1) guest.setReg(0x9c, 1);
      else guest.setReg(0x18, guest.reg(0x1c) & ~0x4400_0000);
    });
    guest.invalidate(g.wait(0n, 0, 0x10n), g.wait(0n, 0, 0x10n), g.wait(0x50_0000n, 7));
    expect(calls).toBe(2);
    expect(guest.reg(0x80)).toBe(0);
    expect(guest.view.getUint32(0x50_0000, true)).toBe(0);
  });
});

describe('device TLBs', () => {
  function withDevice(answer: 'complete' | 'timeout' = 'complete'): {
    guest: g.Guest;
    asked: AtcInvalidation[];
  } {
    const guest = running();
    const asked: AtcInvalidation[] = [];
    guest.unit.connectDevice(guest.endpoint, {
      onAtcInvalidate: (invalidation) => {
        asked.push(invalidation);
        return answer;
      },
    });
    return { guest, asked };
  }

  const sid = BigInt(g.RID);
  it.each<readonly [string, readonly [bigint, bigint], AtcInvalidation]>([
    ['a page', [3n | (sid << 32n), 0x12_3000n], { pasid: null, address: 0x12_3000n, size: 0x1000n }],
    ['two pages', [3n | (sid << 32n), 0x12_2001n], { pasid: null, address: 0x12_2000n, size: 0x2000n }],
    ['a block', [3n | (sid << 32n), 0x12_7001n], { pasid: null, address: 0x12_0000n, size: 0x1_0000n }],
    [
      'everything',
      [3n | (sid << 32n), 0x7fff_ffff_ffff_f001n],
      { pasid: null, address: 0n, size: 1n << 64n },
    ],
    [
      'more than everything',
      [3n | (sid << 32n), 0xffff_ffff_ffff_f001n],
      { pasid: null, address: 0n, size: 1n << 64n },
    ],
    [
      'a page of a PASID',
      [8n | (sid << 16n) | (5n << 32n), 0x12_3000n],
      { pasid: 5, address: 0x12_3000n, size: 0x1000n },
    ],
    [
      'all of a PASID',
      [8n | (sid << 16n) | (5n << 32n), 0x7fff_ffff_ffff_f800n],
      { pasid: 5, address: 0n, size: 1n << 64n },
    ],
    [
      'all PASIDs',
      [8n | (sid << 16n) | (5n << 32n), 0x7fff_ffff_ffff_f801n],
      { pasid: 5, global: true, address: 0n, size: 1n << 64n },
    ],
  ])('%s', (_name, descriptor, invalidation) => {
    const { guest, asked } = withDevice();
    guest.invalidate(descriptor, g.wait(0x50_0000n, 1));
    expect(asked).toEqual([invalidation]);
    expect(guest.view.getUint32(0x50_0000, true)).toBe(1);
  });

  it.each([[[3n | (sid << 32n), 0x1000n]], [[8n | (sid << 16n) | (5n << 32n), 0x1000n]]] as const)(
    'a device that does not answer stops the queue until ITE is cleared',
    (descriptor) => {
      const { guest } = withDevice('timeout');
      guest.invalidate(descriptor, g.wait(0x50_0000n, 1));
      expect(guest.reg(0x34)).toBe(ITE);
      expect(guest.reg(0x80)).toBe(0x20);
      expect(guest.reg(0xb4)).toBe(g.RID);
      expect(guest.view.getUint32(0x50_0000, true)).toBe(0);
      guest.setReg(0x34, ITE);
      expect(guest.view.getUint32(0x50_0000, true)).toBe(1);
    },
  );

  it('has nothing to do for a function that is not there', () => {
    const guest = running();
    guest.invalidate([3n | (0xbeefn << 32n), 0x1000n], g.wait(0x50_0000n, 1));
    expect(guest.view.getUint32(0x50_0000, true)).toBe(1);
  });
});

describe('what a mirror hears', () => {
  it('of invalidations', () => {
    const guest = running();
    const heard: unknown[] = [];
    guest.unit.on('pasid-invalidated', (event) => heard.push(event));
    guest.unit.on('translation-invalidated', (event) => heard.push(event));
    guest.invalidate(g.pasidCachePasid(1, 5));
    guest.invalidate(g.pasidIotlbPages(1, 5, 0x3000n));
    guest.invalidate(g.contextDevice(g.RID, 3));
    guest.invalidate(g.iotlbDomain(1));
    expect(heard).toEqual([
      { rid: g.RID, pasid: 5 },
      { rid: g.RID, pasid: 5, iova: 0x3000n, size: 0x1000n },
      { rid: g.RID, pasid: null, iova: 0x3000n, size: 0x1000n },
      { rid: g.RID, pasid: 'all' },
      { rid: g.RID, pasid: 'all' },
    ]);
  });
});

describe('page requests', () => {
  function withQueue(options: ConstructorParameters<typeof g.Guest>[0] = {}): g.Guest {
    const guest = running(options);
    guest.context(g.P | g.DTE | g.PASIDE | g.PRE);
    guest.pasid(5, { first: 0x40_0000n });
    guest.pasid(0, { first: 0x40_0000n });
    guest.setReg64(0xd0, 0x3000n);
    return guest;
  }

  const page = { read: true, last: true, prgi: 0x1ab, address: 0x7f_1234_5678n };

  it('puts a descriptor where the guest looks, and interrupts', () => {
    const guest = withQueue();
    const interrupts: InterruptEvent[] = [];
    guest.unit.on('interrupt', (event) => interrupts.push(event));
    guest.setReg(0xe4, 0x51);
    guest.setReg(0xe8, 0xfee0_2000);
    guest.setReg(0xe0, 0);
    const asked = { ...page, endpoint: guest.endpoint, pasid: 5, write: true, privileged: true };
    expect(guest.unit.pageRequest(asked)).toEqual({ queued: true });
    expect(guest.reg(0xc8)).toBe(0x20);
    expect(guest.reg(0xdc)).toBe(1);
    expect(guest.read64(0x3000n)).toBe(1n | (1n << 8n) | (BigInt(g.RID) << 16n) | (5n << 32n) | (1n << 53n));
    expect(guest.read64(0x3008n)).toBe(0x7f_1234_5000n | (0x1abn << 3n) | 7n);
    expect(guest.read64(0x3010n)).toBe(0n);
    expect(interrupts).toEqual([{ cause: 'page-request', address: 0xfee0_2000n, data: 0x51 }]);
    expect(guest.unit.pageRequest({ ...page, endpoint: guest.endpoint })).toEqual({ queued: true });
    expect(guest.read64(0x3020n)).toBe(1n | (BigInt(g.RID) << 16n));
    expect(interrupts).toHaveLength(1);
    guest.setReg(0xdc, 1);
    expect(guest.reg(0xdc)).toBe(0);
  });

  it('answers by descriptor', () => {
    const guest = withQueue();
    const responses: PrgResponse[] = [];
    guest.unit.connectDevice(guest.endpoint, { onPrgResponse: (response) => responses.push(response) });
    const rid = BigInt(g.RID) << 16n;
    guest.invalidate(
      [9n | 0x10n | rid | (9n << 32n), 8n],
      [9n | 0x10n | (1n << 12n) | rid | (9n << 32n), 8n | 4n],
      [9n | (15n << 12n) | rid, 0x1ffn << 3n],
      [9n | (7n << 12n) | rid, 0n],
    );
    expect(responses).toEqual([
      { pasid: 9, prgi: 1, response: 0 },
      { pasid: 9, prgi: 1, response: 1 },
      { pasid: null, prgi: 0x1ff, response: 15 },
      { pasid: null, prgi: 0, response: 15 },
    ]);
  });

  it('overflows: PRO, Success for the last of a group, and nothing is written until PRO is cleared', () => {
    const guest = withQueue();
    const ask = (last: boolean): unknown =>
      guest.unit.pageRequest({ ...page, last, endpoint: guest.endpoint, pasid: 5 });
    for (let i = 0; i < 127; i++) expect(ask(true)).toEqual({ queued: true });
    expect(guest.reg(0xdc)).toBe(1);
    expect(ask(true)).toEqual({ queued: false, response: 0, pasid: 5 });
    expect(ask(false)).toEqual({ queued: false });
    expect(guest.reg(0xdc)).toBe(3);
    guest.setReg(0xc0, guest.reg(0xc8));
    expect(ask(true)).toEqual({ queued: false, response: 0, pasid: 5 });
    guest.setReg(0xdc, 2);
    expect(ask(true)).toEqual({ queued: true });
    expect(guest.faults()).toEqual([]);
  });

  it.each([true, false])('drops a stop marker that has no room; SMS %s', (stopMarkers) => {
    const guest = withQueue({ stopMarkers });
    const marker = { ...page, read: false, endpoint: guest.endpoint, pasid: 5 };
    expect(guest.unit.pageRequest(marker)).toEqual({ queued: true });
    guest.setReg(0xc0, 0x40);
    guest.setReg(0xdc, 3);
    expect(guest.unit.pageRequest(marker)).toEqual({ queued: false });
    expect(guest.reg(0xdc)).toBe(stopMarkers ? 0 : 2);
  });

  it('answers an unknown requester with Response Failure, and one beyond its width with Invalid Request', () => {
    const guest = withQueue();
    expect(guest.unit.pageRequest({ ...page, rid: 0x200 })).toEqual({ queued: false, response: 15 });
    expect(guest.unit.pageRequest({ ...page, last: false, rid: 0x200 })).toEqual({ queued: false });
    guest.endpoint.endpointState.pasidWidth = 2;
    expect(guest.unit.pageRequest({ ...page, endpoint: guest.endpoint, pasid: 5 })).toEqual({
      queued: false,
      response: 1,
      pasid: 5,
    });
  });
});

describe('register-based invalidation', () => {
  function old(version: number, ttm: number): g.Guest {
    const guest = new g.Guest({ version });
    const at = guest.page();
    guest.write64(g.ROOT + 16n, at | 1n);
    const table = guest.page();
    guest.write64(at, ttm === 0 ? table | 1n : at | 1n);
    guest.write64(at + 8n, 2n | (9n << 8n));
    guest.map(table, 0x3000n, 0x50_0000n, 3n, 3n);
    guest.enable(ttm);
    return guest;
  }

  it('works below version 6 in legacy mode', () => {
    const guest = old(0x40, 0);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x50_0000n });
    const context = guest.read64(g.ROOT + 16n) & ~0xfffn;
    guest.write64(context, guest.read64(context) & ~1n);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x50_0000n });
    // Device-selective, then what was done.
    guest.setReg(0x28, (g.RID << 16) | 9);
    guest.setReg(0x2c, 0x8000_0000 | (3 << 29));
    expect(guest.reg(0x2c) >>> 31).toBe(0);
    expect((guest.reg(0x2c) >>> 27) & 3).toBe(3);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ code: 2 });
  });

  it('invalidates the context entries of a domain', () => {
    const guest = old(0x40, 0);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x50_0000n });
    const context = guest.read64(g.ROOT + 16n) & ~0xfffn;
    guest.write64(context, guest.read64(context) & ~1n);
    for (const [domain, expected] of [
      [8, { address: 0x50_0000n }],
      [9, { code: 2 }],
    ] as const) {
      guest.setReg(0x28, domain);
      guest.setReg(0x2c, 0x8000_0000 | (2 << 29));
      expect((guest.reg(0x2c) >>> 27) & 3).toBe(2);
      expect(guest.request({ address: 0x3000n })).toMatchObject(expected);
    }
  });

  it('invalidates translations', () => {
    const guest = old(0x40, 0);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x50_0000n });
    const context = guest.read64(g.ROOT + 16n) & ~0xfffn;
    const table = guest.read64(context) & ~0xfffn;
    guest.map(table, 0x3000n, 0x60_0000n, 3n, 3n);
    guest.setReg64(0xf0, 0x3000n);
    guest.setReg64(0xf8, (1n << 63n) | (3n << 60n) | (8n << 32n));
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x50_0000n });
    guest.setReg64(0xf8, (1n << 63n) | (3n << 60n) | (9n << 32n));
    expect((guest.reg(0xfc) >>> 25) & 3).toBe(3);
    expect(guest.request({ address: 0x3000n })).toMatchObject({ address: 0x60_0000n });
  });

  it.each([
    [0x40, 1, true],
    [0x60, 0, false],
  ])('does nothing in version %i with TTM %i', (version, ttm, there) => {
    const guest = old(version, ttm);
    guest.setReg(0x2c, 0x8000_0000 | (1 << 29));
    expect((guest.reg(0x2c) >>> 27) & 3).toBe(0);
    expect(guest.reg(0x2c) >>> 31).toBe(0);
    expect(guest.reg(0x2c) !== 0).toBe(there);
    guest.setReg(0xfc, 0x8000_0000 | (1 << 28));
    expect((guest.reg(0xfc) >>> 25) & 3).toBe(0);
  });
});
