// Whatever a guest writes, every request and every register access ends, and nothing throws.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { GuestMemory } from '../../../src/memory/index.ts';
import { createEndpointState } from '../../../src/pci/endpoint.ts';
import { VtdIommu, type VtdOptions } from '../../../src/viommu/vtd/index.ts';
import { randomRequest, RandomWorld } from './random-world.ts';

const BYTES = 0x1_0000;

/** Guest memory that counts what a walk looks at. */
class CountingMemory extends GuestMemory {
  spans = 0;
  override span(high: number, low: number, length: number): number {
    this.spans++;
    return super.span(high, low, length);
  }
}

/** Quadwords that look like table entries of every kind, pointing into the same few pages. */
const quad = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.integer({ min: 0, max: 20 }), fc.nat(0xfff))
      .map(([page, low]) => (BigInt(page) << 12n) | BigInt(low)),
  },
  { weight: 2, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
  { weight: 1, arbitrary: fc.constantFrom(0n, 1n, 3n, 0xffff_ffff_ffff_ffffn) },
);

const access = fc.constantFrom('read', 'write', 'execute', 'atomic');
const at = fc.constantFrom('untranslated', 'translation', 'translated');

describe('a hostile guest', () => {
  it('with random tables gets an answer after a bounded number of reads', () => {
    fc.assert(
      fc.property(
        fc.array(quad, { minLength: 64, maxLength: 64 }),
        fc.record({
          rid: fc.constantFrom(0, 0x100, 0xffff),
          pasid: fc.option(fc.nat(0xf_ffff)),
          address: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
          access,
          at,
          privileged: fc.boolean(),
          noWrite: fc.boolean(),
        }),
        fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
        (quads, request, rtaddr) => {
          const memory = new CountingMemory([{ base: 0, buffer: new ArrayBuffer(BYTES) }]);
          const bytes = new Uint8Array(BYTES);
          const view = new DataView(bytes.buffer);
          // The same 64 quadwords over and over, so that every index finds one.
          for (let i = 0; i < BYTES / 8; i++) view.setBigUint64(i * 8, quads[i % 64] ?? 0n, true);
          memory.write(0, bytes);
          const unit = new VtdIommu({ memory, iotlbEntries: 8, addressWidth: 57, hostAddressWidth: 52 });
          unit.attachEndpoint(Object.assign(createEndpointState(request.rid), { pasidWidth: 20 }));
          for (const root of [rtaddr, rtaddr & 0xffffn, 0x1000n | 0x400n, 0x1000n]) {
            unit.writeRegister64(0x20, root);
            unit.writeRegister(0x18, 4, 0xc000_0000);
            memory.spans = 0;
            const { verdict } = unit.explain(request);
            unit.request(request);
            // Root, context, directory, PASID entry; 5 × 6 + 5 entries; each flag twice; 8 attempts; twice.
            expect(memory.spans).toBeLessThan(2 * 8 * (4 + 35 * 3));
            expect(verdict.status).not.toBe('pending');
            unit.pageRequest({
              rid: request.rid,
              pasid: request.pasid,
              last: true,
              read: true,
              prgi: 0,
              address: 0n,
            });
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it('with tables that lead into themselves gets an answer', () => {
    for (const bits of [0x067n, 0x003n, 0x0e7n, 0x367n]) {
      const memory = new CountingMemory([{ base: 0, buffer: new ArrayBuffer(BYTES) }]);
      const view = new DataView(new ArrayBuffer(BYTES));
      for (let i = 0; i < BYTES; i += 8) view.setBigUint64(i, 0x3000n | bits, true);
      // One structure of each kind, well formed, and then the page that is all of them.
      view.setBigUint64(0x1000, 0x2001n, true);
      for (let i = 0x2000; i < 0x2020; i += 8) view.setBigUint64(i, 0n, true);
      view.setBigUint64(0x2000, 0x4009n, true);
      view.setBigUint64(0x2008, 1n, true);
      view.setBigUint64(0x4000, 0x5001n, true);
      for (let i = 0x5000; i < 0x6000; i += 8) view.setBigUint64(i, 0n, true);
      for (const [pasid, pgtt] of [
        [2, 1],
        [3, 2],
        [4, 3],
      ] as const) {
        const entry = 0x5000 + pasid * 64;
        view.setBigUint64(entry, 0x3001n | (BigInt(pgtt) << 6n) | 8n | 0x200n, true);
        view.setBigUint64(entry + 8, 1n | (1n << 23n), true);
        view.setBigUint64(entry + 16, 0x3000n, true);
      }
      memory.write(0, new Uint8Array(view.buffer));
      const unit = new VtdIommu({ memory });
      unit.attachEndpoint(Object.assign(createEndpointState(0), { pasidWidth: 20 }));
      unit.writeRegister64(0x20, 0x1400n);
      unit.writeRegister(0x18, 4, 0xc000_0000);
      for (const pasid of [2, 3, 4]) {
        memory.spans = 0;
        unit.request({ rid: 0, pasid, access: 'write', address: 0x1234_5678n });
        expect(memory.spans).toBeLessThan(200);
      }
    }
  });

  it('can write any register with anything', () => {
    const options: fc.Arbitrary<VtdOptions> = fc.constantFrom({}, { version: 0x40 }, { scalableMode: false });
    fc.assert(
      fc.property(
        options,
        fc.array(
          fc.record({
            offset: fc.oneof(
              fc.nat(0x110),
              fc.nat(0x110).map((word) => (word * 4) & 0x3ff),
              fc.integer(),
            ),
            size: fc.constantFrom<(1 | 2 | 4)[]>(1, 2, 4, 4, 4, 4),
            value: fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0xffff_ffff, 0xc400_0000, 0x1000, 0x1800)),
          }),
          { maxLength: 60 },
        ),
        fc.array(quad, { minLength: 64, maxLength: 64 }),
        (chosen, writes, quads) => {
          const memory = new GuestMemory([{ base: 0, buffer: new ArrayBuffer(BYTES) }]);
          const view = new DataView(new ArrayBuffer(BYTES));
          for (let i = 0; i < BYTES / 8; i++) view.setBigUint64(i * 8, quads[i % 64] ?? 0n, true);
          memory.write(0, new Uint8Array(view.buffer));
          const unit = new VtdIommu({ memory, iotlbEntries: 8, ...chosen });
          unit.on('interrupt', ({ data }) => expect(data).toBeLessThan(2 ** 32));
          unit.attachEndpoint(Object.assign(createEndpointState(0), { pasidWidth: 20, ats: true }));
          const fixed = [0, 8, 12, 16, 20].map((offset) => unit.readRegister(offset, 4));
          for (const { offset, size, value } of writes) {
            unit.writeRegister(offset, size, value);
            const read = unit.readRegister(offset, size);
            expect(read).toBe(read >>> 0);
            unit.request({ rid: 0, pasid: 1, access: 'read', address: 0x1000 });
          }
          expect([0, 8, 12, 16, 20].map((offset) => unit.readRegister(offset, 4))).toEqual(fixed);
          unit.restoreState(JSON.parse(JSON.stringify(unit.saveState())));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('fills the whole queue with the longest work, and it ends', () => {
    const memory = new GuestMemory([{ base: 0, buffer: new ArrayBuffer(0x10_0000) }]);
    const view = new DataView(new ArrayBuffer(0x8_0000));
    for (let i = 0; i < 0x8_0000; i += 32) view.setBigUint64(i, 0x12n, true);
    memory.write(0x8_0000, new Uint8Array(view.buffer));
    const unit = new VtdIommu({ memory });
    unit.writeRegister64(0x90, 0x8_0807n);
    unit.writeRegister(0x18, 4, 0x0400_0000);
    unit.writeRegister(0x88, 4, 0x7_ffe0);
    expect(unit.readRegister(0x80, 4)).toBe(0x7_ffe0);
  });

  it('explains every random configuration', () => {
    for (let seed = 0; seed < 300; seed++) {
      const world = new RandomWorld(9_000_000 + seed);
      const request = randomRequest(world);
      const explanation = world.unit.explain({ ...request });
      expect(String(explanation)).toContain('=> ');
      const rejected = 'reason' in explanation.verdict && explanation.verdict.reason !== 'interrupt-range';
      expect(explanation.steps.at(-1)?.ok, String(explanation)).toBe(!rejected);
      expect(explanation.steps.slice(0, -1).every(({ ok }) => ok)).toBe(true);
      for (const { spec } of explanation.steps) expect(spec).toMatch(/^(VT-d|PCIe) \d/);
    }
  });
});
