// A stale entry stays until it is invalidated; each invalidation drops what it must and keeps what it may.
import { describe, expect, it } from 'vitest';
import type { Verdict } from '../../../src/viommu/verdict.ts';
import * as g from './guest.ts';

const IOVA = 0x12_3456_7000n;
const OTHER = IOVA + 0x1000n;
const OLD = 0x50_0000n;
const NEW = 0x60_0000n;

interface Place {
  readonly name: string;
  readonly rid: number;
  readonly pasid: number | null;
  readonly address: bigint;
}

/**
 * Two functions, domains 1 and 2: PASIDs with first stage (5: domain 1, 6: domain 1, 7: domain 2), second
 * stage (8: domain 1, 9: domain 2), nested (10: domain 1), pass-through (11: domain 1); the traffic without PASID
 * of the first function is a first stage in domain 1.
 */
class World extends g.Guest {
  readonly leaves = new Map<string, bigint>();
  readonly places: Place[] = [];

  constructor() {
    super({ maxAddressMask: 9 });
    this.addEndpoint(0x0101);
    const nestedSecond = this.page();
    for (let at = 0n; at < 0x80_0000n; at += 0x20_0000n) this.map(nestedSecond, at, at, 3n, 3n, 4, 2);
    for (const rid of [g.RID, 0x0101]) {
      this.context(g.P | g.DTE | g.PASIDE, 0n, rid);
      this.#add(rid, 0, g.FIRST, 1);
      this.#add(rid, 5, g.FIRST, 1);
    }
    this.#add(g.RID, 6, g.FIRST, 1);
    this.#add(g.RID, 7, g.FIRST, 2);
    this.#add(g.RID, 8, g.SECOND, 1);
    this.#add(g.RID, 9, g.SECOND, 2);
    this.#add(g.RID, 10, g.NESTED, 1, nestedSecond);
    this.enable();
    this.enableQueue();
    this.#expectAll(OLD);
  }

  #add(rid: number, pasid: number, pgtt: number, did: number, nestedSecond = 0n): void {
    const table = this.page();
    const first = pgtt !== g.SECOND;
    for (const address of [IOVA, OTHER]) {
      const leaf = this.map(table, address, OLD, first ? 7n : 3n, first ? 7n : 3n);
      const name = `${rid === g.RID ? '' : 'second function, '}${pasid === 0 ? 'RID' : pasid}${address === OTHER ? ', other page' : ''}`;
      this.leaves.set(name, leaf);
      this.places.push({ name, rid, pasid: pasid === 0 ? null : pasid, address });
    }
    this.pasid(
      pasid,
      { pgtt, did, ...(first ? { first: table, second: nestedSecond } : { second: table }) },
      rid,
    );
  }

  /** Everything is translated to one page, or the test is wrong. */
  #expectAll(target: bigint): void {
    for (const place of this.places) {
      const verdict = this.ask(place);
      if (!('address' in verdict) || verdict.address !== target) {
        throw new Error(`${place.name}: ${JSON.stringify(verdict, (_, value) => String(value))}`);
      }
    }
  }

  ask({ rid, pasid, address }: Place): Verdict {
    return this.unit.request({ rid, pasid, address, access: 'read' });
  }

  /** Points every leaf elsewhere, and says whose translation has followed after the invalidations. */
  followed(...descriptors: readonly (readonly [bigint, bigint])[]): string[] {
    for (const leaf of this.leaves.values()) this.write64(leaf, (this.read64(leaf) & 0xfffn) | NEW);
    this.#expectAll(OLD);
    this.invalidate(...descriptors);
    if (this.reg(0x34) !== 0) throw new Error(`FSTS is ${this.reg(0x34)}`);
    return this.places.flatMap((place) => {
      const verdict = this.ask(place);
      return 'address' in verdict && verdict.address === NEW ? [place.name] : [];
    });
  }
}

const ALL = new World().places.map(({ name }) => name);
const both = (...names: (string | number)[]): string[] =>
  names.flatMap((name) => [String(name), `${name}, other page`]);
const SECOND_RID = both('second function, RID');
const SECOND_5 = both('second function, 5');

describe('stale translations', () => {
  it('stay without invalidation', () => {
    expect(new World().followed()).toEqual([]);
  });

  it.each<readonly [string, readonly (readonly [bigint, bigint])[], readonly string[]]>([
    ['IOTLB, global', [g.iotlbGlobal], ALL],
    ['IOTLB, domain: second stage and nested', [g.iotlbDomain(1)], both(8, 10)],
    ['IOTLB, another domain', [g.iotlbDomain(2)], both(9)],
    ['IOTLB, no such domain', [g.iotlbDomain(3)], []],
    ['IOTLB, page: that page of the second stage, and nested', [g.iotlbPages(1, IOVA)], ['8', ...both(10)]],
    ['IOTLB, two pages', [g.iotlbPages(1, IOVA & ~0x1fffn, 1)], ['8', ...both(10)]],
    ['IOTLB, pages, all of a large block', [g.iotlbPages(2, IOVA & ~0xf_ffffn, 8)], both(9)],
    ['PASID IOTLB, all of a PASID', [g.pasidIotlb(1, 5)], [...both(5), ...SECOND_5]],
    ['PASID IOTLB, RID_PASID', [g.pasidIotlb(1, 0)], [...both('RID'), ...SECOND_RID]],
    ['PASID IOTLB, nested', [g.pasidIotlb(1, 10)], both(10)],
    ['PASID IOTLB, not the second stage', [g.pasidIotlb(1, 8)], []],
    ['PASID IOTLB, another domain', [g.pasidIotlb(2, 5)], []],
    [
      'PASID IOTLB, page',
      [g.pasidIotlbPages(1, 5, OTHER)],
      ['5, other page', 'second function, 5, other page'],
    ],
    ['PASID IOTLB, pages', [g.pasidIotlbPages(1, 5, IOVA & ~0xf_ffffn, 8)], [...both(5), ...SECOND_5]],
    ['PASID cache, global', [g.pasidCacheGlobal], ALL],
    ['PASID cache, one PASID of a domain', [g.pasidCachePasid(1, 5)], [...both(5), ...SECOND_5]],
    ['PASID cache, one PASID of another domain', [g.pasidCachePasid(2, 5)], []],
    ['PASID cache, a domain', [g.pasidCacheDomain(2)], both(7, 9)],
    ['context, global', [g.contextGlobal], ALL],
    ['context, domain, which is all in scalable mode', [g.contextDomain(5)], ALL],
    ['context, one device', [g.contextDevice(0x0101)], [...SECOND_RID, ...SECOND_5]],
    ['context, a device and its neighbours', [g.contextDevice(0x0100, 3)], ALL],
    ['context, another device', [g.contextDevice(0x0200, 3)], []],
  ])('%s', (_name, descriptors, expected) => {
    expect(new World().followed(...descriptors).toSorted()).toEqual([...expected].toSorted());
  });

  it('all go when a guest orders more than 256 searches of the caches at once', () => {
    const other = g.pasidIotlb(2, 9);
    const many = (count: number): (readonly [bigint, bigint])[] => Array.from({ length: count }, () => other);
    // The queue holds 127.
    const world = new World();
    expect(world.followed(...many(120))).toEqual([]);
    // A context-cache invalidation of a whole device is ten.
    const all = Array.from({ length: 26 }, () => g.contextDevice(0x0200, 3));
    expect(new World().followed(...all).toSorted()).toEqual(ALL.toSorted());
    expect(new World().followed(...all.slice(1), ...many(6))).toEqual([]);
    // Counted anew with each write of the tail.
    const twice = new World();
    twice.invalidate(...all.slice(2));
    expect(twice.followed(...all.slice(2))).toEqual([]);
  });

  it('goes as a whole when a part of a large page is invalidated', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    const table = guest.page();
    const leaf = guest.map(table, 0x20_0000n, 0x40_0000n, 7n, 7n, 4, 2);
    guest.pasid(5, { first: table });
    guest.enable();
    guest.enableQueue();
    const ask = { pasid: 5, address: 0x3f_f000n };
    expect(guest.request(ask)).toMatchObject({ address: 0x5f_f000n });
    guest.write64(leaf, 0x60_0087n);
    guest.invalidate(g.pasidIotlbPages(1, 5, 0x1f_f000n));
    expect(guest.request(ask)).toMatchObject({ address: 0x5f_f000n });
    guest.invalidate(g.pasidIotlbPages(1, 5, 0x20_0000n));
    expect(guest.request(ask)).toMatchObject({ address: 0x7f_f000n });
  });
});

describe('stale PASID and context entries', () => {
  function working(): g.Guest {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    guest.pasid(5, { pgtt: g.PASS_THROUGH });
    guest.enable();
    guest.enableQueue();
    expect(guest.request({ pasid: 5 })).toMatchObject({ status: 'bypass' });
    return guest;
  }

  it('a PASID entry stays for pages never asked for, until its cache is invalidated', () => {
    const guest = working();
    guest.pasid(5, { present: false });
    expect(guest.request({ pasid: 5, address: 0x9000n })).toMatchObject({ status: 'bypass' });
    guest.invalidate(g.iotlbGlobal, g.pasidIotlb(1, 5));
    expect(guest.request({ pasid: 5, address: 0xa000n })).toMatchObject({ status: 'bypass' });
    guest.invalidate(g.pasidCachePasid(1, 5));
    expect(guest.request({ pasid: 5, address: 0xa000n })).toMatchObject({ code: 0x59 });
  });

  it('a context entry stays until its cache is invalidated', () => {
    const guest = working();
    guest.write64(guest.contextAddress(), 0n);
    guest.invalidate(g.pasidCacheGlobal, g.iotlbGlobal);
    expect(guest.request({ pasid: 5 })).not.toMatchObject({ code: 0x41 });
    guest.invalidate(g.contextDevice(g.RID));
    expect(guest.request({ pasid: 5 })).toMatchObject({ code: 0x41 });
  });

  it('PASID entries go with the context entry of their function, and no others', () => {
    for (const [functionMask, expected] of [
      [0, [0x59, undefined]],
      [3, [0x59, 0x59]],
    ] as const) {
      const guest = working();
      const other = guest.addEndpoint(0x0101);
      guest.context(g.P | g.PASIDE, 0n, 0x0101);
      guest.pasid(5, { pgtt: g.PASS_THROUGH }, 0x0101);
      guest.unit.request({ endpoint: other, pasid: 5, address: 0, access: 'read' });
      for (const rid of [g.RID, 0x0101]) guest.pasid(5, { present: false }, rid);
      guest.invalidate(g.contextDevice(g.RID, functionMask));
      const codes = [g.RID, 0x0101].map((rid) => {
        const verdict = guest.unit.request({ rid, pasid: 5, address: 0x9000, access: 'read' });
        return 'code' in verdict ? verdict.code : undefined;
      });
      expect(codes).toEqual(expected);
    }
  });

  it('a new root pointer, and enabling, drop everything', () => {
    const guest = working();
    guest.pasid(5, { present: false });
    guest.command(0x4000_0000);
    expect(guest.request({ pasid: 5 })).toMatchObject({ code: 0x59 });
    guest.pasid(5, { pgtt: g.PASS_THROUGH });
    expect(guest.request({ pasid: 5 })).toMatchObject({ status: 'bypass' });
    guest.pasid(5, { present: false });
    guest.disable();
    guest.command(0x8000_0000);
    expect(guest.request({ pasid: 5 })).toMatchObject({ code: 0x59 });
  });

  it('keeps nothing that is not present: no invalidation is needed when something appears', () => {
    const guest = working();
    expect(guest.request({ pasid: 6 })).toMatchObject({ code: 0x59 });
    guest.pasid(6, { pgtt: g.PASS_THROUGH });
    expect(guest.request({ pasid: 6 })).toMatchObject({ status: 'bypass' });
  });

  it('remembers FPD of the directory with the PASID entry', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    const first = guest.page();
    guest.pasid(5, { first });
    guest.write64(guest.directoryAddress(5), guest.read64(guest.directoryAddress(5)) | g.FPD);
    guest.enable();
    for (let time = 0; time < 2; time++) {
      expect(guest.request({ pasid: 5, address: IOVA })).toMatchObject({ code: 0x71 });
      expect(guest.faults()).toEqual([]);
    }
  });
});

describe('the hot door', () => {
  it('answers the same from the IOTLB, and asks the tables again for what an entry does not grant', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    const first = guest.page();
    const leaf = guest.map(first, IOVA, OLD, 7n, 7n);
    guest.pasid(5, { first });
    guest.enable();
    const read = { pasid: 5, address: IOVA + 5n };
    const verdict = guest.hot(read);
    expect(guest.hot(read)).toEqual(verdict);
    expect(guest.unit.counters()).toMatchObject({ iotlbHits: 1, iotlbMisses: 1 });
    // The first write sets D, and is from then on answered without the tables.
    const write = { ...read, access: 'write' } as const;
    expect(guest.read64(leaf) & 0x40n).toBe(0n);
    expect(guest.hot(write)).toEqual(verdict);
    expect(guest.read64(leaf) & 0x40n).toBe(0x40n);
    expect(guest.hot(write)).toEqual(verdict);
    expect(guest.unit.counters()).toMatchObject({ iotlbHits: 2, iotlbMisses: 2 });
  });
});
