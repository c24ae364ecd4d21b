// QEMU's intel-iommu without a guest, as a second opinion on walks: its devices make the requests.
import type { VtdFeatures, VtdOptions } from '../../../src/viommu/vtd/index.ts';
import { ECAM, openEcam, Qtest } from './qemu.ts';

/** RAM of the machine, from 0. */
export const RAM_BYTES = 0x400_0000;

/** Where the devices are: three that write, on both halves of bus 0 and on bus 1, and one that reads. */
export const WRITERS = [0x0020, 0x00e0, 0x0100] as const;
export const READER = 0x0028;

const UNIT = 0xfed9_0000;
const GSTS = UNIT + 0x1c;
const GCMD = UNIT + 0x18;
const RTADDR = UNIT + 0x20;
const FSTS = UNIT + 0x34;
const FRCD = UNIT + 0x220;
const SRTP = 0x4000_0000;
const TE = 0x8000_0000;

const BARS: Readonly<Record<number, number>> = {
  [WRITERS[0]]: 0xe020_0000,
  [WRITERS[1]]: 0xe020_1000,
  [WRITERS[2]]: 0xe000_0000,
  [READER]: 0xe030_0000,
};
/** Where the reader puts what it has read, to be looked at: the last page of RAM. */
const COPY = RAM_BYTES - 0x1000;
/** Legacy tables by which it gets there, below: root, contexts, and three levels that map the last 2 MiB. */
const WAY_OUT = RAM_BYTES - 0x6000;
/** A writer's result when its write was not taken. */
const TRANSFER_FAILED = 0xdead_0002;

/** What became of a request in QEMU. */
export interface QemuAnswer {
  /** `reached`: it hit the memory where it was expected; `elsewhere`: other memory; `failed`: none, or refused. */
  readonly outcome: 'reached' | 'elsewhere' | 'failed';
  /** The fault recording register, if it was filled. */
  readonly record: { readonly code: number; readonly rid: number; readonly address: bigint } | null;
}

/** ECAP and CAP bits and the switches they stand for, as far as walks go. */
const FEATURES: readonly (readonly [register: 'cap' | 'ecap', bit: number, name: keyof VtdFeatures])[] = [
  ['cap', 7, 'cachingMode'],
  ['cap', 34, 'secondStage2MiB'],
  ['cap', 35, 'secondStage1GiB'],
  ['cap', 56, 'firstStage1GiB'],
  ['cap', 60, 'firstStage5Level'],
  ['ecap', 2, 'deviceTlb'],
  ['ecap', 6, 'passThrough'],
  ['ecap', 7, 'snoopControl'],
  ['ecap', 25, 'memoryTypes'],
  ['ecap', 26, 'nesting'],
  ['ecap', 29, 'pageRequests'],
  ['ecap', 31, 'supervisorRequests'],
  ['ecap', 33, 'noWriteFlag'],
  ['ecap', 34, 'extendedAccessed'],
  ['ecap', 43, 'scalableMode'],
  ['ecap', 45, 'secondStageAccessedDirty'],
  ['ecap', 46, 'secondStage'],
  ['ecap', 47, 'firstStage'],
  ['ecap', 48, 'coherentWalks'],
  ['ecap', 49, 'ridPasid'],
  ['ecap', 52, 'abortDma'],
  ['ecap', 53, 'ridPrivilege'],
  ['ecap', 56, 'translatedWithPasid'],
  ['ecap', 57, 'secondStageIrIw'],
];

export class VtdOracle {
  readonly #qtest: Qtest;
  readonly cap: bigint;
  readonly ecap: bigint;
  /** What of the tables is in the machine's memory, by address. */
  readonly #stored = new Map<number, bigint>();

  private constructor(qtest: Qtest, cap: bigint, ecap: bigint) {
    this.#qtest = qtest;
    this.cap = cap;
    this.ecap = ecap;
  }

  /** Starts a machine whose unit has these options, such as `fsts=on`. */
  static async start(folder: string, options: string): Promise<VtdOracle> {
    const unit = `intel-iommu,intremap=on,device-iotlb=on,caching-mode=on,scalable-mode=on,${options}`;
    const devices = [
      'iommu-testdev,addr=4.0',
      'iommu-testdev,addr=1c.0',
      'edu,addr=5.0,dma_mask=0xffffffffffffffff',
      'pcie-root-port,id=rp0,addr=2.0,chassis=1',
      'iommu-testdev,bus=rp0,addr=0.0',
    ];
    const qtest = await Qtest.start(folder, [
      '-m',
      `${RAM_BYTES / 2 ** 20}`,
      ...[unit, ...devices].flatMap((device) => ['-device', device]),
    ]);
    await openEcam(qtest);
    for (const [rid, bar] of Object.entries(BARS)) {
      const config = ECAM + Number(rid) * 0x1000;
      await qtest.write(config + 0x10, 4, bar);
      await qtest.write(config + 0x04, 2, 6);
    }
    const oracle = new VtdOracle(qtest, await qtest.read64(UNIT + 0x08), await qtest.read64(UNIT + 0x10));
    const page = (index: number): number => WAY_OUT + index * 0x1000;
    const index = (shift: number): number => ((COPY >>> shift) & 0x1ff) * 8;
    await qtest.write64(page(0), BigInt(page(1) + 1));
    await qtest.write64(page(1) + READER * 16, BigInt(page(2) + 1));
    await qtest.write64(page(1) + READER * 16 + 8, 1n);
    await qtest.write64(page(2) + index(30), BigInt(page(3) + 3));
    await qtest.write64(page(3) + index(21), BigInt(page(4) + 3));
    await qtest.write64(page(4) + index(12), BigInt(COPY + 3));
    return oracle;
  }

  close(): Promise<void> {
    return this.#qtest.close();
  }

  /** The options of a unit of ours that shows the same capabilities. */
  options(): VtdOptions {
    const { cap, ecap } = this;
    const words = { cap, ecap };
    const switches = FEATURES.map(([register, bit, name]) => [
      name,
      ((words[register] >> BigInt(bit)) & 1n) === 1n,
    ]);
    const width = Number((cap >> 16n) & 0x3fn) + 1;
    if (width !== 39 && width !== 48) throw new Error(`QEMU's unit has addresses of ${width} bits`);
    return {
      ...Object.fromEntries(switches),
      pasidWidth: ((ecap >> 40n) & 1n) === 0n ? 0 : Number((ecap >> 35n) & 0x1fn) + 1,
      addressWidth: width,
      // QEMU has one width for both.
      hostAddressWidth: width,
      domainIdWidth: 4 + 2 * Number(cap & 7n),
      faultRecords: 1,
      version: 0x10,
    };
  }

  /** Puts tables into the machine's memory, in place of those before, and enables translation with them. */
  async load(quads: ReadonlyMap<number, bigint>, rtaddr: bigint): Promise<void> {
    const qtest = this.#qtest;
    const writes: Promise<void>[] = [];
    for (const address of this.#stored.keys())
      if (!quads.has(address)) writes.push(qtest.write64(address, 0n));
    for (const [address, value] of quads) writes.push(qtest.write64(address, value));
    this.#stored.clear();
    for (const [address, value] of quads) this.#stored.set(address, value);
    await Promise.all([...writes, ...this.#setRoot(rtaddr)]);
    const status = await qtest.read(GSTS, 4);
    if (status !== 0xc000_0000) throw new Error(`GSTS is 0x${status.toString(16)}`);
  }

  /** Drops all caches, too. */
  #setRoot(rtaddr: bigint): Promise<void>[] {
    return [this.#qtest.write64(RTADDR, rtaddr), this.#qtest.write(GCMD, 4, SRTP + TE)];
  }

  /** The quadwords of the tables as they are now. */
  async tables(): Promise<Map<number, bigint>> {
    const addresses = [...this.#stored.keys()];
    const values = await Promise.all(addresses.map((address) => this.#qtest.read64(address)));
    return new Map(addresses.map((address, i) => [address, values[i] ?? 0n]));
  }

  /** Writes 4 bytes to an address; `expected` is where they should land, if that is known and RAM. */
  async write(rid: number, iova: bigint, expected: bigint | undefined): Promise<QemuAnswer> {
    const qtest = this.#qtest;
    const bar = BARS[rid] ?? 0;
    const landing = expected ?? BigInt(COPY);
    const before = qtest.write(Number(landing), 4, 0);
    const words = [
      [0x04, iova],
      [0x08, iova >> 32n],
      [0x1c, landing],
      [0x20, landing >> 32n],
      [0x0c, 4n],
      [0x14, 1n],
    ] as const;
    const setup = words.map(([offset, value]) => qtest.write(bar + offset, 4, Number(value & 0xffff_ffffn)));
    const run = qtest.read(bar, 4);
    const result = qtest.read(bar + 0x10, 4);
    await Promise.all([before, ...setup, run, qtest.write(Number(landing), 4, 0)]);
    const outcome =
      { 0: 'reached' as const, [TRANSFER_FAILED]: 'failed' as const }[await result] ?? 'elsewhere';
    return { outcome, record: await this.#takeFault() };
  }

  /** Reads 8 bytes from an address; ends the use of the tables. `expected` as for {@link VtdOracle.write}. */
  async read(iova: bigint, expected: bigint | undefined, nonce: number): Promise<QemuAnswer> {
    const qtest = this.#qtest;
    await Promise.all([
      qtest.write(COPY, 4, 0),
      ...(expected === undefined ? [] : [qtest.write(Number(expected), 4, nonce)]),
      ...this.#copy(iova, 0x4_0000n, 1n),
    ]);
    const record = await this.#takeFault();
    await Promise.all([
      ...this.#setRoot(BigInt(WAY_OUT)),
      ...this.#copy(0x4_0000n, BigInt(COPY), 3n),
      ...(expected === undefined ? [] : [qtest.write(Number(expected), 4, 0)]),
    ]);
    return { outcome: (await qtest.read(COPY, 4)) === nonce ? 'reached' : 'failed', record };
  }

  /** The reader's DMA; it waits for 100 ms of the machine's time. */
  #copy(source: bigint, target: bigint, command: bigint): Promise<unknown>[] {
    const qtest = this.#qtest;
    const bar = BARS[READER] ?? 0;
    return [
      qtest.write64(bar + 0x80, source),
      qtest.write64(bar + 0x88, target),
      qtest.write64(bar + 0x90, 8n),
      qtest.write64(bar + 0x98, command),
      qtest.command('clock_step 200000000'),
    ];
  }

  async #takeFault(): Promise<QemuAnswer['record']> {
    const qtest = this.#qtest;
    const [low, high] = await Promise.all([qtest.read64(FRCD), qtest.read64(FRCD + 8)]);
    await Promise.all([qtest.write(FRCD + 12, 4, 0x8000_0000), qtest.write(FSTS, 4, 1)]);
    if (high >> 63n === 0n) return null;
    return { code: Number((high >> 32n) & 0xffn), rid: Number(high & 0xffffn), address: low };
  }
}
