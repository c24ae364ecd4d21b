import { describe, expect, it } from 'vitest';
import type { Viommu } from '../../../src/viommu/index.ts';
import * as g from './guest.ts';

const STATUS = 0x50_0000;

/** What the unit says, in order, and what stands in `STATUS` at a barrier. */
function listen(guest: g.Guest, unit: Viommu = guest.unit): string[] {
  const said: string[] = [];
  unit.on('pasid-invalidated', ({ pasid }) => said.push(`pasid ${pasid}`));
  unit.on('tables-invalidated', ({ pasid }) => said.push(`tables ${pasid}`));
  unit.on('translation-invalidated', ({ pasid }) => said.push(`translation ${pasid}`));
  unit.on('invalidation-barrier', ({ waits }) => {
    said.push(`barrier of ${waits}, status ${guest.view.getUint32(STATUS, true)}`);
  });
  return said;
}

function running(): g.Guest {
  const guest = new g.Guest();
  guest.enable();
  guest.enableQueue();
  return guest;
}

const wait = (data: number): [bigint, bigint] => g.wait(BigInt(STATUS), data);

describe('the barrier of invalidations', () => {
  it('stands once, behind all of a run, before the guest is told', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(g.pasidCacheGlobal, wait(1), g.pasidIotlb(1, 5), wait(2));
    expect(said).toEqual([
      'pasid all',
      'tables all',
      'translation 5',
      'translation null',
      'barrier of 2, status 0',
    ]);
    expect(guest.view.getUint32(STATUS, true)).toBe(2);
    guest.invalidate(g.pasidCachePasid(1, 5), wait(3));
    expect(said.slice(5)).toEqual(['pasid 5', 'tables 5', 'barrier of 1, status 2']);
    expect(guest.view.getUint32(STATUS, true)).toBe(3);
  });

  it('is not there when nothing was invalidated', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(wait(1), wait(2));
    guest.setReg(0x38, 0);
    expect(said).toEqual([]);
    expect(guest.view.getUint32(STATUS, true)).toBe(2);
  });

  it('comes before the interrupt of a wait, which is one', () => {
    const guest = running();
    const said = listen(guest);
    guest.unit.on('interrupt', () => said.push('interrupt'));
    guest.setReg(0xa0, 0);
    guest.invalidate(g.iotlbGlobal, g.wait(0n, 0, 0x10n), g.wait(0n, 0, 0x10n));
    expect(said).toEqual(['pasid all', 'barrier of 2, status 0', 'interrupt']);
  });

  it('comes for what precedes a descriptor that is none, and a page that has to be fetched', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(g.iotlbGlobal, wait(1), [0n, 0n], wait(2));
    expect(guest.reg(0x34)).toBe(0x10);
    expect(said).toEqual(['pasid all', 'barrier of 1, status 0']);
    expect(guest.view.getUint32(STATUS, true)).toBe(1);
    guest.write64(g.QUEUE + 0x40n, 0x12n);
    guest.setReg(0x34, 0x10);
    expect(said.slice(2)).toEqual(['pasid all', 'barrier of 1, status 1']);
    expect(guest.view.getUint32(STATUS, true)).toBe(2);
  });

  it.each<readonly [string, (guest: g.Guest) => void]>([
    ['translation off', (guest) => guest.disable()],
    ['a new root table', (guest) => guest.command(0x4000_0000)],
    ['reset', ({ unit }) => unit.reset()],
    ['restore', ({ unit }) => unit.restoreState(unit.saveState())],
  ])('ends %s', (_, act) => {
    const guest = running();
    const said = listen(guest);
    act(guest);
    expect(said.at(-1)).toBe('barrier of 0, status 0');
    expect(said.filter((one) => one.startsWith('barrier'))).toHaveLength(1);
  });

  it('ends an invalidation by register', () => {
    const guest = new g.Guest({ version: 0x10 });
    guest.enable(0);
    const said = listen(guest);
    guest.setReg64(0x28, (1n << 63n) | (1n << 61n));
    expect(said).toEqual(['pasid all', 'tables all', 'barrier of 0, status 0']);
  });

  it('leaves nothing to be told after a reset by a listener', () => {
    const guest = running();
    guest.unit.once('invalidation-barrier', () => guest.unit.reset());
    guest.invalidate(g.pasidCacheGlobal, wait(7));
    expect(guest.view.getUint32(STATUS, true)).toBe(0);
    expect(guest.reg(0x80)).toBe(0);
  });
});
