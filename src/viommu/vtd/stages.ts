import type { Probe } from '../explanation.ts';
import { walkFirstStage } from './first-stage.ts';
import { inputWidth } from './pasid-table.ts';
import { fitsWidth } from './rules.ts';
import { walkSecondStage } from './second-stage.ts';
import { addressStep, rightsStep } from './steps.ts';
import {
  PASID2_PGSNP,
  PASID2_PWSNP,
  PASID4_WPE,
  PASID_SSADE,
  PGTT_FIRST_STAGE,
  PGTT_PASS_THROUGH,
  PGTT_SECOND_STAGE,
} from './structures.ts';
import { isInterruptAddress, type Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const PGSNP = PASID2_PGSNP;
const PWSNP = PASID2_PWSNP;
const WPE = PASID4_WPE;
const SSADE = PASID_SSADE;
const FIRST_STAGE = PGTT_FIRST_STAGE;
const PASS_THROUGH = PGTT_PASS_THROUGH;
const SECOND_STAGE = PGTT_SECOND_STAGE;

/** The translation that a PASID table entry asks for, the rights it gives, and its flags in memory. */
export function checkStages(walk: Walk, probe: Probe): number {
  walk.snoop = (walk.entry2 & PGSNP) !== 0;
  if (walk.kind === PASS_THROUGH) return passThrough(walk, 0x83, 0x87, probe);
  const code = walkStages(walk, probe);
  return code === 0 ? complete(walk, 0x85, 0x86, 0x87, probe) : code;
}

function walkStages(walk: Walk, probe: Probe): number {
  if (walk.kind === SECOND_STAGE) return walkSecondAlone(walk, 0x84, probe);
  const code = walkFirstStage(walk, probe);
  if (code !== 0) return code;
  walk.span = walk.page;
  const rights = checkFirstStageRights(walk);
  if (probe !== undefined && rights !== 0) probe.push(rightsStep(walk, rights));
  if (rights !== 0 || walk.kind === FIRST_STAGE) return rights;
  const second = walkSecondStage(walk, walk.high, walk.low, probe);
  if (second !== 0) return second;
  const { canRead, canWrite, page } = walk;
  takeHost(walk);
  walk.canRead = canRead && walk.hostRead;
  walk.canWrite = canWrite && walk.hostWrite;
  walk.page = Math.min(page, walk.hostPage);
  return 0;
}

/** 81h, 85h: what the first stage alone can say. */
function checkFirstStageRights(walk: Walk): number {
  if (walk.privileged) {
    if ((walk.entry4 & WPE) === 0) walk.canWrite = true;
  } else if (walk.privilegedOnly) return 0x81;
  return !walk.translation && walk.writes && !walk.canWrite ? 0x85 : 0;
}

/** The second stage without a first; `beyond` is the code for an address beyond its width. */
export function walkSecondAlone(walk: Walk, beyond: number, probe: Probe): number {
  const within = fitsWidth(walk.iovaHigh, inputWidth(walk));
  if (probe !== undefined) probe.push(addressStep(walk, within ? 0 : beyond));
  if (!within) return beyond;
  const code = walkSecondStage(walk, walk.iovaHigh, walk.iovaLow, probe);
  if (code !== 0) return code;
  takeHost(walk);
  walk.canRead = walk.hostRead;
  walk.canWrite = walk.hostWrite;
  walk.page = walk.hostPage;
  walk.span = walk.hostPage;
  return 0;
}

function takeHost(walk: Walk): void {
  walk.high = walk.hostHigh;
  walk.low = walk.hostLow;
  if (walk.hostSnoop) walk.snoop = true;
}

/** The address as it is, when the space has it. */
export function passThrough(walk: Walk, beyond: number, interrupt: number, probe: Probe): number {
  let code = 0;
  if ((walk.iovaHigh & walk.rules.beyondHaw) !== 0) code = beyond;
  else if (!walk.translation && isInterruptAddress(walk.iovaHigh, walk.iovaLow)) code = interrupt;
  if (probe !== undefined) probe.push(addressStep(walk, code));
  walk.passes = true;
  walk.high = walk.iovaHigh;
  walk.low = walk.iovaLow;
  walk.page = 12;
  walk.span = 12;
  walk.canRead = true;
  walk.canWrite = !(walk.translation && walk.noWrite);
  walk.dirty = true;
  return code;
}

/** Rights, the interrupt range, and the flags in memory: what is left when an address was found. */
export function complete(
  walk: Walk,
  noWrite: number,
  noRead: number,
  interrupt: number,
  probe: Probe,
): number {
  let code = checkRights(walk, noWrite, noRead);
  if (code === 0 && isInterruptAddress(walk.high, walk.low)) code = interrupt;
  if (code === 0) code = settle(walk, probe !== undefined);
  if (probe !== undefined) probe.push(rightsStep(walk, code));
  return code;
}

function checkRights(walk: Walk, noWrite: number, noRead: number): number {
  if (walk.translation) {
    if (walk.noWrite) walk.canWrite = false;
    return walk.canRead || walk.canWrite ? 0 : noRead;
  }
  if (walk.reads && !walk.canRead) return noRead;
  return walk.writes && !walk.canWrite ? noWrite : 0;
}

function settle(walk: Walk, dry: boolean): number {
  const { trail, kind } = walk;
  const flags = kind !== FIRST_STAGE && (walk.entry0 & SSADE) !== 0;
  const written = walk.translation ? walk.canWrite : walk.writes;
  walk.dirty = written || !walk.rules.updateAccessedDirty || (kind === SECOND_STAGE && !flags);
  if (!walk.rules.updateAccessedDirty) return 0;
  if (written && kind !== SECOND_STAGE) trail.firstIsWritten();
  if (written && flags) trail.secondIsWritten(walk.hostLeaf);
  return trail.settle(walk.memory, flags, (walk.entry2 & PWSNP) !== 0, dry);
}
