// The model against the second reader, on random configurations: options, tables, damage, requests.
import { describe, expect, it } from 'vitest';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import { advertised, randomRequest, RandomWorld } from './random-world.ts';
import { type ReferenceRequest, ReferenceVtd } from './reference-vtd.ts';

/** VPCI_VTD_CASES=100000 for the long run. */
const CASES = Number(process.env['VPCI_VTD_CASES'] ?? '5000');
const SEED = Number(process.env['VPCI_VTD_SEED'] ?? '1');
interface Case {
  readonly verdict: unknown;
  readonly record: unknown;
  readonly memory: Uint8Array;
}

function modelCase(world: RandomWorld, request: ReferenceRequest): Case {
  const asked: MemoryRequest = { ...request };
  const before = world.bytes.slice();
  const explained = world.unit.explain(asked).verdict;
  expect(Buffer.compare(world.bytes, before)).toBe(0);
  const verdict = world.unit.request(asked);
  expect(explained).toEqual(verdict);
  const read = (offset: number): number => world.unit.readRegister(offset, 4);
  const word3 = read(0x22c);
  const word2 = read(0x228);
  const record =
    word3 >>> 31 === 0
      ? null
      : {
          code: word3 & 0xff,
          address: (BigInt(read(0x224)) << 32n) | BigInt(read(0x220)),
          rid: word2 & 0xffff,
          pasid: word2 >>> 31 === 1 ? (word3 >>> 8) & 0xfffff : null,
          execute: ((word2 >>> 30) & 1) === 1,
          privileged: ((word2 >>> 29) & 1) === 1,
          type: `${(word3 >>> 30) & 1}${(word2 >>> 28) & 1}`,
          at: (word3 >>> 28) & 3,
        };
  world.unit.writeRegister(0x22c, 4, 0x8000_0000);
  world.unit.writeRegister(0x34, 4, 1);
  const { status } = verdict;
  return {
    verdict: {
      status,
      ...('address' in verdict ? { address: verdict.address } : {}),
      ...('pageSize' in verdict ? { size: verdict.pageSize } : {}),
      ...('permissions' in verdict ? { rights: verdict.permissions } : {}),
      ...('code' in verdict ? { code: verdict.code } : {}),
    },
    record,
    memory: world.bytes.slice(),
  };
}

function referenceCase(world: RandomWorld, request: ReferenceRequest, memory: Uint8Array): Case {
  const { options } = world;
  const has = advertised(world.unit);
  const answer = ReferenceVtd.decide(
    {
      major: (options.version ?? 0) >> 4,
      haw: BigInt(options.hostAddressWidth ?? 0),
      mgaw: BigInt(options.addressWidth ?? 0),
      nd: BigInt(options.domainIdWidth ?? 0),
      pss: Number((world.unit.readRegister64(0x10) >> 35n) & 0x1fn),
      reject: options.pasidWhenUnconfigured !== 'architectural',
      has,
    },
    {
      te: world.te,
      ttm: world.ttm,
      ssirwe: world.ssirwe,
      root: 0x1000n,
      read: (address) => world.read(address),
      canWrite: (address) => address < BigInt(world.readOnlyFrom * 4096),
    },
    request,
  );
  const after = new DataView(memory.slice().buffer);
  for (const [address, bits] of answer.flags) {
    after.setBigUint64(Number(address), after.getBigUint64(Number(address), true) | bits, true);
  }
  const { status, address, size, rights, code, recorded } = answer;
  return {
    verdict: {
      status,
      ...(address === undefined ? {} : { address }),
      ...(size === undefined ? {} : { size }),
      ...(rights === undefined ? {} : { rights }),
      ...(code === undefined ? {} : { code }),
    },
    record: recorded
      ? {
          code,
          address: request.address & ~0xfffn,
          rid: request.rid,
          pasid: request.pasid,
          execute: request.pasid !== null && request.access === 'execute',
          privileged: request.pasid !== null && request.privileged,
          type: { read: '10', execute: '10', write: '00', atomic: '11' }[request.access],
          at: { untranslated: 0, translation: 1, translated: 2 }[request.at],
        }
      : null,
    memory: new Uint8Array(after.buffer),
  };
}

function compare(got: Case, wanted: Case, what: string): void {
  expect({ verdict: got.verdict, record: got.record }, what).toEqual({
    verdict: wanted.verdict,
    record: wanted.record,
  });
  expect(Buffer.compare(got.memory, wanted.memory), `${what}, memory`).toBe(0);
}

describe('VtdIommu against the second reader', () => {
  it(
    `agrees on ${CASES} random configurations`,
    () => {
      const seen = new Map<string, number>();
      for (let index = 0; index < CASES; index++) {
        const seed = SEED * 1_000_003 + index;
        const world = new RandomWorld(seed);
        const request = randomRequest(world);
        if (request.pasid !== null && (world.unit.readRegister(0x14, 4) & 0x100) === 0) continue;
        const before = world.bytes.slice();
        const wanted = referenceCase(world, request, before);
        const got = modelCase(world, request);
        compare(got, wanted, `seed ${seed}`);
        const verdict = wanted.verdict as { status: string; code?: number };
        const name = `${verdict.status} ${verdict.code?.toString(16) ?? ''}`;
        seen.set(name, (seen.get(name) ?? 0) + 1);
        // Once more: what was cached changes nothing.
        if (index % 7 === 0) {
          const again = referenceCase(world, request, world.bytes.slice());
          compare(modelCase(world, request), again, `seed ${seed}, again`);
        }
      }
      // The generator reaches the interesting ends, and not just a few of them.
      if (CASES >= 5000) {
        expect(seen.get('translated ') ?? 0).toBeGreaterThan(CASES / 50);
        expect(seen.get('ats ') ?? 0).toBeGreaterThan(CASES / 100);
        expect(seen.size).toBeGreaterThan(80);
      }
    },
    60_000 + CASES * 20,
  );
});
