// Bed F: requests without PASID, through random tables, in QEMU's intel-iommu and in ours: the same memory or the same
// fault. Where they differ QEMU does what a row of DIFFERENCES says, and the specification what it names.
import { afterAll, expect, it } from 'vitest';
import { GuestMemory } from '../../src/memory/index.ts';
import { createEndpointState } from '../../src/pci/endpoint.ts';
import type { Verdict } from '../../src/viommu/verdict.ts';
import { VtdIommu, type VtdOptions } from '../../src/viommu/vtd/index.ts';
import { bed } from '../support/beds.ts';
import { Random } from '../viommu/vtd/random-world.ts';
import { qemuMissing, scratchFolder } from './qemu/qemu.ts';
import { type QemuAnswer, RAM_BYTES, VtdOracle } from './qemu/vtd-oracle.ts';
import { type Kind, VtdWorld } from './qemu/vtd-world.ts';

/** VPCI_SEED=n for other worlds, VPCI_VTD_WORLDS=n for more of them. */
const SEED = Number(process.env['VPCI_SEED'] ?? '1');
const WORLDS = Number(process.env['VPCI_VTD_WORLDS'] ?? '1200');

/** Ours, as far as it shows in QEMU. */
interface OurAnswer {
  readonly verdict: Verdict;
  readonly status: Verdict['status'];
  /** Fault code of the verdict; null when there is none. */
  readonly code: number | null;
  readonly record: QemuAnswer['record'];
  /** Where the request lands, when that is RAM. */
  readonly landing: bigint | undefined;
}

/** One request, answered by both. */
interface Pair {
  readonly world: VtdWorld;
  readonly ours: OurAnswer;
  readonly theirs: QemuAnswer;
}

interface Difference {
  /** What QEMU does. */
  readonly qemu: string;
  /** Where the specification says otherwise, or leaves it open. */
  readonly section: string;
  readonly is: (pair: Pair) => boolean;
}

/** A and D of a first-stage entry. */
const FLAGS = 0x60n;
const SNP = 0x800n;
/** TM of older revisions. */
const TM = 1n << 62n;
const hex = (code: number | null | undefined): string => code?.toString(16) ?? '-';
const quad = ({ quads }: VtdWorld, at: number): bigint => quads.get(at) ?? 0n;
const isPassThrough = (world: VtdWorld): boolean =>
  world.kind === 'legacy'
    ? ((quad(world, world.context) >> 2n) & 3n) === 2n
    : ((quad(world, world.pasidEntry) >> 6n) & 7n) === 4n;
/** Ours and theirs, as `ours>theirs`; an answer without fault is `-`. */
const codes = ({ ours, theirs }: Pair): string => `${hex(ours.code)}>${hex(theirs.record?.code)}`;

/** Codes of legacy mode that QEMU gives in scalable mode. */
const OLD_NUMBERS = '38>8 39>1 3a>a 40>9 41>2 42>b 78>7 79>5 79>6 7a>c 7b>3 7b>7 84>4 85>5 86>6'.split(' ');
/** A right that an upper level lacks, where a lower level has something else to complain about. */
const RIGHTS_FIRST =
  '70>81 70>85 71>81 71>85 72>81 72>85 81>85 78>5 78>6 7a>5 7a>6 7>5 7>6 c>5 c>6 87>5 87>6 87>81 87>85 79>7 79>c'.split(
    ' ',
  );

/** Of the flags; the others are of the answer. */
const HALF_SET = 'sets neither A nor D for a write when one of them is set';

const DIFFERENCES: readonly Difference[] = [
  {
    qemu: 'records a bad entry although FPD is set, in the context entry, the directory or the entry itself',
    section: '7.1.3, table 30: 42h, 59h and 5Bh are qualified, and Bh in legacy mode',
    is: (pair) =>
      pair.ours.record === null && ['b>b', '42>b', '59>59', '59>5b', '5b>5b'].includes(codes(pair)),
  },
  {
    qemu: 'gives root, context and second-stage faults the codes of legacy mode',
    section: '7.1.3, table 30: codes from 30h in scalable mode',
    is: (pair) => pair.world.kind !== 'legacy' && OLD_NUMBERS.includes(codes(pair)),
  },
  {
    qemu: 'gives an output in the interrupt range the code of scalable mode in legacy mode',
    section: '7.1.3, table 29: Eh',
    is: (pair) => pair.world.kind === 'legacy' && codes(pair) === 'e>87',
  },
  {
    qemu: 'gives a missing second-stage root the code of a bad context entry',
    section: '7.1.3: 7h, an error in reading a paging entry',
    is: (pair) => codes(pair) === '7>3',
  },
  {
    qemu: 'does not look at all reserved bits of context entries, PASID directory and table entries, nor at PRE without DTE',
    section: '9.4 to 9.6: fields of what ECAP lacks are reserved; 7.1.3: 43h',
    is: ({ ours }) => [0x42, 0x43, 0x52, 0x5a].includes(ours.code ?? 0),
  },
  {
    qemu: 'looks at PGTT and AW of a PASID table entry before P',
    section: '9.6: all other fields are ignored when P = 0',
    is: (pair) => codes(pair) === '59>5b',
  },
  {
    qemu: 'takes AW of the PASID table entry for the width of a first-stage address',
    section: '9.6: AW is for the second stage; 3.6: FSPM decides what is canonical',
    is: ({ world, theirs }) => {
      const aw = (quad(world, world.pasidEntry) >> 2n) & 7n;
      return world.kind === 'first' && aw !== 2n && (theirs.record?.code ?? 0x80) === 0x80;
    },
  },
  {
    qemu: 'looks at the rights of each entry before it goes on to the next',
    section: '7.1.3 gives no order among them; rights are those of all levels (3.6.1, 3.7.1)',
    is: (pair) => RIGHTS_FIRST.includes(codes(pair)) || pair.ours.code === 0x79,
  },
  {
    qemu: 'takes SNP in a second-stage leaf without ECAP.SC',
    section: '9.8: SNP is reserved then',
    is: ({ world, ours }) =>
      (quad(world, world.leaf) & SNP) !== 0n && (ours.code === 0x7a || ours.code === 0x0c),
  },
  {
    qemu: 'refuses bit 62 of second-stage entries, and bit 11 of those that lead to a table',
    section: '9.8: SNP is for leaves, TM is gone, and IW needs SSIRWE; older revisions reserve both',
    is: ({ world, ours, theirs }) => {
      const refused = theirs.record?.code === 0x0c || (theirs.record === null && theirs.outcome === 'failed');
      const entries = [...world.quads].filter(([address]) => address >= world.tables);
      const old = entries.some(([at, value]) => (value & (at === world.leaf ? TM : TM | SNP)) !== 0n);
      return refused && ours.code !== 0x0c && old;
    },
  },
  {
    qemu: 'does not look at the address of a passed-through request',
    section: '7.1.3: 83h, in legacy mode 4h',
    is: ({ world, ours, theirs }) =>
      isPassThrough(world) && (ours.code === 0x83 || ours.code === 0x04) && theirs.record === null,
  },
  {
    qemu: 'wants a good AW and SSPTPTR in a context entry for pass-through',
    section: '9.3: SSPTPTR is ignored then, AW is the largest; 7.1.3 names no fault for another',
    is: ({ world, ours, theirs }) => {
      const wanted = theirs.record === null ? [0x03, 0x0b, null] : [0x03, 0x0b];
      return (
        world.kind === 'legacy' &&
        isPassThrough(world) &&
        wanted.includes(theirs.record?.code ?? null) &&
        ours.code !== 0x0b
      );
    },
  },
  {
    qemu: 'refuses a large page that has the interrupt range in it, wherever the address is',
    section: '7.1.3, 87h and Eh: the address that results',
    is: ({ ours, theirs }) => {
      if (ours.verdict.status !== 'translated' || theirs.record?.code !== 0x87) return false;
      const { address, pageSize } = ours.verdict;
      const start = address & ~(pageSize - 1n);
      return start <= 0xfeef_ffffn && start + pageSize > 0xfee0_0000n;
    },
  },
  {
    qemu: HALF_SET,
    section: '9.7: A is set by every use, D by a write',
    is: () => false,
  },
  {
    qemu: 'sets accessed and dirty flags without PWSNP',
    section: '9.6, 7.1.3: 90h',
    is: ({ ours }) => ours.code === 0x90,
  },
];

bed('qemu', qemuMissing)('walks of untagged requests, against QEMU', () => {
  const folder = scratchFolder();
  const buffer = new ArrayBuffer(RAM_BYTES);
  const words = new BigUint64Array(buffer);
  const memory = new GuestMemory([{ base: 0, buffer }]);
  const found = new Map<string, number>(DIFFERENCES.map(({ qemu }) => [qemu, 0]));
  afterAll(() => folder[Symbol.dispose]());

  function ask(options: VtdOptions, world: VtdWorld): OurAnswer {
    for (const [address, value] of world.quads) words[address / 8] = value;
    // QEMU sets flags without SMPWCS, so that ours needs it to be compared.
    const unit = new VtdIommu({ ...options, memory, coherentWalks: true, iotlbEntries: 8 });
    unit.attachEndpoint(createEndpointState(world.rid));
    unit.writeRegister64(0x20, world.rtaddr);
    unit.writeRegister(0x18, 4, 0x4000_0000);
    unit.writeRegister(0x18, 4, 0x8000_0000);
    const { rid, iova: address, access } = world;
    const verdict = unit.request({ rid, address, access, size: 4 });
    const high = unit.readRegister64(0x228);
    const record = {
      code: Number((high >> 32n) & 0xffn),
      rid: Number(high & 0xffffn),
      address: unit.readRegister64(0x220),
    };
    const lands = verdict.status === 'translated' || verdict.status === 'bypass';
    const landing = lands && isRam(verdict.address) ? verdict.address : undefined;
    const code = 'code' in verdict ? (verdict.code ?? null) : null;
    return { verdict, status: verdict.status, code, record: high >> 63n === 0n ? null : record, landing };
  }

  it.each<[string, readonly Kind[], number]>([
    ['fsts=on,svm=on,pasid-bits=20', ['first', 'first', 'first', 'legacy'], 0.5],
    ['fsts=off,pasid-bits=20', ['second', 'second', 'legacy'], 0.35],
    ['fsts=off,pasid-bits=20,aw-bits=39', ['second', 'legacy'], 0.15],
  ])('%s', { timeout: 60_000 + WORLDS * 50 }, async (switches, kinds, share) => {
    const oracle = await VtdOracle.start(folder.path, switches);
    const options = oracle.options();
    const random = new Random(SEED);
    const reached = new Map<string, number>();
    for (let index = 0; index < WORLDS * share; index++) {
      const world = new VtdWorld(random, kinds, options.addressWidth ?? 0);
      const ours = ask(options, world);
      await oracle.load(world.quads, world.rtaddr);
      const theirs = await (world.access === 'read'
        ? oracle.read(world.iova, ours.landing, 1 + index)
        : oracle.write(world.rid, world.iova, ours.landing));
      const pair = { world, ours, theirs };
      const agreed = agree(pair);
      if (!agreed) {
        const difference = DIFFERENCES.find(({ is }) => is(pair));
        expect(difference, describePair(pair, index)).toBeDefined();
        count(found, difference?.qemu ?? '');
      }
      for (const [address, value] of await oracle.tables()) {
        // QEMU sets flags on the way, even those of a request that comes to nothing.
        const certain = agreed && ours.landing !== undefined;
        const flags = value ^ (certain ? (words[address / 8] ?? 0n) : quad(world, address));
        const half =
          world.access === 'write' && address === world.leaf && (quad(world, address) & FLAGS) !== 0n;
        if (flags !== 0n && certain && half) count(found, HALF_SET);
        expect(certain && !half ? flags : flags & ~FLAGS, describePair(pair, index)).toBe(0n);
      }
      for (const address of world.quads.keys()) words[address / 8] = 0n;
      count(reached, `${ours.status} ${hex(ours.code)}`);
    }
    await oracle.close();
    // The tables are random, and yet half of them lead somewhere.
    if (WORLDS >= 1200) {
      expect(reached.get('translated -')).toBeGreaterThan(WORLDS * share * 0.25);
      expect(reached.size).toBeGreaterThan(12);
    }
  });

  it('differs in all the ways that are known', () => {
    const list = [...found].map(([qemu, times]) => `  ${times} x ${qemu}`);
    console.log([`seed ${SEED}, ${WORLDS} worlds; QEMU ...`, ...list].join('\n'));
    if (WORLDS < 1200 || SEED !== 1) return;
    expect([...found].filter(([, times]) => times === 0)).toEqual([]);
  });
});

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** The machine has no RAM where its firmware is. */
function isRam(address: bigint): boolean {
  return address < BigInt(RAM_BYTES) && !(address >= 0xa_0000n && address < 0x10_0000n);
}

function agree({ ours, theirs }: Pair): boolean {
  // Where there is no RAM, QEMU may have something else.
  const somewhere = ours.status !== 'unsupported-request' && ours.landing === undefined;
  const outcome = ours.landing === undefined ? 'failed' : 'reached';
  return (
    (somewhere || theirs.outcome === outcome) &&
    JSON.stringify(plain(ours.record)) === JSON.stringify(plain(theirs.record))
  );
}

function plain(record: QemuAnswer['record']): unknown {
  return record && { ...record, address: record.address.toString(16) };
}

function describePair({ world, ours, theirs }: Pair, index: number): string {
  const { kind, access, rid, iova, quads } = world;
  const tables = [...quads]
    .map(([address, value]) => `${address.toString(16)}=${value.toString(16)}`)
    .join(' ');
  const answers = `${ours.status} ${codes({ world, ours, theirs })} ${theirs.outcome}`;
  return `seed ${SEED}, world ${index}: ${kind} ${access} ${rid.toString(16)} ${iova.toString(16)}: ${answers}; ${tables}`;
}
