import type { Probe } from '../explanation.ts';
import { agaw } from './pasid-table.ts';
import { hostRightsStep, secondStageStep } from './steps.ts';
import {
  ADDR_HIGH,
  PASID_SSADE,
  POINTER,
  PS,
  SS_R,
  SS_RSVD_1G,
  SS_RSVD_2M,
  SS_SNP,
  SS_W,
} from './structures.ts';
import type { Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const SSADE = PASID_SSADE;
const ADDRESS_HIGH = ADDR_HIGH;
const POINTER_BITS = POINTER;
const LARGE = PS;
const READ = SS_R;
const WRITE = SS_W;
const SNOOP = SS_SNP;
const RESERVED_1G = SS_RSVD_1G;
const RESERVED_2M = SS_RSVD_2M;
/** From IR in the high word to R. */
const IR_SHIFT = 29;

/**
 * Walks the second stage for an address that is within its width (3.7, 9.8). Leaves in the walk where the
 * address lands, the page and the rights; whether these are enough is the caller's to say.
 *
 * @returns `OK`, `PENDING`, 78h, 79h, 7Ah or 7Bh
 */
export function walkSecondStage(walk: Walk, high: number, low: number, probe: Probe): number {
  const { memory } = walk;
  const flags = (walk.entry0 & SSADE) !== 0;
  let tableHigh = walk.entry1;
  let tableLow = walk.entry0 & POINTER_BITS;
  let both = READ | WRITE;
  const top = agaw(walk) + 2;
  for (let level = top; ; level--) {
    const entryLow = tableLow + indexAt(high, low, level) * 8;
    let code = memory.span(tableHigh, entryLow, 8);
    if (code !== 0) code = walk.unread(code, level === top ? 0x7b : 0x78);
    if (code < 0) return code;
    if (code === 0) {
      memory.load64(0);
      code = checkEntry(walk, level, memory.high, memory.low);
    }
    if (probe !== undefined) probe.push(secondStageStep(walk, level, tableHigh, entryLow, code));
    if (code !== 0) return code;
    const valueHigh = memory.high;
    const valueLow = memory.low;
    both &= rightsOf(walk, valueHigh, valueLow);
    const leaf = level === 1 || (valueLow & LARGE) !== 0;
    if (flags) walk.hostLeaf = walk.trail.second(tableHigh, entryLow, valueHigh, valueLow, leaf);
    tableHigh = valueHigh & ADDRESS_HIGH;
    tableLow = valueLow & POINTER_BITS;
    if (!leaf) continue;
    const inPage = pageMask(level);
    walk.hostHigh = tableHigh;
    walk.hostLow = (tableLow & ~inPage) | (low & inPage);
    walk.hostPage = 3 + 9 * level;
    walk.hostRead = (both & READ) !== 0;
    walk.hostWrite = (both & WRITE) !== 0;
    walk.hostSnoop = (valueLow & SNOOP) !== 0;
    if (both !== 0) return 0;
    if (probe !== undefined) probe.push(hostRightsStep(walk, 0x79));
    return 0x79;
  }
}

function checkEntry(walk: Walk, level: number, high: number, low: number): number {
  const { rules } = walk;
  if (rightsOf(walk, high, low) === 0) return 0x79;
  if ((high & ADDRESS_HIGH & rules.beyondHaw) !== 0) return 0x7a;
  if (level > 1 && (low & LARGE) === 0) return 0;
  if ((low & SNOOP) !== 0 && !rules.snoopControl) return 0x7a;
  if (level === 1) return 0;
  if (level === 2) return rules.secondStage2MiB && (low & RESERVED_2M) === 0 ? 0 : 0x7a;
  return level === 3 && rules.secondStage1GiB && (low & RESERVED_1G) === 0 ? 0 : 0x7a;
}

/** R and W, or IR and IW in their place. */
function rightsOf(walk: Walk, high: number, low: number): number {
  return (walk.alternateRights ? high >>> IR_SHIFT : low) & (READ | WRITE);
}

/** Index into the table of a level, 1 to 5: 9 bits of the address. */
export function indexAt(high: number, low: number, level: number): number {
  switch (level) {
    case 1:
      return (low >>> 12) & 0x1ff;
    case 2:
      return (low >>> 21) & 0x1ff;
    case 3:
      return ((high << 2) | (low >>> 30)) & 0x1ff;
    case 4:
      return (high >>> 7) & 0x1ff;
    default:
      return (high >>> 16) & 0x1ff;
  }
}

/** Bits of an address within a page of level 1 (4 KiB), 2 (2 MiB) or 3 (1 GiB). */
export function pageMask(level: number): number {
  return level === 1 ? 0xfff : level === 2 ? 0x1f_ffff : 0x3fff_ffff;
}
