import { describe, expect, it } from 'vitest';
import { createEndpointState } from '../../src/pci/endpoint.ts';
import { cacheable, STATUS_TRANSLATED } from '../../src/viommu/result.ts';
import { given, Puppet } from './puppet.ts';
import { endpointOf, withCode } from './support.ts';

const read = { rid: 0x0100, address: 0x1234, access: 'read' } as const;

describe('the endpoints behind a unit', () => {
  const cached = (out: Uint32Array): number => cacheable(given(out, STATUS_TRANSLATED, 1), 1);

  it('are kept by reference', () => {
    const unit = new Puppet();
    const { endpointState } = endpointOf(unit, 0x0100, { pasidWidth: 1 });
    expect(unit.request({ ...read, pasid: 2 })).toMatchObject({ reason: 'pasid-beyond-width' });
    endpointState.pasidWidth = 2;
    expect(unit.request({ ...read, pasid: 2 })).toMatchObject({ reason: 'puppet-says-no' });
  });

  it('take their cached translations with them when they change', () => {
    const unit = new Puppet();
    unit.verdict = cached;
    const state = endpointOf(unit, 0x0100).endpointState;
    const walksAfter = (change: () => void): number => {
      unit.request(read);
      const before = unit.walks;
      change();
      unit.request({ ...read, rid: state.rid });
      return unit.walks - before;
    };
    expect(walksAfter(() => {})).toBe(0);
    expect(walksAfter(() => unit.endpointChanged(state, 'pasid-control'))).toBe(1);
    expect(walksAfter(() => unit.endpointReset(state, 'flr'))).toBe(1);
    expect(walksAfter(() => unit.attachEndpoint(state))).toBe(1);
    const move = (): void => {
      state.rid = 0x0200;
      unit.endpointMoved(state, 0x0100);
    };
    expect(walksAfter(move)).toBe(1);
    expect(unit.request(read)).toMatchObject({ reason: 'unknown-requester' });
    unit.detachEndpoint(state);
    expect(unit.request({ ...read, rid: 0x0200 })).toMatchObject({ reason: 'unknown-requester' });
  });

  it('may swap their RIDs', () => {
    const unit = new Puppet();
    const first = endpointOf(unit, 1, { pasidWidth: 1 }).endpointState;
    const second = endpointOf(unit, 2, { pasidWidth: 2 }).endpointState;
    first.rid = 2;
    unit.endpointMoved(first, 1);
    second.rid = 1;
    unit.endpointMoved(second, 2);
    expect(unit.request({ ...read, rid: 1, pasid: 3 })).toMatchObject({ reason: 'puppet-says-no' });
    expect(unit.request({ ...read, rid: 2, pasid: 3 })).toMatchObject({ reason: 'pasid-beyond-width' });
  });

  it('do not take another one away when they go late', () => {
    const unit = new Puppet();
    const old = endpointOf(unit, 1).endpointState;
    endpointOf(unit, 1);
    unit.detachEndpoint(old);
    expect(unit.request({ ...read, rid: 1 })).toMatchObject({ reason: 'puppet-says-no' });
  });

  it('are announced', () => {
    const unit = new Puppet();
    const heard: unknown[] = [];
    unit.on('endpoint', (event) => heard.push(event));
    const state = endpointOf(unit, 1).endpointState;
    unit.endpointChanged(state, 'ats-control');
    unit.endpointReset(state, 'bus');
    state.rid = 2;
    unit.endpointMoved(state, 1);
    unit.detachEndpoint(state);
    expect(heard).toEqual([
      { rid: 1, change: 'attached' },
      { rid: 1, change: 'ats-control' },
      { rid: 1, change: 'bus' },
      { rid: 2, change: 'moved', previousRid: 1 },
      { rid: 2, change: 'detached' },
    ]);
  });

  it('have a possible RID and width', () => {
    const unit = new Puppet();
    const wide = Object.assign(createEndpointState(1), { pasidWidth: 21 });
    expect(() => unit.attachEndpoint(wide)).toThrow(withCode('VPCI_PASID_WIDTH'));
    expect(() => unit.attachEndpoint(createEndpointState(0x1000000))).toThrow(withCode('VPCI_REQUEST'));
    expect(() => unit.connectDevice(3, {})).toThrow(withCode('VPCI_REQUEST'));
  });
});
