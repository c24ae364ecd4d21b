import { type TraceAnswer, type TraceOps, accessSize } from './trace-op.ts';
import type { TraceLine } from './trace-line.ts';
import { bytesOf, valueOf } from './trace-values.ts';
import type { TraceWorld } from './trace-world.ts';

/** Largest guest-physical address that an op can name: addresses are exact numbers. */
const ADDRESS_LIMIT = Number.MAX_SAFE_INTEGER;
const OFFSET_LIMIT = 0xffffffff;

/** Ops by which the guest reaches configuration space, and those that look at the physical side. */
export const ACCESS_OPS: TraceOps = [
  ['cfg.read', configRead, ['bdf', 'offset', 'size']],
  ['cfg.write', configWrite, ['bdf', 'offset', 'size', 'value']],
  ['ecam.read', ecamRead, ['address', 'size']],
  ['ecam.write', ecamWrite, ['address', 'size', 'value']],
  ['pio.read', pioRead, ['port', 'size']],
  ['pio.write', pioWrite, ['port', 'size', 'value']],
  ['host.read', hostRead, ['bdf', 'offset', 'size']],
  ['host.writes', hostWrites, ['bdf']],
];

/** `cfg.*` go over the bus: to whoever answers at that address now, if anybody. */
function configRead(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const bytes = new Uint8Array(accessSize(line)).fill(0xff);
  const offset = line.number('offset', 0, OFFSET_LIMIT);
  segment.configSpace(line.bdf())?.readInto(offset, bytes);
  return { value: valueOf(bytes) };
}

function configWrite(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const bytes = bytesOf(line.wide('value'), accessSize(line));
  const offset = line.number('offset', 0, OFFSET_LIMIT);
  segment.configSpace(line.bdf())?.writeFrom(offset, bytes);
  return undefined;
}

function ecamRead(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const address = line.number('address', 0, ADDRESS_LIMIT);
  return read(accessSize(line), (at, size) => segment.ecamRead(address + at, size));
}

function ecamWrite(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const address = line.number('address', 0, ADDRESS_LIMIT);
  return write(line, (at, size, value) => segment.ecamWrite(address + at, size, value));
}

function pioRead(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const port = line.number('port', 0, 0xffff);
  return read(accessSize(line), (at, size) => segment.pioRead(port + at, size));
}

function pioWrite(line: TraceLine, { segment }: TraceWorld): TraceAnswer {
  const port = line.number('port', 0, 0xffff);
  return write(line, (at, size, value) => segment.pioWrite(port + at, size, value));
}

function hostRead(line: TraceLine, world: TraceWorld): TraceAnswer {
  const { physical } = world.function(line.bdf());
  const offset = line.number('offset', 0, OFFSET_LIMIT);
  const bytes = Uint8Array.from({ length: accessSize(line) }, (_, i) => physical.read(offset + i, 1));
  return { value: valueOf(bytes) };
}

function hostWrites(line: TraceLine, world: TraceWorld): TraceAnswer {
  return world.function(line.bdf()).physical.takeWrites();
}

/** An 8-byte access is two of 4 bytes, the lower first. */
function read(size: number, one: (at: number, size: number) => number): TraceAnswer {
  if (size < 8) return { value: one(0, size) };
  return {
    value: valueOf(new Uint8Array([...bytesOf(BigInt(one(0, 4)), 4), ...bytesOf(BigInt(one(4, 4)), 4)])),
  };
}

function write(line: TraceLine, one: (at: number, size: number, value: number) => void): TraceAnswer {
  const size = accessSize(line);
  const value = line.wide('value');
  one(0, Math.min(size, 4), Number(value & 0xffffffffn));
  if (size === 8) one(4, 4, Number(value >> 32n));
  return undefined;
}
