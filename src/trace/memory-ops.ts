import { MEMORY_LIMIT } from './guest-ram.ts';
import { TraceError } from './trace-error.ts';
import type { TraceLine } from './trace-line.ts';
import type { TraceAnswer, TraceOps } from './trace-op.ts';
import { hexBytes } from './trace-values.ts';
import type { TraceWorld } from './trace-world.ts';

/** Most bytes that one op reads. */
const READ_LIMIT = 0x100_0000;

/** Ops about guest memory, where the tables and queues of a vIOMMU are. */
export const MEMORY_OPS: TraceOps = [
  ['mem', addMemory, ['base', 'size']],
  ['mem.write', writeMemory, ['address', 'hex']],
  ['mem.read', readMemory, ['address', 'size']],
  ['mem.poison', poisonMemory, ['address', 'size', 'kind']],
];

function addMemory(line: TraceLine, world: TraceWorld): TraceAnswer {
  const base = line.number('base', 0, Number.MAX_SAFE_INTEGER);
  world.ram.add(base, line.number('size', 1, MEMORY_LIMIT));
  return undefined;
}

function writeMemory(line: TraceLine, { memory }: TraceWorld): TraceAnswer {
  const address = line.number('address', 0, Number.MAX_SAFE_INTEGER);
  const bytes = line.hex('hex');
  if (!memory.read(address, new Uint8Array(bytes.length))) throw noMemory(address, bytes.length);
  memory.write(address, bytes);
  return undefined;
}

function readMemory(line: TraceLine, { memory }: TraceWorld): TraceAnswer {
  const address = line.number('address', 0, Number.MAX_SAFE_INTEGER);
  const bytes = new Uint8Array(line.number('size', 1, READ_LIMIT));
  if (!memory.read(address, bytes)) throw noMemory(address, bytes.length);
  return { hex: hexBytes(bytes) };
}

function poisonMemory(line: TraceLine, { memory }: TraceWorld): TraceAnswer {
  const address = line.number('address', 0, Number.MAX_SAFE_INTEGER);
  const size = line.number('size', 1, Number.MAX_SAFE_INTEGER);
  memory.poison(address, size, line.choice('kind', ['access', 'corruption']));
  return undefined;
}

function noMemory(address: number, length: number): TraceError {
  return new TraceError(
    'no-memory',
    `there is no guest memory at 0x${address.toString(16)} for ${length} bytes: add it with "mem"`,
  );
}
