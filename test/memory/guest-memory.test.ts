import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { GuestMemory, SPAN_ABSENT, SPAN_CORRUPT, SPAN_MISS, SPAN_OK } from '../../src/memory/index.ts';
import { withCode } from '../viommu/support.ts';

/** The span at an address given as a number. */
function span(memory: GuestMemory, gpa: number, length = 8): number {
  return memory.span(Math.floor(gpa / 2 ** 32) | 0, gpa | 0, length);
}

function filled(bytes: number): ArrayBuffer {
  const buffer = new ArrayBuffer(bytes);
  const view = new DataView(buffer);
  for (let at = 0; at < bytes; at += 4) view.setUint32(at, at, true);
  return buffer;
}

describe('regions', () => {
  it('are found wherever they are, in any order', () => {
    const bases = [0x8000_0000, 0, 0xf_ffff_ffff_f000, 0x1_0000_0000, 0x7fff_f000, 0xffff_e000];
    const memory = new GuestMemory(bases.map((base) => ({ base, buffer: filled(0x1000) })));
    for (const base of [...bases, ...bases.toReversed()]) {
      for (const offset of [0, 8, 0xff8]) {
        expect(span(memory, base + offset)).toBe(SPAN_OK);
        memory.load64(0);
        expect([memory.low, memory.high]).toEqual([offset, offset + 4]);
        expect(memory.load32(1)).toBe(offset + 4);
      }
      expect(span(memory, base + 0xff8, 16)).toBe(SPAN_ABSENT);
    }
    for (const gpa of [0x1000, 0x7fff_eff8, 0x8000_1000, 0x1_0000_1000, 0xffff_f000, 0x10_0000_0000_0000]) {
      expect(span(memory, gpa)).toBe(SPAN_ABSENT);
    }
    expect(memory.span(-1, -8, 8)).toBe(SPAN_ABSENT);
    expect(memory.span(-0x8000_0000, 0, 8)).toBe(SPAN_ABSENT);
  });

  it('may cross a multiple of 2 GiB, and lie anywhere in a buffer', () => {
    const memory = new GuestMemory([
      { base: 0x7fff_ff00, buffer: filled(0x400), offset: 0x100, size: 0x200 },
    ]);
    expect(span(memory, 0x7fff_fff8)).toBe(SPAN_OK);
    expect(memory.load32(0)).toBe(0x1f8);
    expect(span(memory, 0x8000_0000)).toBe(SPAN_OK);
    expect(memory.load32(0)).toBe(0x200);
    expect(span(memory, 0x8000_00f8)).toBe(SPAN_OK);
    expect(span(memory, 0x8000_0100)).toBe(SPAN_ABSENT);
    const bytes = new Uint8Array(16);
    expect(memory.read(0x7fff_fff8, bytes)).toBe(true);
    expect(new Uint32Array(bytes.buffer)).toEqual(Uint32Array.of(0x1f8, 0x1fc, 0x200, 0x204));
    expect(
      memory.write(
        0x7fff_fffc,
        Uint8Array.from({ length: 8 }, (_, i) => i),
      ),
    ).toBe(true);
    expect(memory.read(0x7fff_fffc, bytes)).toBe(true);
    expect([...bytes.subarray(0, 8)]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(memory.removeRegion(0x7fff_ff00)).toBe(true);
    expect(span(memory, 0x7fff_fff8)).toBe(SPAN_ABSENT);
    expect(span(memory, 0x8000_0000)).toBe(SPAN_ABSENT);
  });

  it.each([
    [{ base: 4, buffer: new ArrayBuffer(64) }],
    [{ base: -8, buffer: new ArrayBuffer(64) }],
    [{ base: 0.5, buffer: new ArrayBuffer(64) }],
    [{ base: 2 ** 52 - 8, buffer: new ArrayBuffer(64) }],
    [{ base: 0, buffer: new ArrayBuffer(0) }],
    [{ base: 0, buffer: new ArrayBuffer(60) }],
    [{ base: 0, buffer: new ArrayBuffer(64), offset: 4, size: 8 }],
    [{ base: 0, buffer: new ArrayBuffer(64), offset: 32, size: 64 }],
  ])('are refused when they do not fit: %j', (region) => {
    expect(() => new GuestMemory([region])).toThrow(withCode('VPCI_MEMORY'));
  });

  it('do not overlap, and can be taken away', () => {
    const memory = new GuestMemory([{ base: 0x1000, buffer: new ArrayBuffer(0x1000) }]);
    for (const [base, size] of [
      [0x1000, 0x1000],
      [0x1ff8, 8],
      [0, 0x1008],
    ] as const) {
      expect(() => memory.addRegion({ base, buffer: new ArrayBuffer(size) })).toThrow(
        withCode('VPCI_MEMORY'),
      );
    }
    memory.poison(0x1000, 8, 'access');
    expect(memory.removeRegion(0x1008)).toBe(false);
    expect(memory.removeRegion(0x1000)).toBe(true);
    expect(memory.removeRegion(0x1000)).toBe(false);
    expect(span(memory, 0x1000)).toBe(SPAN_ABSENT);
    memory.addRegion({ base: 0x1000, buffer: new ArrayBuffer(0x1000) });
    expect(span(memory, 0x1000)).toBe(SPAN_OK);
  });
});

describe('bytes of the embedder', () => {
  it('are all there or not at all', () => {
    const memory = new GuestMemory([{ base: 0x1000, buffer: filled(0x1000) }]);
    const bytes = new Uint8Array(8);
    expect(memory.read(0x1004, bytes)).toBe(true);
    expect([...bytes]).toEqual([4, 0, 0, 0, 8, 0, 0, 0]);
    expect(memory.read(0x1ffc, bytes)).toBe(false);
    expect(memory.read(0xffc, bytes)).toBe(false);
    expect(memory.read(-1, bytes)).toBe(false);
    expect(memory.write(0x1001, Uint8Array.of(9))).toBe(true);
    expect(memory.write(0x2000, Uint8Array.of(9))).toBe(false);
  });
});

describe('poison', () => {
  it('fails units, and leaves the embedder alone', () => {
    const memory = new GuestMemory([{ base: 0, buffer: filled(0x1000) }]);
    memory.poison(0x100, 1, 'access');
    memory.poison(0x200, 0x10, 'corruption');
    expect(span(memory, 0xf8)).toBe(SPAN_OK);
    expect(span(memory, 0xf8, 16)).toBe(SPAN_ABSENT);
    expect(span(memory, 0x100)).toBe(SPAN_ABSENT);
    expect(span(memory, 0x108)).toBe(SPAN_OK);
    expect(span(memory, 0x208)).toBe(SPAN_CORRUPT);
    expect(memory.store(0, 0x100, Int32Array.of(1), 1)).toBe(SPAN_ABSENT);
    expect(memory.read(0x100, new Uint8Array(4))).toBe(true);
    expect(() => memory.poison(-1, 8, 'access')).toThrow(withCode('VPCI_MEMORY'));
  });
});

describe('writes of units', () => {
  it('set bits only where nothing has changed', () => {
    const memory = new GuestMemory([{ base: 0, buffer: filled(0x1000) }]);
    span(memory, 8);
    expect(memory.setBits64(12, 8, 0x60)).toBe(1);
    memory.load64(0);
    expect([memory.low, memory.high]).toEqual([0x68, 12]);
    expect(memory.setBits64(12, 8, 0x80)).toBe(0);
    expect(memory.setBits64(13, 0x68, 0x80)).toBe(0);
    memory.load64(0);
    expect(memory.low).toBe(0x68);
  });

  it('never touch read-only memory', () => {
    const memory = new GuestMemory([{ base: 0, buffer: filled(0x1000), readOnly: true }]);
    expect(span(memory, 8)).toBe(SPAN_OK);
    expect(memory.writable).toBe(false);
    expect(memory.setBits64(12, 8, 0x60)).toBe(-1);
    expect(memory.store(0, 8, Int32Array.of(1, 2), 2)).toBe(SPAN_ABSENT);
    expect(memory.load32(0)).toBe(8);
  });

  it('store words', () => {
    const memory = new GuestMemory([{ base: 0x1_0000_0000, buffer: filled(0x1000) }]);
    expect(memory.store(1, 0x10, Int32Array.of(-1, 2, 3), 2)).toBe(SPAN_OK);
    expect(span(memory, 0x1_0000_0010, 16)).toBe(SPAN_OK);
    expect([0, 1, 2].map((word) => memory.load32(word))).toEqual([-1, 2, 0x18]);
    expect(memory.store(0, 0, Int32Array.of(1), 1)).toBe(SPAN_ABSENT);
  });
});

describe('memory that another thread writes', () => {
  it('is never read torn', async () => {
    const shared = new SharedArrayBuffer(64);
    const memory = new GuestMemory([{ base: 0, buffer: shared }]);
    // The writer changes both halves with one store, and never leaves them different.
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads');
       const words = new BigUint64Array(workerData);
       const flag = new Int32Array(workerData);
       for (let i = 0; Atomics.load(flag, 8) === 0; i = (i + 1) % 65536)
         Atomics.store(words, 0, BigInt(i) * 0x100000001n);`,
      { eval: true, workerData: shared },
    );
    const seen = new Set<number>();
    span(memory, 0);
    let torn = 0;
    // However late the worker starts and however seldom it runs: until enough was seen.
    while (seen.size < 1000) {
      for (let i = 0; i < 1000; i++) {
        memory.load64(0);
        if (memory.low !== memory.high) torn++;
        seen.add(memory.low);
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    Atomics.store(new Int32Array(shared), 8, 1);
    await worker.terminate();
    expect(torn).toBe(0);
  });
});

describe('memory that is reached by messages', () => {
  function remote(): { memory: GuestMemory; written: [number, number[]][] } {
    const memory = new GuestMemory();
    const written: [number, number[]][] = [];
    memory.addRemote({
      base: 0x1_0000,
      size: 0x2000,
      write: (gpa, bytes) => written.push([gpa, [...bytes]]),
    });
    return { memory, written };
  }

  it('misses until it was fetched, and again when it was forgotten', () => {
    const { memory } = remote();
    expect(span(memory, 0x1_1238)).toBe(SPAN_MISS);
    expect([memory.missHigh, memory.missLow]).toEqual([0, 0x1_1000]);
    memory.provide(0x1_1000, new Uint8Array(filled(0x1000)));
    expect(span(memory, 0x1_1238)).toBe(SPAN_OK);
    memory.load64(0);
    expect([memory.low, memory.high]).toEqual([0x238, 0x23c]);
    expect(span(memory, 0x1_0000)).toBe(SPAN_MISS);
    memory.forget();
    expect(span(memory, 0x1_1238)).toBe(SPAN_MISS);
    expect(span(memory, 0x1_2000)).toBe(SPAN_ABSENT);
    expect(span(memory, 0x1_0ff8, 16)).toBe(SPAN_ABSENT);
  });

  it('is written by messages, fetched or not', () => {
    const { memory, written } = remote();
    expect(memory.store(0, 0x1_0008, Int32Array.of(0x1234), 1)).toBe(SPAN_OK);
    expect(span(memory, 0x1_0008)).toBe(SPAN_MISS);
    memory.provide(0x1_0000, new Uint8Array(filled(0x1000)));
    span(memory, 0x1_0010);
    expect(memory.setBits64(0x14, 0x10, 0x20)).toBe(1);
    expect(memory.load32(0)).toBe(0x30);
    expect(written).toEqual([
      [0x1_0008, [0x34, 0x12, 0, 0]],
      [0x1_0010, [0x30, 0, 0, 0, 0x14, 0, 0, 0]],
    ]);
  });

  it('is a region among others', () => {
    const { memory } = remote();
    expect(() => memory.addRegion({ base: 0x1_1000, buffer: new ArrayBuffer(8) })).toThrow(
      withCode('VPCI_MEMORY'),
    );
    expect(() => memory.addRemote({ base: 8, size: 4096, write: () => undefined })).toThrow(
      withCode('VPCI_MEMORY'),
    );
    expect(memory.read(0x1_0000, new Uint8Array(4))).toBe(false);
    expect(memory.removeRegion(0x1_0000)).toBe(true);
    expect(span(memory, 0x1_0000)).toBe(SPAN_ABSENT);
  });
});
