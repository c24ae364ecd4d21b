// What a guest's driver does: tables in memory, registers, the invalidation queue.
import { GuestMemory } from '../../../src/memory/index.ts';
import { createEndpointState, type Endpoint, type EndpointState } from '../../../src/pci/endpoint.ts';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import { OUT_WORDS } from '../../../src/viommu/result.ts';
import { parseRequest } from '../../../src/viommu/request.ts';
import { type Verdict, verdictOf } from '../../../src/viommu/verdict.ts';
import { VtdIommu, type VtdOptions } from '../../../src/viommu/vtd/index.ts';

export const RID = 0x0100;
/** 8 MiB of guest memory; the tables grow from the first page, data is above 4 MiB. */
export const MEMORY_BYTES = 0x80_0000;
export const ROOT = 0x1000n;
export const QUEUE = 0x2000n;

export const P = 1n;
export const FPD = 2n;
export const DTE = 4n;
export const PASIDE = 8n;
export const PRE = 0x10n;
export const EPTR = 0x40n;
export const pdts = (value: number): bigint => BigInt(value) << 9n;

export const FIRST = 1;
export const SECOND = 2;
export const NESTED = 3;
export const PASS_THROUGH = 4;

/** First-stage entry bits. */
export const RW = 2n;
export const US = 4n;
export const PS = 0x80n;

/** Second-stage entry bits. */
export const R = 1n;
export const W = 2n;
export const SNP = 0x800n;

export interface PasidEntry {
  readonly pgtt?: number;
  readonly did?: number;
  readonly aw?: number;
  readonly first?: bigint;
  readonly second?: bigint;
  /** Bits or'ed into the eight quadwords. */
  readonly extra?: readonly bigint[];
  readonly sre?: boolean;
  readonly wpe?: boolean;
  readonly eafe?: boolean;
  readonly ssade?: boolean;
  readonly pwsnp?: boolean;
  readonly pgsnp?: boolean;
  readonly fpd?: boolean;
  readonly present?: boolean;
  readonly fiveLevel?: boolean;
}

export class Guest {
  readonly bytes = new Uint8Array(MEMORY_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  readonly memory = new GuestMemory([{ base: 0, buffer: this.bytes.buffer }]);
  readonly unit: VtdIommu;
  readonly endpoint: Endpoint;
  #next = 0x4000n;
  #tail = 0;

  constructor(options: VtdOptions = {}, facts: Partial<EndpointState> = {}) {
    this.unit = new VtdIommu({ memory: this.memory, ...options });
    this.endpoint = this.addEndpoint(RID, facts);
  }

  addEndpoint(rid: number, facts: Partial<EndpointState> = {}): Endpoint {
    const state = Object.assign(createEndpointState(rid), { pasidWidth: 20, ats: true, pri: true }, facts);
    this.unit.attachEndpoint(state);
    return { endpointState: state };
  }

  page(count = 1): bigint {
    const page = this.#next;
    this.#next += 0x1000n * BigInt(count);
    if (this.#next > 0x40_0000n) throw new Error('the tables have grown into the data');
    return page;
  }

  read64(gpa: bigint): bigint {
    return this.view.getBigUint64(Number(gpa), true);
  }

  write64(gpa: bigint, value: bigint): void {
    this.view.setBigUint64(Number(gpa), BigInt.asUintN(64, value), true);
  }

  // Registers.

  reg(offset: number): number {
    return this.unit.readRegister(offset, 4);
  }

  setReg(offset: number, value: number): void {
    this.unit.writeRegister(offset, 4, value >>> 0);
  }

  setReg64(offset: number, value: bigint): void {
    this.unit.writeRegister64(offset, value);
  }

  command(bits: number): void {
    const kept = this.reg(0x1c) & ~0x4900_0000;
    this.setReg(0x18, kept | bits);
  }

  /** Sets the root pointer with a translation table mode (1: scalable), and enables. */
  enable(ttm = 1, rtaddrBits = 0n): void {
    this.setReg64(0x20, ROOT | (BigInt(ttm) << 10n) | rtaddrBits);
    this.command(0x4000_0000);
    this.command(0x8000_0000);
  }

  disable(): void {
    this.setReg(0x18, this.reg(0x1c) & ~0xc900_0000);
  }

  // Tables.

  /** Where the context entry of a requester is; the tables are made when they are not there. */
  contextAddress(rid = RID): bigint {
    const half = ROOT + BigInt((rid >> 8) * 16 + ((rid & 0x80) === 0 ? 0 : 8));
    let table = this.read64(half) & ~0xfffn;
    if (table === 0n) {
      table = this.page();
      this.write64(half, table | P);
    }
    return table + BigInt((rid & 0x7f) * 32);
  }

  /** Writes a context entry: flags of the first quadword, and the second. A directory is made unless given. */
  context(flags: bigint, second = 0n, rid = RID): bigint {
    const at = this.contextAddress(rid);
    let directory = this.read64(at) & ~0xfffn;
    if (directory === 0n) directory = this.page(32);
    this.write64(at, directory | flags);
    this.write64(at + 8n, second);
    return directory;
  }

  directoryAddress(pasid: number, rid = RID): bigint {
    return (this.read64(this.contextAddress(rid)) & ~0xfffn) + BigInt((pasid >> 6) * 8);
  }

  pasidAddress(pasid: number, rid = RID): bigint {
    const at = this.directoryAddress(pasid, rid);
    let table = this.read64(at) & ~0xfffn;
    if (table === 0n) {
      table = this.page();
      this.write64(at, table | P);
    }
    return table + BigInt((pasid & 63) * 64);
  }

  pasid(pasid: number, entry: PasidEntry, rid = RID): bigint {
    const at = this.pasidAddress(pasid, rid);
    const flag = (on: boolean | undefined, value: bigint): bigint => (on === true ? value : 0n);
    const quads = [
      (entry.present === false ? 0n : P) |
        flag(entry.fpd, FPD) |
        (BigInt(entry.aw ?? 2) << 2n) |
        (BigInt(entry.pgtt ?? FIRST) << 6n) |
        flag(entry.ssade, 0x200n) |
        (entry.second ?? 0n),
      BigInt(entry.did ?? 1) | flag(entry.pwsnp ?? true, 1n << 23n) | flag(entry.pgsnp, 1n << 24n),
      flag(entry.sre, 1n) |
        flag(entry.fiveLevel, 4n) |
        flag(entry.wpe, 0x10n) |
        flag(entry.eafe, 0x80n) |
        (entry.first ?? 0n),
    ];
    for (let quad = 0; quad < 8; quad++) {
      this.write64(at + BigInt(quad * 8), (quads[quad] ?? 0n) | (entry.extra?.[quad] ?? 0n));
    }
    return at;
  }

  /** Maps a page in tables of either stage; `table` is the root. Returns the address of the leaf entry. */
  map(
    table: bigint,
    iova: bigint,
    target: bigint,
    bits: bigint,
    inner: bigint,
    levels = 4,
    leafLevel = 1,
  ): bigint {
    let at = table;
    for (let level = levels; ; level--) {
      const entry = at + ((iova >> BigInt(3 + 9 * level)) & 0x1ffn) * 8n;
      if (level === leafLevel) {
        this.write64(entry, target | bits | (level > 1 ? PS : 0n));
        return entry;
      }
      let next = this.read64(entry) & 0xf_ffff_ffff_f000n;
      if (next === 0n) {
        next = this.page();
        this.write64(entry, next | inner);
      }
      at = next;
    }
  }

  // Requests.

  /** Asks by the friendly door. */
  request(request: Partial<MemoryRequest>): Verdict {
    return this.unit.request({ endpoint: this.endpoint, access: 'read', address: 0n, ...request });
  }

  /** Asks by the hot door. */
  hot(request: Partial<MemoryRequest>): Verdict {
    const { rid, pasid, iovaHigh, iovaLow, access } = parseRequest({
      endpoint: this.endpoint,
      access: 'read',
      address: 0n,
      ...request,
    });
    const out = new Uint32Array(OUT_WORDS).fill(0xdeadbeef);
    return verdictOf(this.unit.translate(rid, pasid, iovaHigh, iovaLow, access, out), out, this.unit.reasons);
  }

  // Faults.

  /** Takes the recorded faults, oldest first, and clears them. */
  faults(): FaultRecord[] {
    const records: FaultRecord[] = [];
    const count = ((this.reg(0x0c) >>> 8) & 0xff) + 1;
    const first = (this.reg(0x34) >>> 8) & 0xff;
    for (let step = 0; step < count; step++) {
      const at = 0x220 + ((first + step) % count) * 16;
      const word3 = this.reg(at + 12);
      if (word3 >>> 31 === 0) continue;
      const word2 = this.reg(at + 8);
      records.push({
        code: word3 & 0xff,
        rid: word2 & 0xffff,
        address: (BigInt(this.reg(at + 4)) << 32n) | BigInt(this.reg(at)),
        pasid: word2 >>> 31 === 1 ? (word3 >>> 8) & 0xfffff : null,
        type: ((word3 >>> 30) & 1) * 2 + ((word2 >>> 28) & 1),
        execute: ((word2 >>> 30) & 1) === 1,
        privileged: ((word2 >>> 29) & 1) === 1,
        at: (word3 >>> 28) & 3,
      });
      this.setReg(at + 12, 0x8000_0000);
    }
    this.setReg(0x34, 1);
    return records;
  }

  // The invalidation queue.

  /** Enables the queue with 256-bit descriptors, one page. */
  enableQueue(wide = true): void {
    this.setReg(0x88, 0);
    this.setReg64(0x90, QUEUE | (wide ? 0x800n : 0n));
    this.command(0x0400_0000);
    this.#tail = 0;
  }

  /** Appends descriptors of two quadwords each, and runs the queue. */
  invalidate(...descriptors: readonly (readonly [low: bigint, high: bigint])[]): void {
    const bytes = (this.reg(0x90) & 0x800) === 0 ? 16 : 32;
    for (const [low, high] of descriptors) {
      const at = QUEUE + BigInt(this.#tail);
      this.write64(at, low);
      this.write64(at + 8n, high);
      if (bytes === 32) {
        this.write64(at + 16n, 0n);
        this.write64(at + 24n, 0n);
      }
      this.#tail = (this.#tail + bytes) % 0x1000;
    }
    this.setReg(0x88, this.#tail);
  }
}

export interface FaultRecord {
  readonly code: number;
  readonly rid: number;
  readonly address: bigint;
  readonly pasid: number | null;
  /** 0 write, 1 page request, 2 read, 3 AtomicOp. */
  readonly type: number;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly at: number;
}

// Descriptors.

export const contextGlobal: readonly [bigint, bigint] = [0x11n, 0n];
export const contextDomain = (did: number): [bigint, bigint] => [0x21n | (BigInt(did) << 16n), 0n];
export const contextDevice = (rid: number, fm = 0, did = 0): [bigint, bigint] => [
  0x31n | (BigInt(did) << 16n) | (BigInt(rid) << 32n) | (BigInt(fm) << 48n),
  0n,
];
export const iotlbGlobal: readonly [bigint, bigint] = [0x12n, 0n];
export const iotlbDomain = (did: number): [bigint, bigint] => [0x22n | (BigInt(did) << 16n), 0n];
export const iotlbPages = (did: number, address: bigint, am = 0): [bigint, bigint] => [
  0x32n | (BigInt(did) << 16n),
  address | BigInt(am),
];
export const pasidIotlb = (did: number, pasid: number): [bigint, bigint] => [
  0x26n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n),
  0n,
];
export const pasidIotlbPages = (did: number, pasid: number, address: bigint, am = 0): [bigint, bigint] => [
  0x36n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n),
  address | BigInt(am),
];
export const pasidCacheDomain = (did: number): [bigint, bigint] => [0x07n | (BigInt(did) << 16n), 0n];
export const pasidCachePasid = (did: number, pasid: number): [bigint, bigint] => [
  0x17n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n),
  0n,
];
export const pasidCacheGlobal: readonly [bigint, bigint] = [0x37n, 0n];
export const wait = (address: bigint, data: number, flags = 0x20n): [bigint, bigint] => [
  0x05n | flags | (BigInt(data) << 32n),
  address,
];
