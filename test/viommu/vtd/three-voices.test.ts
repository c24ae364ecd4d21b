// The neutral model, the VT-d unit and the second reader are told of the same address spaces, and asked the same.
import { describe, expect, it } from 'vitest';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import type { Verdict } from '../../../src/viommu/verdict.ts';
import { ROOT } from './guest.ts';
import { advertised, Random } from './random-world.ts';
import { type ReferenceOptions, type ReferenceRequest, ReferenceVtd } from './reference-vtd.ts';
import { type Kind, type Pages, type Space, TwoDrivers } from './two-drivers.ts';

/** VPCI_VTD_CASES=100000 for the long run; a world is asked 36 times or so. */
const WORLDS = Number(process.env['VPCI_VTD_CASES'] ?? '350');
const SEED = Number(process.env['VPCI_VTD_SEED'] ?? '1');
const STEPS = 60;

/** Pages around which everything is; the last is where addresses of 48 bits stop being canonical. */
const ANCHORS = [0x12_3456, 0x40_0000, 0x1234_0200, 2 ** 35 - 2 ** 18] as const;
const PASIDS = [null, 1, 5, 63, 64, 0x1ffe, 0x2001, 0xf_ffff] as const;

/** Reasons of the VT-d unit that say what a reason of the neutral model says; others have the same name. */
const REASONS: Readonly<Record<string, readonly string[]>> = {
  'not-attached': [
    'root-entry-not-present',
    'context-entry-not-present',
    'pasid-directory-not-present',
    'pasid-entry-not-present',
  ],
  'pasid-not-attached': [
    'root-entry-not-present',
    'context-entry-not-present',
    'pasid-beyond-directory',
    'pasid-is-rid-pasid',
    'pasid-directory-not-present',
    'pasid-entry-not-present',
  ],
  'not-mapped': [
    'first-stage-not-present',
    'second-stage-not-present',
    'address-not-canonical',
    'address-beyond-width',
  ],
  'address-beyond-width': ['address-not-canonical', 'address-beyond-width', 'host-address-beyond-width'],
  'privileged-only': ['privileged-only'],
  'no-read-permission': ['no-read-permission'],
  'no-write-permission': ['no-write-permission'],
};
/** VT-d units of today refuse to execute, whatever is mapped. */
const NO_EXECUTE = 'execute-not-supported';

/** A verdict without what is the architecture's own. */
interface Answer {
  readonly allowed: boolean;
  readonly address?: bigint;
  readonly pageSize?: bigint;
  readonly rights?: string;
  readonly reason?: string;
}

function answerOf(verdict: Verdict): Answer {
  if (verdict.status === 'bypass') return { allowed: true, address: verdict.address };
  if (verdict.status === 'translated' || verdict.status === 'ats') {
    const { address, pageSize, permissions: rights } = verdict;
    if (address !== undefined && pageSize !== undefined) return { allowed: true, address, pageSize, rights };
  }
  return { allowed: false, reason: 'reason' in verdict ? (verdict.reason ?? '') : verdict.status };
}

/** Pass-through is one mapping of all addresses for the neutral model; it has no pages for the VT-d unit. */
function sameVerdict(neutral: Answer, vtd: Answer, passesThrough: boolean): boolean {
  if (neutral.allowed !== vtd.allowed) return false;
  if (neutral.allowed) {
    if (neutral.address !== vtd.address) return false;
    return passesThrough || (neutral.pageSize === vtd.pageSize && neutral.rights === vtd.rights);
  }
  const reason = neutral.reason ?? '';
  return (REASONS[reason] ?? [reason]).includes(vtd.reason ?? '');
}

class World {
  readonly random: Random;
  readonly drivers: TwoDrivers;
  readonly #options: ReferenceOptions;
  readonly #asked: (MemoryRequest & ReferenceRequest)[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.drivers = new TwoDrivers(this.random);
    const has = advertised(this.drivers.guest.unit);
    this.#options = { major: 6, haw: 48n, mgaw: 48n, nd: 16n, pss: 19, reject: true, has };
  }

  /** A page near an anchor. */
  page(): number {
    const { random } = this;
    const anchor = random.pick(ANCHORS);
    return anchor + random.pick([0, 0, 0, 1, 2, 3, 511, 512, 513, -1, 2 ** 18 - 1, 2 ** 18]);
  }

  pages(): Pages {
    const { random } = this;
    const first = this.page();
    const permissions = random.pick(['r', 'rw', 'rw', 'rw', 'w', 'rp', 'rwp']);
    const large = first % 512 === 0 && random.chance(60);
    const count = large
      ? random.pick([512, 513, 1024, 2 ** 18, 2 ** 18 + 1])
      : random.pick([1, 1, 2, 3, 8, 515]);
    // Few of them where the pages are as they should be for large ones.
    const chosen = random.pick([0x200, 0x400, 0x4_0000, 0x8_0000, 0x12_0000, 0x1_0004_0000]);
    const target = count > 600 || random.chance(50) ? chosen + (first % 2 ** 18) : chosen + random.below(512);
    return { first, end: first + count, target, permissions };
  }

  step(): void {
    const { random, drivers } = this;
    const space = random.chance(60) ? this.#somewhere() : undefined;
    const fn = drivers.functions.find(({ rid }) => rid === space?.rid) ?? random.pick(drivers.functions);
    const limit = Math.min(2 ** fn.pasidWidth, 2 ** (fn.pdts + 13));
    const pasid = space === undefined ? random.pick(PASIDS) : space.pasid;
    if (pasid !== null && (fn.pasidWidth === 0 || pasid >= limit || pasid === fn.ridPasid)) return;
    switch (random.below(12)) {
      case 0:
        drivers.detach(fn, pasid);
        break;
      case 1:
        if (random.chance(20)) drivers.detachAll(fn);
        break;
      case 2:
      case 3:
      case 4: {
        const mappings = space?.mappings ?? [];
        const page = mappings.length > 0 && random.chance(70) ? random.pick(mappings).first : this.page();
        drivers.unmap(fn, pasid, page, page + random.pick([1, 1, 2, 512, 1024]));
        break;
      }
      default:
        if (drivers.space(fn, pasid) === undefined) {
          drivers.attach(fn, pasid, random.pick<Kind>([1, 1, 2, 2, 3, 3, 4]));
        }
        for (let i = 0; i < 3; i++) drivers.map(fn, pasid, this.pages());
    }
  }

  /** Something new, or what was asked before: it may be cached, and have changed. */
  request(): MemoryRequest & ReferenceRequest {
    const { random } = this;
    if (this.#asked.length > 0 && random.chance(40)) return random.pick(this.#asked.slice(-8));
    const request = this.#newRequest();
    this.#asked.push(request);
    return request;
  }

  #newRequest(): MemoryRequest & ReferenceRequest {
    const { random } = this;
    const space = random.chance(85) ? this.#somewhere() : undefined;
    const rid = space?.rid ?? random.pick(this.drivers.functions).rid;
    const pasid = space === undefined ? this.#pasid() : space.pasid;
    const mapping =
      space !== undefined && space.mappings.length > 0 ? random.pick(space.mappings) : undefined;
    const far = random.next() * 2 ** 20 + (random.next() % 2 ** 20);
    let page = random.chance(97) ? this.page() : far;
    if (mapping !== undefined && random.chance(85)) {
      const { first, end } = mapping;
      page = random.pick([first, end - 1, first + random.below(end - first), first + 512, end, first - 1]);
    }
    const translation = random.chance(10);
    return {
      rid,
      pasid,
      address: BigInt(page) * 4096n + BigInt(random.below(1024) * 4),
      access: translation
        ? 'read'
        : random.pick(['read', 'read', 'read', 'write', 'write', 'write', 'atomic', 'execute']),
      privileged: random.chance(pasid === null ? 2 : 25),
      at: translation ? 'translation' : 'untranslated',
      noWrite: random.chance(30),
    };
  }

  #somewhere(): Space | undefined {
    const spaces = this.drivers.spaces();
    return spaces.length === 0 ? undefined : this.random.pick(spaces);
  }

  #pasid(): number | null {
    return this.random.chance(90) ? this.random.pick(PASIDS) : this.random.below(0x10_0000);
  }

  secondReader(request: ReferenceRequest): Record<string, unknown> {
    const { guest } = this.drivers;
    const { status, address, size, rights, code } = ReferenceVtd.decide(
      this.#options,
      {
        te: true,
        ttm: 1,
        ssirwe: false,
        root: ROOT,
        read: (at) => (at + 8n > BigInt(guest.bytes.length) ? undefined : guest.read64(at)),
        canWrite: () => true,
      },
      request,
    );
    return { status, address, pageSize: size, permissions: rights, code };
  }
}

/** What the second reader says, too. */
function exact(verdict: Verdict): Record<string, unknown> {
  return {
    status: verdict.status,
    address: 'address' in verdict ? verdict.address : undefined,
    pageSize: 'pageSize' in verdict ? verdict.pageSize : undefined,
    permissions: 'permissions' in verdict ? verdict.permissions : undefined,
    code: 'code' in verdict ? verdict.code : undefined,
  };
}

describe('the neutral model, the VT-d unit and the second reader', () => {
  it(`say the same of ${WORLDS} random worlds`, { timeout: 60_000 + WORLDS * 100 }, () => {
    const seen = new Map<string, number>();
    let asked = 0;
    for (let index = 0; index < WORLDS; index++) {
      const seed = SEED * 1_000_003 + index;
      const world = new World(seed);
      const { table, guest } = world.drivers;
      for (let step = 0; step < STEPS; step++) {
        if (world.random.chance(40)) {
          world.step();
          continue;
        }
        const request = world.request();
        const neutral = answerOf(table.request(request));
        const verdict = guest.unit.request(request);
        const vtd = answerOf(verdict);
        const name = (): string => {
          const { address, ...rest } = request;
          return `seed ${seed}, step ${step}: 0x${address.toString(16)} ${JSON.stringify(rest)}`;
        };
        const refusesToExecute =
          vtd.reason === NO_EXECUTE && request.access === 'execute' && !neutral.allowed;
        const passesThrough = world.drivers.space(request, request.pasid)?.kind === 4;
        if (!refusesToExecute && !sameVerdict(neutral, vtd, passesThrough)) {
          expect(vtd, `${name()}, the neutral model`).toEqual(neutral);
        }
        // What comes before the unit's own tables has no number, and is not in the second reader's book.
        if (vtd.allowed || 'code' in verdict) {
          expect(exact(verdict), `${name()}, the second reader`).toEqual(world.secondReader(request));
        }
        asked++;
        const end = vtd.allowed ? `allowed ${vtd.pageSize}` : (vtd.reason ?? '');
        seen.set(end, (seen.get(end) ?? 0) + 1);
      }
    }
    if (WORLDS < 350) return;
    expect(asked).toBeGreaterThan(10_000);
    for (const size of [undefined, 2 ** 12, 2 ** 21, 2 ** 30]) {
      expect(seen.get(`allowed ${size}`), `pages of ${size}`).toBeGreaterThan(asked / 1000);
    }
    expect(seen.size).toBeGreaterThan(18);
  });
});
