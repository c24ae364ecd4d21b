import type { Probe } from '../explanation.ts';
import { inputWidth } from './pasid-table.ts';
import { fitsWidth } from './rules.ts';
import { indexAt, pageMask, walkSecondStage } from './second-stage.ts';
import { addressStep, firstStageStep, hostRightsStep } from './steps.ts';
import {
  ADDR_HIGH,
  FS_A,
  FS_D,
  FS_EA,
  FS_P,
  FS_RSVD_1G,
  FS_RSVD_2M,
  FS_RW,
  FS_US,
  PASID4_EAFE,
  PASID4_FSPM,
  PASID4_FSPM_SHIFT,
  PGTT_NESTED,
  POINTER,
  PS,
} from './structures.ts';
import type { Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const NESTED = PGTT_NESTED;
const EAFE = PASID4_EAFE;
const FSPM = PASID4_FSPM;
const FSPM_SHIFT = PASID4_FSPM_SHIFT;
const ACCESSED = FS_A;
const DIRTY = FS_D;
const EXTENDED_ACCESSED = FS_EA;
const PRESENT = FS_P;
const WRITABLE = FS_RW;
const USER = FS_US;
const LARGE = PS;
const RESERVED_1G = FS_RSVD_1G;
const RESERVED_2M = FS_RSVD_2M;
const ADDRESS_HIGH = ADDR_HIGH;
const POINTER_BITS = POINTER;

/**
 * Walks the first stage, alone (3.6, 9.7) or on top of the second (3.8). Leaves in the walk the address, the
 * page and the rights of all levels; those of the second stage for the final page are still to come.
 */
export function walkFirstStage(walk: Walk, probe: Probe): number {
  const { memory, iovaHigh, iovaLow, entry4 } = walk;
  const nested = walk.kind === NESTED;
  const flags = (entry4 & EAFE) === 0 ? ACCESSED : ACCESSED | EXTENDED_ACCESSED;
  const marksDirty = walk.writes || walk.translation;
  const top = 4 + ((entry4 & FSPM) >>> FSPM_SHIFT);
  const canonical = isCanonical(iovaHigh, top);
  if (probe !== undefined) probe.push(addressStep(walk, canonical ? 0 : 0x80));
  if (!canonical) return 0x80;
  let tableHigh = walk.entry5;
  let tableLow = entry4 & POINTER_BITS;
  let rights = WRITABLE | USER;
  for (let level = top; ; level--) {
    let entryHigh = tableHigh;
    let entryLow = tableLow + indexAt(iovaHigh, iovaLow, level) * 8;
    if (nested) {
      const code = reach(walk, entryHigh, entryLow, level === top, probe);
      if (code !== 0) return code;
      entryHigh = walk.hostHigh;
      entryLow = walk.hostLow;
    }
    let code = memory.span(entryHigh, entryLow, 8);
    if (code !== 0) code = walk.unread(code, level === top ? 0x73 : 0x70);
    if (code < 0) return code;
    if (code === 0) {
      memory.load64(0);
      code = checkEntry(walk, level, nested, memory.high, memory.low);
    }
    if (probe !== undefined) probe.push(firstStageStep(walk, level, entryHigh, entryLow, code));
    if (code !== 0) return code;
    const valueHigh = memory.high;
    const valueLow = memory.low;
    const leaf = level === 1 || (valueLow & LARGE) !== 0;
    const wanted = leaf && marksDirty ? flags | DIRTY : flags;
    if ((valueLow & wanted) !== wanted) {
      const through = nested ? walk.hostLeaf : -1;
      const writable = !nested || walk.hostWrite;
      walk.trail.first(entryHigh, entryLow, valueHigh, valueLow, leaf, flags, through, writable);
    }
    rights &= valueLow;
    tableHigh = valueHigh & ADDRESS_HIGH;
    tableLow = valueLow & POINTER_BITS;
    if (!leaf) continue;
    const inPage = pageMask(level);
    walk.high = tableHigh;
    walk.low = (tableLow & ~inPage) | (iovaLow & inPage);
    walk.page = 3 + 9 * level;
    walk.canRead = true;
    walk.canWrite = (rights & WRITABLE) !== 0;
    walk.privilegedOnly = (rights & USER) === 0;
    return 0;
  }
}

/** Where the second stage puts a first-stage entry, and whether the unit may read it there. */
function reach(walk: Walk, high: number, low: number, root: boolean, probe: Probe): number {
  let code = walkSecondStage(walk, high, low, probe);
  if (code !== 0 || walk.hostRead) return code;
  code = root ? 0x75 : 0x76;
  if (probe !== undefined) probe.push(hostRightsStep(walk, code));
  return code;
}

function checkEntry(walk: Walk, level: number, nested: boolean, high: number, low: number): number {
  const { rules } = walk;
  if ((low & PRESENT) === 0) return 0x71;
  if (!nested && (high & ADDRESS_HIGH & rules.beyondHaw) !== 0) return 0x72;
  if (level > 1 && (low & LARGE) !== 0) {
    if (level > 3) return 0x72;
    if (level === 3 && (!rules.firstStage1GiB || (low & RESERVED_1G) !== 0)) return 0x72;
    if (level === 2 && (low & RESERVED_2M) !== 0) return 0x72;
  }
  return nested && !fitsWidth(high & ADDRESS_HIGH, inputWidth(walk)) ? 0x74 : 0;
}

/** Bits 63:47, or 63:56 with 5 levels, are all alike. */
function isCanonical(high: number, levels: number): boolean {
  const sign = high >> (levels === 5 ? 24 : 15);
  return sign === 0 || sign === -1;
}
