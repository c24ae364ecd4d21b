// Configuration space on the built package: a function alone, ECAM, CAM, and what idle functions cost.
import { readFileSync } from 'node:fs';
import { memoryUsage } from 'node:process';
import { createFunction, type PciFunction, PciSegment } from 'vpci';
import { parseDump } from 'vpci/inspect';
import { compile, type Row } from './harness.ts';

const ALL = 65_536;
/** Functions in use, in the full segment and in the small one, so that both need as much of the caches. */
const IN_USE = 16;
/** Accesses in a pattern, a power of two; too many for a branch predictor to know by heart. */
const PATTERN = 4096;
/** Device Control of the functions below: a random write there would initiate a reset. */
const DEVICE_CONTROL: ReadonlySet<number> = new Set([0x048, 0x0a8]);
const INTERRUPT_LINE = 0x3c;

/** Bytes that something takes. */
export interface MemoryRow {
  readonly name: string;
  readonly budget: number;
  readonly bytes: number;
}

/** A segment with a function at every requester ID. */
export interface FullSegment {
  readonly segment: PciSegment;
  /** Requester IDs of its emulated functions, spread over the buses; all others are passed through. */
  readonly rids: readonly number[];
  readonly memory: readonly MemoryRow[];
}

/** Naturally aligned accesses of 1, 2 and 4 bytes, in random order. */
interface Pattern {
  readonly offsets: Int32Array;
  readonly sizes: Uint8Array;
}

/** Accesses in the ECAM window, where `offsets` are from its start. */
interface EcamPattern extends Pattern {
  /** Guest-physical addresses. */
  readonly addresses: Float64Array;
}

/** Fills a segment with 65,536 functions, and says what they take. */
export function fillSegment(): FullSegment {
  const physical = igb();
  const segment = new PciSegment();
  const rids = Array.from({ length: IN_USE }, (_, index) => index * (ALL / IN_USE));
  const before = memoryInUse();
  for (let rid = 0; rid < ALL; rid++)
    segment.add(rid, rid % (ALL / IN_USE) === 0 ? emulated() : passedThrough(physical));
  const bytes = memoryInUse() - before;
  return {
    segment,
    rids,
    memory: [
      { name: 'idle function, passed through', budget: 16 * 1024, bytes: bytes / ALL },
      { name: '65,536 functions', budget: 1024 ** 3, bytes },
    ],
  };
}

/** Rows about configuration space. */
export function configRows({ segment: full, rids }: FullSegment): Row[] {
  const small = new PciSegment();
  for (let device = 0; device < IN_USE; device++) small.add(device << 3, emulated());
  const few = rids.map((_, device) => device << 3);
  const everywhere = random(ALL);
  const inFull = { segment: full, ...onto(full, rids) };
  const inSmall = { segment: small, ...onto(small, few) };
  const own = Array.from({ length: 8 }, emulated);
  const physical = Array.from({ length: 8 }, () => passedThrough(igb()));
  const anywhere = accesses(0, 0x1000);
  const read = 'functions[i & 7].read(offsets[i], sizes[i])';
  const write = 'functions[i & 7].write(offsets[i], sizes[i], k)';
  const ecamRead = 'segment.ecamReadAt(offsets[i], sizes[i])';
  const ecamWrite = 'segment.ecamWriteAt(offsets[i], sizes[i], k)';
  return [
    row(
      'nothing: what the loop, the call and the pattern cost',
      undefined,
      anywhere,
      'offsets[i] + sizes[i]',
    ),
    row('config read, emulated', 10, { functions: own, ...anywhere }, read),
    row(
      'config read, passed through, PASID capability',
      10,
      { functions: physical, ...accesses(-8, 0) },
      read,
    ),
    row(
      'config read, passed through, header',
      undefined,
      { functions: physical, ...accesses(0, 0x40) },
      read,
    ),
    row('config write, emulated', undefined, { functions: own, ...anywhere }, write),
    row(`ECAM read, ${IN_USE} of 65,536 functions`, 8, inFull, ecamRead),
    row(`ECAM read, ${IN_USE} functions`, 8, inSmall, ecamRead),
    row(
      `ECAM write of a latch, ${IN_USE} of 65,536 functions`,
      10,
      { segment: full, ...onto(full, rids, INTERRUPT_LINE) },
      ecamWrite,
    ),
    row(
      `ECAM write of a latch, ${IN_USE} functions`,
      10,
      { segment: small, ...onto(small, few, INTERRUPT_LINE) },
      ecamWrite,
    ),
    row('ECAM write at random, Command and PASID Control among them', undefined, inFull, ecamWrite),
    row(
      'ECAM read by address, a number that may be boxed',
      undefined,
      inFull,
      'segment.ecamRead(addresses[i], sizes[i])',
    ),
    row(
      'ECAM read, 65,536 functions at random: the memory decides',
      undefined,
      { segment: full, ...onto(full, everywhere) },
      ecamRead,
    ),
    row(
      'CF8 write and CFC read',
      20,
      inFull,
      `(${[
        // Enable; bus, device and function are bits 27:12 of the ECAM offset; then the register.
        'segment.pioWrite(0xcf8, 4, 0x80000000 | ((offsets[i] >>> 4) & 0xffff00) | (offsets[i] & 0xfc))',
        'segment.pioRead(0xcfc + (offsets[i] & 3), sizes[i])',
      ].join(', ')})`,
    ),
  ];
}

function row(name: string, budgetNs: number | undefined, scope: object, operation: string): Row {
  return {
    name,
    allocationFree: budgetNs !== undefined,
    make: () => compile(scope, `const i = k & ${PATTERN - 1};`, operation),
    ...(budgetNs === undefined ? {} : { budgetNs }),
  };
}

/** A display controller of ours, every register virtual. */
function emulated(): PciFunction {
  const pasid = { width: 16, execute: true };
  return createFunction({ vendorId: 0x10de, deviceId: 0x2941, classCode: 0x030200, pasid });
}

function passedThrough(physical: Uint8Array): PciFunction {
  return createFunction({ physical, pasid: { width: 16, execute: true } });
}

function igb(): Uint8Array {
  const [found] = parseDump(readFileSync('vmm-glue/captures/igb-82576.txt'));
  if (found === undefined) throw new Error('the capture is empty');
  return found.bytes;
}

/** Accesses to registers from `start` up to `end`; below 0 they are counted from the end of the space. */
function accesses(start: number, end: number): Pattern {
  const sizes = Uint8Array.from(random(3), (power) => 1 << power);
  const offsets = Int32Array.from(random(end - start), (offset, i) => {
    const register = (start + offset) & -(sizes[i] ?? 1) & 0xfff;
    return DEVICE_CONTROL.has(register & ~3) ? INTERRUPT_LINE : register;
  });
  return { offsets, sizes };
}

/** Accesses to the header from `start` on, or from the PASID capability (the last 8 bytes), of functions in ECAM. */
function onto({ ecamBase }: PciSegment, rids: readonly number[], start = -8): EcamPattern {
  const { offsets: registers, sizes } = accesses(start, 0x40);
  const chosen = random(rids.length).map((index) => rids[index] ?? 0);
  const offsets = registers.map((register, i) => (chosen[i] ?? 0) * 0x1000 + register);
  return { offsets, sizes, addresses: Float64Array.from(offsets, (offset) => ecamBase + offset) };
}

/** As many whole numbers below `limit` as a pattern has accesses; the same ones every time. */
function random(limit: number): number[] {
  let state = 0x2545f491;
  return Array.from({ length: PATTERN }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  });
}

function memoryInUse(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, external } = memoryUsage();
  return heapUsed + external;
}
