import {
  plainArray,
  plainEqual,
  plainInteger,
  plainObject,
  plainString,
  stateError,
} from '../plain-state.ts';
import { NO_PASID } from '../access.ts';
import type { UnconfiguredPolicy, ViommuState } from '../options.ts';
import { RID_LIMIT } from '../request.ts';
import { permissionLetters } from '../result.ts';
import type { AddressSpace } from './address-space.ts';
import { parsePermissions } from './mapping.ts';
import { pasidCount, Tables } from './tables.ts';

/** A mapping as plain data; the numbers are in pages of 4096 bytes, below 2^52. */
export interface TableMappingState {
  readonly iovaPage: number;
  readonly gpaPage: number;
  readonly pages: number;
  readonly permissions: string;
}

/** One attached (requester ID, PASID) as plain data. */
export interface TableAttachmentState {
  readonly rid: number;
  readonly pasid: number | null;
  readonly mappings: readonly TableMappingState[];
}

/** State of a `TableIommu` as plain data. */
export interface TableIommuState extends ViommuState {
  readonly model: 'table';
  readonly pasidWidth: number;
  readonly addressWidth: number;
  readonly pasidWhenUnconfigured: UnconfiguredPolicy;
  readonly attachments: readonly TableAttachmentState[];
}

/** The options that a state belongs to. */
export type TableStateOptions = Pick<
  TableIommuState,
  'pasidWidth' | 'addressWidth' | 'pasidWhenUnconfigured'
>;

/** `tables` as plain data. */
export function saveTables(tables: Tables, options: TableStateOptions): TableIommuState {
  const { pasidWidth, addressWidth, pasidWhenUnconfigured } = options;
  return {
    version: 1,
    model: 'table',
    pasidWidth,
    addressWidth,
    pasidWhenUnconfigured,
    attachments: [...tables.entries()].map(([rid, pasid, space]) => ({
      rid,
      pasid: pasid === NO_PASID ? null : pasid,
      mappings: [...space.mappings()].map(({ first, end, target, permissions }) => ({
        iovaPage: first,
        gpaPage: target,
        pages: end - first,
        permissions: permissionLetters(permissions),
      })),
    })),
  };
}

/**
 * New tables with what `state` holds.
 *
 * @throws VpciError `VPCI_STATE` when it is no state of a unit with these options.
 */
export function loadTables(state: unknown, options: TableStateOptions): Tables {
  const root = plainObject(state, 'the root');
  plainEqual(root['version'], 1, 'version');
  plainEqual(root['model'], 'table', 'model');
  plainEqual(root['pasidWidth'], options.pasidWidth, 'pasidWidth');
  plainEqual(root['addressWidth'], options.addressWidth, 'addressWidth');
  plainEqual(root['pasidWhenUnconfigured'], options.pasidWhenUnconfigured, 'pasidWhenUnconfigured');
  const tables = new Tables();
  for (const [index, item] of plainArray(root['attachments'], 'attachments').entries()) {
    const where = `attachments[${index}]`;
    const attachment = plainObject(item, where);
    const rid = plainInteger(attachment['rid'], 0, RID_LIMIT, `${where}.rid`);
    const pasid = loadPasid(attachment['pasid'], options.pasidWidth, `${where}.pasid`);
    if (tables.of(rid)?.has(pasid) === true) throw stateError(where, 'attached once only', 'a repetition');
    const space = tables.attach(rid, pasid);
    for (const [at, mapping] of plainArray(attachment['mappings'], `${where}.mappings`).entries()) {
      loadMapping(space, mapping, 2 ** (options.addressWidth - 12), `${where}.mappings[${at}]`);
    }
  }
  return tables;
}

function loadPasid(value: unknown, width: number, where: string): number {
  return value === null ? NO_PASID : plainInteger(value, 0, pasidCount(width) - 1, where);
}

function loadMapping(space: AddressSpace, value: unknown, widthPages: number, where: string): void {
  const mapping = plainObject(value, where);
  const first = plainInteger(mapping['iovaPage'], 0, widthPages - 1, `${where}.iovaPage`);
  const pages = plainInteger(mapping['pages'], 1, widthPages - first, `${where}.pages`);
  const target = plainInteger(mapping['gpaPage'], 0, 2 ** 52 - pages, `${where}.gpaPage`);
  const letters = plainString(mapping['permissions'], `${where}.permissions`);
  if (!/^(?=.*[rwx])r?w?x?p?$/.test(letters)) throw stateError(`${where}.permissions`, 'rwxp', letters);
  const inserted = space.insert({
    first,
    end: first + pages,
    target,
    permissions: parsePermissions(letters),
  });
  if (!inserted) throw stateError(where, 'clear of the mappings before it', 'an overlap');
}
