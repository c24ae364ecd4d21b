// The fault table of the specification, one test per row and column: U = untranslated, TR = translation
// request, T = translated; n = without, p = with PASID; page = page request.
import { describe, expect, it } from 'vitest';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import type { VtdOptions } from '../../../src/viommu/vtd/index.ts';
import * as g from './guest.ts';

type Answer = 'UR' | 'CA' | 'S0' | 'granted' | 'IR';
type Column = 'Un' | 'Up' | 'TRn' | 'TRp' | 'Tn' | 'Tp' | 'page';

/** A row: how a working guest is broken, and the answer by column; what is not there is not tested. */
interface Row {
  readonly code: number;
  readonly name: string;
  readonly qualified: boolean;
  readonly options?: VtdOptions;
  readonly breaks: (guest: g.Guest, column: Column) => void;
  readonly answers: Partial<Record<Column, Answer>>;
  readonly request?: Partial<MemoryRequest>;
  /** Recorded even though the answer is S0. */
  readonly recorded?: boolean;
}

const IOVA = 0x12_3456_7000n;
const TARGET = 0x50_0000n;
const PASID = 5;

const ALL = { Un: 'UR', Up: 'UR' } as const;
const T_UR = { Tn: 'UR', Tp: 'UR' } as const;
const TR_UR = { TRn: 'UR', TRp: 'UR' } as const;
const TR_CA = { TRn: 'CA', TRp: 'CA' } as const;
const TR_S0 = { TRn: 'S0', TRp: 'S0' } as const;
const TR_GRANTED = { TRn: 'granted', TRp: 'granted' } as const;

/** Everything set up and working: RID and PASID 5 through the same kind of entry. */
class World extends g.Guest {
  readonly first: bigint;
  readonly second: bigint;
  readonly leaf: bigint;
  readonly secondLeaf: bigint;

  constructor(kind: number, options: VtdOptions = {}, entry: g.PasidEntry = {}) {
    super(options);
    this.first = this.page();
    this.second = this.page();
    this.context(g.P | g.DTE | g.PASIDE | g.PRE | g.EPTR | g.pdts(0));
    const gpa = kind === g.NESTED ? 0x60_0000n : TARGET;
    this.leaf = this.map(this.first, IOVA, gpa, g.P | g.RW | g.US, g.P | g.RW | g.US);
    if (kind === g.NESTED) {
      // The tables themselves at their own address, the page elsewhere.
      for (let at = 0n; at < 0x40_0000n; at += 0x1000n) {
        this.map(this.second, at, at, g.R | g.W, g.R | g.W);
      }
      this.secondLeaf = this.map(this.second, gpa, TARGET, g.R | g.W, g.R | g.W);
    } else {
      this.secondLeaf = this.map(this.second, IOVA, TARGET, g.R | g.W, g.R | g.W);
    }
    for (const pasid of [0, PASID]) {
      this.pasid(pasid, { pgtt: kind, first: this.first, second: this.second, ...entry });
    }
    this.setReg64(0xd0, 0x3000n);
    this.enable();
  }
}

const first = (options: VtdOptions = {}): World => new World(g.FIRST, options);

function ask(guest: g.Guest, column: Column, extra: Partial<MemoryRequest> = {}): unknown {
  if (column === 'page') {
    return guest.unit.pageRequest({
      endpoint: guest.endpoint,
      pasid: PASID,
      read: true,
      last: true,
      prgi: 3,
      address: IOVA,
    });
  }
  const at = column.startsWith('TR') ? 'translation' : column.startsWith('T') ? 'translated' : 'untranslated';
  const pasid = column.endsWith('p') ? PASID : null;
  return guest.request({ address: IOVA + 8n, at, pasid, ...extra });
}

function expected(answer: Answer, code: number, privileged: boolean): unknown {
  switch (answer) {
    case 'UR':
      return { status: 'unsupported-request', reason: expect.any(String), code };
    case 'CA':
      return { status: 'completer-abort', reason: expect.any(String), code };
    case 'S0':
      return { status: 'ats', permissions: privileged ? 'p' : '', reason: expect.any(String), code };
    case 'granted':
      return { status: 'ats', address: TARGET + 8n, pageSize: 0x1000n, permissions: expect.any(String) };
    case 'IR':
    default:
      return { queued: false, response: 1, pasid: PASID };
  }
}

const kinds: Record<string, number> = {
  first: g.FIRST,
  second: g.SECOND,
  nested: g.NESTED,
  pass: g.PASS_THROUGH,
};

/** Rows that begin from a working guest of a kind. */
function rows(kind: keyof typeof kinds, list: readonly Row[]): void {
  describe(`from a working guest (${kind})`, () => {
    for (const row of list) {
      const code = row.code.toString(16).padStart(2, '0');
      for (const [column, answer] of Object.entries(row.answers) as [Column, Answer][]) {
        const make = (fpd: boolean): World => {
          const guest = new World(kinds[kind] ?? 0, row.options, fpd ? { fpd } : {});
          if (fpd) guest.write64(guest.contextAddress(), guest.read64(guest.contextAddress()) | g.FPD);
          row.breaks(guest, column);
          return guest;
        };
        it(`${code}h ${row.name}, ${column}: ${answer}`, () => {
          const guest = make(false);
          const privileged = row.request?.privileged === true && column.endsWith('p');
          const explained =
            column === 'page'
              ? undefined
              : guest.unit.explain({
                  endpoint: guest.endpoint,
                  access: 'read',
                  address: IOVA + 8n,
                  at: column.startsWith('TR')
                    ? 'translation'
                    : column.startsWith('T')
                      ? 'translated'
                      : 'untranslated',
                  pasid: column.endsWith('p') ? PASID : null,
                  ...requestOf(row, column),
                });
          const verdict = ask(guest, column, requestOf(row, column));
          expect(verdict).toEqual(expected(answer, row.code, privileged));
          if (explained !== undefined) {
            expect(explained.verdict).toEqual(verdict);
            if (answer !== 'granted') expect(explained.steps.at(-1)).toMatchObject({ ok: false });
          }
          const recorded = answer === 'UR' || answer === 'CA' || answer === 'IR' || row.recorded === true;
          const request = requestOf(row, column);
          const type = { read: 2, execute: 2, write: 0, atomic: 3 }[request.access ?? 'read'];
          expect(guest.faults()).toEqual(
            recorded
              ? [
                  {
                    code: row.code,
                    rid: g.RID,
                    address: (request.address === undefined ? IOVA : BigInt(request.address)) & ~0xfffn,
                    pasid: column.endsWith('p') || column === 'page' ? PASID : null,
                    type: column === 'page' ? 1 : type,
                    execute: request.access === 'execute',
                    privileged,
                    at: column.startsWith('TR') ? 1 : column.startsWith('T') ? 2 : 0,
                  },
                ]
              : [],
          );
        });
        if (answer === 'granted' || answer === 'S0') continue;
        it(`${code}h ${row.name}, ${column} with FPD: ${row.qualified ? 'not recorded' : 'recorded'}`, () => {
          const guest = make(true);
          expect(ask(guest, column, requestOf(row, column))).toEqual(expected(answer, row.code, false));
          expect(guest.faults()).toHaveLength(row.qualified ? 0 : 1);
        });
      }
    }
  });
}

function requestOf(row: Row, column: Column): Partial<MemoryRequest> {
  if (row.request === undefined) return {};
  const { privileged, ...rest } = row.request;
  if (column.startsWith('TR') && rest.access !== 'execute') delete (rest as { access?: unknown }).access;
  return { ...rest, ...(privileged !== undefined && column.endsWith('p') ? { privileged } : {}) };
}

const or64 = (guest: g.Guest, at: bigint, bits: bigint): void => guest.write64(at, guest.read64(at) | bits);
const clear64 = (guest: g.Guest, at: bigint, bits: bigint): void =>
  guest.write64(at, guest.read64(at) & ~bits);
const poison = (guest: g.Guest, at: bigint, size: number): void => {
  guest.memory.poison(Number(at), size, 'access');
};
/** The entry of the RID and that of the PASID. */
const both = (guest: g.Guest, change: (at: bigint) => void): void => {
  for (const pasid of [0, PASID]) change(guest.pasidAddress(pasid));
};
/** The entry of a level on the way to the page. */
function entryAt(guest: g.Guest, table: bigint, level: number, address = IOVA): bigint {
  let at = table;
  for (let now = 4; ; now--) {
    const entry = at + ((address >> BigInt(3 + 9 * now)) & 0x1ffn) * 8n;
    if (now === level) return entry;
    at = guest.read64(entry) & 0xf_ffff_ffff_f000n;
  }
}

rows('first', [
  {
    code: 0x30,
    name: 'bad TTM',
    qualified: false,
    breaks: (guest) => guest.enable(2),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x30,
    name: 'SSIRWE in legacy mode',
    qualified: false,
    breaks: (guest) => guest.enable(0, 0x80n),
    answers: { Un: 'UR', TRn: 'CA', Tn: 'UR' },
  },
  {
    code: 0x30,
    name: 'abort-DMA without ADMS',
    qualified: false,
    options: { abortDma: false },
    breaks: (guest) => guest.enable(3),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x31,
    name: 'PASID in legacy mode',
    qualified: false,
    breaks: (guest) => guest.enable(0),
    answers: { Up: 'UR', TRp: 'UR', Tp: 'UR' },
  },
  {
    code: 0x32,
    name: 'page request in legacy mode',
    qualified: false,
    breaks: (guest) => guest.enable(0),
    answers: { page: 'IR' },
  },
  {
    code: 0x33,
    name: 'abort-DMA',
    qualified: false,
    breaks: (guest) => guest.enable(3),
    answers: { ...ALL, ...TR_UR, ...T_UR, page: 'IR' },
  },
  {
    code: 0x34,
    name: 'ER from version 8 on',
    qualified: false,
    options: { version: 0x80 },
    breaks: () => undefined,
    request: { access: 'execute' },
    answers: { Up: 'UR', TRp: 'UR', Tp: 'UR' },
  },
  {
    code: 0x38,
    name: 'root entry cannot be read',
    qualified: false,
    breaks: (guest) => poison(guest, g.ROOT, 0x1000),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x39,
    name: 'root entry not present',
    qualified: false,
    breaks: (guest) => clear64(guest, g.ROOT + 16n, g.P),
    answers: { ...ALL, ...TR_UR, ...T_UR, page: 'IR' },
  },
  {
    code: 0x3a,
    name: 'root entry reserved bits',
    qualified: false,
    breaks: (guest) => or64(guest, g.ROOT + 16n, 0x800n),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x3a,
    name: 'root entry pointer above HAW',
    qualified: false,
    breaks: (guest) => or64(guest, g.ROOT + 16n, 1n << 48n),
    answers: { Un: 'UR' },
  },
  {
    code: 0x40,
    name: 'context entry cannot be read',
    qualified: false,
    breaks: (guest) => poison(guest, guest.contextAddress(), 32),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x41,
    name: 'context entry not present',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.P),
    answers: { ...ALL, ...TR_UR, ...T_UR, page: 'IR' },
  },
  {
    code: 0x42,
    name: 'context entry reserved bits',
    qualified: true,
    breaks: (guest) => or64(guest, guest.contextAddress() + 24n, 1n << 63n),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x43,
    name: 'PRE without DTE',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.DTE),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x43,
    name: 'RID_PASID beyond the directory',
    qualified: true,
    breaks: (guest) => guest.write64(guest.contextAddress() + 8n, 0x2000n),
    answers: { ...ALL, ...TR_CA, ...T_UR, page: 'IR' },
  },
  {
    code: 0x43,
    name: 'EPTR without PASIDE',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.PASIDE),
    answers: { Un: 'UR', TRn: 'CA', Tn: 'UR', Tp: 'UR' },
  },
  {
    code: 0x44,
    name: 'DTE = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.DTE | g.PRE),
    answers: { ...TR_UR, ...T_UR },
  },
  {
    code: 0x45,
    name: 'PASIDE = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.PASIDE),
    answers: { Up: 'UR', TRp: 'UR', page: 'IR' },
  },
  {
    code: 0x46,
    name: 'PASID beyond PDTS',
    qualified: true,
    breaks: () => undefined,
    request: { pasid: 0x2000 },
    answers: {},
  },
  {
    code: 0x47,
    name: 'PRE = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.PRE),
    answers: { page: 'IR' },
  },
  {
    code: 0x48,
    name: 'PASID equals RID_PASID',
    qualified: true,
    breaks: (guest) => guest.write64(guest.contextAddress() + 8n, BigInt(PASID)),
    answers: { Up: 'UR', TRp: 'UR', Tp: 'UR', page: 'IR' },
  },
  {
    code: 0x49,
    name: 'EPTR = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.contextAddress(), g.EPTR),
    answers: { Tp: 'UR' },
  },
  {
    code: 0x50,
    name: 'PASID directory entry cannot be read',
    qualified: false,
    breaks: (guest) => poison(guest, guest.directoryAddress(0), 8),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x51,
    name: 'PASID directory entry not present',
    qualified: true,
    breaks: (guest) => clear64(guest, guest.directoryAddress(0), g.P),
    answers: { ...ALL, ...TR_S0, page: 'IR' },
  },
  {
    code: 0x52,
    name: 'PASID directory entry reserved bits',
    qualified: true,
    breaks: (guest) => or64(guest, guest.directoryAddress(0), 4n),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x58,
    name: 'PASID table entry cannot be read',
    qualified: false,
    breaks: (guest) => poison(guest, guest.pasidAddress(0), 0x1000),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x59,
    name: 'PASID table entry not present',
    qualified: true,
    breaks: (guest) => both(guest, (at) => clear64(guest, at, g.P)),
    answers: { ...ALL, ...TR_S0, page: 'IR' },
  },
  {
    code: 0x5a,
    name: 'PASID table entry reserved bits',
    qualified: true,
    breaks: (guest) => both(guest, (at) => or64(guest, at + 56n, 1n << 63n)),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x5b,
    name: 'PGTT reserved',
    qualified: true,
    breaks: (guest) => both(guest, (at) => or64(guest, at, 7n << 6n)),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x5b,
    name: 'FSPM reserved',
    qualified: true,
    breaks: (guest) => both(guest, (at) => or64(guest, at + 16n, 8n)),
    answers: { ...ALL, ...TR_CA, page: 'IR' },
  },
  {
    code: 0x5c,
    name: 'ER before version 8',
    qualified: true,
    breaks: () => undefined,
    request: { access: 'execute' },
    answers: { Up: 'UR', TRp: 'S0' },
  },
  {
    code: 0x5d,
    name: 'privileged, SRE = 0',
    qualified: true,
    breaks: () => undefined,
    request: { privileged: true },
    answers: { Up: 'UR', TRp: 'S0' },
  },
  {
    code: 0x5d,
    name: 'RID_PRIV, SRE = 0',
    qualified: true,
    breaks: (guest) => guest.write64(guest.contextAddress() + 8n, 1n << 20n),
    answers: { Un: 'UR', TRn: 'S0' },
  },
  {
    code: 0x70,
    name: 'first-stage entry cannot be read',
    qualified: true,
    breaks: (guest) => poison(guest, (guest as World).leaf, 8),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x73,
    name: 'first-stage root entry cannot be read',
    qualified: true,
    breaks: (guest) => poison(guest, (guest as World).first, 0x1000),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x71,
    name: 'first-stage entry not present',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).leaf, g.P),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x72,
    name: 'first-stage address above HAW',
    qualified: true,
    breaks: (guest) => or64(guest, (guest as World).leaf, 1n << 48n),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x72,
    name: 'first-stage PS in a PML4 entry',
    qualified: true,
    breaks: (guest) => or64(guest, entryAt(guest, (guest as World).first, 4), g.PS),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x90,
    name: 'flags to set, walks not coherent',
    qualified: true,
    breaks: (guest) => both(guest, (at) => clear64(guest, at + 8n, 1n << 23n)),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x80,
    name: 'address not canonical',
    qualified: true,
    breaks: () => undefined,
    request: { address: 0x8000_0000_0000n },
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x81,
    name: 'user request, U/S = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, entryAt(guest, (guest as World).first, 3), g.US),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x85,
    name: 'no write permission',
    qualified: true,
    breaks: (guest) => clear64(guest, entryAt(guest, (guest as World).first, 2), g.RW),
    request: { access: 'write' },
    answers: { ...ALL, ...TR_GRANTED },
  },
  {
    code: 0x87,
    name: 'output in the interrupt range',
    qualified: true,
    breaks: (guest) => guest.write64((guest as World).leaf, 0xfeef_f000n | g.P | g.RW | g.US),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x87,
    name: 'translated address in the interrupt range',
    qualified: true,
    breaks: () => undefined,
    request: { address: 0xfee0_0000n },
    answers: { ...T_UR },
  },
  {
    code: 0x83,
    name: 'translated address above HAW',
    qualified: true,
    breaks: () => undefined,
    request: { address: 1n << 48n },
    answers: { ...T_UR },
  },
  {
    code: 0x89,
    name: 'PASID above PSS',
    qualified: true,
    options: { pasidWidth: 2 },
    breaks: () => undefined,
    answers: { Up: 'UR', TRp: 'UR', Tp: 'UR' },
  },
]);

rows('second', [
  {
    code: 0x5b,
    name: 'AW not in SAGAW',
    qualified: true,
    breaks: (guest) => both(guest, (at) => or64(guest, at, 7n << 2n)),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x78,
    name: 'second-stage entry cannot be read',
    qualified: true,
    breaks: (guest) => poison(guest, (guest as World).secondLeaf, 8),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x7b,
    name: 'second-stage root entry cannot be read',
    qualified: true,
    breaks: (guest) => poison(guest, (guest as World).second, 0x1000),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x79,
    name: 'second-stage R = W = 0',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, 3n),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x79,
    name: 'nothing left of R and W together',
    qualified: true,
    breaks: (guest) => {
      clear64(guest, (guest as World).secondLeaf, g.R);
      clear64(guest, entryAt(guest, (guest as World).second, 3), g.W);
    },
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x7a,
    name: 'second-stage reserved bits',
    qualified: true,
    breaks: (guest) => or64(guest, (guest as World).secondLeaf, 1n << 50n),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x7a,
    name: 'SNP without SC',
    qualified: true,
    options: { snoopControl: false },
    breaks: (guest) => or64(guest, (guest as World).secondLeaf, g.SNP),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x7a,
    name: '2 MiB page without SSLPS',
    qualified: true,
    options: { secondStage2MiB: false },
    breaks: (guest) =>
      guest.write64(entryAt(guest, (guest as World).second, 2), 0x40_0000n | g.PS | g.R | g.W),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x7c,
    name: 'second-stage flags to set, walks not coherent',
    qualified: true,
    breaks: (guest) =>
      both(guest, (at) => {
        or64(guest, at, 0x200n);
        clear64(guest, at + 8n, 1n << 23n);
      }),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x84,
    name: 'address beyond AW',
    qualified: true,
    breaks: () => undefined,
    request: { address: 1n << 48n },
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x85,
    name: 'no write permission',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, g.W),
    request: { access: 'write' },
    answers: { ...ALL, ...TR_GRANTED },
  },
  {
    code: 0x86,
    name: 'no read permission',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, g.R),
    answers: { ...ALL, ...TR_GRANTED },
  },
  {
    code: 0x87,
    name: 'output in the interrupt range',
    qualified: true,
    breaks: (guest) => guest.write64((guest as World).secondLeaf, 0xfee0_0000n | g.R | g.W),
    answers: { ...ALL, ...TR_CA },
  },
]);

rows('nested', [
  {
    code: 0x5b,
    name: 'FSPTPTR beyond the second stage',
    qualified: true,
    breaks: (guest) => both(guest, (at) => or64(guest, at + 16n, 1n << 50n)),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x74,
    name: 'first-stage address beyond the second stage',
    qualified: true,
    breaks: (guest) => or64(guest, (guest as World).leaf, 1n << 48n),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x75,
    name: 'first-stage root entry may not be read',
    qualified: true,
    breaks: (guest) =>
      clear64(guest, entryAt(guest, (guest as World).second, 1, (guest as World).first), g.R),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x76,
    name: 'first-stage entry may not be read',
    qualified: true,
    breaks: (guest) => clear64(guest, entryAt(guest, (guest as World).second, 1, (guest as World).leaf), g.R),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x77,
    name: 'first-stage flags may not be set',
    qualified: true,
    breaks: (guest) => clear64(guest, entryAt(guest, (guest as World).second, 1, (guest as World).leaf), g.W),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x79,
    name: 'page not in the second stage',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, 3n),
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x7a,
    name: 'second-stage reserved bits',
    qualified: true,
    breaks: (guest) => or64(guest, (guest as World).secondLeaf, 1n << 50n),
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x85,
    name: 'no write permission in the second stage',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, g.W),
    request: { access: 'write' },
    answers: { ...ALL, ...TR_GRANTED },
  },
  {
    code: 0x86,
    name: 'no read permission in the second stage',
    qualified: true,
    breaks: (guest) => clear64(guest, (guest as World).secondLeaf, g.R),
    answers: { ...ALL, ...TR_GRANTED },
  },
]);

rows('pass', [
  {
    code: 0x5b,
    name: 'pass-through without PT',
    qualified: true,
    options: { passThrough: false },
    breaks: () => undefined,
    answers: { ...ALL, ...TR_CA },
  },
  {
    code: 0x83,
    name: 'address above HAW',
    qualified: true,
    breaks: () => undefined,
    request: { address: 1n << 48n },
    answers: { ...ALL, ...TR_S0 },
  },
  {
    code: 0x87,
    name: 'PASID request into the interrupt range',
    qualified: true,
    breaks: () => undefined,
    request: { address: 0xfee0_0000n },
    answers: { Up: 'UR' },
  },
]);

describe('91h and 7Dh: flags that cannot be set', () => {
  /** The tables in memory that the unit cannot write. */
  function readOnly(kind: number, entry: g.PasidEntry): g.Guest {
    const guest = new World(kind, {}, entry);
    guest.memory.removeRegion(0);
    guest.memory.addRegion({ base: 0, buffer: guest.bytes.buffer, readOnly: true });
    return guest;
  }

  it.each([
    ['Un', 'UR'],
    ['Up', 'UR'],
    ['TRn', 'S0'],
    ['TRp', 'S0'],
  ] as const)('91h %s: %s, recorded', (column, answer) => {
    const guest = readOnly(g.FIRST, {});
    expect(ask(guest, column)).toEqual(expected(answer, 0x91, false));
    expect(guest.faults()).toMatchObject([{ code: 0x91 }]);
  });

  it.each([
    ['Un', 'UR'],
    ['Up', 'UR'],
    ['TRn', 'CA'],
    ['TRp', 'CA'],
  ] as const)('7Dh %s: %s', (column, answer) => {
    const guest = readOnly(g.SECOND, { ssade: true });
    expect(ask(guest, column)).toEqual(expected(answer, 0x7d, false));
    expect(guest.faults()).toMatchObject([{ code: 0x7d }]);
  });
});

describe('46h: PASID beyond the directory', () => {
  it.each([
    ['Up', 'untranslated', 'unsupported-request'],
    ['TRp', 'translation', 'unsupported-request'],
    ['Tp', 'translated', 'unsupported-request'],
  ] as const)('%s', (_column, at, status) => {
    const guest = first();
    expect(guest.request({ pasid: 0x2000, at, address: IOVA })).toEqual({
      status,
      reason: 'pasid-beyond-directory',
      code: 0x46,
    });
    expect(guest.faults()).toMatchObject([{ code: 0x46, pasid: 0x2000 }]);
    // The last one that the directory has.
    expect(guest.request({ pasid: 0x1fff, at: 'untranslated', address: IOVA })).toMatchObject({ code: 0x51 });
  });

  it('page request', () => {
    const guest = first();
    const page = { endpoint: guest.endpoint, pasid: 0x2000, last: true, read: true, prgi: 0, address: IOVA };
    expect(guest.unit.pageRequest(page)).toEqual({ queued: false, response: 1, pasid: 0x2000 });
    expect(guest.faults()).toMatchObject([{ code: 0x46 }]);
  });
});
