// The remapping unit and the request engine as functions, without a guest: what the bed in test/beds/linux-iommu does not
// reach.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EngineOptions, type EngineResult, RemappingUnit, RequestEngine } from 'vpci/linux-guest';
import { VtdIommu } from 'vpci/vtd';

const COMMAND = 4;
const PASID_CONTROL = 6;
const GSTS = 0x1c;
// Registers of the engine.
const [LENGTH, ORDER, STATUS] = [0x1c, 0x20, 0x24];
const [NOT_SENT, REJECTED, NO_MEMORY] = [4, 3, 5];
const [READ, EXECUTE, FORCE] = [1, 3, 0x80];

function machine(options: EngineOptions = {}): { unit: RemappingUnit; engine: RequestEngine } {
  const unit = new RemappingUnit((memory) => new VtdIommu({ memory }));
  return { unit, engine: new RequestEngine(unit, options) };
}

describe('the remapping unit', () => {
  const { unit } = machine();
  const { function: fn } = unit.device;

  it('has its registers in the first 4 KiB, and nothing behind', () => {
    expect(fn.barRead(0, 0, 4)).toBe(0x60);
    expect(fn.barRead(0, 0x1000, 4)).toBe(0);
    expect(fn.barRead(0, 0xfff_fffc, 4)).toBe(0);
    fn.barWrite(0, 0x1018, 4, 0x8000_0000);
    expect(fn.barRead(0, GSTS, 4)).toBe(0);
    fn.barWrite(0, 0x18, 4, 0x8000_0000);
    expect(fn.barRead(0, GSTS, 4)).toBe(0x8000_0000);
  });

  it('is a bus master always', () => {
    fn.write(COMMAND, 2, 0);
    expect(fn.read(COMMAND, 2)).toBe(6);
  });

  it('is reset with its function', () => {
    fn.reset('bus');
    expect([fn.barRead(0, GSTS, 4), fn.read(COMMAND, 2)]).toEqual([0, 6]);
  });

  it('stops at a queue that is nowhere, as at one in guest memory', () => {
    fn.barWrite(0, 0x90, 4, 0x1000);
    fn.barWrite(0, 0x18, 4, 0x0400_0000);
    fn.barWrite(0, 0x88, 4, 0x20);
    expect([unit.iommu.missingMemory, fn.barRead(0, 0x34, 4) & 0x10]).toEqual([null, 0x10]);
  });
});

describe('the request engine', () => {
  async function order(engine: RequestEngine, command: number, length = 8): Promise<number> {
    engine.function.barWrite(0, LENGTH, 4, length);
    engine.function.barWrite(0, ORDER, 4, command);
    await new Promise(setImmediate);
    return engine.function.barRead(0, STATUS, 4);
  }

  it('sends nothing before Bus Master and PASID Enable', async () => {
    const { engine } = machine();
    const { function: fn } = engine;
    expect(await order(engine, READ)).toBe(NOT_SENT);
    fn.write(COMMAND, 2, 6);
    // Translation is off: to where no client is.
    expect(await order(engine, READ)).toBe(NO_MEMORY);
    fn.barWrite(0, 0x18, 4, 0x8000_0005);
    expect(await order(engine, READ)).toBe(NOT_SENT);
    fn.write((fn.pasid?.offset ?? 0) + PASID_CONTROL, 2, 1);
    expect(await order(engine, READ)).toBe(REJECTED);
  });

  it('sends all the same when it is told to', async () => {
    const { engine } = machine();
    engine.function.barWrite(0, 0x18, 4, 0x8000_0005);
    expect(await order(engine, READ | FORCE)).toBe(REJECTED);
  });

  it.each([
    ['no kind', 0, 8],
    ['a kind that is none', 7, 8],
    ['no bytes', READ, 0],
    ['too many', READ, 65],
    ['execute without PASID', EXECUTE, 8],
    ['privileged without PASID', READ | 0x10, 8],
  ])('refuses %s', async (_what, command, length) => {
    const { engine } = machine();
    engine.function.write(COMMAND, 2, 6);
    expect(await order(engine, command, length)).toBe(NOT_SENT);
  });

  it('refuses what crosses a page', async () => {
    const { engine } = machine();
    engine.function.write(COMMAND, 2, 6);
    engine.function.barWrite(0, 0x10, 4, 0xff9);
    expect(await order(engine, READ, 8)).toBe(NOT_SENT);
    expect(await order(engine, READ, 7)).toBe(NO_MEMORY);
  });

  it('forgets everything by a reset', async () => {
    const { engine } = machine();
    engine.function.write(COMMAND, 2, 6);
    expect(await order(engine, READ)).toBe(NO_MEMORY);
    engine.function.barWrite(0, ORDER, 4, READ);
    engine.function.reset('flr');
    await new Promise(setImmediate);
    expect([LENGTH, ORDER, STATUS].map((at) => engine.function.barRead(0, at, 4))).toEqual([0, 0, 0]);
  });

  it('has a defined end for whatever a guest writes', async () => {
    const write = fc.tuple(
      fc.oneof(fc.constantFrom(0x10, 0x14, 0x18, LENGTH, ORDER), fc.nat(0x90)),
      fc.constantFrom(4, 4, 4, 2, 1),
      fc.oneof(fc.nat(0xff), fc.integer({ min: 0, max: 0xffff_ffff })),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 40 }), fc.boolean(), async (writes, ats) => {
        const { engine } = machine({ ats, pri: ats });
        const results: EngineResult[] = [];
        engine.on('request', (result) => results.push(result));
        engine.function.write(COMMAND, 2, 6);
        for (const [offset, size, value] of writes) {
          engine.function.barWrite(0, offset, size, value);
          await Promise.resolve();
        }
        await new Promise(setImmediate);
        const status = engine.function.barRead(0, STATUS, 4);
        expect(status === 2 || status > 5).toBe(false);
        if (status === 0) expect(results).toEqual([]);
      }),
    );
  });
});
