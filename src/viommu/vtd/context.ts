import type { Probe } from '../explanation.ts';
import { contextStep, legacyContextStep, rootStep } from './steps.ts';
import {
  CONTEXT2_RID_PASID,
  CONTEXT_BYTES,
  CONTEXT_DTE,
  CONTEXT_EPTR,
  CONTEXT_FPD,
  CONTEXT_P,
  CONTEXT_PASIDE,
  CONTEXT_PDTS,
  CONTEXT_PDTS_SHIFT,
  CONTEXT_PRE,
  LEGACY2_AW,
  LEGACY2_DID_SHIFT,
  LEGACY_CONTEXT_BYTES,
  LEGACY_RSVD,
  LEGACY_TT,
  LEGACY_TT_SHIFT,
  PASID2_DID,
  POINTER,
  ROOT_ENTRY_BYTES,
  ROOT_P,
  ROOT_RSVD,
  TT_ALL,
  TT_PASS_THROUGH,
} from './structures.ts';
import { OK, PENDING, type Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const FPD = CONTEXT_FPD;
const EPTR = CONTEXT_EPTR;
const EPTR_OR_PASIDE = CONTEXT_EPTR | CONTEXT_PASIDE;
const PDTS = CONTEXT_PDTS;
const PDTS_SHIFT = CONTEXT_PDTS_SHIFT;

/** Finds the scalable-mode context entry of the requester: from the context-cache, or from the tables. */
export function findContext(walk: Walk, probe: Probe): number {
  const cached = probe === undefined ? walk.contexts.find(walk.rid, 0) : -1;
  if (cached < 0) return fetchContext(walk, probe);
  takeContext(walk, cached);
  return 0;
}

/** Takes the context entry at an index of the context-cache. */
function takeContext(walk: Walk, at: number): void {
  const { data } = walk.contexts;
  walk.context0 = data[at] ?? 0;
  walk.context1 = data[at + 1] ?? 0;
  walk.context2 = data[at + 2] ?? 0;
  walk.fpd = (walk.context0 & FPD) !== 0;
}

function fetchContext(walk: Walk, probe: Probe): number {
  const { contexts } = walk;
  const code = readContext(walk, probe);
  if (code !== OK || probe !== undefined) return code;
  const at = contexts.claim(walk.rid, 0, 0);
  contexts.data[at] = walk.context0;
  contexts.data[at + 1] = walk.context1;
  contexts.data[at + 2] = walk.context2;
  return OK;
}

function readContext(walk: Walk, probe: Probe): number {
  const { memory, rid } = walk;
  const devfn = rid & 0xff;
  const rootLow = walk.rootLow + (rid >>> 8) * ROOT_ENTRY_BYTES;
  let code = memory.span(walk.rootHigh, rootLow, ROOT_ENTRY_BYTES);
  if (code !== 0) code = walk.unread(code, 0x38);
  let tableHigh = 0;
  let tableLow = 0;
  if (code === OK) {
    memory.load64(devfn < 128 ? 0 : 2);
    tableHigh = memory.high;
    tableLow = memory.low;
    code = checkRoot(walk, tableHigh, tableLow);
  }
  if (code === PENDING) return PENDING;
  if (probe !== undefined) probe.push(rootStep(walk, walk.rootHigh, rootLow, devfn >= 128, code));
  if (code !== OK) return code;
  const entryLow = (tableLow & POINTER) + (devfn & 0x7f) * CONTEXT_BYTES;
  code = memory.span(tableHigh, entryLow, CONTEXT_BYTES);
  if (code !== 0) code = walk.unread(code, 0x40);
  if (code === OK) code = checkContext(walk);
  if (code === PENDING) return PENDING;
  if (probe !== undefined) probe.push(contextStep(walk, tableHigh, entryLow, code));
  return code;
}

function checkRoot(walk: Walk, high: number, low: number): number {
  if ((low & ROOT_P) === 0) return 0x39;
  return (low & ROOT_RSVD) === 0 && (high & walk.rules.beyondHaw) === 0 ? OK : 0x3a;
}

/** Loads the context entry at the span and checks what holds for all requests (43h for EPTR does not). */
function checkContext(walk: Walk): number {
  const { memory, rules } = walk;
  walk.context0 = memory.load32(0);
  if ((walk.context0 & CONTEXT_P) === 0) return notPresent(walk, 0x41);
  walk.context1 = memory.load32(1);
  walk.context2 = memory.load32(2);
  const rest = memory.or32(3, CONTEXT_BYTES / 4);
  // The word with P again: software may have changed the entry while it was read.
  walk.context0 = memory.reload32(0);
  walk.fpd = (walk.context0 & CONTEXT_FPD) !== 0;
  if ((walk.context0 & CONTEXT_P) === 0) return 0x41;
  const { context0, context1, context2 } = walk;
  if ((context0 & rules.contextRsvd) !== 0 || (context2 & rules.context2Rsvd) !== 0) return 0x42;
  if (rest !== 0 || (context1 & rules.beyondHaw) !== 0) return 0x42;
  if ((context0 & (CONTEXT_DTE | CONTEXT_PRE)) === CONTEXT_PRE) return 0x43;
  if ((context2 & CONTEXT2_RID_PASID) >= pasidsOf(context0)) return 0x43;
  return OK;
}

/** FPD counts even then. */
function notPresent(walk: Walk, code: number): number {
  walk.fpd = (walk.context0 & CONTEXT_FPD) !== 0;
  return code;
}

/** True when the context entry is 43h for EPTR without PASIDE. */
export function isEptrAlone(context0: number): boolean {
  return (context0 & EPTR_OR_PASIDE) === EPTR;
}

/** PASIDs that the directory of a context entry covers: 2^(PDTS + 13), but 2^20 at most. */
export function pasidsOf(context0: number): number {
  return 1 << (((context0 & PDTS) >>> PDTS_SHIFT) + 13);
}

/**
 * Finds the legacy context entry of the requester, and leaves in the walk what it says about the second stage
 * as if it were a PASID table entry.
 */
export function findLegacyContext(walk: Walk, probe: Probe): number {
  const { contexts } = walk;
  const cached = probe === undefined ? contexts.find(walk.rid, 0) : -1;
  if (cached >= 0) {
    takeContext(walk, cached);
  } else {
    const code = readLegacyContext(walk, probe);
    if (code !== OK) return code;
  }
  walk.domain = (walk.context2 >>> LEGACY2_DID_SHIFT) & PASID2_DID;
  if (cached >= 0 || probe !== undefined) return OK;
  const at = contexts.claim(walk.rid, 0, walk.domain);
  contexts.data[at] = walk.context0;
  contexts.data[at + 1] = walk.context1;
  contexts.data[at + 2] = walk.context2;
  return OK;
}

function readLegacyContext(walk: Walk, probe: Probe): number {
  const { memory, rid, rules } = walk;
  const rootLow = walk.rootLow + (rid >>> 8) * ROOT_ENTRY_BYTES;
  let code = memory.span(walk.rootHigh, rootLow, ROOT_ENTRY_BYTES);
  if (code !== 0) code = walk.unread(code, 0x08);
  let tableHigh = 0;
  let tableLow = 0;
  if (code === OK) {
    const upper = memory.load32(2) | memory.load32(3);
    memory.load64(0);
    tableHigh = memory.high;
    tableLow = memory.low;
    const reserved = (tableLow & ROOT_RSVD) !== 0 || (tableHigh & rules.beyondHaw) !== 0 || upper !== 0;
    if ((tableLow & ROOT_P) === 0) code = 0x01;
    else if (reserved) code = 0x0a;
  }
  if (code === PENDING) return PENDING;
  if (probe !== undefined) probe.push(rootStep(walk, walk.rootHigh, rootLow, false, code));
  if (code !== OK) return code;
  const entryLow = (tableLow & POINTER) + (rid & 0xff) * LEGACY_CONTEXT_BYTES;
  code = memory.span(tableHigh, entryLow, LEGACY_CONTEXT_BYTES);
  if (code !== 0) code = walk.unread(code, 0x09);
  if (code === OK) code = checkLegacyContext(walk);
  if (code === PENDING) return PENDING;
  if (probe !== undefined) probe.push(legacyContextStep(walk, tableHigh, entryLow, code));
  return code;
}

function checkLegacyContext(walk: Walk): number {
  const { memory, rules } = walk;
  walk.context0 = memory.load32(0);
  if ((walk.context0 & CONTEXT_P) === 0) return notPresent(walk, 0x02);
  walk.context1 = memory.load32(1);
  walk.context2 = memory.load32(2);
  const word3 = memory.load32(3);
  walk.context0 = memory.reload32(0);
  walk.fpd = (walk.context0 & CONTEXT_FPD) !== 0;
  if ((walk.context0 & CONTEXT_P) === 0) return 0x02;
  const { context0, context1, context2 } = walk;
  if ((context0 & LEGACY_RSVD) !== 0 || (context2 & rules.legacy2Rsvd) !== 0 || word3 !== 0) return 0x0b;
  const type = legacyType(context0);
  if (type === TT_PASS_THROUGH) return rules.passThrough ? OK : 0x03;
  if ((context1 & rules.beyondHaw) !== 0) return 0x0b;
  if (type > TT_PASS_THROUGH || (type === TT_ALL && !rules.deviceTlb)) return 0x03;
  return ((rules.sagaw >>> (context2 & LEGACY2_AW)) & 1) === 1 ? OK : 0x03;
}

/** TT of a legacy context entry. */
export function legacyType(context0: number): number {
  return (context0 & LEGACY_TT) >>> LEGACY_TT_SHIFT;
}
