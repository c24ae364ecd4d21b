import type { Endpoint } from '../pci/endpoint.ts';
import { PASID_LIMIT } from '../pci/pasid.ts';
import type { MemoryRequest, PageRequest, Viommu, Verdict } from '../viommu/index.ts';
import { TableIommu } from '../viommu/table/index.ts';
import { VtdIommu } from '../viommu/vtd/index.ts';
import { TraceError } from './trace-error.ts';
import type { TraceLine } from './trace-line.ts';
import { accessSize, type TraceAnswer, type TraceOps } from './trace-op.ts';
import { hexOf, valueOf, bytesOf } from './trace-values.ts';
import type { Requester, TraceWorld } from './trace-world.ts';
import { vtdOptions } from './vtd-options.ts';

const REQUEST_FIELDS = ['bdf', 'rid', 'address', 'access', 'size', 'pasid', 'privileged', 'noWrite', 'at'];
const PAGE_REQUEST_FIELDS = [
  'bdf',
  'rid',
  'pasid',
  'read',
  'write',
  'execute',
  'privileged',
  'last',
  'prgi',
  'address',
];

/** Ops about vIOMMUs and the requests they decide. */
export const IOMMU_OPS: TraceOps = [
  ['iommu', addUnit, ['model', 'name', 'covers', 'options']],
  ['table.attach', tableAttach, ['bdf', 'rid', 'pasid']],
  ['table.detach', tableDetach, ['bdf', 'rid', 'pasid']],
  ['table.map', tableMap, ['bdf', 'rid', 'pasid', 'iova', 'gpa', 'size', 'perms']],
  ['table.unmap', tableUnmap, ['bdf', 'rid', 'pasid', 'iova', 'size']],
  ['dma', dma, REQUEST_FIELDS],
  ['explain', explain, REQUEST_FIELDS],
  ['page.request', pageRequest, PAGE_REQUEST_FIELDS],
  ['counters', counters, ['name']],
  ['reg.read', registerRead, ['offset', 'size', 'name']],
  ['reg.write', registerWrite, ['offset', 'size', 'value', 'name']],
];

function addUnit(line: TraceLine, world: TraceWorld): TraceAnswer {
  const model = line.choice('model', ['table', 'vtd', 'smmuv3', 'riscv', 'amdvi']);
  const name = line.optionalText('name') ?? '';
  world.addUnit(name, makeUnit(model, line.nested('options'), world), line.optionalBdfs('covers'));
  return undefined;
}

function makeUnit(model: string, options: TraceLine | undefined, world: TraceWorld): Viommu {
  switch (model) {
    case 'table':
      return new TableIommu(tableOptions(options));
    case 'vtd':
      return new VtdIommu(vtdOptions(options, world.memory));
    default:
      throw new TraceError(
        'unsupported',
        `this version has no vIOMMU model "${model}": it has table and vtd`,
      );
  }
}

function tableOptions(options: TraceLine | undefined): ConstructorParameters<typeof TableIommu>[0] {
  if (options === undefined) return {};
  options.refuseUnknown(['pasidWidth', 'addressWidth', 'pasidWhenUnconfigured', 'iotlbEntries']);
  const iotlbEntries = options.optionalNumber('iotlbEntries', 0, 0x10000);
  return {
    pasidWidth: options.number('pasidWidth', 0, 0xff, 20),
    addressWidth: options.number('addressWidth', 0, 0xff, 48),
    pasidWhenUnconfigured: options.choice('pasidWhenUnconfigured', ['reject', 'architectural'], 'reject'),
    ...(iotlbEntries === undefined ? {} : { iotlbEntries }),
  };
}

/** Who the line is about: the function that was added at `bdf`, or whoever has the `rid` now. */
function requester(line: TraceLine, world: TraceWorld): Requester {
  return line.has('bdf') ? world.requester(line.bdf()) : world.requesterWith(line.number('rid', 0, 0xffffff));
}

/** The unit that translates for the line's requester. */
function unitOf(line: TraceLine, world: TraceWorld): Viommu {
  const { unit } = requester(line, world);
  if (unit === undefined)
    throw new TraceError('no-iommu', 'there is no vIOMMU for this requester: add one with "iommu"');
  return unit;
}

function pasidOf(line: TraceLine): number | null {
  return line.has('pasid') ? line.number('pasid', 0, PASID_LIMIT) : null;
}

function tableOp(
  line: TraceLine,
  world: TraceWorld,
  act: (unit: TableIommu, who: Endpoint, pasid: number | null) => void,
): TraceAnswer {
  const { endpoint } = requester(line, world);
  const unit = unitOf(line, world);
  if (!(unit instanceof TableIommu)) {
    throw new TraceError(
      'no-iommu',
      `"${line.op}" is for the table model, and the vIOMMU here is ${unit.model}`,
    );
  }
  act(unit, endpoint, pasidOf(line));
  return undefined;
}

function tableAttach(line: TraceLine, world: TraceWorld): TraceAnswer {
  return tableOp(line, world, (unit, who, pasid) => unit.attach(who, pasid));
}

function tableDetach(line: TraceLine, world: TraceWorld): TraceAnswer {
  return tableOp(line, world, (unit, who, pasid) => unit.detach(who, pasid));
}

function tableMap(line: TraceLine, world: TraceWorld): TraceAnswer {
  const mapping = {
    iova: line.wide('iova'),
    gpa: line.wide('gpa'),
    size: line.wide('size'),
    permissions: line.text('perms'),
  };
  return tableOp(line, world, (unit, who, pasid) => unit.map(who, pasid, mapping));
}

function tableUnmap(line: TraceLine, world: TraceWorld): TraceAnswer {
  const range = { iova: line.wide('iova'), size: line.wide('size') };
  return tableOp(line, world, (unit, who, pasid) => unit.unmap(who, pasid, range));
}

function memoryRequest(line: TraceLine, world: TraceWorld): MemoryRequest {
  return {
    endpoint: requester(line, world).endpoint,
    pasid: pasidOf(line),
    address: line.wide('address'),
    access: line.choice('access', ['read', 'write', 'execute', 'atomic']),
    size: line.number('size', 0, Number.MAX_SAFE_INTEGER, 1),
    privileged: line.flag('privileged', false),
    noWrite: line.flag('noWrite', false),
    at: line.choice('at', ['untranslated', 'translation', 'translated'], 'untranslated'),
  };
}

function dma(line: TraceLine, world: TraceWorld): TraceAnswer {
  return verdictFields(unitOf(line, world).request(memoryRequest(line, world)));
}

function counters(line: TraceLine, world: TraceWorld): TraceAnswer {
  return { ...world.unit(line.optionalText('name')).counters() };
}

/** A verdict as a trace prints it. */
function verdictFields(verdict: Verdict): Record<string, unknown> {
  const { status } = verdict;
  return {
    status,
    ...('address' in verdict ? { address: hexOf(verdict.address) } : {}),
    ...('pageSize' in verdict ? { pageSize: hexOf(verdict.pageSize) } : {}),
    ...('permissions' in verdict ? { permissions: verdict.permissions } : {}),
    ...('reason' in verdict ? { reason: verdict.reason } : {}),
    ...('code' in verdict ? { code: verdict.code } : {}),
  };
}

function explain(line: TraceLine, world: TraceWorld): TraceAnswer {
  const { steps, verdict } = unitOf(line, world).explain(memoryRequest(line, world));
  return {
    steps: steps.map(({ address, fields, ...step }) => ({
      ...step,
      address: address === null ? null : hexOf(address),
      fields: Object.fromEntries(
        Object.entries(fields).map(([name, value]) => [
          name,
          typeof value === 'bigint' ? hexOf(value) : value,
        ]),
      ),
    })),
    verdict: verdictFields(verdict),
  };
}

function pageRequest(line: TraceLine, world: TraceWorld): TraceAnswer {
  const request: PageRequest = {
    endpoint: requester(line, world).endpoint,
    pasid: pasidOf(line),
    read: line.flag('read', false),
    write: line.flag('write', false),
    execute: line.flag('execute', false),
    privileged: line.flag('privileged', false),
    last: line.flag('last', false),
    prgi: line.number('prgi', 0, 511),
    address: line.wide('address'),
  };
  return { ...unitOf(line, world).pageRequest(request) };
}

function registerRead(line: TraceLine, world: TraceWorld): TraceAnswer {
  const unit = world.unit(line.optionalText('name'));
  const offset = line.number('offset', 0, 0xffffffff);
  const size = accessSize(line);
  if (size === 8) return { value: valueOf(bytesOf(unit.readRegister64(offset), 8)) };
  return { value: unit.readRegister(offset, size === 4 ? 4 : size === 2 ? 2 : 1) };
}

function registerWrite(line: TraceLine, world: TraceWorld): TraceAnswer {
  const unit = world.unit(line.optionalText('name'));
  const offset = line.number('offset', 0, 0xffffffff);
  const size = accessSize(line);
  const value = line.wide('value');
  if (size === 8) unit.writeRegister64(offset, value);
  else unit.writeRegister(offset, size === 4 ? 4 : size === 2 ? 2 : 1, Number(value & 0xffffffffn));
  return undefined;
}
