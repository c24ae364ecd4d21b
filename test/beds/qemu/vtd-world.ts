// Random tables for untagged requests, and one request: what both units are asked about.
import type { Random } from '../../viommu/vtd/random-world.ts';
import { RAM_BYTES, READER, WRITERS } from './vtd-oracle.ts';

/** How requests are translated: by legacy context entries, or by the PASID table entry of RID_PASID. */
export type Kind = 'legacy' | 'first' | 'second';

/** The tables are here; all of it is RAM, as is what is before and behind. */
const TABLES = 0x10_0000;
/** Pages that are mapped are above. */
const DATA = 0x200_0000;
const TABLE_PAGES = 64;

const P = 1n;
const PS = 0x80n;
const PWSNP = 1n << 23n;
const shiftOf = (level: number): bigint => BigInt(3 + 9 * level);

export class VtdWorld {
  readonly kind: Kind;
  readonly rid: number;
  readonly access: 'read' | 'write';
  readonly iova: bigint;
  /** The quadwords of the tables, by address. */
  readonly quads = new Map<number, bigint>();
  readonly rtaddr: bigint;
  /** Addresses of the context entry, the PASID table entry (0 in legacy mode) and the leaf entry. */
  context = 0;
  pasidEntry = 0;
  leaf = 0;
  /** Where the paging structures begin; what else there is, is before. */
  tables = 0;
  readonly #random: Random;
  readonly #width: number;
  #pages = 0;

  /** `width`: bits of an address that the units have. */
  constructor(random: Random, kinds: readonly Kind[], width: number) {
    this.#random = random;
    this.#width = width;
    this.kind = random.pick(kinds);
    this.access = random.pick(['read', 'write', 'write']);
    this.rid = this.access === 'read' ? READER : random.pick(WRITERS);
    this.iova = this.#address();
    const root = this.#page();
    this.rtaddr = BigInt(root) | (this.kind === 'legacy' ? 0n : 0x400n);
    if (this.kind === 'legacy') this.#legacy(root);
    else this.#scalable(root);
    this.#damage();
  }

  /** Levels of a second stage: mostly what the units have. */
  #levels(): number {
    const random = this.#random;
    return random.chance(80) ? (this.#width - 12) / 9 : random.pick([3, 4, 5]);
  }

  #chance(percent: number, value: bigint): bigint {
    return this.#random.chance(percent) ? value : 0n;
  }

  /** An address of 8 bytes that do not cross a page. */
  #address(): bigint {
    const random = this.#random;
    const low = (1n << BigInt(this.#width - 1)) - 1n;
    const any = random.pick([
      random.bigint() & 0x3f_ffff_ffffn,
      random.bigint() & low,
      random.bigint() & low,
      random.bigint() & low,
      (random.bigint() & low) | (low + 1n),
      random.pick([random.bigint(), BigInt.asUintN(64, random.bigint() | ~low), 0xfee0_1000n, 0x1000n]),
    ]);
    // Half of them in the part of 1 GiB that is RAM, when that is where it begins.
    return any & (random.chance(50) ? ~7n : ~0x3c00_0007n);
  }

  #page(): number {
    if (this.#pages === TABLE_PAGES) throw new Error('the tables have grown too large');
    return TABLES + this.#pages++ * 0x1000;
  }

  #store(address: number, value: bigint): void {
    this.quads.set(address, value);
  }

  #context(root: number, bytes: number, half: number): number {
    const table = this.#page();
    this.#store(root + (this.rid >> 8) * 16 + half, BigInt(table) | P);
    this.context = table + (this.rid & (bytes === 32 ? 0x7f : 0xff)) * bytes;
    return this.context;
  }

  #legacy(root: number): void {
    const random = this.#random;
    const at = this.#context(root, 16, 0);
    const levels = this.#levels();
    // Pass-through takes QEMU a while.
    const type = BigInt(random.chance(12) ? 2 : random.pick([0, 0, 0, 0, 1, 1, 1, 3]));
    const table = this.#table(levels, (leaf) => this.#secondEntry(leaf));
    this.#store(at, BigInt(table) | P | this.#chance(10, 2n) | (type << 2n));
    this.#store(at + 8, BigInt(levels - 2) | (BigInt(random.below(0x1_0000)) << 8n));
  }

  #scalable(root: number): void {
    const random = this.#random;
    const at = this.#context(root, 32, (this.rid & 0x80) === 0 ? 0 : 8);
    const directory = this.#page();
    const table = this.#page();
    this.pasidEntry = table;
    this.#store(at, BigInt(directory) | P | this.#chance(10, 2n) | (BigInt(random.pick([0, 0, 1, 7])) << 9n));
    this.#store(at + 8, this.#chance(3, BigInt(random.below(0x1000))));
    this.#store(directory, BigInt(table) | P | this.#chance(8, 2n));
    const levels = this.#levels();
    const first = this.kind === 'first';
    const pages = this.#table(first ? 4 : levels, (leaf) =>
      first ? this.#firstEntry(leaf) : this.#secondEntry(leaf),
    );
    const type = BigInt(random.chance(88) ? (first ? 1 : 2) : random.below(8));
    const width = BigInt(random.chance(85) ? levels - 2 : random.below(8)) << 2n;
    const five = first && random.chance(4) ? 4n : 0n;
    this.#store(table, P | this.#chance(8, 2n) | width | (type << 6n) | (first ? 0n : BigInt(pages)));
    this.#store(table + 8, BigInt(random.below(0x1_0000)) | (first ? this.#chance(90, PWSNP) : 0n));
    this.#store(table + 16, five | (first ? BigInt(pages) | this.#chance(10, 0x10n) : 0n));
  }

  #firstEntry(leaf: boolean): bigint {
    const flags = this.#chance(60, 0x20n) | (leaf ? this.#chance(40, 0x40n) : 0n);
    const ignored = this.#chance(10, 0x10n) | this.#chance(5, 1n << 63n) | this.#chance(10, 0x200n);
    return P | this.#chance(95, 2n) | this.#chance(96, 4n) | flags | ignored;
  }

  #secondEntry(leaf: boolean): bigint {
    const tm = this.#chance(1, 1n << 62n);
    return (
      tm |
      this.#chance(96, 1n) |
      this.#chance(95, 2n) |
      (leaf ? this.#chance(4, 0x800n) : 0n) |
      this.#chance(10, 0x100n)
    );
  }

  /** Tables of `levels` for the address; returns the root. */
  #table(levels: number, bits: (leaf: boolean) => bigint): number {
    const random = this.#random;
    const leafLevel = random.pick([1, 1, 1, 1, 2, 2, 3]);
    const root = this.#page();
    this.tables = root;
    let table = root;
    for (let level = levels; ; level--) {
      const at = table + Number((this.iova >> shiftOf(level)) & 0x1ffn) * 8;
      if (level === leafLevel) {
        this.leaf = at;
        const large = level > 1 ? PS | this.#chance(12, 1n << BigInt(12 + random.below(9 * level - 9))) : 0n;
        this.#store(at, this.#target(level) | bits(true) | large);
        return root;
      }
      table = this.#page();
      this.#store(at, BigInt(table) | bits(false));
    }
  }

  /** Where a leaf leads: to RAM, mostly; 1 GiB that begin with RAM, for those of that size. */
  #target(level: number): bigint {
    const random = this.#random;
    const size = 1n << shiftOf(level);
    const ram = level === 3 ? 0n : BigInt(DATA + random.below((RAM_BYTES - DATA) / 0x1000) * 0x1000);
    const far = (random.bigint() & ((1n << BigInt(this.#width)) - 1n)) >> 1n;
    return random.pick([ram, ram, ram, ram, ram, ram, far, random.pick([far, 0xfee0_0000n])]) & ~(size - 1n);
  }

  /** Flips bits where something is, and drops whole entries. */
  #damage(): void {
    const random = this.#random;
    while (random.chance(30)) {
      const at = random.pick([...this.quads.keys()]);
      const value = this.quads.get(at) ?? 0n;
      this.#store(at, random.chance(15) ? 0n : value ^ (1n << BigInt(random.below(64))));
    }
  }
}
