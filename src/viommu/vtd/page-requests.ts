import { type GuestMemory, SPAN_OK } from '../../memory/index.ts';
import { NO_PASID } from '../access.ts';
import { PRG_INVALID_REQUEST, PRG_SUCCESS, type PrgResponseCode } from '../device-port.ts';
import type { PageRequestEvent } from '../events.ts';
import { isStopMarker, type PageRequestAnswer } from '../page-request.ts';
import { findContext, isEptrAlone } from './context.ts';
import { checkMode, checkPasid, useRidPasid } from './decide.ts';
import type { EventRegisters } from './event-registers.ts';
import { type FaultLog, RECORD_PAGE_REQUEST } from './fault-log.ts';
import { isQualifiedFault } from './faults.ts';
import { findPasidEntry } from './pasid-table.ts';
import type { RegisterFile } from './register-file.ts';
import { PQ_OFFSET, PQA, PQA_PQS, PQH, PQT, PRS, PRS_PPR, PRS_PRO, TTM_LEGACY } from './registers.ts';
import { CONTEXT_PASIDE, CONTEXT_PRE } from './structures.ts';
import { OK, PENDING, type Walk } from './walk-state.ts';

/** A page request descriptor (7.4.1), 32 bytes. */
const DESCRIPTOR_WORDS = 8;
const TYPE_PAGE_REQUEST = 0x01;
const PP = 0x0000_0100;
const RID_SHIFT = 16;
const WORD1_EXR = 0x0010_0000;
const WORD1_PMR = 0x0020_0000;
const WORD2_RDR = 0x0000_0001;
const WORD2_WRR = 0x0000_0002;
const WORD2_LPIG = 0x0000_0004;
const WORD2_PRGI_SHIFT = 3;

/** The page request queue (7.4). */
export class PageRequestQueue {
  readonly #registers: RegisterFile;
  readonly #memory: GuestMemory;
  readonly #event: EventRegisters;
  readonly #dropsStopMarkers: boolean;
  readonly #words = new Int32Array(DESCRIPTOR_WORDS);

  constructor(
    registers: RegisterFile,
    memory: GuestMemory,
    event: EventRegisters,
    dropsStopMarkers: boolean,
  ) {
    this.#dropsStopMarkers = dropsStopMarkers;
    this.#registers = registers;
    this.#memory = memory;
    this.#event = event;
  }

  /**
   * Writes a descriptor; false when there is no room, or the memory is not there. Then PRO is set, but for a
   * stop marker that the unit may drop (ECAP.SMS).
   */
  add(request: PageRequestEvent): boolean {
    const registers = this.#registers;
    if (registers.has(PRS, PRS_PRO)) return false;
    const base = registers.get(PQA);
    const size = 0x1000 << (base & PQA_PQS);
    const tail = registers.get(PQT) & (size - 1) & PQ_OFFSET;
    const next = (tail + DESCRIPTOR_WORDS * 4) & (size - 1);
    const full = next === (registers.get(PQH) & (size - 1));
    const address = ((base & ~0xfff) >>> 0) + tail;
    const high = registers.get(PQA + 4) + (address > 0xffff_ffff ? 1 : 0);
    if (full || this.#store(high | 0, address | 0, request) !== SPAN_OK) {
      if (!(this.#dropsStopMarkers && isStopMarker(request))) this.#raise(PRS_PRO);
      return false;
    }
    registers.set(PQT, next);
    this.#raise(PRS_PPR);
    return true;
  }

  /** The guest writes PRS: ones clear. */
  writeStatus(value: number): void {
    this.#registers.clear(PRS, value & (PRS_PPR | PRS_PRO));
    if (!this.#registers.has(PRS, PRS_PPR | PRS_PRO)) this.#event.serviced();
  }

  #raise(condition: number): void {
    const earlier = this.#registers.has(PRS, PRS_PPR | PRS_PRO);
    this.#registers.or(PRS, condition);
    if (!earlier) this.#event.raise();
  }

  #store(high: number, low: number, request: PageRequestEvent): number {
    const words = this.#words;
    const { pasid } = request;
    words[0] = TYPE_PAGE_REQUEST | (pasid === null ? 0 : PP) | (request.rid << RID_SHIFT);
    words[1] =
      (pasid ?? 0) |
      (pasid !== null && request.execute ? WORD1_EXR : 0) |
      (pasid !== null && request.privileged ? WORD1_PMR : 0);
    words[2] =
      (request.read ? WORD2_RDR : 0) |
      (request.write ? WORD2_WRR : 0) |
      (request.last ? WORD2_LPIG : 0) |
      (request.prgi << WORD2_PRGI_SHIFT) |
      Number(request.address & 0xffff_f000n);
    words[3] = Number(request.address >> 32n);
    return this.#memory.store(high, low, words, DESCRIPTOR_WORDS);
  }
}

/**
 * Decides a page request (7.1.3, 7.4): checks, then the queue.
 *
 * @returns undefined while guest memory has to be fetched
 */
export function decidePageRequest(
  walk: Walk,
  faults: FaultLog,
  queue: PageRequestQueue,
  request: PageRequestEvent,
): PageRequestAnswer | undefined {
  const pasid = request.pasid ?? NO_PASID;
  walk.begin(request.rid, pasid, Number(request.address >> 32n), Number(request.address & 0xffff_ffffn), 0);
  const code = walk.enabled ? checkPageRequest(walk) : 0;
  if (code === PENDING) return undefined;
  if (walk.enabled && code === OK) {
    if (queue.add(request)) return { queued: true };
    return refusePageRequest(request, PRG_SUCCESS);
  }
  if (code !== OK && !(walk.fpd && isQualifiedFault(code))) {
    const { rid, iovaHigh, iovaLow } = walk;
    const { execute, privileged } = request;
    faults.record(code, rid, iovaHigh, iovaLow, pasid, RECORD_PAGE_REQUEST, execute, privileged, 0);
  }
  return refusePageRequest(request, PRG_INVALID_REQUEST);
}

/** The unit's own answer: only the last request of a group gets one, and a stop marker none. */
export function refusePageRequest(request: PageRequestEvent, response: PrgResponseCode): PageRequestAnswer {
  if (!request.last || isStopMarker(request)) return { queued: false };
  return { queued: false, response, ...(request.pasid === null ? {} : { pasid: request.pasid }) };
}

function checkPageRequest(walk: Walk): number {
  if (walk.mode === TTM_LEGACY) return 0x32;
  let code = checkMode(walk);
  if (code === OK) code = findContext(walk, undefined);
  if (code !== OK) return code;
  const { context0 } = walk;
  if (isEptrAlone(context0) && !walk.hasPasid) return 0x43;
  if ((context0 & CONTEXT_PRE) === 0) return 0x47;
  if (walk.hasPasid) {
    if ((context0 & CONTEXT_PASIDE) === 0) return 0x45;
    code = checkPasid(walk);
    if (code !== OK) return code;
  }
  useRidPasid(walk);
  return findPasidEntry(walk, undefined);
}
