import { type BarOptions, type ByteRange, createFunction, createRootPort } from '../function/index.ts';
import { type DumpedFunction, parseDump } from '../inspect/index.ts';
import { formatBdf } from '../pci/bdf.ts';
import { createEndpointState } from '../pci/endpoint.ts';
import { PRIMARY_BUS_NUMBER } from '../pci/header.ts';
import type { PasidFeature } from '../pci/pasid.ts';
import { DEFAULT_ECAM_BASE, PciSegment } from '../segment/index.ts';
import { PhysicalRecorder } from './physical-recorder.ts';
import { TraceError } from './trace-error.ts';
import { TraceLine } from './trace-line.ts';
import type { TraceAnswer, TraceOps, TraceSurroundings } from './trace-op.ts';
import type { TraceWorld } from './trace-world.ts';

const FUNCTION_FIELDS = [
  'bdf',
  'config',
  'dump',
  'pasid',
  'pasidOffset',
  'control',
  'ats',
  'pri',
  'present',
  'passthrough',
  'bars',
  'rom',
];

/** Ops that set functions up and take them away. */
export const FUNCTION_OPS: TraceOps = [
  ['segment', segment, ['ecam', 'buses']],
  ['function', addFunction, FUNCTION_FIELDS],
  ['rootPort', rootPort, ['bdf', 'secondary', 'subordinate']],
  ['endpoint', endpoint, ['rid', 'pasidWidth', 'ats', 'pri']],
  ['remove', remove, ['bdf']],
  ['reset', reset, ['bdf', 'kind']],
  ['events', (_line, world) => ({ events: world.events.take() }), []],
  ['snapshot', snapshot, ['name']],
  ['restore', restore, ['name']],
];

function segment(line: TraceLine, world: TraceWorld): TraceAnswer {
  const ecamBase = line.number('ecam', 0, Number.MAX_SAFE_INTEGER, DEFAULT_ECAM_BASE);
  world.replaceSegment(new PciSegment({ ecamBase, buses: line.number('buses', 1, 256, 256) }));
  return undefined;
}

function addFunction(line: TraceLine, world: TraceWorld, surroundings: TraceSurroundings): TraceAnswer {
  const rid = line.bdf();
  const physical = new PhysicalRecorder(registersOf(line, rid, surroundings));
  const fn = createFunction({
    physical,
    pasid: pasidFeature(line),
    pasidOffset: line.optionalNumber('pasidOffset', 0, 0xffffffff),
    control: line.choice('control', ['latch', 'drop'], 'latch'),
    ats: line.optionalFlag('ats'),
    pri: line.optionalFlag('pri'),
    present: line.choice('present', ['as-is', 'endpoint', 'rciep'], 'as-is'),
    passthroughRanges: passthroughRanges(line),
    bars: bars(line),
    rom: line.optionalNumber('rom', 0, 0xffffffff),
  });
  world.addFunction(rid, fn, physical);
  return { offset: fn.pasid?.offset ?? null, findings: fn.findings };
}

function registersOf(line: TraceLine, rid: number, { readDump }: TraceSurroundings): Uint8Array {
  if (line.has('config')) {
    const bytes = line.hex('config');
    if (bytes.length === 256 || bytes.length === 4096) return bytes;
    throw new TraceError(
      'bad-field',
      `"config" of "function" has ${bytes.length} bytes: it takes 256 or 4096`,
    );
  }
  const path = line.text('dump');
  if (readDump === undefined)
    throw new TraceError('no-dump', `"${path}" cannot be read: this run has no files`);
  return functionAt(parseDump(read(readDump, path)), rid, path).bytes;
}

function read(readDump: (path: string) => string | Uint8Array, path: string): string | Uint8Array {
  try {
    return readDump(path);
  } catch (error) {
    throw new TraceError('no-dump', error instanceof Error ? error.message : String(error));
  }
}

/** The function with the op's own requester ID, else the only one. */
function functionAt(functions: readonly DumpedFunction[], rid: number, path: string): DumpedFunction {
  const [only] = functions;
  const found = functions.find((one) => one.rid === rid) ?? (functions.length === 1 ? only : undefined);
  if (found !== undefined) return found;
  throw new TraceError('no-dump', `"${path}" has several functions, and none is ${formatBdf(rid)}`);
}

function pasidFeature(line: TraceLine): PasidFeature | undefined {
  const pasid = line.nested('pasid');
  if (pasid === undefined) return undefined;
  pasid.refuseUnknown(['width', 'execute', 'privileged']);
  return {
    // Any width goes through, so that the refusal is the library's.
    width: pasid.number('width', 0, 0xff),
    execute: pasid.flag('execute', false),
    privileged: pasid.flag('privileged', false),
  };
}

function passthroughRanges(line: TraceLine): ByteRange[] {
  if (!line.has('passthrough')) return [];
  return line.list('passthrough').map((entry) => {
    if (!Array.isArray(entry) || entry.length !== 2) {
      throw new TraceError('bad-field', '"passthrough" of "function" takes a list of [start, end) pairs');
    }
    const [start, end]: unknown[] = entry;
    return [line.entry('passthrough', start, 0, 0x1000), line.entry('passthrough', end, 0, 0x1000)];
  });
}

function bars(line: TraceLine): BarOptions[] | undefined {
  if (!line.has('bars')) return undefined;
  return line.list('bars').map((entry) => {
    const bar = TraceLine.nestedOf('function.bars', entry);
    bar.refuseUnknown(['index', 'size', 'kind', 'prefetchable']);
    return {
      index: bar.number('index', 0, 5),
      size: Number(bar.wide('size')),
      kind: bar.has('kind') ? bar.choice('kind', ['memory32', 'memory64', 'io']) : undefined,
      prefetchable: bar.optionalFlag('prefetchable'),
    };
  });
}

function rootPort(line: TraceLine, world: TraceWorld): TraceAnswer {
  const rid = line.bdf();
  const secondary = line.number('secondary', 1, 0xff);
  const subordinate = line.number('subordinate', 1, 0xff, secondary);
  const port = createRootPort();
  world.addPort(rid, port);
  // As a guest's firmware does it.
  port.write(PRIMARY_BUS_NUMBER, 4, (rid >>> 8) | (secondary << 8) | (subordinate << 16));
  return undefined;
}

function endpoint(line: TraceLine, world: TraceWorld): TraceAnswer {
  world.addEndpoint({
    ...createEndpointState(line.number('rid', 0, 0xffffff)),
    pasidWidth: line.number('pasidWidth', 0, 20, 20),
    execute: true,
    privileged: true,
    ats: line.flag('ats', false),
    pri: line.flag('pri', false),
  });
  return undefined;
}

function remove(line: TraceLine, world: TraceWorld): TraceAnswer {
  world.removeFunction(line.bdf());
  return undefined;
}

function reset(line: TraceLine, world: TraceWorld): TraceAnswer {
  world.function(line.bdf()).fn.reset(line.choice('kind', ['flr', 'bus'], 'flr'));
  return undefined;
}

function snapshot(line: TraceLine, world: TraceWorld): TraceAnswer {
  world.snapshot(line.text('name'));
  return undefined;
}

function restore(line: TraceLine, world: TraceWorld): TraceAnswer {
  world.restore(line.text('name'));
  return undefined;
}
