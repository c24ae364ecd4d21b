import { describe, expect, it } from 'vitest';
import { GuestMemory } from '../../../src/memory/index.ts';
import { VtdIommu } from '../../../src/viommu/vtd/index.ts';
import * as g from './guest.ts';

const STATUS = 0x51_0000;

/** A unit whose memory is reached by messages, with the tables that a guest with memory of its own made. */
class Messages {
  readonly guest = new g.Guest();
  readonly bytes = new Uint8Array(g.MEMORY_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  readonly memory = new GuestMemory();
  readonly unit = new VtdIommu({ memory: this.memory });
  readonly first: bigint;

  constructor() {
    const { guest, unit } = this;
    this.memory.addRemote({ base: 0, size: g.MEMORY_BYTES, write: (gpa, data) => this.bytes.set(data, gpa) });
    guest.context(g.P | g.PASIDE | g.DTE | g.PRE);
    this.first = guest.page();
    guest.map(this.first, 0x3000n, 0x50_0000n, 7n, 7n);
    guest.pasid(5, { first: this.first });
    this.bytes.set(guest.bytes);
    unit.attachEndpoint(guest.endpoint.endpointState);
    unit.writeRegister64(0x20, g.ROOT | 0x400n);
    unit.writeRegister(0x18, 4, 0x4000_0000);
    unit.writeRegister64(0x90, g.QUEUE | 0x800n);
    unit.writeRegister(0x18, 4, 0x0400_0000);
  }

  /** A copy of a page, as a client sends it. */
  page(address: bigint): Uint8Array {
    return this.bytes.slice(Number(address), Number(address) + 4096);
  }

  give(address: bigint): void {
    this.memory.provide(Number(address), this.page(address));
  }

  put(index: number, [low, high]: readonly [bigint, bigint]): void {
    this.view.setBigUint64(Number(g.QUEUE) + index * 32, low, true);
    this.view.setBigUint64(Number(g.QUEUE) + index * 32 + 8, high, true);
  }

  tail(descriptors: number): void {
    this.unit.writeRegister(0x88, 4, descriptors * 32);
  }

  /** Gives the queue what it misses, until it misses nothing. */
  serve(): void {
    for (let { missingMemory: missing } = this.unit; missing !== null; missing = this.unit.missingMemory) {
      this.give(missing.address);
      this.unit.resume();
    }
  }

  get status(): number {
    return this.view.getUint32(STATUS, true);
  }

  get head(): number {
    return this.unit.readRegister(0x80, 4) / 32;
  }
}

const wait = (data: number): [bigint, bigint] => g.wait(BigInt(STATUS), data);

describe('the queue in memory that is reached by messages', () => {
  it('waits for its page, and goes on with it', () => {
    const world = new Messages();
    world.put(0, g.contextGlobal);
    world.put(1, wait(0x77));
    world.tail(2);
    expect(world.unit.missingMemory).toEqual({ address: g.QUEUE, size: 4096 });
    expect(world.head).toBe(0);
    world.serve();
    expect([world.head, world.status]).toEqual([2, 0x77]);
  });

  it('reads the page anew when the guest has repaired a descriptor', () => {
    const world = new Messages();
    world.put(0, [0n, 0n]);
    world.put(1, wait(5));
    world.tail(2);
    world.serve();
    expect(world.unit.readRegister(0x34, 4)).toBe(0x10);
    world.put(0, g.iotlbGlobal);
    world.unit.writeRegister(0x34, 4, 0x10);
    world.serve();
    expect([world.unit.readRegister(0x34, 4), world.head, world.status]).toEqual([0, 2, 5]);
  });

  it('and when the queue was off', () => {
    const world = new Messages();
    world.put(0, wait(1));
    world.tail(1);
    world.serve();
    world.unit.writeRegister(0x18, 4, 0);
    world.put(0, wait(2));
    world.unit.writeRegister(0x18, 4, 0x0400_0000);
    world.serve();
    expect([world.head, world.status]).toEqual([1, 2]);
  });

  it('waits for nothing once it is switched off', () => {
    const world = new Messages();
    world.put(0, wait(1));
    world.tail(1);
    world.unit.writeRegister(0x18, 4, 0);
    expect(world.unit.missingMemory).toBeNull();
  });

  it('takes no page that was on its way when the guest wrote the tail', () => {
    const world = new Messages();
    world.put(0, wait(1));
    world.tail(1);
    const { generation } = world.memory;
    const old = world.page(g.QUEUE);
    world.put(1, wait(2));
    world.tail(2);
    expect(world.memory.provide(Number(g.QUEUE), old, generation)).toBe(false);
    world.unit.resume();
    expect(world.head).toBe(0);
    world.serve();
    expect([world.unit.readRegister(0x34, 4), world.head, world.status]).toEqual([0, 2, 2]);
  });

  it('goes on in a unit that was restored meanwhile', () => {
    const world = new Messages();
    world.put(0, wait(9));
    world.tail(1);
    world.unit.restoreState(world.unit.saveState());
    expect(world.unit.missingMemory).toBeNull();
    world.unit.resume();
    world.serve();
    expect([world.head, world.status]).toEqual([1, 9]);
  });

  it('stores nothing into a page that is poisoned, and leaves nothing behind', () => {
    const world = new Messages();
    world.memory.poison(STATUS, 4, 'access');
    world.put(0, wait(3));
    world.tail(1);
    world.serve();
    expect([world.head, world.status]).toEqual([1, 0]);
    // Not the blank page that a store would have been made in.
    expect(world.memory.span(0, STATUS + 8, 8)).toBe(3);
  });
});

describe('tables in memory that is reached by messages', () => {
  it('are fetched page by page', () => {
    const world = new Messages();
    const { unit, memory, first, guest } = world;
    unit.writeRegister(0x18, 4, 0x8400_0000);
    const request = { rid: g.RID, pasid: 5, address: 0x3000n, access: 'write' } as const;
    memory.forget();
    const asked: bigint[] = [];
    for (;;) {
      const verdict = unit.request(request);
      if (verdict.status !== 'pending') {
        expect(verdict).toMatchObject({ status: 'translated', address: 0x50_0000n });
        break;
      }
      asked.push(verdict.address);
      expect(asked.length).toBeLessThan(12);
      world.give(verdict.address);
    }
    expect(asked).toHaveLength(8);
    expect(unit.counters()).toMatchObject({ pending: 8, accepted: 1, rejected: 0 });
    // Accessed and dirty flags went out as writes.
    const leaf = guest.map(first, 0x3000n, 0x50_0000n, 7n, 7n);
    expect(world.view.getBigUint64(Number(leaf), true)).toBe(0x50_0067n);
  });

  it('are missing for a mirror, not empty', () => {
    const world = new Messages();
    world.unit.writeRegister(0x18, 4, 0x8400_0000);
    const missing = (): bigint => {
      const verdict = world.unit.request({ rid: g.RID, pasid: 5, address: 0x3000n, access: 'read' });
      return verdict.status === 'pending' ? verdict.address : -1n;
    };
    // Root table, context table, PASID directory, PASID table.
    for (let page = 0; page < 4; page++) {
      expect(world.unit.presentPasids(g.RID, 10)).toBeUndefined();
      expect(world.unit.viewTranslation(g.RID, 5)).toEqual({ kind: 'pending' });
      world.give(missing());
    }
    expect(world.unit.presentPasids(g.RID, 10)).toEqual([5]);
    expect(world.unit.viewTranslation(g.RID, 5)).toMatchObject({ kind: 'first-stage' });
  });

  it('are named by the answer to a page request', () => {
    const world = new Messages();
    world.unit.writeRegister(0x18, 4, 0x8400_0000);
    world.unit.writeRegister64(0xd0, 0x3000n);
    const request = {
      rid: g.RID,
      pasid: 5,
      read: true,
      last: true,
      prgi: 1,
      address: 0x3000,
    } as const;
    let pages = 0;
    let answer = world.unit.pageRequest(request);
    for (; answer.missing !== undefined && pages < 9; answer = world.unit.pageRequest(request)) {
      expect(answer).toMatchObject({ queued: false, response: 15, pasid: 5 });
      world.give(answer.missing);
      pages++;
    }
    expect([pages, answer]).toEqual([4, { queued: true }]);
  });
});
