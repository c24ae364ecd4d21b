import { ACCESS_PRIVILEGED, ACCESS_ATOMIC } from '../access.ts';
import type { Probe } from '../explanation.ts';
import { type Iotlb, RIGHT_PRIVILEGED_SHIFT, RIGHT_READ, RIGHT_WRITE } from '../iotlb.ts';
import {
  answer,
  cacheable,
  OUT_PERMISSIONS,
  PERMISSION_NO_SNOOP,
  PERMISSION_PRIVILEGED,
  PERMISSION_READ,
  PERMISSION_UNTRANSLATED_ONLY,
  PERMISSION_WRITE,
  refuse,
  STATUS_ATS,
  STATUS_BYPASS,
  STATUS_COMPLETER_ABORT,
  STATUS_INTERRUPT,
  STATUS_PENDING,
  STATUS_TRANSLATED,
  STATUS_UNSUPPORTED_REQUEST,
} from '../result.ts';
import { decide } from './decide.ts';
import { type FaultLog, RECORD_ATOMIC, RECORD_READ, RECORD_WRITE } from './fault-log.ts';
import {
  ANSWER_CA,
  ANSWER_SUCCESS,
  ANSWER_SUCCESS_RECORDED,
  answerOfFault,
  isQualifiedFault,
  REASON_EXECUTE_WITHOUT_PASID,
  REASON_INTERRUPT_RANGE,
  REASON_NO_INTERRUPT,
  REASON_PRIVILEGED_WITHOUT_PASID,
  REASON_RID_BEYOND_16_BITS,
  REASON_TRANSLATED_WITH_PASID,
  REASON_TRANSLATION_DISABLED,
  REASON_WRITE_TRANSLATION_REQUEST,
  reasonOfFault,
} from './faults.ts';
import { modeStep, plainStep } from './steps.ts';
import { SETTLE_AGAIN } from './trail.ts';
import { isInterruptAddress, type Walk } from './walk-state.ts';

// Not exported, and so folded into the code that uses them (see result.ts).
const PRIVILEGED = ACCESS_PRIVILEGED;
const ATOMIC = ACCESS_ATOMIC;
const CA = ANSWER_CA;
const SUCCESS_RECORDED = ANSWER_SUCCESS_RECORDED;
const SUCCESS = ANSWER_SUCCESS;
const ATS = STATUS_ATS;
const COMPLETER_ABORT = STATUS_COMPLETER_ABORT;
const UNSUPPORTED_REQUEST = STATUS_UNSUPPORTED_REQUEST;
const TRANSLATED = STATUS_TRANSLATED;
const READ = PERMISSION_READ;
const WRITE = PERMISSION_WRITE;
const MAY_READ = RIGHT_READ;
const MAY_WRITE = RIGHT_WRITE;
const PRIVILEGED_SHIFT = RIGHT_PRIVILEGED_SHIFT;
const AGAIN = SETTLE_AGAIN;
const ATOMIC_OP = RECORD_ATOMIC;
const READ_REQUEST = RECORD_READ;
const WRITE_REQUEST = RECORD_WRITE;

/** Times that a walk begins again because the guest changed an entry under it. */
const ATTEMPTS = 8;

/** Domain and PASID tags of the IOTLB: PASID 19:0, and whether PASID-based and domain-based invalidation reach it. */
export const SPACE_PASID = 0x000f_ffff;
export const SPACE_FIRST = 0x0010_0000;
export const SPACE_SECOND = 0x0020_0000;
const FIRST = SPACE_FIRST;

/**
 * The model's own decision about the memory request that `walk` has begun with (`Viommu.walk`). With a probe it
 * notes the steps there, and neither records, caches nor writes anything.
 */
export function walkRequest(
  walk: Walk,
  faults: FaultLog,
  iotlb: Iotlb,
  out: Uint32Array,
  probe: Probe,
): number {
  if (!walk.isPlain || probe !== undefined) {
    const impossible = checkRequest(walk, probe);
    if (impossible !== 0) return refuse(out, UNSUPPORTED_REQUEST, impossible);
    if (isForInterrupts(walk)) return answerInterrupt(walk, out, probe);
  }
  if (!walk.enabled) return answerDisabled(walk, out, probe);
  let code = decide(walk, probe);
  if (code === AGAIN) code = decideAgain(walk, probe);
  if (code === 0) return answerFound(walk, iotlb, out, probe);
  return code < 0 ? answerPending(walk, out) : answerFault(walk, faults, code, out, probe);
}

/** The guest has changed an entry that a flag was to be set in. */
function decideAgain(walk: Walk, probe: Probe): number {
  for (let attempt = 1; attempt < ATTEMPTS; attempt++) {
    walk.begin(walk.rid, walk.requestPasid, walk.iovaHigh, walk.iovaLow, walk.access);
    const code = decide(walk, probe);
    if (code !== AGAIN) return code;
  }
  return 0x91;
}

function answerPending(walk: Walk, out: Uint32Array): number {
  answer(out, walk.memory.missHigh, walk.memory.missLow, 0, 0);
  return STATUS_PENDING;
}

/** What no register and no table could make right: 0, or the reason (4.1, 4.2.1). */
function checkRequest(walk: Walk, probe: Probe): number {
  let failed = 0;
  if (walk.rid > 0xffff) failed = REASON_RID_BEYOND_16_BITS;
  else if (!walk.hasPasid && walk.executes) failed = REASON_EXECUTE_WITHOUT_PASID;
  else if (!walk.hasPasid && walk.privileged) failed = REASON_PRIVILEGED_WITHOUT_PASID;
  else if (walk.translation && walk.writes) failed = REASON_WRITE_TRANSLATION_REQUEST;
  else if (walk.translated && walk.hasPasid && !walk.rules.translatedWithPasid) {
    failed = REASON_TRANSLATED_WITH_PASID;
  }
  if (probe !== undefined) {
    const check =
      'the unit takes such a request: a translation request reads, a translated one has a PASID only with ECAP.PTRS';
    probe.push(plainStep('request', {}, failed === 0, check, 'VT-d 4.2.1'));
  }
  return failed;
}

/** An untranslated request without PASID to FEEx_xxxxh is not remapped, whatever the tables say (3.14). */
function isForInterrupts(walk: Walk): boolean {
  if (walk.hasPasid || walk.translation || walk.translated) return false;
  return isInterruptAddress(walk.iovaHigh, walk.iovaLow);
}

/** A write there is an interrupt; anything else is refused, and no DMA remapping fault. */
function answerInterrupt(walk: Walk, out: Uint32Array, probe: Probe): number {
  const written = walk.writes && !walk.reads;
  if (probe !== undefined) {
    const check = 'without PASID the interrupt range takes writes only';
    probe.push(plainStep('request', {}, written, check, 'VT-d 3.14'));
  }
  if (!written) return refuse(out, UNSUPPORTED_REQUEST, REASON_NO_INTERRUPT);
  answer(out, walk.iovaHigh, walk.iovaLow, 0, 0);
  return STATUS_INTERRUPT;
}

/** TES = 0: untranslated requests pass, those with PASID only if the embedder wants what the architecture does. */
function answerDisabled(walk: Walk, out: Uint32Array, probe: Probe): number {
  const untranslated = !walk.translation && !walk.translated;
  const passes = untranslated && (!walk.hasPasid || walk.rules.architectural);
  if (probe !== undefined) {
    const step = modeStep(walk, 0);
    const check = 'with TES = 0 only untranslated requests pass, and without PASID';
    probe.push({ ...step, ok: passes, check, spec: 'VT-d 3.1' });
  }
  if (!passes) return refuse(out, UNSUPPORTED_REQUEST, REASON_TRANSLATION_DISABLED);
  answer(out, walk.iovaHigh, walk.iovaLow, 0, 0);
  return STATUS_BYPASS;
}

function answerFound(walk: Walk, iotlb: Iotlb, out: Uint32Array, probe: Probe): number {
  if (walk.translation) return answerTranslation(walk, out);
  const rights = (walk.canRead ? MAY_READ : 0) | (walk.canWrite && walk.dirty ? MAY_WRITE : 0);
  const shifted = (walk.access & PRIVILEGED) === 0 ? rights : rights << PRIVILEGED_SHIFT;
  if (probe === undefined) iotlb.tagNext(walk.domain, spaceOf(walk), walk.span);
  if (walk.passes) {
    answer(out, walk.iovaHigh, walk.iovaLow, 0, 0);
    return walk.translated ? STATUS_BYPASS : cacheable(STATUS_BYPASS, shifted);
  }
  answer(out, walk.high, walk.low, walk.page, permissionsOf(walk));
  return cacheable(TRANSLATED, shifted);
}

function spaceOf(walk: Walk): number {
  // Pass-through (4) goes with the first stage (1); 2 is the second stage, and 3 both.
  const reach = (walk.kind & 3) === 0 ? FIRST : (walk.kind & 3) * FIRST;
  return walk.pasid | reach;
}

function permissionsOf(walk: Walk): number {
  let permissions = 0;
  if (walk.canRead) permissions |= READ;
  if (walk.canWrite) permissions |= WRITE;
  if (walk.privilegedOnly) permissions |= PERMISSION_PRIVILEGED;
  return permissions;
}

/** The Translation Completion (4.2.3). */
function answerTranslation(walk: Walk, out: Uint32Array): number {
  if (walk.interruptRange) {
    if (walk.noWrite) return refuse(out, ATS, REASON_INTERRUPT_RANGE);
    const rights = WRITE | PERMISSION_UNTRANSLATED_ONLY;
    answer(out, walk.iovaHigh, walk.iovaLow, 12, rights);
    return ATS;
  }
  let permissions = (walk.canRead ? READ : 0) | (walk.canWrite ? WRITE : 0);
  if (walk.hasPasid && walk.privileged) permissions |= PERMISSION_PRIVILEGED;
  if (walk.snoop) permissions |= PERMISSION_NO_SNOOP;
  answer(out, walk.high, walk.low, walk.page, permissions);
  return ATS;
}

function answerFault(walk: Walk, faults: FaultLog, code: number, out: Uint32Array, probe: Probe): number {
  const kind = walk.translation ? answerOfFault(code) : -1;
  const succeeds = kind === SUCCESS || kind === SUCCESS_RECORDED;
  const failure = kind === CA ? COMPLETER_ABORT : UNSUPPORTED_REQUEST;
  const status = refuse(out, succeeds ? ATS : failure, reasonOfFault(code), code);
  if (succeeds && walk.hasPasid && walk.privileged) out[OUT_PERMISSIONS] = PERMISSION_PRIVILEGED;
  // Last, because its interrupt may come back with another request.
  if (kind !== SUCCESS && probe === undefined && !faults.isFull) recordFault(walk, faults, code);
  return status;
}

function recordFault(walk: Walk, faults: FaultLog, code: number): void {
  if (walk.fpd && isQualifiedFault(code)) return;
  const at = walk.translation ? 1 : walk.translated ? 2 : 0;
  const { rid, requestPasid, iovaHigh, iovaLow, executes, privileged, writes } = walk;
  const atomic = (walk.access & ATOMIC) === ATOMIC;
  const type = atomic ? ATOMIC_OP : writes ? WRITE_REQUEST : READ_REQUEST;
  faults.record(code, rid, iovaHigh, iovaLow, requestPasid, type, executes, privileged, at);
}
