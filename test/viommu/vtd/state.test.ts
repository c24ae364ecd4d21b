import { describe, expect, it } from 'vitest';
import { VtdIommu } from '../../../src/viommu/vtd/index.ts';
import { withCode } from '../support.ts';
import * as g from './guest.ts';

function busy(): g.Guest {
  const guest = new g.Guest();
  guest.context(g.P | g.DTE | g.PASIDE | g.PRE);
  guest.pasid(5, { pgtt: g.PASS_THROUGH });
  guest.enableQueue();
  guest.enable();
  guest.invalidate(g.contextGlobal);
  guest.setReg64(0xd0, 0x3000n);
  guest.setReg(0x3c, 0x21);
  guest.setReg(0x38, 0);
  guest.request({ pasid: 6 });
  guest.unit.pageRequest({ endpoint: guest.endpoint, pasid: 5, read: true, prgi: 0, address: 0n });
  return guest;
}

const registersOf = (unit: VtdIommu): number[] =>
  Array.from({ length: 1024 }, (_, i) => unit.readRegister(i * 4, 4));

describe('saved state', () => {
  it('goes through JSON into another unit, which goes on where the first one was', () => {
    const guest = busy();
    const state: unknown = JSON.parse(JSON.stringify(guest.unit.saveState()));
    const other = new VtdIommu({ memory: guest.memory });
    other.attachEndpoint(guest.endpoint.endpointState);
    other.restoreState(state);
    expect(registersOf(other)).toEqual(registersOf(guest.unit));
    expect(other.saveState()).toEqual(guest.unit.saveState());
    for (const unit of [guest.unit, other]) {
      expect(unit.request({ rid: g.RID, pasid: 5, address: 0x1000, access: 'read' }).status).toBe('bypass');
      unit.request({ rid: g.RID, pasid: 7, address: 0x1000, access: 'read' });
    }
    expect(registersOf(other)).toEqual(registersOf(guest.unit));
  });

  it('drops what was cached', () => {
    const guest = busy();
    expect(guest.request({ pasid: 5 })).toMatchObject({ status: 'bypass' });
    guest.pasid(5, { present: false });
    expect(guest.request({ pasid: 5 })).toMatchObject({ status: 'bypass' });
    guest.unit.restoreState(guest.unit.saveState());
    expect(guest.request({ pasid: 5 })).toMatchObject({ code: 0x59 });
  });

  it.each([
    { nesting: false },
    { hostAddressWidth: 36 },
    { collapseFaults: true },
    { pasidWhenUnconfigured: 'architectural' },
  ] as const)('is for a unit with the same options: not with %o', (options) => {
    const state = busy().unit.saveState();
    expect(() => new VtdIommu(options).restoreState(state)).toThrow(withCode('VPCI_STATE'));
  });

  it('keeps what SRTP latched: the meaning of the rights', () => {
    const options = { secondStageIrIw: true };
    const guest = new g.Guest(options);
    guest.enable(1, 0x80n);
    const other = new VtdIommu(options);
    other.restoreState(guest.unit.saveState());
    const mode = (unit: VtdIommu): unknown =>
      unit
        .explain({ rid: g.RID, pasid: null, address: 0, access: 'read' })
        .steps.find(({ structure }) => structure === 'unit')?.fields;
    other.attachEndpoint(guest.endpoint.endpointState);
    expect(mode(guest.unit)).toMatchObject({ SSIRWE: true });
    expect(mode(other)).toEqual(mode(guest.unit));
  });

  it('is refused when it is none, and nothing changes', () => {
    const guest = busy();
    const state = guest.unit.saveState();
    const before = registersOf(guest.unit);
    const change = (edit: (copy: Record<string, unknown>) => void): unknown => {
      const copy = JSON.parse(JSON.stringify(state)) as Record<string, unknown>;
      edit(copy);
      return copy;
    };
    const nonsense: unknown[] = [
      null,
      7,
      [],
      {},
      change((copy) => (copy['version'] = 2)),
      change((copy) => (copy['model'] = 'table')),
      change((copy) => (copy['registers'] = [[0x1c, 0xffff_ffff]])),
      change((copy) => (copy['registers'] = [[0x08, 1]])),
      change((copy) => (copy['registers'] = [[0x21, 0]])),
      change((copy) => (copy['registers'] = [[0x2000, 0]])),
      change((copy) => (copy['registers'] = [[0x24, 2 ** 32]])),
      change((copy) => (copy['registers'] = [[0x24, 'x']])),
      change((copy) => (copy['registers'] = [7])),
      change((copy) => (copy['latched'] = { ...(copy['latched'] as object), mode: 4 })),
      change((copy) => (copy['latched'] = { ...(copy['latched'] as object), faultIndex: 8 })),
      change((copy) => (copy['latched'] = { ...(copy['latched'] as object), alternateRights: 1 })),
    ];
    for (const one of nonsense) {
      expect(() => guest.unit.restoreState(one), JSON.stringify(one)).toThrow(withCode('VPCI_STATE'));
    }
    expect(registersOf(guest.unit)).toEqual(before);
  });
});
