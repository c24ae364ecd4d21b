import type { Probe } from '../explanation.ts';
import { fitsWidth } from './rules.ts';
import { directoryStep, pasidStep } from './steps.ts';
import {
  DIRECTORY_FPD,
  DIRECTORY_RSVD,
  PASID2_DID,
  PASID4_FSPM,
  PASID4_FSPM_SHIFT,
  PASID_AW,
  PASID_AW_SHIFT,
  PASID_ENTRY_BYTES,
  PASID_FIRST_RSVD_WORD,
  PASID_FPD,
  PASID_P,
  PASID_PGTT,
  PASID_PGTT_SHIFT,
  PGTT_FIRST_STAGE,
  PGTT_NESTED,
  PGTT_PASS_THROUGH,
  PGTT_SECOND_STAGE,
  POINTER,
} from './structures.ts';
import type { Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const PRESENT = PASID_P;
const FPD = PASID_FPD;
const PGTT = PASID_PGTT;
const PGTT_SHIFT = PASID_PGTT_SHIFT;
const DID = PASID2_DID;
const AW = PASID_AW;
const AW_SHIFT = PASID_AW_SHIFT;
const FSPM = PASID4_FSPM;
const FSPM_SHIFT = PASID4_FSPM_SHIFT;
const FIRST_STAGE = PGTT_FIRST_STAGE;
const SECOND_STAGE = PGTT_SECOND_STAGE;
const NESTED = PGTT_NESTED;
const PASS_THROUGH = PGTT_PASS_THROUGH;
const POINTER_BITS = POINTER;
const DIRECTORY_DISABLED = DIRECTORY_FPD;
const RESERVED = DIRECTORY_RSVD;
const FIRST_RSVD_WORD = PASID_FIRST_RSVD_WORD;
const ENTRY_WORDS = PASID_ENTRY_BYTES / 4;

/** Finds the PASID table entry of the walk's PASID: from the PASID-cache, or from the tables. */
export function findPasidEntry(walk: Walk, probe: Probe): number {
  const cached = probe === undefined ? walk.pasids.find(walk.rid, walk.pasid) : -1;
  if (cached >= 0) {
    takePasidEntry(walk, cached);
  } else {
    const code = readPasidEntry(walk, probe);
    if (code !== 0) return code;
  }
  walk.domain = walk.entry2 & DID;
  walk.kind = (walk.entry0 & PGTT) >>> PGTT_SHIFT;
  if (cached < 0 && probe === undefined) keep(walk);
  return 0;
}

/** Takes the PASID table entry at an index of the PASID-cache. */
function takePasidEntry(walk: Walk, at: number): void {
  const { data } = walk.pasids;
  const entry0 = data[at] ?? 0;
  walk.entry0 = entry0;
  walk.entry1 = data[at + 1] ?? 0;
  walk.entry2 = data[at + 2] ?? 0;
  walk.entry4 = data[at + 3] ?? 0;
  walk.entry5 = data[at + 4] ?? 0;
  if ((entry0 & FPD) !== 0) walk.fpd = true;
}

function keep(walk: Walk): void {
  const { pasids } = walk;
  const at = pasids.claim(walk.rid, walk.pasid, walk.domain);
  const { data } = pasids;
  // FPD of the context entry may end up here too; both caches drop what is tagged by the RID together.
  data[at] = walk.fpd ? walk.entry0 | FPD : walk.entry0;
  data[at + 1] = walk.entry1;
  data[at + 2] = walk.entry2;
  data[at + 3] = walk.entry4;
  data[at + 4] = walk.entry5;
}

function readPasidEntry(walk: Walk, probe: Probe): number {
  const { memory, pasid, context1: directoryHigh } = walk;
  // The directory is up to 128 KiB, so that the sum may carry.
  const base = walk.context0 & POINTER_BITS;
  const entryLow = (base + (pasid >>> 6) * 8) | 0;
  const entryHigh = base < 0 && entryLow >= 0 ? (directoryHigh + 1) | 0 : directoryHigh;
  let code = memory.span(entryHigh, entryLow, 8);
  if (code !== 0) code = walk.unread(code, 0x50);
  let tableHigh = 0;
  let tableLow = 0;
  if (code === 0) {
    memory.load64(0);
    tableHigh = memory.high;
    tableLow = memory.low;
    if ((tableLow & DIRECTORY_DISABLED) !== 0) walk.fpd = true;
    if ((tableLow & PRESENT) === 0) code = 0x51;
    else if ((tableLow & RESERVED) !== 0 || (tableHigh & walk.rules.beyondHaw) !== 0) code = 0x52;
  }
  if (code < 0) return code;
  if (probe !== undefined) probe.push(directoryStep(walk, entryHigh, entryLow, code));
  if (code !== 0) return code;
  const low = (tableLow & POINTER_BITS) + (pasid & 0x3f) * 64;
  code = memory.span(tableHigh, low, 64);
  if (code !== 0) code = walk.unread(code, 0x58);
  if (code === 0) code = checkPasidEntry(walk);
  if (code < 0) return code;
  if (probe !== undefined) probe.push(pasidStep(walk, tableHigh, low, code));
  return code;
}

/** Loads the entry at the span and checks it. */
function checkPasidEntry(walk: Walk): number {
  const { memory, rules } = walk;
  walk.entry0 = memory.load32(0);
  if ((walk.entry0 & PRESENT) === 0) return notPresent(walk);
  walk.entry1 = memory.load32(1);
  walk.entry2 = memory.load32(2);
  const entry3 = memory.load32(3);
  walk.entry4 = memory.load32(4);
  walk.entry5 = memory.load32(5);
  const rest = memory.or32(FIRST_RSVD_WORD, ENTRY_WORDS);
  // The word with P again: software may have changed the entry while it was read.
  const entry0 = memory.reload32(0);
  walk.entry0 = entry0;
  if ((entry0 & PRESENT) === 0) return notPresent(walk);
  if ((entry0 & FPD) !== 0) walk.fpd = true;
  const reserved =
    (entry0 & rules.pasidRsvd) |
    (walk.entry1 & rules.pasid1Rsvd) |
    (walk.entry2 & rules.pasid2Rsvd) |
    (entry3 & rules.pasid3Rsvd) |
    (walk.entry4 & rules.pasid4Rsvd) |
    (walk.entry5 & rules.pasid5Rsvd) |
    rest;
  const kind = (entry0 & PGTT) >>> PGTT_SHIFT;
  if (reserved !== 0 || pointerBeyondHaw(walk, kind)) return 0x5a;
  return isWellProgrammed(walk, kind) ? 0 : 0x5b;
}

/** FPD counts even then. */
function notPresent(walk: Walk): number {
  if ((walk.entry0 & FPD) !== 0) walk.fpd = true;
  return 0x59;
}

/** Pointers are checked only where they are used; that of nested translation is no host address. */
function pointerBeyondHaw(walk: Walk, kind: number): boolean {
  const { beyondHaw } = walk.rules;
  if (kind === FIRST_STAGE) return (walk.entry5 & beyondHaw) !== 0;
  return (kind === SECOND_STAGE || kind === NESTED) && (walk.entry1 & beyondHaw) !== 0;
}

function isWellProgrammed(walk: Walk, kind: number): boolean {
  const { rules } = walk;
  switch (kind) {
    case FIRST_STAGE:
      return rules.firstStage && hasPagingMode(walk);
    case SECOND_STAGE:
      return rules.secondStage && hasWidth(walk);
    case NESTED:
      return (
        rules.nesting && hasPagingMode(walk) && hasWidth(walk) && fitsWidth(walk.entry5, inputWidth(walk))
      );
    case PASS_THROUGH:
      return rules.passThrough;
    default:
      return false;
  }
}

function hasWidth(walk: Walk): boolean {
  return ((walk.rules.sagaw >>> agaw(walk)) & 1) === 1;
}

function hasPagingMode(walk: Walk): boolean {
  const mode = (walk.entry4 & FSPM) >>> FSPM_SHIFT;
  return mode === 0 || (mode === 1 && walk.rules.firstStage5Level);
}

/** AW of the entry: 1 for 39 bits, 2 for 48, 3 for 57. */
export function agaw(walk: Walk): number {
  return (walk.entry0 & AW) >>> AW_SHIFT;
}

/** Bits of a second-stage input address: the least of MGAW and AW. */
export function inputWidth(walk: Walk): number {
  return Math.min(walk.rules.addressWidth, 30 + 9 * agaw(walk));
}
