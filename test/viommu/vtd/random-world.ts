// Random options, tables, damage and requests for the model.
import { GuestMemory } from '../../../src/memory/index.ts';
import { createEndpointState } from '../../../src/pci/endpoint.ts';
import { type VtdFeatures, VtdIommu, type VtdOptions } from '../../../src/viommu/vtd/index.ts';
import type { ReferenceRequest } from './reference-vtd.ts';

const PAGES = 24;

/** mulberry32: good enough, and repeatable. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (z ^ (z >>> 14)) >>> 0;
  }
  below(limit: number): number {
    return this.next() % limit;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  pick<Item>(items: readonly Item[]): Item {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
  bigint(): bigint {
    return (BigInt(this.next()) << 32n) | BigInt(this.next());
  }
}

const SWITCHES: readonly (readonly [name: keyof VtdFeatures, bit: string])[] = [
  ['scalableMode', 'SMTS'],
  ['deviceTlb', 'DT'],
  ['passThrough', 'PT'],
  ['snoopControl', 'SC'],
  ['memoryTypes', 'MTS'],
  ['firstStage', 'FSTS'],
  ['secondStage', 'SSTS'],
  ['nesting', 'NEST'],
  ['firstStage1GiB', 'FS1GP'],
  ['firstStage5Level', 'FS5LP'],
  ['supervisorRequests', 'SRS'],
  ['noWriteFlag', 'NWFS'],
  ['extendedAccessed', 'EAFS'],
  ['secondStageAccessedDirty', 'SSADS'],
  ['coherentWalks', 'SMPWCS'],
  ['ridPasid', 'RPS'],
  ['ridPrivilege', 'RPRIVS'],
  ['abortDma', 'ADMS'],
  ['translatedWithPasid', 'PTRS'],
  ['pageRequests', 'PRS'],
  ['secondStage2MiB', 'SS2M'],
  ['secondStage1GiB', 'SS1G'],
];

/** ECAP and CAP bits by name, from the registers of the unit: what a driver would find. */
export function advertised(unit: VtdIommu): Set<string> {
  const cap = unit.readRegister64(0x08);
  const ecap = unit.readRegister64(0x10);
  const at: Record<string, readonly [bigint, number]> = {
    SMTS: [ecap, 43],
    DT: [ecap, 2],
    PT: [ecap, 6],
    SC: [ecap, 7],
    MTS: [ecap, 25],
    NEST: [ecap, 26],
    PRS: [ecap, 29],
    SRS: [ecap, 31],
    NWFS: [ecap, 33],
    EAFS: [ecap, 34],
    PASID: [ecap, 40],
    SSADS: [ecap, 45],
    SSTS: [ecap, 46],
    FSTS: [ecap, 47],
    SMPWCS: [ecap, 48],
    RPS: [ecap, 49],
    ADMS: [ecap, 52],
    RPRIVS: [ecap, 53],
    PTRS: [ecap, 56],
    SSIRWS: [ecap, 57],
    SS2M: [cap, 34],
    SS1G: [cap, 35],
    FS1GP: [cap, 56],
    FS5LP: [cap, 60],
  };
  return new Set(
    Object.entries(at).flatMap(([name, [word, bit]]) => (((word >> BigInt(bit)) & 1n) === 1n ? [name] : [])),
  );
}

export class RandomWorld {
  readonly random: Random;
  readonly bytes = new Uint8Array(PAGES * 4096);
  readonly view = new DataView(this.bytes.buffer);
  readonly unit: VtdIommu;
  readonly ttm: number;
  readonly ssirwe: boolean;
  readonly te: boolean;
  readonly readOnlyFrom: number;
  readonly poisoned: { base: number; size: number }[] = [];
  readonly options: VtdOptions;
  readonly rid: number;
  readonly pasid: number;
  readonly iova: bigint;
  #next = 2;

  constructor(seed: number) {
    const random = (this.random = new Random(seed));
    const off: Partial<Record<keyof VtdFeatures, boolean>> = {};
    for (const [name] of SWITCHES) if (random.chance(2)) off[name] = false;
    this.options = {
      ...off,
      version: random.chance(4) ? 0x80 : 0x60,
      addressWidth: random.pick([39, 48, 48, 48, 57] as const),
      hostAddressWidth: random.pick([40, 46, 48, 52, 52, 52]),
      domainIdWidth: random.pick([8, 16, 16, 16]),
      ...(off.scalableMode === false
        ? {}
        : { pasidWidth: random.pick([0, 6, 20, 20, 20, 20, 20, 20, 20, 20]) }),
      pasidWhenUnconfigured: random.chance(20) ? 'architectural' : 'reject',
      faultRecords: 1,
      iotlbEntries: 8,
    };
    // The last pages cannot be written, sometimes.
    this.readOnlyFrom = random.chance(5) ? 8 + random.below(PAGES - 8) : PAGES;
    const memory = new GuestMemory([{ base: 0, buffer: this.bytes.buffer, size: this.readOnlyFrom * 4096 }]);
    if (this.readOnlyFrom < PAGES) {
      const offset = this.readOnlyFrom * 4096;
      memory.addRegion({ base: offset, buffer: this.bytes.buffer, offset, readOnly: true });
    }
    this.unit = new VtdIommu({ ...this.options, memory });
    this.rid = random.pick([0x0000, 0x0100, 0x0185, 0xffff]);
    this.pasid = random.pick([1, 5, 5, 63, 64, 64, 0x1fff, 0x2000, 0xf_ffff]);
    this.iova = random.pick([
      0x1234_5678n,
      random.bigint() & 0x3f_ffff_ffffn,
      random.bigint() & 0x7fff_ffff_ffffn,
      0x8000_0000n + (random.bigint() % 0x4000_0000n),
      0xfee0_0123n,
      random.bigint() & 0x7fff_ffff_ffffn,
      random.bigint() | 0xffff_8000_0000_0000n,
      random.bigint() & 0xff_ffff_ffff_ffffn,
      random.bigint(),
    ]);
    this.ttm = random.pick([0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, random.pick([2, 3])]);
    this.te = random.chance(95);
    this.#tables();
    this.#damage(memory);
    const asked = random.chance(6);
    this.unit.writeRegister64(0x20, 0x1000n | (BigInt(this.ttm) << 10n) | (asked ? 0x80n : 0n));
    this.ssirwe = asked && advertised(this.unit).has('SSIRWS');
    this.unit.writeRegister(0x18, 4, 0x4000_0000);
    if (this.te) this.unit.writeRegister(0x18, 4, 0x8000_0000);
    this.unit.attachEndpoint(Object.assign(createEndpointState(this.rid), { pasidWidth: 20 }));
  }

  read(address: bigint): bigint | undefined {
    if (address < 0n || address + 8n > BigInt(this.bytes.length)) return undefined;
    const at = Number(address);
    if (this.poisoned.some(({ base, size }) => at < base + size && at + 8 > base)) return undefined;
    return this.view.getBigUint64(at, true);
  }

  #write(address: bigint, value: bigint): void {
    const at = Number(address);
    if (at + 8 <= this.bytes.length) this.view.setBigUint64(at, BigInt.asUintN(64, value), true);
  }

  #page(): bigint {
    this.#next++;
    return BigInt((this.#next % PAGES) * 4096);
  }

  #tables(): void {
    const { random } = this;
    const legacy = this.ttm === 0;
    const contexts = this.#page();
    const half = BigInt((this.rid >> 8) * 16 + (legacy || (this.rid & 0x80) === 0 ? 0 : 8));
    this.#write(0x1000n + half, contexts | 1n);
    const second = this.#second(legacy ? 4 : random.pick([3, 4, 4, 4, 5]));
    if (legacy) {
      const at = contexts + BigInt((this.rid & 0xff) * 16);
      const tt = random.pick([0, 0, 1, 1, 1, 2, 3]);
      this.#write(at, second.root | 1n | (random.chance(15) ? 2n : 0n) | (BigInt(tt) << 2n));
      this.#write(at + 8n, BigInt(second.levels - 2) | (BigInt(random.below(200)) << 8n));
      return;
    }
    const directory = this.#page();
    const at = contexts + BigInt((this.rid & 0x7f) * 32);
    const ridPasid = random.pick([0, 0, 0, 0, 0, 7, 7, this.pasid]);
    const flags = BigInt(
      1 |
        (random.chance(15) ? 2 : 0) |
        (random.chance(90) ? 4 : 0) |
        (random.chance(95) ? 8 : 0) |
        (random.chance(30) ? 0x10 : 0) |
        (random.chance(30) ? 0x40 : 0) |
        (random.pick([0, 1, 7, 7, 7]) << 9),
    );
    this.#write(at, directory | flags);
    this.#write(at + 8n, BigInt(ridPasid) | (random.chance(20) ? 1n << 20n : 0n));
    const table = this.#page();
    for (const pasid of [ridPasid, this.pasid]) {
      const slot = directory + BigInt((pasid >> 6) * 8);
      this.#write(slot, table | 1n | (random.chance(10) ? 2n : 0n));
    }
    const first = this.#first();
    for (const pasid of [ridPasid, this.pasid]) {
      const entry = table + BigInt((pasid & 63) * 64);
      const pgtt = random.pick([1, 1, 1, 2, 2, 3, 3, 3, 4]);
      const kept = (percent: number, value: bigint): bigint => (random.chance(percent) ? value : 0n);
      this.#write(
        entry,
        1n |
          kept(10, 2n) |
          (BigInt(second.levels - 2) << 2n) |
          (BigInt(pgtt) << 6n) |
          kept(30, 0x200n) |
          second.root,
      );
      this.#write(entry + 8n, BigInt(1 + random.below(300)) | kept(85, 1n << 23n) | kept(30, 1n << 24n));
      const five = first.levels === 5 ? 4n : 0n;
      this.#write(
        entry + 16n,
        kept(50, 1n) | five | kept(50, 0x10n) | kept(20, 0x60n) | kept(30, 0x80n) | first.root,
      );
    }
  }

  /** First-stage tables for the address; the pages they use are few, so that they overlap in nested ones. */
  #first(): { root: bigint; levels: number } {
    const { random } = this;
    const levels = random.chance(20) ? 5 : 4;
    const leafLevel = random.pick([1, 1, 1, 1, 2, 2, 3]);
    const root = this.#page();
    let table = root;
    for (let level = levels; ; level--) {
      const shift = BigInt(3 + 9 * level);
      const at = table + ((this.iova >> shift) & 0x1ffn) * 8n;
      const kept = (percent: number, value: bigint): bigint => (random.chance(percent) ? value : 0n);
      const common =
        1n | kept(90, 2n) | kept(92, 4n) | kept(40, 0x20n) | kept(20, 0x400n) | kept(5, 1n << 63n);
      if (level === leafLevel) {
        const size = 1n << shift;
        const target = this.#target() & ~(size - 1n);
        this.#write(
          at,
          target | common | kept(40, 0x40n) | (level > 1 ? 0x80n | kept(20, 0x1000n) : kept(20, 0x80n)),
        );
        return { root, levels };
      }
      table = this.#page();
      this.#write(at, table | common);
    }
  }

  /** Second-stage tables that map the address, and low memory at its own place for nested tables. */
  #second(levels: number): { root: bigint; levels: number } {
    const { random } = this;
    const root = this.#page();
    const map = (gpa: bigint, target: bigint, leafLevel: number): void => {
      let table = root;
      for (let level = levels; ; level--) {
        const shift = BigInt(3 + 9 * level);
        const at = table + ((gpa >> shift) & 0x1ffn) * 8n;
        const kept = (percent: number, value: bigint): bigint => (random.chance(percent) ? value : 0n);
        const alternate = (3n << 61n) & random.pick([3n << 61n, 1n << 61n, 0n]);
        const common = kept(94, 1n) | kept(94, 2n) | kept(40, 0x100n) | kept(30, alternate);
        if (level === leafLevel) {
          const size = 1n << shift;
          this.#write(
            at,
            (target & ~(size - 1n)) | common | kept(20, 0x200n) | kept(20, 0x800n) | (level > 1 ? 0x80n : 0n),
          );
          return;
        }
        const now = (this.read(at) ?? 0n) & 0xf_ffff_ffff_f000n;
        table = now === 0n ? this.#page() : now;
        this.#write(at, table | common);
      }
    };
    map(this.iova, this.#target(), random.pick([1, 1, 2, 3]));
    // All of memory at its own place, as one large page, or a page of it as a small one.
    map(0n, 0n, random.pick([2, 2, 2, 3, 1]));
    return { root, levels };
  }

  #target(): bigint {
    const { random } = this;
    return random.pick([
      0x3000n,
      0x12_3000n,
      random.chance(30) ? 0xfee0_0000n : 0x5_0000n,
      random.bigint() & 0x7f_ffff_f000n,
      random.bigint() & 0x3f_ffff_f000n,
      random.bigint() & 0xf_ffff_ffff_f000n,
    ]);
  }

  #damage(memory: GuestMemory): void {
    const { random } = this;
    while (random.chance(22)) {
      const page = BigInt(1 + random.below(PAGES - 1)) * 4096n;
      // Where something is, mostly.
      const used: bigint[] = [];
      for (let at = page; at < page + 4096n; at += 8n)
        if (this.view.getBigUint64(Number(at), true) !== 0n) used.push(at);
      const at =
        used.length > 0 && random.chance(90) ? random.pick(used) : page + BigInt(random.below(512) * 8);
      this.#write(at, this.view.getBigUint64(Number(at), true) ^ (1n << BigInt(random.below(64))));
    }
    if (random.chance(6)) {
      const base = 4096 * (1 + random.below(PAGES - 1));
      const size = random.pick([4096, 4096, 8]);
      memory.poison(base, size, 'access');
      this.poisoned.push({ base, size });
    }
  }
}

export function randomRequest(world: RandomWorld): ReferenceRequest {
  const { random } = world;
  const at = random.pick([
    'untranslated',
    'untranslated',
    'untranslated',
    'translation',
    'translated',
  ] as const);
  const pasid = random.chance(4) ? random.below(0x10_0000) : random.pick([null, world.pasid, world.pasid]);
  return {
    rid: world.rid,
    pasid,
    address: random.chance(95) ? world.iova : random.bigint() & 0xffff_ffff_ffffn,
    access:
      at === 'translation' && random.chance(90)
        ? 'read'
        : random.pick([
            'read',
            'read',
            'read',
            'write',
            'write',
            'write',
            'atomic',
            random.pick(['atomic', 'execute']),
          ] as const),
    privileged: pasid !== null && random.chance(15),
    at,
    noWrite: random.chance(30),
  };
}
