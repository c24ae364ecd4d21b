import { describe, expect, it } from 'vitest';
import * as g from './guest.ts';

const STATUS = 0x50_0000;

/** What the unit says, in order, each with what stands in `STATUS` then. */
function listen(guest: g.Guest): string[] {
  const said: string[] = [];
  const say = (what: string): void => {
    said.push(`${what} | ${guest.view.getUint32(STATUS, true)}`);
  };
  guest.unit.on('pasid-invalidated', ({ rid, pasid }) => say(`pasid ${rid.toString(16)} ${pasid}`));
  guest.unit.on('tables-invalidated', ({ rid, pasid }) => say(`tables ${rid.toString(16)} ${pasid}`));
  guest.unit.on('translation-invalidated', ({ pasid, size }) => say(`pages ${pasid} ${size}`));
  return said;
}

function running(): g.Guest {
  const guest = new g.Guest();
  guest.enable();
  guest.enableQueue();
  return guest;
}

const wait = (data: number): [bigint, bigint] => g.wait(BigInt(STATUS), data);
const status = (guest: g.Guest): number => guest.view.getUint32(STATUS, true);

describe('what a guest invalidates is announced', () => {
  it('once when it is everything, before any of its waits ends', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(g.pasidCacheGlobal, wait(1), g.contextGlobal, wait(2), g.pasidCacheDomain(1), wait(3));
    expect(said).toEqual(['pasid 100 all | 0', 'tables all all | 0']);
    expect(status(guest)).toBe(3);
    guest.invalidate(g.iotlbGlobal, g.iotlbDomain(7), wait(4));
    expect(said.slice(2)).toEqual(['pasid 100 all | 3']);
    expect(status(guest)).toBe(4);
  });

  it('at once when it is one PASID, or pages of one', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(g.pasidCachePasid(1, 5), wait(1), g.pasidIotlbPages(1, 6, 0x3000n), wait(2));
    expect(said).toEqual(['pasid 100 5 | 0', 'tables all 5 | 0', 'pages 6 4096 | 1', 'pages null 4096 | 1']);
    expect(status(guest)).toBe(2);
  });

  it('as everything when it is more than 1,024 single ones', () => {
    const guest = running();
    guest.setReg(0x18, guest.reg(0x1c) & ~0x4400_0000);
    // 512 KiB, where no other structure is.
    const queue = 0x40_0000n;
    guest.setReg64(0x90, queue | 0x800n | 7n);
    guest.command(0x0400_0000);
    const said = listen(guest);
    const put = (index: number, [low, high]: readonly [bigint, bigint]): void => {
      guest.write64(queue + BigInt(index) * 32n, low);
      guest.write64(queue + BigInt(index) * 32n + 8n, high);
    };
    for (let pasid = 0; pasid < 700; pasid++) put(pasid, g.pasidCachePasid(1, pasid));
    put(700, wait(1));
    put(701, g.pasidCachePasid(1, 5));
    guest.setReg(0x88, 701 * 32);
    expect(said).toHaveLength(1024 + 2);
    expect(said.slice(-2)).toEqual(['pasid 100 all | 0', 'tables all all | 0']);
    expect(status(guest)).toBe(1);
    guest.setReg(0x88, 702 * 32);
    expect(said.slice(1026)).toEqual(['pasid 100 5 | 1', 'tables all 5 | 1']);
  });

  it('of the functions that a context-cache invalidation names, where they are', () => {
    const guest = running();
    guest.addEndpoint(0x0103);
    guest.addEndpoint(0x0110);
    const said = listen(guest);
    guest.invalidate(g.contextDevice(g.RID, 3), g.contextDevice(0x0103), g.contextDevice(0x0200, 3), wait(1));
    expect(said).toEqual([
      'pasid 100 all | 0',
      'pasid 103 all | 0',
      'tables 100 all | 0',
      'tables 103 all | 0',
    ]);
  });

  it('and its waits interrupt once', () => {
    const guest = running();
    const said = listen(guest);
    guest.unit.on('interrupt', () => said.push('interrupt'));
    guest.setReg(0xa0, 0);
    guest.invalidate(g.iotlbGlobal, g.wait(0n, 0, 0x10n), g.wait(0n, 0, 0x10n));
    expect(said).toEqual(['pasid 100 all | 0', 'interrupt']);
  });

  it('not at all by waits, or by registers that invalidate nothing', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(wait(1), wait(2));
    guest.setReg(0x38, 0);
    expect(said).toEqual([]);
    expect(status(guest)).toBe(2);
  });

  it('before the queue stops at a descriptor that is none', () => {
    const guest = running();
    const said = listen(guest);
    guest.invalidate(g.iotlbGlobal, wait(1), [0n, 0n], wait(2));
    expect(guest.reg(0x34)).toBe(0x10);
    expect(said).toEqual(['pasid 100 all | 0']);
    expect(status(guest)).toBe(1);
    guest.write64(g.QUEUE + 0x40n, 0x12n);
    guest.setReg(0x34, 0x10);
    expect(said.slice(1)).toEqual(['pasid 100 all | 1']);
    expect(status(guest)).toBe(2);
  });

  it.each<readonly [string, (guest: g.Guest) => void]>([
    ['translation off', (guest) => guest.disable()],
    ['a new root table', (guest) => guest.command(0x4000_0000)],
    ['reset', ({ unit }) => unit.reset()],
    ['restore', ({ unit }) => unit.restoreState(unit.saveState())],
  ])('by %s', (_, act) => {
    const guest = running();
    const said = listen(guest);
    act(guest);
    expect(said).toEqual(['pasid 100 all | 0', 'tables all all | 0']);
  });

  it('by registers, which say what was done by then', () => {
    const guest = new g.Guest({ version: 0x10 });
    guest.enable(0);
    const said = listen(guest);
    const seen: number[] = [];
    guest.unit.on('pasid-invalidated', () => seen.push(guest.reg(0x2c), guest.reg(0x10c)));
    guest.setReg64(0x28, (1n << 63n) | (1n << 61n));
    expect(said).toEqual(['pasid 100 all | 0', 'tables all all | 0']);
    // ICC clear, CAIG.
    expect(seen[0]).toBe(0x2800_0000);
  });

  it('and its waits end in their order, whatever a device does meanwhile', () => {
    const guest = running();
    const said = listen(guest);
    guest.unit.connectDevice(guest.endpoint, {
      onAtcInvalidate: () => {
        guest.setReg(0x38, 0);
        return 'complete';
      },
    });
    guest.invalidate(g.iotlbGlobal, wait(1), [0x03n | (BigInt(g.RID) << 32n), 0n], wait(2));
    expect([guest.reg(0x34), said, status(guest)]).toEqual([0, ['pasid 100 all | 0'], 2]);
  });

  it('and nothing is told after a reset by a listener', () => {
    const guest = running();
    guest.unit.once('tables-invalidated', () => guest.unit.reset());
    guest.invalidate(g.pasidCacheGlobal, wait(7));
    expect(status(guest)).toBe(0);
    expect(guest.reg(0x80)).toBe(0);
  });
});

describe('a listener of the queue error', () => {
  it.each<readonly [string, (guest: g.Guest) => void]>([
    [
      'repairs the descriptor',
      (guest) => {
        guest.write64(g.QUEUE, 0x12n);
        guest.setReg(0x34, 0x10);
      },
    ],
    [
      'begins anew',
      (guest) => {
        guest.setReg(0x18, guest.reg(0x1c) & ~0x4400_0000);
        guest.setReg(0x34, 0x10);
        guest.write64(g.QUEUE, 0x12n);
        guest.command(0x0400_0000);
      },
    ],
  ])('%s, and the queue goes on', (_, repair) => {
    const guest = running();
    guest.setReg(0x38, 0);
    guest.unit.once('interrupt', () => repair(guest));
    guest.invalidate([0n, 0n], wait(5));
    expect([guest.reg(0x34), guest.reg(0x80), status(guest)]).toEqual([0, 0x40, 5]);
  });
});
