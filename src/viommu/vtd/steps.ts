import type { ExplanationStep, StepField } from '../explanation.ts';
import * as structures from './structures.ts';
import { OK, type Walk } from './walk-state.ts';

/**
 * The steps of a walk in words. Only `explain` gets here. `code` is 0, or the fault that the step ends with.
 *
 * @module
 */

type Fields = Readonly<Record<string, StepField>>;

/** What each fault code says was not so, and the section that asks for it. */
const CHECKS: Readonly<Record<number, readonly [check: string, spec: string]>> = {
  0x01: ['P = 1', '9.1'],
  0x02: ['P = 1', '9.3'],
  0x03: ['TT, and AW with it, are supported by CAP and ECAP', '9.3'],
  0x04: ['address < 2^min(MGAW, AW)', '3.7'],
  0x05: ['W = 1 at every level', '3.7.1'],
  0x06: ['R = 1 at every level', '3.7.1'],
  0x07: ['the paging entry can be read', '9.8'],
  0x08: ['the root entry can be read', '9.1'],
  0x09: ['the context entry can be read', '9.3'],
  0x0a: ['reserved bits are 0', '9.1'],
  0x0b: ['reserved bits are 0', '9.3'],
  0x0c: ['reserved bits are 0', '9.8'],
  0x0d: ['TT = 01 (ATS is not blocked)', '9.3'],
  0x0e: ['the address is outside FEEx_xxxxh', '3.14'],
  0x30: ['TTM is a mode that the unit supports, and SSIRWE fits it', '11.4.5'],
  0x31: ['a request in legacy mode has no PASID', '7.1.3'],
  0x32: ['page requests need scalable mode', '7.1.3'],
  0x33: ['the unit is not in abort-DMA mode', '11.4.5'],
  0x34: ['ER = 0', '7.1.3'],
  0x38: ['the root entry can be read', '9.2'],
  0x39: ['LP, or UP for devices 16 to 31, is 1', '9.2'],
  0x3a: ['reserved bits are 0', '9.2'],
  0x40: ['the context entry can be read', '9.4'],
  0x41: ['P = 1', '9.4'],
  0x42: ['reserved bits are 0', '9.4'],
  0x43: ['PRE needs DTE, EPTR needs PASIDE, and RID_PASID < 2^(PDTS + 13)', '9.4'],
  0x44: ['DTE = 1', '9.4'],
  0x45: ['PASIDE = 1', '9.4'],
  0x46: ['PASID < 2^(PDTS + 13)', '9.4'],
  0x47: ['PRE = 1', '9.4'],
  0x48: ['PASID is not RID_PASID', '9.4'],
  0x49: ['EPTR = 1', '9.4'],
  0x50: ['the PASID directory entry can be read', '9.5'],
  0x51: ['P = 1', '9.5'],
  0x52: ['reserved bits are 0', '9.5'],
  0x58: ['the PASID table entry can be read', '9.6'],
  0x59: ['P = 1', '9.6'],
  0x5a: ['reserved bits are 0', '9.6'],
  0x5b: ['PGTT, AW and FSPM are supported by CAP and ECAP', '9.6'],
  0x5c: ['ER = 0', '7.1.3'],
  0x5d: ['SRE = 1 for a privileged request', '9.6'],
  0x70: ['the paging entry can be read', '9.7'],
  0x71: ['P = 1', '9.7'],
  0x72: ['reserved bits are 0', '9.7'],
  0x73: ['the paging entry can be read', '9.7'],
  0x74: ['ADDR < 2^min(MGAW, AW)', '3.8'],
  0x75: ['the second stage lets the unit read the root table', '3.8'],
  0x76: ['the second stage lets the unit read the table', '3.8'],
  0x77: ['the second stage lets the unit set accessed and dirty flags', '3.8'],
  0x78: ['the paging entry can be read', '9.8'],
  0x79: ['R or W = 1, at every level together', '9.8'],
  0x7a: ['reserved bits are 0', '9.8'],
  0x7b: ['the paging entry can be read', '9.8'],
  0x7c: ['PWSNP = 1, or the accessed and dirty flags are set already', '3.7.2'],
  0x7d: ['accessed and dirty flags can be set', '3.7.2'],
  0x80: ['the address is canonical', '3.6'],
  0x81: ['U/S = 1 at every level, or the request is privileged', '3.6.1'],
  0x83: ['address < 2^HAW', '3.9'],
  0x84: ['address < 2^min(MGAW, AW)', '3.7'],
  0x85: ['there is the right to write', '3.6.1, 3.7.1'],
  0x86: ['there is the right to read', '3.7.1'],
  0x87: ['the address is outside FEEx_xxxxh', '3.14'],
  0x89: ['PASID < 2^(PSS + 1)', '11.4.3'],
  0x90: ['PWSNP = 1, or the accessed and dirty flags are set already', '3.6.3'],
  0x91: ['accessed and dirty flags can be set', '3.6.3'],
};

/** A step about no structure in memory. */
export function plainStep(
  structure: string,
  fields: Fields,
  ok: boolean,
  check: string,
  spec: string,
): ExplanationStep {
  return { structure, address: null, raw: [], fields, check, ok, spec };
}

/** Without fault the check is `good`, else that of the fault. */
function outcome(code: number, good: string, spec: string): Pick<ExplanationStep, 'check' | 'ok' | 'spec'> {
  const [check, section] = CHECKS[code] ?? [good, spec];
  return { check, ok: code === OK, spec: `VT-d ${section}` };
}

/** A step about the structure at the span that the walk has in memory. */
function memoryStep(
  walk: Walk,
  structure: string,
  high: number,
  low: number,
  words: number,
  fields: Fields,
  code: number,
  spec: string,
): ExplanationStep {
  const unread = ACCESS_ERRORS.has(code);
  const raw = unread ? [] : Array.from({ length: words }, (_, word) => walk.memory.load32(word) >>> 0);
  return {
    structure,
    address: join(high, low),
    raw,
    fields: unread ? {} : fields,
    ...outcome(code, 'present and well formed', spec),
  };
}

const ACCESS_ERRORS: ReadonlySet<number> = new Set([
  0x07, 0x08, 0x09, 0x38, 0x40, 0x50, 0x58, 0x70, 0x73, 0x78, 0x7b,
]);

/** The mode of the unit. */
export function modeStep(walk: Walk, code: number): ExplanationStep {
  const fields = { TES: walk.enabled, TTM: walk.mode, SSIRWE: walk.alternateRights };
  return { structure: 'unit', address: null, raw: [], fields, ...outcome(code, 'the mode', '11.4.5') };
}

export function rootStep(
  walk: Walk,
  high: number,
  low: number,
  upper: boolean,
  code: number,
): ExplanationStep {
  const where = { bus: walk.rid >>> 8, half: upper ? 'upper' : 'lower' };
  const fields = ACCESS_ERRORS.has(code) ? {} : { ...where, ...pointer(walk, upper ? 2 : 0) };
  return memoryStep(walk, 'root entry', high, low, 4, fields, code, '9.2');
}

export function contextStep(walk: Walk, high: number, low: number, code: number): ExplanationStep {
  const { memory } = walk;
  // Not those of the walk, which reads no more of an entry that is not present.
  const context0 = memory.load32(0);
  const context1 = memory.load32(1);
  const context2 = memory.load32(2);
  const fields = {
    P: bit(context0, structures.CONTEXT_P),
    FPD: bit(context0, structures.CONTEXT_FPD),
    DTE: bit(context0, structures.CONTEXT_DTE),
    PASIDE: bit(context0, structures.CONTEXT_PASIDE),
    PRE: bit(context0, structures.CONTEXT_PRE),
    EPTR: bit(context0, structures.CONTEXT_EPTR),
    PDTS: (context0 & structures.CONTEXT_PDTS) >>> structures.CONTEXT_PDTS_SHIFT,
    PASIDDIRPTR: join(context1, context0 & structures.POINTER),
    RID_PASID: context2 & structures.CONTEXT2_RID_PASID,
    RID_PRIV: bit(context2, structures.CONTEXT2_RID_PRIV),
  };
  return memoryStep(walk, 'context entry', high, low, 8, fields, code, '9.4');
}

export function legacyContextStep(walk: Walk, high: number, low: number, code: number): ExplanationStep {
  const { memory } = walk;
  const context0 = memory.load32(0);
  const context1 = memory.load32(1);
  const context2 = memory.load32(2);
  const fields = {
    P: bit(context0, structures.CONTEXT_P),
    FPD: bit(context0, structures.CONTEXT_FPD),
    TT: (context0 & structures.LEGACY_TT) >>> structures.LEGACY_TT_SHIFT,
    SSPTPTR: join(context1, context0 & structures.POINTER),
    AW: context2 & structures.LEGACY2_AW,
    DID: (context2 >>> structures.LEGACY2_DID_SHIFT) & structures.PASID2_DID,
  };
  return memoryStep(walk, 'context entry', high, low, 4, fields, code, '9.3');
}

/** What the context entry lets the request do. */
export function usesStep(walk: Walk, code: number): ExplanationStep {
  const fields = { PASID: walk.hasPasid ? walk.pasid : null, pasidLimit: walk.rules.pasidLimit };
  const end = outcome(code, 'the structures allow such a request', '7.1.3');
  return { structure: 'request', address: null, raw: [], fields, ...end };
}

export function legacyUsesStep(walk: Walk, code: number): ExplanationStep {
  const end = outcome(code, 'the context entry allows such a request', '7.1.3');
  return { structure: 'request', address: null, raw: [], fields: { domain: walk.domain }, ...end };
}

export function directoryStep(walk: Walk, high: number, low: number, code: number): ExplanationStep {
  const fields = ACCESS_ERRORS.has(code) ? {} : { PASID: walk.pasid, ...pointer(walk, 0) };
  return memoryStep(walk, 'PASID directory entry', high, low, 2, fields, code, '9.5');
}

export function pasidStep(walk: Walk, high: number, low: number, code: number): ExplanationStep {
  const { memory } = walk;
  const entry0 = memory.load32(0);
  const entry1 = memory.load32(1);
  const entry2 = memory.load32(2);
  const entry4 = memory.load32(4);
  const entry5 = memory.load32(5);
  const fields = {
    PASID: walk.pasid,
    P: bit(entry0, structures.PASID_P),
    FPD: bit(entry0, structures.PASID_FPD),
    AW: (entry0 & structures.PASID_AW) >>> structures.PASID_AW_SHIFT,
    PGTT: (entry0 & structures.PASID_PGTT) >>> structures.PASID_PGTT_SHIFT,
    SSADE: bit(entry0, structures.PASID_SSADE),
    SSPTPTR: join(entry1, entry0 & structures.POINTER),
    DID: entry2 & structures.PASID2_DID,
    PWSNP: bit(entry2, structures.PASID2_PWSNP),
    PGSNP: bit(entry2, structures.PASID2_PGSNP),
    SRE: bit(entry4, structures.PASID4_SRE),
    FSPM: (entry4 & structures.PASID4_FSPM) >>> structures.PASID4_FSPM_SHIFT,
    WPE: bit(entry4, structures.PASID4_WPE),
    EAFE: bit(entry4, structures.PASID4_EAFE),
    FSPTPTR: join(entry5, entry4 & structures.POINTER),
  };
  return memoryStep(walk, 'PASID table entry', high, low, 16, fields, code, '9.6');
}

/** The address against the width of what it goes into. */
export function addressStep(walk: Walk, code: number): ExplanationStep {
  const fields = { address: join(walk.iovaHigh, walk.iovaLow) };
  return { structure: 'address', address: null, raw: [], fields, ...outcome(code, 'the address fits', '3') };
}

export function firstStageStep(
  walk: Walk,
  level: number,
  high: number,
  low: number,
  code: number,
): ExplanationStep {
  const { memory } = walk;
  const fields = {
    level,
    P: bit(memory.low, structures.FS_P),
    'R/W': bit(memory.low, structures.FS_RW),
    'U/S': bit(memory.low, structures.FS_US),
    A: bit(memory.low, structures.FS_A),
    D: bit(memory.low, structures.FS_D),
    PS: bit(memory.low, structures.PS),
    ADDR: join(memory.high & structures.ADDR_HIGH, memory.low & structures.POINTER),
  };
  return memoryStep(walk, 'first-stage entry', high, low, 2, fields, code, '9.7');
}

export function secondStageStep(
  walk: Walk,
  level: number,
  high: number,
  low: number,
  code: number,
): ExplanationStep {
  const { memory } = walk;
  const alternate = walk.alternateRights;
  const fields = {
    level,
    R: alternate ? bit(memory.high, structures.SS_IR_HIGH) : bit(memory.low, structures.SS_R),
    W: alternate ? bit(memory.high, structures.SS_IW_HIGH) : bit(memory.low, structures.SS_W),
    PS: bit(memory.low, structures.PS),
    SNP: bit(memory.low, structures.SS_SNP),
    ADDR: join(memory.high & structures.ADDR_HIGH, memory.low & structures.POINTER),
  };
  return memoryStep(walk, 'second-stage entry', high, low, 2, fields, code, '9.8');
}

/** The rights that were found, and what became of them. */
export function rightsStep(walk: Walk, code: number): ExplanationStep {
  const fields = {
    read: walk.canRead,
    write: walk.canWrite,
    privilegedOnly: walk.privilegedOnly,
    privileged: walk.privileged,
  };
  const end = outcome(Math.max(code, 0), 'the rights are there', '3.6.1, 3.7.1');
  return { structure: 'rights', address: null, raw: [], fields, ...end };
}

/** The rights that the second stage gives as a whole. */
export function hostRightsStep(walk: Walk, code: number): ExplanationStep {
  const fields = { read: walk.hostRead, write: walk.hostWrite };
  const end = outcome(code, 'the rights are there', '3.7.1');
  return { structure: 'second-stage rights', address: null, raw: [], fields, ...end };
}

/** Two halves as one address. */
export function join(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** A present bit and a pointer, at a word of the span. */
function pointer(walk: Walk, word: number): Fields {
  const low = walk.memory.load32(word);
  return { P: low & 1, pointer: join(walk.memory.load32(word + 1), low & structures.POINTER) };
}

function bit(value: number, mask: number): number {
  return (value & mask) === 0 ? 0 : 1;
}
