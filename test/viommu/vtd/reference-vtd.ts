// VT-d once more, from the fact sheet alone: recursive, in BigInt, and as slow as it likes. The model is
// compared with it; nothing of the model is used here.

export interface ReferenceOptions {
  readonly major: number;
  readonly haw: bigint;
  readonly mgaw: bigint;
  readonly nd: bigint;
  readonly pss: number;
  readonly reject: boolean;
  /** Names of ECAP and CAP bits that are set. */
  readonly has: ReadonlySet<string>;
}

export interface ReferenceRequest {
  readonly rid: number;
  readonly pasid: number | null;
  readonly address: bigint;
  readonly access: 'read' | 'write' | 'execute' | 'atomic';
  readonly privileged: boolean;
  readonly at: 'untranslated' | 'translation' | 'translated';
  readonly noWrite: boolean;
}

export interface ReferenceUnit {
  readonly te: boolean;
  readonly ttm: number;
  readonly ssirwe: boolean;
  readonly root: bigint;
  /** 8 bytes at a multiple of 8; undefined: they cannot be read. */
  readonly read: (address: bigint) => bigint | undefined;
  readonly canWrite: (address: bigint) => boolean;
}

export interface ReferenceAnswer {
  readonly status: string;
  readonly code?: number;
  readonly address?: bigint;
  readonly size?: bigint;
  readonly rights?: string;
  readonly recorded: boolean;
  /** Bits that were set in memory, by address. */
  readonly flags: ReadonlyMap<bigint, bigint>;
}

/** A condition of table 5. */
class Stop extends Error {
  readonly condition: number;
  constructor(condition: number) {
    super(condition.toString(16));
    this.condition = condition;
  }
}

const bits = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const bit = (value: bigint, at: number): boolean => bits(value, at, at) === 1n;
const isInterruptRange = (address: bigint): boolean => address >> 20n === 0xfeen;

const UNQUALIFIED = new Set([
  0x30, 0x31, 0x32, 0x33, 0x34, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58, 0x01, 0x08, 0x09, 0x0a,
]);
const TR_UR = new Set([0x31, 0x33, 0x34, 0x39, 0x41, 0x44, 0x45, 0x46, 0x48, 0x89, 0x01, 0x02, 0x0d]);
const TR_CA = new Set([
  0x30, 0x38, 0x3a, 0x40, 0x42, 0x43, 0x50, 0x52, 0x58, 0x5a, 0x5b, 0x78, 0x7a, 0x7b, 0x7c, 0x7d, 0x87, 0x08,
  0x09, 0x0a, 0x0b, 0x03, 0x07, 0x0c, 0x0e,
]);

interface Page {
  readonly address: bigint;
  readonly size: bigint;
  readonly read: boolean;
  readonly write: boolean;
  readonly snoop: boolean;
  /** Addresses of the entries that led here, the leaf last. */
  readonly entries: readonly bigint[];
}

interface Flag {
  readonly entry: bigint;
  readonly wanted: bigint;
  readonly first: boolean;
  /** Nested: the second-stage page that the first-stage entry is in. */
  readonly through?: Page;
}

export class ReferenceVtd {
  readonly #o: ReferenceOptions;
  readonly #u: ReferenceUnit;
  readonly #r: ReferenceRequest;
  #fpd = false;
  readonly #flags = new Map<bigint, bigint>();

  private constructor(options: ReferenceOptions, unit: ReferenceUnit, request: ReferenceRequest) {
    this.#o = options;
    this.#u = unit;
    this.#r = request;
  }

  static decide(options: ReferenceOptions, unit: ReferenceUnit, request: ReferenceRequest): ReferenceAnswer {
    return new ReferenceVtd(options, unit, request).#decide();
  }

  get #pr(): boolean {
    return this.#r.pasid !== null && this.#r.privileged;
  }

  #has(name: string): boolean {
    return this.#o.has.has(name);
  }

  #quiet(status: string, rest: Partial<ReferenceAnswer> = {}): ReferenceAnswer {
    return { status, recorded: false, flags: this.#flags, ...rest };
  }

  #decide(): ReferenceAnswer {
    const { pasid, access, at, privileged, address } = this.#r;
    const er = access === 'execute';
    // What no TLP can carry.
    if (pasid === null && (er || privileged)) return this.#quiet('unsupported-request');
    // §1
    if (at === 'translation' && (access === 'write' || access === 'atomic')) {
      return this.#quiet('unsupported-request');
    }
    if (at === 'translated' && pasid !== null && !this.#has('PTRS'))
      return this.#quiet('unsupported-request');
    // An interrupt is no DMA, and nothing else goes there (3.14).
    if (pasid === null && at === 'untranslated' && isInterruptRange(address)) {
      return access === 'write' ? this.#quiet('interrupt', { address }) : this.#quiet('unsupported-request');
    }
    // §2
    if (!this.#u.te) {
      const passes = at === 'untranslated' && (pasid === null || !this.#o.reject);
      return passes ? this.#quiet('bypass', { address }) : this.#quiet('unsupported-request');
    }
    try {
      const { ttm } = this.#u;
      if (ttm === 0 && pasid !== null) throw new Stop(0x31);
      if (ttm === 0 && this.#u.ssirwe) throw new Stop(0x30);
      if (ttm === 3 && this.#has('ADMS')) throw new Stop(0x33);
      if (ttm === 2 || ttm === 3 || (ttm === 1 && !this.#has('SMTS'))) throw new Stop(0x30);
      if (er && this.#o.major >= 8) throw new Stop(0x34);
      return ttm === 0 ? this.#legacy() : this.#scalable();
    } catch (stop) {
      if (stop instanceof Stop) return this.#fail(stop.condition);
      throw stop;
    }
  }

  #fail(code: number): ReferenceAnswer {
    const recorded = UNQUALIFIED.has(code) || !this.#fpd;
    this.#flags.clear();
    if (this.#r.at === 'translation') {
      if (TR_UR.has(code)) return this.#quiet('unsupported-request', { code, recorded });
      if (TR_CA.has(code)) return this.#quiet('completer-abort', { code, recorded });
      return this.#quiet('ats', { code, recorded: recorded && code === 0x91, rights: this.#pr ? 'p' : '' });
    }
    return this.#quiet('unsupported-request', { code, recorded });
  }

  /** A structure of whole quadwords. */
  #fetch(address: bigint, quads: number, error: number): bigint {
    let value = 0n;
    for (let quad = 0; quad < quads; quad++) {
      const part = this.#u.read(address + BigInt(quad * 8));
      if (part === undefined) throw new Stop(error);
      value |= part << BigInt(64 * quad);
    }
    return value;
  }

  /** Bits that have to be 0 from `low` to `high`. */
  #reserved(value: bigint, code: number, ...ranges: readonly (readonly [number, number])[]): void {
    for (const [high, low] of ranges) if (bits(value, high, low) !== 0n) throw new Stop(code);
  }

  #aboveHaw(pointerHigh: number): readonly [number, number] {
    // A pointer of 64 bits whose bit 63 is `pointerHigh`.
    return [pointerHigh, pointerHigh - 63 + Number(this.#o.haw)];
  }

  #scalable(): ReferenceAnswer {
    const { rid, pasid, at, address, noWrite } = this.#r;
    const bus = BigInt(rid >> 8);
    const devfn = rid & 0xff;
    // Step 2.
    const root = this.#fetch(this.#u.root + bus * 16n, 2, 0x38);
    const half = devfn < 128 ? bits(root, 63, 0) : bits(root, 127, 64);
    if (!bit(half, 0)) throw new Stop(0x39);
    this.#reserved(half, 0x3a, [11, 1], this.#aboveHaw(63));
    // Step 3.
    const table = half & ~0xfffn;
    const context = this.#fetch(table + BigInt((devfn & 0x7f) * 32), 4, 0x40);
    if (bit(context, 1)) this.#fpd = true;
    if (!bit(context, 0)) throw new Stop(0x41);
    const lacks = (feature: string, high: number, low = high): readonly [number, number][] =>
      this.#has(feature) ? [] : [[high, low]];
    this.#reserved(
      context,
      0x42,
      [8, 7],
      [5, 5],
      [255, 85],
      this.#aboveHaw(63),
      ...lacks('DT', 2),
      ...lacks('PASID', 3),
      ...lacks('PRS', 4),
      ...lacks('PTRS', 6),
      ...lacks('RPS', 83, 64),
      ...lacks('RPRIVS', 84),
    );
    // Step 4.
    const dte = bit(context, 2);
    const paside = bit(context, 3);
    const eptr = bit(context, 6);
    const limit = 1n << (bits(context, 11, 9) + 13n);
    const ridPasid = bits(context, 83, 64);
    if (!dte && bit(context, 4)) throw new Stop(0x43);
    if (ridPasid >= limit) throw new Stop(0x43);
    if (eptr && !paside && (pasid === null || at === 'translated')) throw new Stop(0x43);
    // Step 5.
    if (at !== 'untranslated' && !dte) throw new Stop(0x44);
    // Step 6.
    if (pasid !== null) {
      if (at !== 'translated' && !paside) throw new Stop(0x45);
      if (at === 'translated' && !eptr) throw new Stop(0x49);
      if (pasid > 2 ** (this.#o.pss + 1) - 1) throw new Stop(0x89);
      if (BigInt(pasid) >= limit) throw new Stop(0x46);
      if (BigInt(pasid) === ridPasid) throw new Stop(0x48);
    }
    // Step 7.
    if (at === 'translated') {
      if (address >> this.#o.haw !== 0n) throw new Stop(0x83);
      if (isInterruptRange(address)) throw new Stop(0x87);
      return this.#quiet('bypass', { address });
    }
    if (at === 'translation' && pasid === null && isInterruptRange(address)) {
      if (noWrite && this.#has('NWFS')) return this.#quiet('ats', { rights: '' });
      return this.#quiet('ats', { rights: 'wu', address, size: 4096n });
    }
    // Step 8.
    const number = pasid === null ? ridPasid : BigInt(pasid);
    const supervisor = pasid === null ? bit(context, 84) : this.#pr;
    // Step 9.
    const directory = (bits(context, 63, 12) << 12n) + (number >> 6n) * 8n;
    const pointer = this.#fetch(directory, 1, 0x50);
    if (bit(pointer, 1)) this.#fpd = true;
    if (!bit(pointer, 0)) throw new Stop(0x51);
    this.#reserved(pointer, 0x52, [11, 2], this.#aboveHaw(63));
    // Step 10.
    const entry = this.#fetch((pointer & ~0xfffn) + (number & 63n) * 64n, 8, 0x58);
    if (bit(entry, 1)) this.#fpd = true;
    if (!bit(entry, 0)) throw new Stop(0x59);
    const pgtt = Number(bits(entry, 8, 6));
    this.#reserved(
      entry,
      0x5a,
      [5, 5],
      [11, 10],
      [86, 80],
      [95, 91],
      [129, 129],
      [139, 136],
      [511, 192],
      ...lacks('SSADS', 9),
      ...lacks('SSTS', 63, 12),
      ...(this.#o.nd < 16n ? ([[79, 64 + Number(this.#o.nd)]] as const) : []),
      ...lacks('SMPWCS', 87),
      ...lacks('SC', 88),
      ...lacks('MTS', 90, 89),
      ...lacks('MTS', 127, 96),
      ...lacks('SRS', 128),
      ...lacks('EAFS', 135),
      ...lacks('FSTS', 191, 140),
      ...(pgtt === 2 || pgtt === 3 ? [this.#aboveHaw(63)] : []),
      ...(pgtt === 1 ? [this.#aboveHaw(191)] : []),
    );
    const aw = bits(entry, 4, 2);
    const awBits = 30n + 9n * aw;
    const input = awBits < this.#o.mgaw ? awBits : this.#o.mgaw;
    const fspm = bits(entry, 131, 130);
    const badMode = fspm > 1n || (fspm === 1n && !this.#has('FS5LP'));
    const badWidth = aw < 1n || aw > 3n || awBits > this.#o.mgaw;
    const wrong = {
      1: !this.#has('FSTS') || badMode,
      2: !this.#has('SSTS') || badWidth,
      3: !this.#has('NEST') || badMode || badWidth || bits(entry, 191, 140) >> (input - 12n) !== 0n,
      4: !this.#has('PT'),
    }[pgtt];
    if (wrong ?? true) throw new Stop(0x5b);
    // Step 11.
    if (this.#r.access === 'execute') throw new Stop(0x5c);
    if (supervisor && !bit(entry, 128)) throw new Stop(0x5d);
    return this.#stages(entry, pgtt, input, supervisor);
  }

  #stages(entry: bigint, pgtt: number, input: bigint, supervisor: boolean): ReferenceAnswer {
    const { address, at } = this.#r;
    const tr = at === 'translation';
    const pgsnp = bit(entry, 88);
    if (pgtt === 4) {
      if (address >> this.#o.haw !== 0n) throw new Stop(0x83);
      if (!tr && isInterruptRange(address)) throw new Stop(0x87);
      if (!tr) return this.#quiet('bypass', { address });
      return this.#answer(address, 4096n, true, !this.#noWrite, pgsnp, false);
    }
    const root = bits(entry, 63, 12) << 12n;
    const levels = Number(bits(entry, 4, 2)) + 2;
    const ssade = bit(entry, 9);
    const flags: Flag[] = [];
    const second = (gpa: bigint): Page => {
      const page = this.#second(root, levels, levels, gpa, true, true, []);
      if (!page.read && !page.write) throw new Stop(0x79);
      if (ssade) for (const at2 of page.entries) flags.push({ entry: at2, wanted: 0x100n, first: false });
      return page;
    };
    if (pgtt === 2) {
      if (address >> input !== 0n) throw new Stop(0x84);
      const page = second(address);
      const write = page.write && !(tr && this.#noWrite);
      this.#rights(page.read, write);
      this.#range(page.address);
      if (ssade && this.#writes(write)) flags.push({ entry: last(page), wanted: 0x200n, first: false });
      this.#settle(flags, bit(entry, 87));
      return this.#answer(page.address, page.size, page.read, write, pgsnp || page.snoop, false);
    }
    const five = bits(entry, 131, 130) === 1n;
    const sign = address >> (five ? 56n : 47n);
    if (sign !== 0n && sign !== (five ? 0xffn : 0x1ffffn)) throw new Stop(0x80);
    const eafe = bit(entry, 135);
    const table = bits(entry, 191, 140) << 12n;
    const first = this.#first(
      table,
      five ? 5 : 4,
      five ? 5 : 4,
      true,
      true,
      pgtt === 3 ? second : null,
      input,
      (f) => flags.push({ ...f, wanted: eafe ? 0x420n : 0x20n }),
    );
    if (!supervisor && !first.user) throw new Stop(0x81);
    let write = first.write || (supervisor && !bit(entry, 132));
    if (!tr && this.#wantsWrite && !write) throw new Stop(0x85);
    let read = true;
    let { address: output, size } = first;
    let snoop = pgsnp;
    let leaf: bigint | undefined;
    if (pgtt === 3) {
      const page = second(output);
      output = page.address;
      size = page.size < size ? page.size : size;
      read = page.read;
      write &&= page.write;
      snoop ||= page.snoop;
      leaf = last(page);
    }
    if (tr && this.#noWrite) write = false;
    this.#rights(read, write);
    this.#range(output);
    if (this.#writes(write)) {
      flags.push({ ...first.leaf, wanted: 0x40n });
      if (leaf !== undefined && ssade) flags.push({ entry: leaf, wanted: 0x200n, first: false });
    }
    // To set a flag of a first-stage entry is a write into the page that holds it.
    for (const { through } of flags.filter((flag) => flag.through !== undefined && !this.#isSet(flag))) {
      if (through === undefined) continue;
      if (!through.write) throw new Stop(0x77);
      if (ssade) flags.push({ entry: last(through), wanted: 0x200n, first: false });
    }
    this.#settle(flags, bit(entry, 87));
    return this.#answer(output, size, read, write, snoop, !first.user);
  }

  get #noWrite(): boolean {
    return this.#r.noWrite && this.#has('NWFS');
  }

  get #wantsWrite(): boolean {
    return this.#r.access === 'write' || this.#r.access === 'atomic';
  }

  #writes(granted: boolean): boolean {
    return this.#r.at === 'translation' ? granted : this.#wantsWrite;
  }

  #rights(read: boolean, write: boolean): void {
    const legacy = this.#u.ttm === 0;
    if (this.#r.at === 'translation') {
      if (!read && !write) throw new Stop(legacy ? 6 : 0x86);
      return;
    }
    if (this.#r.access !== 'write' && !read) throw new Stop(legacy ? 6 : 0x86);
    if (this.#wantsWrite && !write) throw new Stop(legacy ? 5 : 0x85);
  }

  #range(output: bigint): void {
    if (isInterruptRange(output)) throw new Stop(this.#u.ttm === 0 ? 0x0e : 0x87);
  }

  #isSet(flag: Flag): boolean {
    return ((this.#u.read(flag.entry) ?? 0n) & flag.wanted) === flag.wanted;
  }

  #settle(flags: readonly Flag[], coherent: boolean): void {
    // The entries in the order in which they were met.
    const order = [...new Set(flags.map(({ entry }) => entry))];
    for (const entry of order) {
      const about = flags.filter((flag) => flag.entry === entry && !this.#isSet(flag));
      const [any] = about;
      if (any === undefined) continue;
      if (!coherent) throw new Stop(any.first ? 0x90 : 0x7c);
      if (!this.#u.canWrite(entry)) throw new Stop(any.first ? 0x91 : 0x7d);
      for (const { wanted } of about) this.#flags.set(entry, (this.#flags.get(entry) ?? 0n) | wanted);
    }
  }

  #answer(
    address: bigint,
    size: bigint,
    read: boolean,
    write: boolean,
    snoop: boolean,
    supervisorPage: boolean,
  ): ReferenceAnswer {
    const rights = (read ? 'r' : '') + (write ? 'w' : '');
    if (this.#r.at === 'translation') {
      return this.#quiet('ats', {
        address,
        size,
        rights: rights + (this.#pr ? 'p' : '') + (snoop ? 'n' : ''),
      });
    }
    return this.#quiet('translated', { address, size, rights: rights + (supervisorPage ? 'p' : '') });
  }

  /** §6, one level: the rest of the walk is below it. */
  #first(
    table: bigint,
    level: number,
    top: number,
    write: boolean,
    user: boolean,
    second: ((gpa: bigint) => Page) | null,
    input: bigint,
    note: (flag: Omit<Flag, 'wanted'>) => void,
  ): { address: bigint; size: bigint; write: boolean; user: boolean; leaf: Omit<Flag, 'wanted'> } {
    const shift = 12 + 9 * (level - 1);
    const gpa = table + bits(this.#r.address, shift + 8, shift) * 8n;
    let at = gpa;
    let through: Page | undefined;
    if (second !== null) {
      through = second(gpa);
      if (!through.read) throw new Stop(level === top ? 0x75 : 0x76);
      at = through.address;
    }
    const entry = this.#fetch(at, 1, level === top ? 0x73 : 0x70);
    if (!bit(entry, 0)) throw new Stop(0x71);
    if (second === null) this.#reserved(entry, 0x72, [51, Number(this.#o.haw)]);
    const large = level > 1 && bit(entry, 7);
    if (large && level > 3) throw new Stop(0x72);
    if (large && level === 3) {
      if (!this.#has('FS1GP')) throw new Stop(0x72);
      this.#reserved(entry, 0x72, [29, 13]);
    }
    if (large && level === 2) this.#reserved(entry, 0x72, [20, 13]);
    if (second !== null && (bits(entry, 51, 12) << 12n) >> input !== 0n) throw new Stop(0x74);
    const flag = { entry: at, first: true, ...(through === undefined ? {} : { through }) };
    note(flag);
    const rw = write && bit(entry, 1);
    const us = user && bit(entry, 2);
    if (level > 1 && !large)
      return this.#first(bits(entry, 51, 12) << 12n, level - 1, top, rw, us, second, input, note);
    const size = 1n << BigInt(shift);
    const address = (bits(entry, 51, shift) << BigInt(shift)) | (this.#r.address & (size - 1n));
    return { address, size, write: rw, user: us, leaf: flag };
  }

  /** §7, one level. */
  #second(
    table: bigint,
    level: number,
    top: number,
    gpa: bigint,
    read: boolean,
    write: boolean,
    entries: readonly bigint[],
  ): Page {
    const shift = 12 + 9 * (level - 1);
    const at = table + bits(gpa, shift + 8, shift) * 8n;
    const entry = this.#fetch(at, 1, level === top ? 0x7b : 0x78);
    const r = bit(entry, this.#u.ssirwe ? 61 : 0);
    const w = bit(entry, this.#u.ssirwe ? 62 : 1);
    if (!r && !w) throw new Stop(0x79);
    this.#reserved(entry, 0x7a, [51, Number(this.#o.haw)]);
    const large = level > 1 && bit(entry, 7);
    if (large && level > 3) throw new Stop(0x7a);
    const leaf = large || level === 1;
    if (leaf && bit(entry, 11) && !this.#has('SC')) throw new Stop(0x7a);
    if (large && level === 3) {
      if (!this.#has('SS1G')) throw new Stop(0x7a);
      this.#reserved(entry, 0x7a, [29, 12]);
    }
    if (large && level === 2) {
      if (!this.#has('SS2M')) throw new Stop(0x7a);
      this.#reserved(entry, 0x7a, [20, 12]);
    }
    const path = [...entries, at];
    if (!leaf)
      return this.#second(bits(entry, 51, 12) << 12n, level - 1, top, gpa, read && r, write && w, path);
    const size = 1n << BigInt(shift);
    return {
      address: (bits(entry, 51, shift) << BigInt(shift)) | (gpa & (size - 1n)),
      size,
      read: read && r,
      write: write && w,
      snoop: bit(entry, 11),
      entries: path,
    };
  }

  /** §10 */
  #legacy(): ReferenceAnswer {
    const { rid, at, address, noWrite } = this.#r;
    const root = this.#fetch(this.#u.root + BigInt(rid >> 8) * 16n, 2, 0x08);
    if (!bit(root, 0)) throw new Stop(0x01);
    this.#reserved(root, 0x0a, [11, 1], this.#aboveHaw(63), [127, 64]);
    const context = this.#fetch((bits(root, 63, 12) << 12n) + BigInt((rid & 0xff) * 16), 2, 0x09);
    if (bit(context, 1)) this.#fpd = true;
    if (!bit(context, 0)) throw new Stop(0x02);
    const tt = bits(context, 3, 2);
    this.#reserved(context, 0x0b, [11, 4], [71, 71], [127, 88]);
    if (this.#o.nd < 16n) this.#reserved(context, 0x0b, [87, 72 + Number(this.#o.nd)]);
    const aw = bits(context, 66, 64);
    if (tt === 2n) {
      if (!this.#has('PT')) throw new Stop(0x03);
    } else {
      this.#reserved(context, 0x0b, this.#aboveHaw(63));
      if (tt === 3n || (tt === 1n && !this.#has('DT'))) throw new Stop(0x03);
      if (aw < 1n || aw > 3n || 30n + 9n * aw > this.#o.mgaw) throw new Stop(0x03);
    }
    if (at !== 'untranslated' && tt !== 1n) throw new Stop(0x0d);
    if (at === 'translation' && isInterruptRange(address)) {
      if (noWrite && this.#has('NWFS')) return this.#quiet('ats', { rights: '' });
      return this.#quiet('ats', { rights: 'wu', address, size: 4096n });
    }
    if (at === 'translated' || tt === 2n) {
      if (address >> this.#o.haw !== 0n) throw new Stop(0x04);
      if (isInterruptRange(address)) throw new Stop(0x0e);
      return this.#quiet('bypass', { address });
    }
    const width = 30n + 9n * aw < this.#o.mgaw ? 30n + 9n * aw : this.#o.mgaw;
    if (address >> width !== 0n) throw new Stop(0x04);
    const page = this.#legacyPage(bits(context, 63, 12) << 12n, Number(aw) + 2);
    const write = page.write && !(at === 'translation' && this.#noWrite);
    this.#rights(page.read, write);
    this.#range(page.address);
    return this.#answer(page.address, page.size, page.read, write, page.snoop, false);
  }

  #legacyPage(root: bigint, levels: number): Page {
    try {
      const page = this.#second(root, levels, levels, this.#r.address, true, true, []);
      if (!page.read && !page.write) throw new Stop(0x79);
      return page;
    } catch (stop) {
      if (!(stop instanceof Stop)) throw stop;
      const { condition } = stop;
      if (condition === 0x78 || condition === 0x7b) throw new Stop(0x07);
      if (condition === 0x7a) throw new Stop(0x0c);
      if (condition === 0x79) throw new Stop(this.#wantsWrite ? 5 : 6);
      throw stop;
    }
  }
}

function last(page: Page): bigint {
  return page.entries.at(-1) ?? 0n;
}
