import type { Probe } from '../explanation.ts';
import { findLegacyContext, legacyType } from './context.ts';
import { complete, passThrough, walkSecondAlone } from './stages.ts';
import { legacyUsesStep } from './steps.ts';
import {
  LEGACY2_AW,
  PASID_AW_SHIFT,
  PGTT_SECOND_STAGE,
  POINTER,
  TT_ALL,
  TT_PASS_THROUGH,
} from './structures.ts';
import { isInterruptAddress, OK, type Walk } from './walk-state.ts';

/** Decides a request without PASID in legacy mode (3.4.2): a second stage that the context entry names. */
export function decideLegacy(walk: Walk, probe: Probe): number {
  const code = findLegacyContext(walk, probe);
  if (code !== OK) return code;
  const type = legacyType(walk.context0);
  const blocked = (walk.translation || walk.translated) && type !== TT_ALL;
  if (probe !== undefined) probe.push(legacyUsesStep(walk, blocked ? 0x0d : OK));
  if (blocked) return 0x0d;
  if (walk.translation && isInterruptAddress(walk.iovaHigh, walk.iovaLow)) {
    walk.interruptRange = true;
    return OK;
  }
  walk.pasid = 0;
  walk.kind = PGTT_SECOND_STAGE;
  walk.snoop = false;
  if (walk.translated || type === TT_PASS_THROUGH) return passThrough(walk, 0x04, 0x0e, probe);
  walk.entry0 = (walk.context0 & POINTER) | ((walk.context2 & LEGACY2_AW) << PASID_AW_SHIFT);
  walk.entry1 = walk.context1;
  walk.entry2 = 0;
  const found = walkSecondAlone(walk, 0x04, probe);
  return found === OK ? complete(walk, 0x05, 0x06, 0x0e, probe) : legacyCode(walk, found);
}

/** The code that a fault of the second stage has in legacy mode. */
function legacyCode(walk: Walk, code: number): number {
  switch (code) {
    case 0x78:
    case 0x7b:
      return 0x07;
    case 0x7a:
      return 0x0c;
    case 0x79:
      return walk.writes ? 0x05 : 0x06;
    default:
      return code;
  }
}
