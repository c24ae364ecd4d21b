// One set of address spaces, given to the neutral model by its calls and to a VT-d unit as a driver does it: tables in
// guest memory, and the invalidations that go with every change.
import type { Endpoint } from '../../../src/pci/endpoint.ts';
import { TableIommu } from '../../../src/viommu/table/index.ts';
import * as g from './guest.ts';
import type { Random } from './random-world.ts';

/** How an address space is kept: PGTT of its entry. */
export type Kind = 1 | 2 | 3 | 4;

/** A stretch of pages (4 KiB) with the same rights. */
export interface Pages {
  readonly first: number;
  readonly end: number;
  /** Page that `first` lands on. */
  readonly target: number;
  /** Letters out of `rwp`. */
  readonly permissions: string;
}

/** An address space of a requester ID and PASID. */
export interface Space {
  readonly rid: number;
  readonly pasid: number | null;
  readonly kind: Kind;
  readonly domain: number;
  readonly root: bigint;
  mappings: readonly Pages[];
}

interface Function {
  readonly rid: number;
  readonly endpoint: Endpoint;
  readonly pasidWidth: number;
  readonly pdts: number;
  /** The entry that requests without PASID use; no request may name it. */
  readonly ridPasid: number;
}

const PAGE = 4096;
const SIZES = [2 ** 18, 2 ** 9, 1] as const;
/** Nested spaces: guest-physical addresses are the second stage's with this bit turned, up to 8 GiB. */
const TURNED = 1n << 30n;
export const NESTED_PAGES = 2 ** 21;
const ALL: Pages = { first: 0, end: 2 ** 36, target: 0, permissions: 'rw' };

export class TwoDrivers {
  readonly table = new TableIommu();
  readonly guest = new Guest();
  readonly functions: readonly Function[];
  readonly #random: Random;
  readonly #spaces = new Map<string, Space>();
  #domain = 0x100;

  constructor(random: Random) {
    this.#random = random;
    this.functions = [0x0100, 0x0185, 0x2000].map((rid) => {
      const pasidWidth = random.pick([0, 6, 16, 20, 20, 20, 20]);
      const pdts = random.pick([0, 3, 7, 7, 7]);
      const endpoint = this.guest.addEndpoint(rid, { pasidWidth });
      this.table.attachEndpoint(endpoint.endpointState);
      return { rid, endpoint, pasidWidth, pdts, ridPasid: random.pick([0, 7, 0x1fff]) };
    });
    this.guest.enableQueue();
    this.guest.enable();
  }

  space({ rid }: { readonly rid: number }, pasid: number | null): Space | undefined {
    return this.#spaces.get(`${rid} ${pasid}`);
  }

  /** All there are. */
  spaces(): readonly Space[] {
    return [...this.#spaces.values()];
  }

  attach(fn: Function, pasid: number | null, kind: Kind): void {
    const { guest } = this;
    const { rid } = fn;
    const number = pasid ?? fn.ridPasid;
    this.table.attach(rid, pasid);
    if ((guest.read64(guest.contextAddress(rid)) & g.P) === 0n) {
      guest.context(g.P | g.DTE | g.PASIDE | g.pdts(fn.pdts), BigInt(fn.ridPasid), rid);
      guest.invalidate(g.contextDevice(rid), g.pasidCacheGlobal, g.iotlbGlobal);
    }
    // PASIDs of a function share a domain, but for second stages.
    const domain = kind === 2 ? this.#domain++ : rid;
    const space: Space = { rid, pasid, kind, domain, root: kind === 4 ? 0n : guest.page(), mappings: [] };
    this.#spaces.set(`${rid} ${pasid}`, space);
    guest.pasid(
      number,
      {
        pgtt: kind,
        did: domain,
        sre: true,
        wpe: true,
        ...(kind === 2 ? { second: space.root } : {}),
        ...(kind === 1 ? { first: space.root } : {}),
        ...(kind === 3 ? { first: space.root ^ TURNED, second: guest.turned() } : {}),
      },
      rid,
    );
    this.#entryChanged(space, number);
    if (kind === 4) {
      this.table.map(rid, pasid, { iova: 0, gpa: 0, size: ALL.end * PAGE, permissions: ALL.permissions });
    }
  }

  detach(fn: Function, pasid: number | null): void {
    const space = this.space(fn, pasid);
    if (space === undefined) return;
    const number = pasid ?? fn.ridPasid;
    this.#spaces.delete(`${fn.rid} ${pasid}`);
    this.table.detach(fn.rid, pasid);
    this.#clear(fn, number);
    this.#entryChanged(space, number);
  }

  /** Everything of a function at once: its context entry goes. */
  detachAll(fn: Function): void {
    const { guest } = this;
    this.table.detachAll(fn.rid);
    const context = guest.contextAddress(fn.rid);
    if ((guest.read64(context) & g.P) === 0n) return;
    for (const { pasid } of this.spaces().filter(({ rid }) => rid === fn.rid)) {
      this.#spaces.delete(`${fn.rid} ${pasid}`);
      this.#clear(fn, pasid ?? fn.ridPasid);
    }
    guest.write64(context, guest.read64(context) & ~g.P);
    guest.invalidate(g.contextDevice(fn.rid), g.pasidCacheGlobal, g.iotlbGlobal);
  }

  /** False when the pages are taken, or the space cannot have such a mapping. */
  map(fn: Function, pasid: number | null, pages: Pages): boolean {
    const space = this.space(fn, pasid);
    if (space === undefined || !isPossible(space.kind, pages)) return false;
    const { first, end, target, permissions } = pages;
    if (space.mappings.some((other) => other.first < end && other.end > first)) return false;
    this.table.map(fn.rid, pasid, {
      iova: first * PAGE,
      gpa: target * PAGE,
      size: (end - first) * PAGE,
      permissions,
    });
    space.mappings = [...space.mappings, pages];
    this.#write(space, pages, true);
    // Caching mode: entries that become present are announced too.
    this.#pagesChanged(space, pasid ?? fn.ridPasid, first, end);
    return true;
  }

  unmap(fn: Function, pasid: number | null, first: number, end: number): void {
    const space = this.space(fn, pasid);
    if (space === undefined || space.kind === 4) return;
    this.table.unmap(fn.rid, pasid, { iova: first * PAGE, size: (end - first) * PAGE });
    const touched = space.mappings.filter((pages) => pages.first < end && pages.end > first);
    if (touched.length === 0) return;
    space.mappings = space.mappings.filter((pages) => !touched.includes(pages));
    for (const pages of touched) this.#write(space, pages, false);
    for (const pages of touched) {
      const rest = [part(pages, pages.first, first), part(pages, end, pages.end)];
      for (const kept of rest.filter((one) => one.first < one.end)) {
        space.mappings = [...space.mappings, kept];
        this.#write(space, kept, true);
      }
    }
    for (const pages of touched) this.#pagesChanged(space, pasid ?? fn.ridPasid, pages.first, pages.end);
  }

  #clear(fn: Function, number: number): void {
    const at = this.guest.pasidAddress(number, fn.rid);
    const zeroed = this.#random.chance(50);
    this.guest.write64(at, zeroed ? 0n : this.guest.read64(at) & ~g.P);
  }

  /** Entries for pages, in leaves as large as they can be; or none any more. */
  #write(space: Space, { first, end, target, permissions }: Pages, present: boolean): void {
    const bits = leafBits(space.kind, permissions);
    const through = space.kind === 3 ? TURNED : 0n;
    for (let page = first; page < end; ) {
      const landing = target + (page - first);
      const size = SIZES.find((one) => page % one === 0 && landing % one === 0 && page + one <= end) ?? 1;
      const at = this.guest.entry(space.root, page, size, space.kind === 2 ? 3n : 7n, through);
      const leaf = ((BigInt(landing) * 4096n) ^ through) | bits | (size > 1 ? g.PS : 0n);
      this.guest.write64(at, present ? leaf : 0n);
      page += size;
    }
  }

  #entryChanged({ kind, domain }: Space, number: number): void {
    const { guest } = this;
    guest.invalidate(
      this.#random.chance(80) ? g.pasidCachePasid(domain, number) : g.pasidCacheDomain(domain),
      kind === 2 ? g.iotlbDomain(domain) : g.pasidIotlb(domain, number),
    );
  }

  #pagesChanged({ kind, domain }: Space, number: number, first: number, end: number): void {
    const { guest } = this;
    if (end - first > 4096 || this.#random.chance(20)) {
      guest.invalidate(kind === 2 ? g.iotlbDomain(domain) : g.pasidIotlb(domain, number));
      return;
    }
    for (let page = first; page < end; ) {
      let mask = 0;
      while (mask < 12 && page % 2 ** (mask + 1) === 0 && page + 2 ** (mask + 1) <= end) mask++;
      const address = BigInt(page) * 4096n;
      guest.invalidate(
        kind === 2 ? g.iotlbPages(domain, address, mask) : g.pasidIotlbPages(domain, number, address, mask),
      );
      page += 2 ** mask;
    }
  }
}

class Guest extends g.Guest {
  #turned = 0n;

  /** The second stage of nested spaces. */
  turned(): bigint {
    if (this.#turned !== 0n) return this.#turned;
    this.#turned = this.page();
    for (let at = 0n; at < 8n; at++) {
      this.map(this.#turned, at << 30n, (at << 30n) ^ TURNED, g.R | g.W, g.R | g.W, 4, 3);
    }
    return this.#turned;
  }

  /** Where the leaf entry of `size` pages for `page` is; tables are made on the way. */
  entry(root: bigint, page: number, size: number, inner: bigint, through: bigint): bigint {
    const level = 1 + Math.log2(size) / 9;
    let table = root;
    for (let at = 4; ; at--) {
      const entry = table + BigInt(Math.floor(page / 512 ** (at - 1)) % 512) * 8n;
      if (at === level) return entry;
      const value = this.read64(entry);
      // A large page that was here is gone.
      const pointer = (value & g.P) === 0n && (value & g.W) === 0n ? 0n : value & 0xf_ffff_ffff_f000n;
      table = pointer === 0n ? this.page() : pointer ^ through;
      if (pointer === 0n) this.write64(entry, (table ^ through) | inner);
    }
  }
}

function part({ first, target, permissions }: Pages, from: number, to: number): Pages {
  return { first: from, end: to, target: target + (from - first), permissions };
}

/** The first stage cannot deny reading and ends at bit 47, the second knows no privilege; nested spaces are small. */
function isPossible(kind: Kind, { end, target, first, permissions }: Pages): boolean {
  if (kind === 4) return false;
  if (kind === 2) return !permissions.includes('p');
  if (!permissions.includes('r') || end > 2 ** 35) return false;
  return kind === 1 || target + (end - first) <= NESTED_PAGES;
}

function leafBits(kind: Kind, permissions: string): bigint {
  const bit = (letter: string, value: bigint): bigint => (permissions.includes(letter) ? value : 0n);
  if (kind === 2) return bit('r', g.R) | bit('w', g.W);
  return g.P | bit('w', g.RW) | (permissions.includes('p') ? 0n : g.US);
}
