import { describe, expect, it } from 'vitest';
import * as g from './guest.ts';

const IOVA = 0x7f12_3456_7000n;
const CONTEXT = g.P | g.DTE | g.PASIDE;

function scalable(entry: g.PasidEntry, options: ConstructorParameters<typeof g.Guest>[0] = {}): g.Guest {
  const guest = new g.Guest(options);
  guest.context(CONTEXT | g.pdts(7));
  guest.pasid(5, entry);
  guest.enable();
  return guest;
}

describe('first stage', () => {
  it.each([
    [1, 0x1000n, 0x50_0000n],
    [2, 0x20_0000n, 0x60_0000n],
    [3, 0x4000_0000n, 0x1_4000_0000n],
  ])('a leaf of level %i is a page of %s', (level, size, target) => {
    const guest = scalable({ first: 0x40_0000n });
    guest.map(0x40_0000n, IOVA, target, 7n, 7n, 4, level);
    const offset = (IOVA + 0x123n) % size;
    expect(guest.request({ pasid: 5, address: IOVA + 0x123n })).toEqual({
      status: 'translated',
      address: target + offset,
      pageSize: size,
      permissions: 'rw',
    });
  });

  it('has 5 levels when FSPM says so', () => {
    const guest = scalable({ first: 0x40_0000n, fiveLevel: true });
    const address = 0x12_3456_789a_b000n;
    guest.map(0x40_0000n, address, 0x50_0000n, 7n, 7n, 5);
    expect(guest.request({ pasid: 5, address })).toMatchObject({ address: 0x50_0000n });
    expect(guest.request({ pasid: 5, address: 1n << 56n })).toMatchObject({ code: 0x80 });
    expect(guest.request({ pasid: 5, address: 0xff00_0000_0000_0000n })).toMatchObject({ code: 0x71 });
  });

  it('sets A everywhere and D where it writes, and EA with EAFE', () => {
    const guest = scalable({ first: 0x40_0000n, eafe: true });
    const leaf = guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    const root = 0x40_0000n + ((IOVA >> 39n) & 0x1ffn) * 8n;
    guest.request({ pasid: 5, address: IOVA });
    expect(guest.read64(root) & 0x460n).toBe(0x420n);
    expect(guest.read64(leaf) & 0x460n).toBe(0x420n);
    guest.request({ pasid: 5, address: IOVA, access: 'write' });
    expect(guest.read64(root) & 0x460n).toBe(0x420n);
    expect(guest.read64(leaf) & 0x460n).toBe(0x460n);
  });

  it('sets nothing when the request fails, nor without the option', () => {
    const guest = scalable({ first: 0x40_0000n });
    const leaf = guest.map(0x40_0000n, IOVA, 0x50_0000n, 5n, 7n);
    expect(guest.request({ pasid: 5, address: IOVA, access: 'write' })).toMatchObject({ code: 0x85 });
    expect(guest.read64(leaf) & 0x60n).toBe(0n);
    const off = scalable({ first: 0x40_0000n, pwsnp: false }, { updateAccessedDirty: false });
    const other = off.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    expect(off.request({ pasid: 5, address: IOVA, access: 'write' }).status).toBe('translated');
    expect(off.read64(other) & 0x60n).toBe(0n);
  });

  it('sets D for a translation request that gets the right to write, and not with NW', () => {
    const guest = scalable({ first: 0x40_0000n });
    const leaf = guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    const ask = { pasid: 5, address: IOVA, at: 'translation' } as const;
    expect(guest.request({ ...ask, noWrite: true })).toMatchObject({ permissions: 'r' });
    expect(guest.read64(leaf) & 0x60n).toBe(0x20n);
    expect(guest.request(ask)).toMatchObject({ permissions: 'rw' });
    expect(guest.read64(leaf) & 0x60n).toBe(0x60n);
  });

  it('treats a privileged request by SRE and WPE', () => {
    for (const wpe of [false, true]) {
      const guest = scalable({ first: 0x40_0000n, sre: true, wpe });
      guest.map(0x40_0000n, IOVA, 0x50_0000n, 1n, 7n);
      const ask = { pasid: 5, address: IOVA, access: 'write', privileged: true } as const;
      expect(guest.request(ask)).toMatchObject(
        wpe ? { code: 0x85 } : { status: 'translated', permissions: 'rwp' },
      );
      expect(guest.request({ ...ask, privileged: false, access: 'read' })).toMatchObject({ code: 0x81 });
      expect(guest.request({ ...ask, access: 'read', at: 'translation' })).toMatchObject({
        permissions: wpe ? 'rp' : 'rwp',
      });
    }
  });

  it('gives N by PGSNP', () => {
    const guest = scalable({ first: 0x40_0000n, pgsnp: true });
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    expect(guest.request({ pasid: 5, address: IOVA, at: 'translation' })).toMatchObject({
      permissions: 'rwn',
    });
  });
});

describe('second stage', () => {
  it.each([
    [1, 3, 39],
    [2, 4, 48],
    [3, 5, 57],
  ])('AW %i has %i levels', (aw, levels, width) => {
    const guest = scalable({ pgtt: g.SECOND, aw, second: 0x40_0000n }, { addressWidth: 57 });
    const address = (1n << BigInt(width)) - 0x1000n;
    guest.map(0x40_0000n, address, 0x50_0000n, 3n, 3n, levels);
    expect(guest.request({ pasid: 5, address })).toMatchObject({ address: 0x50_0000n, permissions: 'rw' });
    expect(guest.request({ pasid: 5, address: 1n << BigInt(width) })).toMatchObject({ code: 0x84 });
  });

  it('uses IR and IW with SSIRWE', () => {
    const guest = new g.Guest();
    guest.context(CONTEXT);
    guest.pasid(5, { pgtt: g.SECOND, second: 0x40_0000n });
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 1n << 61n, 3n << 61n);
    guest.enable(1, 0x80n);
    expect(guest.request({ pasid: 5, address: IOVA })).toMatchObject({ permissions: 'r' });
    expect(guest.request({ pasid: 5, address: IOVA, access: 'write' })).toMatchObject({ code: 0x85 });
  });

  it('sets A and D with SSADE, and nothing without', () => {
    for (const ssade of [false, true]) {
      const guest = scalable({ pgtt: g.SECOND, ssade, second: 0x40_0000n });
      const leaf = guest.map(0x40_0000n, IOVA, 0x50_0000n, 3n, 3n);
      const root = 0x40_0000n + ((IOVA >> 39n) & 0x1ffn) * 8n;
      guest.request({ pasid: 5, address: IOVA });
      expect(guest.read64(leaf) & 0x300n).toBe(ssade ? 0x100n : 0n);
      expect(guest.read64(root) & 0x300n).toBe(ssade ? 0x100n : 0n);
      guest.request({ pasid: 5, address: IOVA, access: 'write' });
      expect(guest.read64(leaf) & 0x300n).toBe(ssade ? 0x300n : 0n);
    }
  });
});

describe('nested', () => {
  it('goes through both, with the smaller page and the rights of both', () => {
    const guest = scalable({ pgtt: g.NESTED, first: 0x40_0000n, second: 0x41_0000n, ssade: true });
    guest.map(0x41_0000n, 0x40_0000n, 0x40_0000n, 3n, 3n, 4, 2);
    guest.map(0x41_0000n, 0n, 0n, 3n, 3n, 4, 2);
    guest.map(0x41_0000n, 0x20_0000n, 0x20_0000n, 3n, 3n, 4, 2);
    // A first-stage page of 2 MiB at GPA 80_0000h, which is 4 KiB pages in the second.
    const leaf = guest.map(0x40_0000n, IOVA & ~0x1f_ffffn, 0x80_0000n, 7n, 7n, 4, 2);
    const gpa = 0x80_0000n + (IOVA & 0x1f_ffffn);
    const second = guest.map(0x41_0000n, gpa, 0x50_0000n, 1n | g.SNP, 3n);
    expect(guest.request({ pasid: 5, address: IOVA + 1n })).toEqual({
      status: 'translated',
      address: 0x50_0001n,
      pageSize: 0x1000n,
      permissions: 'r',
    });
    expect(guest.request({ pasid: 5, address: IOVA, at: 'translation' })).toMatchObject({
      permissions: 'rn',
    });
    expect(guest.read64(leaf) & 0x60n).toBe(0x20n);
    expect(guest.read64(second) & 0x300n).toBe(0x100n);
    // The second-stage page with the first-stage tables was written, when A was set there.
    const tables = 0x41_0000n;
    let at = tables;
    for (let level = 4; level > 2; level--) {
      at = guest.read64(at + ((leaf >> BigInt(3 + 9 * level)) & 0x1ffn) * 8n) & ~0xfffn;
    }
    expect(guest.read64(at + ((leaf >> 21n) & 0x1ffn) * 8n) & 0x300n).toBe(0x300n);
  });
});

describe('legacy mode', () => {
  function legacy(low: bigint, high: bigint): g.Guest {
    const guest = new g.Guest();
    const at = guest.page();
    guest.write64(g.ROOT + 16n, at | 1n);
    guest.write64(at, low);
    guest.write64(at + 8n, high);
    guest.enable(0);
    return guest;
  }

  it('walks the second stage that the context entry names', () => {
    const guest = legacy(0x40_0000n | 1n, 2n | (9n << 8n));
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 3n, 3n);
    expect(guest.request({ address: IOVA })).toMatchObject({ address: 0x50_0000n, permissions: 'rw' });
    expect(guest.request({ address: IOVA, pasid: 5 })).toMatchObject({ code: 0x31 });
    expect(guest.request({ address: IOVA, at: 'translation' })).toMatchObject({
      status: 'unsupported-request',
      code: 0x0d,
    });
  });

  it.each([
    ['untranslated', { status: 'bypass', address: IOVA }],
    ['translation', { status: 'unsupported-request', code: 0x0d }],
    ['translated', { status: 'unsupported-request', code: 0x0d }],
  ] as const)('passes through, but %s', (at, verdict) => {
    expect(legacy(1n | (2n << 2n), 2n).request({ address: IOVA, at })).toMatchObject(verdict);
  });

  it('answers ATS with TT = 01', () => {
    const guest = legacy(0x40_0000n | 1n | 4n, 2n);
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 3n, 3n);
    expect(guest.request({ address: IOVA, at: 'translation' })).toMatchObject({
      status: 'ats',
      permissions: 'rw',
    });
    expect(guest.request({ address: 0x1234n, at: 'translated' })).toEqual({
      status: 'bypass',
      address: 0x1234n,
    });
  });
});

describe('explain', () => {
  it('shows every structure with its words, and changes nothing', () => {
    const guest = scalable({ first: 0x40_0000n });
    const leaf = guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    const before = guest.bytes.slice();
    const { steps, verdict } = guest.unit.explain({
      endpoint: guest.endpoint,
      pasid: 5,
      address: IOVA,
      access: 'write',
    });
    expect(Buffer.compare(guest.bytes, before)).toBe(0);
    expect(guest.unit.counters().accepted).toBe(0);
    expect(verdict.status).toBe('translated');
    expect(steps.map(({ structure }) => structure)).toEqual([
      'endpoint',
      'pasid',
      'pasid',
      'request',
      'unit',
      'root entry',
      'context entry',
      'request',
      'PASID directory entry',
      'PASID table entry',
      'address',
      'first-stage entry',
      'first-stage entry',
      'first-stage entry',
      'first-stage entry',
      'rights',
    ]);
    expect(steps.every(({ ok }) => ok)).toBe(true);
    const last = steps.at(-2);
    expect(last).toMatchObject({
      address: leaf,
      raw: [0x50_0007, 0],
      fields: { level: 1, P: 1, ADDR: 0x50_0000n },
      spec: 'VT-d 9.7',
    });
  });

  it('names the check that failed', () => {
    const guest = scalable({ first: 0x40_0000n });
    const { steps } = guest.unit.explain({
      endpoint: guest.endpoint,
      pasid: 6,
      address: IOVA,
      access: 'read',
    });
    expect(steps.at(-1)).toMatchObject({
      structure: 'PASID table entry',
      ok: false,
      check: 'P = 1',
      spec: 'VT-d 9.6',
    });
    expect(
      String(guest.unit.explain({ endpoint: guest.endpoint, pasid: 6, address: IOVA, access: 'read' })),
    ).toContain('=> unsupported-request pasid-entry-not-present code 0x59');
  });
});

describe('PASIDs', () => {
  it('reaches the last of 2^20, and two in two address spaces', () => {
    const guest = scalable({ first: 0x40_0000n });
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    guest.pasid(0xf_ffff, { first: 0x42_0000n, did: 2 });
    guest.map(0x42_0000n, IOVA, 0x60_0000n, 7n, 7n);
    expect(guest.request({ pasid: 5, address: IOVA })).toMatchObject({ address: 0x50_0000n });
    expect(guest.request({ pasid: 0xf_ffff, address: IOVA })).toMatchObject({ address: 0x60_0000n });
    expect(guest.request({ pasid: 5, address: IOVA })).toMatchObject({ address: 0x50_0000n });
    expect(guest.request({ pasid: 0xf_fffe, address: IOVA })).toMatchObject({ code: 0x59 });
  });

  it.each([
    [16, 7, 0x1_0000, 0x89],
    [20, 0, 0x2000, 0x46],
    [20, 7, 0, 0x48],
  ])('width %i, PDTS %i: PASID %i is %i', (pasidWidth, size, pasid, code) => {
    const guest = new g.Guest({ pasidWidth });
    guest.context(CONTEXT | g.pdts(size));
    guest.enable();
    expect(guest.request({ pasid })).toMatchObject({ status: 'unsupported-request', code });
    expect(guest.faults()).toMatchObject([{ code, pasid }]);
  });

  it('goes through RID_PASID without one', () => {
    const guest = new g.Guest();
    guest.context(CONTEXT, 9n);
    guest.pasid(9, { first: 0x40_0000n });
    guest.map(0x40_0000n, IOVA, 0x50_0000n, 7n, 7n);
    guest.enable();
    expect(guest.request({ address: IOVA })).toMatchObject({ address: 0x50_0000n });
    expect(guest.request({ address: IOVA, pasid: 9 })).toMatchObject({ code: 0x48 });
    expect(guest.request({ address: IOVA, pasid: 0 })).toMatchObject({ code: 0x59 });
  });

  it('has a directory that may cross 4 GiB', () => {
    const guest = new g.Guest();
    const buffer = new ArrayBuffer(0x4_0000);
    guest.memory.addRegion({ base: 0xffff_f000 + 0x0, buffer });
    const view = new DataView(buffer);
    const table = guest.page();
    // The entry of PASID 8000h is 4 KiB into the directory: at 4 GiB.
    view.setBigUint64(0x1000, table | 1n, true);
    guest.write64(guest.contextAddress(), 0xffff_f000n | CONTEXT | g.pdts(7));
    guest.write64(table, 1n | (4n << 6n));
    guest.enable();
    expect(guest.request({ pasid: 0x8000, address: IOVA })).toEqual({ status: 'bypass', address: IOVA });
  });
});

describe('entries that change under a walk', () => {
  function mapped(): { guest: g.Guest; leaf: bigint; first: bigint } {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    const first = guest.page();
    const leaf = guest.map(first, 0x3000n, 0x50_0000n, 7n, 7n);
    guest.pasid(5, { first });
    guest.enable();
    return { guest, leaf, first };
  }

  it('are read anew when a flag is to be set in one, as often as 8 times', () => {
    for (const [changes, expected] of [
      [7, { status: 'translated', address: 0x57_0000n }],
      [8, { status: 'unsupported-request', code: 0x91 }],
    ] as const) {
      const { guest, leaf, first } = mapped();
      const { memory } = guest;
      // The entries above the leaf have their flags already.
      guest.map(first, 0x4000n, 0x50_0000n, 7n, 7n);
      expect(guest.request({ pasid: 5, address: 0x4000n }).status).toBe('translated');
      const setBits64 = memory.setBits64.bind(memory);
      let left: number = changes;
      memory.setBits64 = (high, low, bits) => {
        if (left > 0) {
          left--;
          guest.write64(leaf, 0x50_0000n + BigInt(changes - left) * 0x1_0000n + 7n);
        }
        return setBits64(high, low, bits);
      };
      expect(guest.request({ pasid: 5, address: 0x3000n })).toMatchObject(expected);
    }
  });

  it('get no flags unless all of a request can have theirs', () => {
    const { guest, leaf, first } = mapped();
    const { memory, bytes } = guest;
    const page = Number(leaf & ~0xfffn);
    memory.removeRegion(0);
    memory.addRegion({ base: 0, buffer: bytes.buffer, size: page });
    memory.addRegion({ base: page, buffer: bytes.buffer, offset: page, size: 4096, readOnly: true });
    memory.addRegion({ base: page + 4096, buffer: bytes.buffer, offset: page + 4096 });
    expect(guest.request({ pasid: 5, address: 0x3000n })).toMatchObject({ code: 0x91 });
    expect(guest.read64(first) & 0x20n).toBe(0n);
  });

  it.each([
    ['context entry', 0x41, 3],
    ['PASID table entry', 0x59, 4],
  ] as const)('are not present when P went while the %s was read', (_, code, read) => {
    const { guest } = mapped();
    const { memory } = guest;
    const reload32 = memory.reload32.bind(memory);
    let reads = 0;
    memory.reload32 = (offset) => {
      reads++;
      return reads === read - 2 ? 0 : reload32(offset);
    };
    expect(guest.request({ pasid: 5, address: 0x3000n })).toMatchObject({ code });
  });
});

describe('an explanation', () => {
  it('shows of an entry that is not present its own fields, and not those of the walk before', () => {
    const guest = new g.Guest();
    guest.addEndpoint(0x0108);
    guest.context(g.P | g.PASIDE | g.pdts(3), 7n);
    guest.pasid(5, { pgtt: g.NESTED, first: 0x7_0000_7000n, second: 0x1_0000_8000n, did: 3 });
    guest.pasid(6, { present: false });
    guest.write64(guest.contextAddress(0x0108), 0n);
    guest.enable();
    const steps = (rid: number, pasid: number): unknown =>
      guest.unit
        .explain({ rid, pasid, address: 0, access: 'read' })
        .steps.filter(({ raw }) => raw.length > 0)
        .map(({ structure, raw, fields }) => ({ structure, raw, fields }));
    const fresh = [steps(0x0108, 6), steps(g.RID, 6)];
    steps(g.RID, 5);
    guest.request({ pasid: 5 });
    expect([steps(0x0108, 6), steps(g.RID, 6)]).toEqual(fresh);
  });
});
