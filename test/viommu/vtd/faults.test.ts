import { describe, expect, it } from 'vitest';
import type { InterruptEvent } from '../../../src/viommu/index.ts';
import * as g from './guest.ts';

function broken(options: ConstructorParameters<typeof g.Guest>[0] = {}): g.Guest {
  const guest = new g.Guest(options);
  guest.addEndpoint(0x0200);
  guest.enable();
  return guest;
}

/** A request that ends with 39h, for a page that tells it apart. */
function fail(guest: g.Guest, page: number, rid = g.RID): void {
  const verdict = guest.unit.request({ rid, access: 'read', address: page * 4096 });
  expect(verdict).toMatchObject({ code: 0x39 });
}

describe('fault recording', () => {
  it('lays a record out as the specification does', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE | g.pdts(7));
    guest.enable();
    guest.request({ pasid: 0xf_ffff, privileged: true, access: 'atomic', address: 0xffff_8000_1234_5678n });
    expect(guest.reg(0x34)).toBe(0x0000_0002);
    expect(guest.reg(0x220)).toBe(0x1234_5000);
    expect(guest.reg(0x224)).toBe(0xffff_8000);
    // SID, T2 (92), PRIV (93), PP (95).
    expect(guest.reg(0x228)).toBe(0xb000_0100);
    // FR, PV, T1 (126), F (127).
    expect(guest.reg(0x22c)).toBe(0xcfff_ff51);
  });

  it('goes round its registers, and says where the first one is', () => {
    const guest = broken({ faultRecords: 3 });
    fail(guest, 1);
    fail(guest, 2);
    expect(guest.reg(0x34)).toBe(2);
    expect(guest.faults().map(({ address }) => address)).toEqual([0x1000n, 0x2000n]);
    expect(guest.reg(0x34)).toBe(0);
    fail(guest, 3);
    expect(guest.reg(0x34)).toBe(0x202);
    fail(guest, 4);
    fail(guest, 5);
    expect(guest.reg(0x34)).toBe(0x202);
    expect(guest.faults().map(({ address }) => address)).toEqual([0x3000n, 0x4000n, 0x5000n]);
  });

  it('overflows: PFO, and what comes is lost until it is cleared', () => {
    const guest = broken({ faultRecords: 2 });
    for (const page of [1, 2, 3]) fail(guest, page);
    expect(guest.reg(0x34)).toBe(3);
    // A free register does not help while PFO is set.
    guest.setReg(0x22c, 0x8000_0000);
    fail(guest, 4);
    expect(guest.reg(0x22c) >>> 31).toBe(0);
    guest.setReg(0x34, 1);
    fail(guest, 5);
    expect(guest.reg(0x220)).toBe(0x5000);
    expect(guest.reg(0x34)).toBe(2);
  });

  it('begins at the first register again when translation is switched off', () => {
    const guest = broken();
    fail(guest, 1);
    guest.faults();
    guest.disable();
    guest.command(0x8000_0000);
    fail(guest, 2);
    expect(guest.reg(0x220)).toBe(0x2000);
  });

  it('clears F with a one only, and nothing else of a record', () => {
    const guest = broken();
    fail(guest, 1);
    const record = [0x220, 0x224, 0x228, 0x22c].map((at) => guest.reg(at));
    for (const at of [0x220, 0x224, 0x228, 0x22c]) guest.setReg(at, 0x7fff_ffff);
    expect([0x220, 0x224, 0x228, 0x22c].map((at) => guest.reg(at))).toEqual(record);
    guest.setReg(0x34, 0xffff_ffff);
    expect(guest.reg(0x34)).toBe(2);
    guest.setReg(0x22c, 0x8000_0000);
    expect(guest.reg(0x34)).toBe(0);
    expect(guest.reg(0x22c)).toBe((record[3] ?? 0) & 0x7fff_ffff);
  });

  it('collapses faults of one source when asked to', () => {
    for (const collapseFaults of [false, true]) {
      const guest = broken({ collapseFaults });
      fail(guest, 1);
      fail(guest, 2);
      fail(guest, 3, 0x0200);
      expect(guest.faults().map(({ address }) => address)).toEqual(
        collapseFaults ? [0x1000n, 0x3000n] : [0x1000n, 0x2000n, 0x3000n],
      );
      fail(guest, 4);
      expect(guest.faults()).toHaveLength(1);
    }
  });
});

describe('the fault event', () => {
  function listening(): { guest: g.Guest; interrupts: InterruptEvent[] } {
    const guest = broken({ faultRecords: 2 });
    const interrupts: InterruptEvent[] = [];
    guest.unit.on('interrupt', (event) => interrupts.push(event));
    guest.setReg(0x3c, 0x21);
    guest.setReg(0x40, 0xfee0_0000);
    guest.setReg(0x44, 0);
    guest.setReg(0x38, 0);
    return { guest, interrupts };
  }

  it('is one for all conditions that are not serviced yet', () => {
    const { guest, interrupts } = listening();
    fail(guest, 1);
    expect(interrupts).toEqual([{ cause: 'fault', address: 0xfee0_0000n, data: 0x21 }]);
    fail(guest, 2);
    fail(guest, 3);
    guest.enableQueue();
    guest.invalidate([0n, 0n]);
    expect(guest.reg(0x34)).toBe(0x13);
    expect(interrupts).toHaveLength(1);
    guest.faults();
    guest.setReg(0x34, 0x11);
    expect(guest.reg(0x34)).toBe(0x10);
    // The descriptor is still wrong: IQE is set again at once.
    expect(interrupts).toHaveLength(2);
    guest.setReg(0x18, guest.reg(0x1c) & ~0x4400_0000);
    guest.setReg(0x34, 0x10);
    expect(guest.reg(0x34)).toBe(0);
    fail(guest, 4);
    expect(interrupts).toHaveLength(3);
  });

  it('stays pending while it is masked, and is forgotten when it is serviced', () => {
    const { guest, interrupts } = listening();
    guest.setReg(0x38, 0x8000_0000);
    fail(guest, 1);
    expect(guest.reg(0x38)).toBe(0xc000_0000);
    guest.setReg(0x38, 0);
    expect(interrupts).toHaveLength(1);
    expect(guest.reg(0x38)).toBe(0);
    guest.faults();
    guest.setReg(0x38, 0x8000_0000);
    fail(guest, 2);
    guest.faults();
    expect(guest.reg(0x38)).toBe(0x8000_0000);
    guest.setReg(0x38, 0);
    expect(interrupts).toHaveLength(1);
  });

  it('may come back with a request, which does not disturb the one that failed', () => {
    const { guest } = listening();
    const heard: unknown[] = [];
    guest.unit.on('fault', ({ address, code }) => heard.push([address, code]));
    guest.unit.once('interrupt', () => fail(guest, 7, 0x0200));
    fail(guest, 1);
    expect(heard).toEqual([
      [0x7000n, 0x39],
      [0x1000n, 0x39],
    ]);
    expect(guest.faults()).toMatchObject([
      { rid: g.RID, address: 0x1000n },
      { rid: 0x0200, address: 0x7000n },
    ]);
  });
});
