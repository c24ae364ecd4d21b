import type { Probe } from '../explanation.ts';
import { findContext, isEptrAlone, pasidsOf } from './context.ts';
import { decideLegacy } from './legacy.ts';
import { findPasidEntry } from './pasid-table.ts';
import { TTM_ABORT_DMA, TTM_LEGACY, TTM_SCALABLE } from './registers.ts';
import { checkStages, passThrough } from './stages.ts';
import { modeStep, usesStep } from './steps.ts';
import {
  CONTEXT2_RID_PASID,
  CONTEXT2_RID_PRIV,
  CONTEXT_DTE,
  CONTEXT_EPTR,
  CONTEXT_PASIDE,
  PASID4_SRE,
} from './structures.ts';
import { isInterruptAddress, type Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const LEGACY = TTM_LEGACY;
const SCALABLE = TTM_SCALABLE;
const ABORT_DMA = TTM_ABORT_DMA;
const RID_PASID = CONTEXT2_RID_PASID;
const RID_PRIV = CONTEXT2_RID_PRIV;
const DTE = CONTEXT_DTE;
const EPTR = CONTEXT_EPTR;
const PASIDE = CONTEXT_PASIDE;
const SRE = PASID4_SRE;

/**
 * Decides a memory request while translation is enabled: the order of the checks where the specification
 * leaves it open is that of `docs/vtd.md`.
 *
 * @returns 0 with the answer in the walk, `PENDING`, `SETTLE_AGAIN`, or the fault code (7.1.3)
 */
export function decide(walk: Walk, probe: Probe): number {
  let code = checkMode(walk);
  if (code === 0 && walk.executes && walk.rules.major >= 8) code = 0x34;
  if (probe !== undefined) probe.push(modeStep(walk, code));
  if (code !== 0) return code;
  return walk.mode === LEGACY ? decideLegacy(walk, probe) : decideScalable(walk, probe);
}

/** The checks of the translation table mode (11.4.5). */
export function checkMode(walk: Walk): number {
  const { rules, mode } = walk;
  if (mode === LEGACY) return walk.hasPasid ? 0x31 : walk.alternateRights ? 0x30 : 0;
  if (mode === SCALABLE) return rules.scalableMode ? 0 : 0x30;
  return mode === ABORT_DMA && rules.abortDma ? 0x33 : 0x30;
}

function decideScalable(walk: Walk, probe: Probe): number {
  let code = findContext(walk, probe);
  if (code !== 0) return code;
  code = checkAgainstContext(walk);
  if (probe !== undefined) probe.push(usesStep(walk, code));
  if (code !== 0) return code;
  if (!walk.isPlain) {
    if (walk.translated) return passThrough(walk, 0x83, 0x87, probe);
    if (walk.translation && !walk.hasPasid && isInterruptAddress(walk.iovaHigh, walk.iovaLow)) {
      walk.interruptRange = true;
      return 0;
    }
    useRidPasid(walk);
  }
  code = findPasidEntry(walk, probe);
  if (code !== 0) return code;
  if (walk.executes) code = 0x5c;
  else if (walk.privileged && (walk.entry4 & SRE) === 0) code = 0x5d;
  if (code === 0) return checkStages(walk, probe);
  if (probe !== undefined) probe.push(usesStep(walk, code));
  return code;
}

/** What the context entry lets a request do (steps 4 to 6 of the order). */
function checkAgainstContext(walk: Walk): number {
  const { context0 } = walk;
  if (walk.isPlain) return (context0 & PASIDE) === 0 ? 0x45 : checkPasidNumber(walk);
  if (isEptrAlone(context0) && (walk.translated || !walk.hasPasid)) return 0x43;
  if ((walk.translation || walk.translated) && (context0 & DTE) === 0) return 0x44;
  if (!walk.hasPasid) return 0;
  if (walk.translated) {
    if ((context0 & EPTR) === 0) return 0x49;
  } else if ((context0 & PASIDE) === 0) return 0x45;
  return checkPasidNumber(walk);
}

function checkPasidNumber(walk: Walk): number {
  return walk.pasid >= walk.rules.pasidLimit ? 0x89 : checkPasid(walk);
}

/** What the context entry says about the number of a PASID. */
export function checkPasid(walk: Walk): number {
  if (walk.pasid >= pasidsOf(walk.context0)) return 0x46;
  return walk.pasid === (walk.context2 & RID_PASID) ? 0x48 : 0;
}

/** A request without PASID goes through the entry of RID_PASID (3.4.3). */
export function useRidPasid(walk: Walk): void {
  if (walk.hasPasid) return;
  walk.pasid = walk.context2 & RID_PASID;
  walk.privileged = (walk.context2 & RID_PRIV) !== 0;
}
