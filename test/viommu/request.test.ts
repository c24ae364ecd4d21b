import { describe, expect, it } from 'vitest';
import { createEndpointState } from '../../src/pci/endpoint.ts';
import { accessKind, addressType, isAccess } from '../../src/viommu/access.ts';
import { checkHotRequest, type MemoryRequest, parseRequest, ridOf } from '../../src/viommu/request.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { VtdIommu } from '../../src/viommu/vtd/index.ts';
import { withCode } from './support.ts';

const base: MemoryRequest = { rid: 0x0100, address: 0x1000, access: 'read' };

describe('a request of the friendly door', () => {
  it('becomes the arguments of the hot door', () => {
    expect(parseRequest(base)).toEqual({ rid: 0x0100, pasid: -1, iovaHigh: 0, iovaLow: 0x1000, access: 1 });
    const endpoint = { endpointState: createEndpointState(0xabcdef) };
    const everything: MemoryRequest = {
      endpoint,
      pasid: 0xfffff,
      address: 0xffff_ffff_ffff_fff8n,
      access: 'atomic',
      size: 8,
      privileged: true,
      noWrite: true,
      at: 'translation',
    };
    expect(parseRequest(everything)).toEqual({
      rid: 0xabcdef,
      pasid: 0xfffff,
      iovaHigh: 0xffffffff,
      iovaLow: 0xfffffff8,
      access: 0xbb,
    });
  });

  it('may be of no bytes, or of a whole page', () => {
    expect(() => parseRequest({ ...base, address: 0x1fff, size: 0 })).not.toThrow();
    expect(() => parseRequest({ ...base, size: 4096 })).not.toThrow();
  });

  it.each<[string, Partial<MemoryRequest>, string]>([
    ['comes from somebody', { rid: undefined } as unknown as MemoryRequest, 'VPCI_REQUEST'],
    ['comes from one only', { endpoint: { endpointState: createEndpointState(1) } }, 'VPCI_REQUEST'],
    ['has a RID of 24 bits', { rid: 0x1000000 }, 'VPCI_REQUEST'],
    ['has a whole RID', { rid: 1.5 }, 'VPCI_REQUEST'],
    ['has a PASID of 20 bits', { pasid: 0x100000 }, 'VPCI_PASID'],
    ['has no negative PASID', { pasid: -1 }, 'VPCI_PASID'],
    ['has a whole PASID', { pasid: 0.5 }, 'VPCI_PASID'],
    ['has an address of 64 bits', { address: 1n << 64n }, 'VPCI_REQUEST'],
    ['has no negative address', { address: -1 }, 'VPCI_REQUEST'],
    ['has an exact address', { address: 2 ** 53 }, 'VPCI_REQUEST'],
    ['stays in its page', { address: 0x1fff, size: 2 }, 'VPCI_REQUEST'],
    ['has no negative size', { size: -1 }, 'VPCI_REQUEST'],
    ['has a whole size', { size: 1.5 }, 'VPCI_REQUEST'],
    ['has a known access', { access: 'toString' } as unknown as MemoryRequest, 'VPCI_REQUEST'],
    ['has a known at', { at: 'maybe' } as unknown as MemoryRequest, 'VPCI_REQUEST'],
  ])('%s', (_what, fields, code) => {
    expect(() => parseRequest({ ...base, ...fields })).toThrow(withCode(code));
  });

  it('names the page and what to do', () => {
    expect(() => parseRequest({ ...base, address: 0x1fff, size: 2 })).toThrow(/0x1fff crosses 4 KiB: split/);
  });
});

describe('a request of the hot door', () => {
  const out = new Uint32Array(6);

  it('takes halves with and without sign', () => {
    expect(() => checkHotRequest(1, -1, -1, -1, 1, out)).not.toThrow();
    expect(() => checkHotRequest(1, -1, 0xffffffff, 0xffffffff, 1, out)).not.toThrow();
  });

  it.each<[string, () => void, string]>([
    ['RID', () => checkHotRequest(-2, -1, 0, 0, 1, out), 'VPCI_REQUEST'],
    ['PASID', () => checkHotRequest(1, 0x100000, 0, 0, 1, out), 'VPCI_PASID'],
    ['PASID below -1', () => checkHotRequest(1, -2, 0, 0, 1, out), 'VPCI_PASID'],
    ['high half', () => checkHotRequest(1, 1, 2 ** 32, 0, 1, out), 'VPCI_REQUEST'],
    ['low half', () => checkHotRequest(1, 1, 0, 0.5, 1, out), 'VPCI_REQUEST'],
    ['access', () => checkHotRequest(1, 1, 0, 0, 0, out), 'VPCI_REQUEST'],
    ['result', () => checkHotRequest(1, 1, 0, 0, 1, new Uint32Array(5)), 'VPCI_REQUEST'],
  ])('has a good %s', (_what, call, code) => {
    expect(call).toThrow(withCode(code));
  });
});

describe('access bits', () => {
  it.each([0, 0x08, 0x10, 0x11, 0x14, 0x61, 0x101, -1, 1.5, Number.NaN])('%s are none', (access) => {
    expect(isAccess(access)).toBe(false);
  });

  it.each([
    [0x01, 'read', 'untranslated'],
    [0x82, 'write', 'untranslated'],
    [0x03, 'write', 'untranslated'],
    [0x4c, 'execute', 'translated'],
    [0x33, 'atomic', 'translation'],
  ])('%i are %s, %s', (access, kind, at) => {
    expect([isAccess(access), accessKind(access), addressType(access)]).toEqual([true, kind, at]);
  });
});

it('takes a requester ID from an endpoint', () => {
  expect(ridOf({ endpointState: createEndpointState(7) })).toBe(7);
  expect(ridOf(0xffffff)).toBe(0xffffff);
});

describe('a function that has no requester ID', () => {
  const endpoint = { endpointState: { ...createEndpointState(0), rid: -1 } };

  it.each([() => new TableIommu(), () => new VtdIommu()])('is an unknown requester', (make) => {
    const unit = make();
    const faults: number[] = [];
    unit.on('fault', ({ rid }) => faults.push(rid));
    const request = { endpoint, pasid: 5, address: 0, access: 'read' } as const;
    const verdict = { status: 'unsupported-request', reason: 'unknown-requester' };
    expect(unit.request(request)).toEqual(verdict);
    expect(unit.explain(request).verdict).toEqual(verdict);
    expect(unit.translate(-1, 5, 0, 0, 1, new Uint32Array(6))).toBeLessThan(0);
    expect(unit.pageRequest({ endpoint, pasid: 5, read: true, last: true, prgi: 0, address: 0 })).toEqual({
      queued: false,
      response: 15,
      pasid: 5,
    });
    expect(faults).toEqual([-1, -1]);
  });

  it('cannot be configured, and the error says what to do', () => {
    expect(() => new TableIommu().attach(endpoint, 5)).toThrow('add it to a segment');
  });
});
