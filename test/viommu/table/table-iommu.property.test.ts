import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { createEndpointState, type EndpointState } from '../../../src/pci/endpoint.ts';
import type { MemoryRequest } from '../../../src/viommu/request.ts';
import { TableIommu } from '../../../src/viommu/table/table-iommu.ts';
import { translated } from '../support.ts';
import { Reference } from './reference.ts';

const RIDS = [0x0100, 0x0101, 0xabcdef];
const PASIDS = [null, 0, 1, 9];
const ADDRESS_WIDTH = 24;

type Step =
  | { readonly op: 'attach' | 'detach'; readonly rid: number; readonly pasid: number | null }
  | { readonly op: 'detachAll' | 'gone'; readonly rid: number }
  | { readonly op: 'endpoint'; readonly rid: number; readonly pasidWidth: number; readonly ats: boolean }
  | { readonly op: 'moved'; readonly rid: number; readonly to: number }
  | { readonly op: 'roundTrip' }
  | {
      readonly op: 'map' | 'unmap';
      readonly rid: number;
      readonly pasid: number | null;
      readonly first: number;
      readonly target: number;
      readonly pages: number;
      readonly permissions: string;
    }
  | { readonly op: 'request'; readonly request: MemoryRequest };

const rid = fc.constantFrom(...RIDS);
const pasid = fc.constantFrom(...PASIDS);
// Few pages, so that requests meet mappings; around 512, so that 2 MiB blocks occur.
const page = fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 500, max: 530 }));

const request: fc.Arbitrary<MemoryRequest> = fc.record({
  rid,
  pasid: fc.oneof({ weight: 4, arbitrary: pasid }, { weight: 1, arbitrary: fc.constantFrom(8, 17, 0xfffff) }),
  address: fc
    .tuple(fc.oneof({ weight: 9, arbitrary: page }, fc.constantFrom(4095, 4096, 2 ** 52 - 1)), fc.nat(4095))
    .map(([number, offset]) => (BigInt(number) << 12n) | BigInt(offset)),
  access: fc.constantFrom<MemoryRequest['access'][]>('read', 'write', 'execute', 'atomic'),
  privileged: fc.boolean(),
  noWrite: fc.boolean(),
  at: fc.oneof(
    { weight: 5, arbitrary: fc.constant('untranslated' as const) },
    { weight: 1, arbitrary: fc.constantFrom('translation' as const, 'translated' as const) },
  ),
});

const range = {
  rid,
  pasid,
  first: page,
  target: fc.oneof(page, fc.constant(512), fc.constant(1024)),
  pages: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(511, 512, 1100)),
  permissions: fc.constantFrom('r', 'rw', 'rwx', 'w', 'x', 'rx', 'rwp', 'rxp', 'wp'),
};

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('attach' as const), rid, pasid }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('detach' as const), rid, pasid }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom('detachAll' as const, 'gone' as const), rid }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('endpoint' as const),
      rid,
      pasidWidth: fc.constantFrom(0, 1, 4, 20),
      ats: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('moved' as const), rid, to: rid }) },
  { weight: 1, arbitrary: fc.constant({ op: 'roundTrip' } as const) },
  { weight: 5, arbitrary: fc.record({ op: fc.constant('map' as const), ...range }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('unmap' as const), ...range }) },
  { weight: 12, arbitrary: fc.record({ op: fc.constant('request' as const), request }) },
);

/** The unit and its reference side by side. */
class World {
  readonly unit: TableIommu;
  readonly reference: Reference;
  readonly states = new Map<number, EndpointState>();

  constructor(policy: 'reject' | 'architectural', iotlbEntries: number, pasidWidth: number) {
    const options = { pasidWhenUnconfigured: policy, iotlbEntries, pasidWidth };
    this.unit = new TableIommu({ ...options, addressWidth: ADDRESS_WIDTH });
    this.reference = new Reference(policy === 'architectural', ADDRESS_WIDTH, pasidWidth);
    for (const number of RIDS) this.endpoint(number, 20, true);
  }

  endpoint(number: number, pasidWidth: number, ats: boolean): void {
    const state = Object.assign(createEndpointState(number), { pasidWidth, ats });
    this.states.set(number, state);
    this.unit.attachEndpoint(state);
    this.reference.endpoints.set(number, { pasidWidth, ats });
  }

  run(action: Step): void {
    const { unit, reference } = this;
    switch (action.op) {
      case 'attach':
      case 'detach':
        unit[action.op](action.rid, action.pasid);
        reference[action.op](action.rid, action.pasid);
        break;
      case 'detachAll':
        unit.detachAll(action.rid);
        reference.detachAll(action.rid);
        break;
      case 'gone': {
        const state = this.states.get(action.rid);
        if (state !== undefined) unit.detachEndpoint(state);
        this.states.delete(action.rid);
        reference.endpoints.delete(action.rid);
        break;
      }
      case 'endpoint':
        this.endpoint(action.rid, action.pasidWidth, action.ats);
        break;
      case 'moved':
        this.move(action.rid, action.to);
        break;
      case 'roundTrip':
        unit.restoreState(JSON.parse(JSON.stringify(unit.saveState())));
        break;
      case 'map':
      case 'unmap':
        this.change(action);
        break;
      case 'request':
        this.compare(action.request);
        break;
    }
  }

  move(from: number, to: number): void {
    const state = this.states.get(from);
    const facts = this.reference.endpoints.get(from);
    if (state === undefined || facts === undefined || from === to) return;
    state.rid = to;
    this.unit.endpointMoved(state, from);
    this.states.delete(from);
    this.states.set(to, state);
    this.reference.endpoints.delete(from);
    this.reference.endpoints.set(to, facts);
  }

  change({
    op,
    rid: number,
    pasid: which,
    first,
    target,
    pages,
    permissions,
  }: Step & { op: 'map' | 'unmap' }): void {
    if (!this.reference.attached(number, which)) return;
    const bytes = { iova: first * 4096, size: pages * 4096 };
    if (op === 'unmap') {
      this.unit.unmap(number, which, bytes);
      this.reference.unmap(number, which, first, pages);
      return;
    }
    const map = (): void => this.unit.map(number, which, { ...bytes, gpa: target * 4096, permissions });
    if (this.reference.map(number, which, first, target, pages, permissions)) map();
    else assert.throws(map, { code: 'VPCI_IOMMU_MAP' });
  }

  compare(asked: MemoryRequest): void {
    const expected = this.reference.request(asked);
    const counters = this.unit.counters();
    assert.deepEqual(this.unit.explain(asked).verdict, expected);
    assert.deepEqual(this.unit.counters(), counters);
    assert.deepEqual(this.unit.request(asked), expected);
    // The second time from the IOTLB, when that can answer.
    assert.deepEqual(translated(this.unit, asked), expected);
  }
}

describe('TableIommu against a page-by-page reference', () => {
  it.each<['reject' | 'architectural', number, number]>([
    ['reject', 8, 20],
    ['reject', 1024, 20],
    ['reject', 64, 4],
    ['architectural', 64, 20],
  ])('%s, %i IOTLB entries, %i bits of PASID', (policy, entries, width) => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        const world = new World(policy, entries, width);
        for (const action of steps) world.run(action);
      }),
      { numRuns: 150 },
    );
  });

  it('with every page of a small world asked after every change', () => {
    const changes = fc.oneof(
      fc.record({ op: fc.constant('map' as const), ...range }),
      fc.record({ op: fc.constant('unmap' as const), ...range }),
    );
    fc.assert(
      fc.property(fc.array(changes, { maxLength: 12 }), (steps) => {
        const world = new World('reject', 64, 20);
        for (const which of PASIDS) world.run({ op: 'attach', rid: 0x0100, pasid: which });
        for (const action of steps) {
          world.change({ ...action, rid: 0x0100 });
          for (let at = 0; at < 14; at++) {
            world.compare({ rid: 0x0100, pasid: action.pasid, address: at * 4096 + 8, access: 'read' });
          }
        }
      }),
      { numRuns: 60 },
    );
  });
});
