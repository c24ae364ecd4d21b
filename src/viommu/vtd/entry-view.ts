import { SPAN_ABSENT, SPAN_MISS, SPAN_OK } from '../../memory/index.ts';
import { NO_PASID } from '../access.ts';
import { findContext, findLegacyContext, isEptrAlone, legacyType, pasidsOf } from './context.ts';
import { checkMode, checkPasid, useRidPasid } from './decide.ts';
import { findPasidEntry } from './pasid-table.ts';
import { TTM_LEGACY } from './registers.ts';
import {
  CONTEXT2_RID_PASID,
  CONTEXT_PASIDE,
  DIRECTORY_ENTRY_BYTES,
  DIRECTORY_P,
  LAST_RID,
  PASID4_EAFE,
  PASID4_FSPM,
  PASID4_FSPM_SHIFT,
  PASID4_SRE,
  PASID4_WPE,
  PASID_ENTRY_BYTES,
  PASID_P,
  PGTT_FIRST_STAGE,
  PGTT_PASS_THROUGH,
  PGTT_SECOND_STAGE,
  POINTER,
  TT_PASS_THROUGH,
} from './structures.ts';
import { PENDING, type Walk } from './walk-state.ts';

/** PASIDs that one directory entry covers. */
const PER_DIRECTORY_ENTRY = 64;

/** The first-stage tables that a PASID table entry names (9.6), for whoever walks them in the unit's place. */
export interface VtdFirstStage {
  /** FSPTPTR: guest-physical address of the top table. */
  readonly table: bigint;
  /** Levels of the tables, by FSPM. */
  readonly levels: 4 | 5;
  /** SRE, WPE and EAFE. */
  readonly supervisorRequests: boolean;
  readonly writeProtect: boolean;
  readonly extendedAccessed: boolean;
}

/** What the guest's tables say about a requester and a PASID, as they are now in its memory. */
export interface VtdTranslation {
  /**
   * `off`: translation is disabled. `none`: requests are refused, with the fault `code`. `pending`: the tables are in
   * memory that has to be fetched. Else how requests are translated.
   */
  readonly kind: 'off' | 'none' | 'pending' | 'pass-through' | 'first-stage' | 'second-stage' | 'nested';
  /** Fault code (7.1.3), with `none`; absent for a requester ID beyond 16 bits, which has no tables. */
  readonly code?: number;
  /** PASID of the entry: with requests without PASID, RID_PASID. Absent in legacy mode. */
  readonly pasid?: number;
  /** With `first-stage`. */
  readonly firstStage?: VtdFirstStage;
}

/** Reads the tables for (`rid`, `pasid`); changes no cache, and records no fault. */
export function viewTranslation(walk: Walk, rid: number, pasid: number): VtdTranslation {
  if (!walk.enabled) return { kind: 'off' };
  if (rid > LAST_RID) return { kind: 'none' };
  walk.begin(rid, pasid, 0, 0, 0);
  let code = checkMode(walk);
  if (code !== 0) return refused(code);
  if (walk.mode === TTM_LEGACY) return viewLegacy(walk);
  code = findContext(walk, []);
  if (code === 0) code = checkContextUse(walk);
  if (code !== 0) return refused(code);
  useRidPasid(walk);
  code = findPasidEntry(walk, []);
  if (code !== 0) return refused(code);
  const found = { pasid: walk.pasid };
  switch (walk.kind) {
    case PGTT_PASS_THROUGH:
      return { kind: 'pass-through', ...found };
    case PGTT_SECOND_STAGE:
      return { kind: 'second-stage', ...found };
    case PGTT_FIRST_STAGE:
      return { kind: 'first-stage', ...found, firstStage: firstStageOf(walk) };
    default:
      return { kind: 'nested', ...found };
  }
}

/**
 * PASIDs of `rid` whose table entry is present, ascending, valid or not; without RID_PASID. Undefined when there are
 * more than `limit`, or more tables than that, or some of them are in memory that has to be fetched.
 */
export function presentPasids(walk: Walk, rid: number, limit: number): number[] | undefined {
  if (!walk.enabled || walk.mode === TTM_LEGACY || rid > LAST_RID) return [];
  walk.begin(rid, NO_PASID, 0, 0, 0);
  if (checkMode(walk) !== 0) return [];
  const code = findContext(walk, []);
  if (code === PENDING) return undefined;
  if (code !== 0 || (walk.context0 & CONTEXT_PASIDE) === 0) return [];
  const ridPasid = walk.context2 & CONTEXT2_RID_PASID;
  const found: number[] = [];
  const end = Math.min(pasidsOf(walk.context0), walk.rules.pasidLimit);
  let tables = 0;
  for (let first = 0; first < end; first += PER_DIRECTORY_ENTRY) {
    const status = enterTable(walk, first);
    if (status === SPAN_MISS) return undefined;
    if (status !== SPAN_OK) continue;
    tables++;
    if (tables > limit) return undefined;
    const { high, low } = walk.memory;
    for (let pasid = first; pasid < Math.min(first + PER_DIRECTORY_ENTRY, end); pasid++) {
      const at = (low & POINTER) + (pasid - first) * PASID_ENTRY_BYTES;
      const there = walk.memory.span(high, at, PASID_ENTRY_BYTES);
      if (there === SPAN_MISS) return undefined;
      if (there !== SPAN_OK) break;
      if ((walk.memory.load32(0) & PASID_P) !== 0 && pasid !== ridPasid) found.push(pasid);
      if (found.length > limit) return undefined;
    }
  }
  return found;
}

/** Leaves the pointer to the table of `first` and its neighbours in the memory's halves; `SPAN_ABSENT`: there is none. */
function enterTable(walk: Walk, first: number): number {
  const { memory, context0, context1 } = walk;
  const base = context0 & POINTER;
  const low = (base + (first / PER_DIRECTORY_ENTRY) * DIRECTORY_ENTRY_BYTES) | 0;
  const high = base < 0 && low >= 0 ? (context1 + 1) | 0 : context1;
  const status = memory.span(high, low, DIRECTORY_ENTRY_BYTES);
  if (status !== SPAN_OK) return status;
  memory.load64(0);
  return (memory.low & DIRECTORY_P) === 0 ? SPAN_ABSENT : SPAN_OK;
}

function viewLegacy(walk: Walk): VtdTranslation {
  const code = findLegacyContext(walk, []);
  if (code !== 0) return refused(code);
  return { kind: legacyType(walk.context0) === TT_PASS_THROUGH ? 'pass-through' : 'second-stage' };
}

/** As the checks of a request, with those that need no more than its PASID. */
function checkContextUse(walk: Walk): number {
  const { context0, hasPasid } = walk;
  if (!hasPasid) return isEptrAlone(context0) ? 0x43 : 0;
  if ((context0 & CONTEXT_PASIDE) === 0) return 0x45;
  return walk.pasid >= walk.rules.pasidLimit ? 0x89 : checkPasid(walk);
}

function firstStageOf({ entry4, entry5 }: Walk): VtdFirstStage {
  return {
    table: (BigInt(entry5 >>> 0) << 32n) | BigInt((entry4 & POINTER) >>> 0),
    levels: (entry4 & PASID4_FSPM) >>> PASID4_FSPM_SHIFT === 1 ? 5 : 4,
    supervisorRequests: (entry4 & PASID4_SRE) !== 0,
    writeProtect: (entry4 & PASID4_WPE) !== 0,
    extendedAccessed: (entry4 & PASID4_EAFE) !== 0,
  };
}

function refused(code: number): VtdTranslation {
  return code === PENDING ? { kind: 'pending' } : { kind: 'none', code };
}
