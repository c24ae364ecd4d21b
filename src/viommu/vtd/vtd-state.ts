import type { ViommuState } from '../options.ts';
import { plainArray, plainEqual, plainInteger, plainObject, stateError } from '../plain-state.ts';
import type { RegisterFile } from './register-file.ts';
import * as registers from './registers.ts';

/** What the unit holds besides its registers. */
export interface VtdLatches {
  /** The root table pointer as latched by SRTP, as signed halves. */
  readonly rootHigh: number;
  readonly rootLow: number;
  /** TTM as latched. */
  readonly mode: number;
  /** SSIRWE as latched. */
  readonly alternateRights: boolean;
  /** The next fault recording register. */
  readonly faultIndex: number;
}

/** State of a `VtdIommu` as plain data. */
export interface VtdIommuState extends ViommuState {
  readonly model: 'vtd';
  /**
   * VER, CAP and ECAP as halves, the host address width, and 1 for the options `collapseFaults` and
   * `pasidWhenUnconfigured: 'architectural'`: the state fits a unit that has the same.
   */
  readonly identity: readonly number[];
  /** Registers that are not 0, as pairs of byte offset and value. */
  readonly registers: readonly (readonly [offset: number, value: number])[];
  readonly latched: VtdLatches;
}

const FIRST_WRITABLE: number = registers.GCMD;

export function saveVtdState(
  file: RegisterFile,
  identity: readonly number[],
  latched: VtdLatches,
): VtdIommuState {
  const values: [number, number][] = [];
  for (let offset = FIRST_WRITABLE; offset < registers.REGISTER_BYTES; offset += 4) {
    const value = file.get(offset) >>> 0;
    if (value !== 0) values.push([offset, value]);
  }
  return { version: 1, model: 'vtd', identity, registers: values, latched };
}

/**
 * Checks a saved state.
 *
 * @throws VpciError `VPCI_STATE` when it is none, or one of a unit with other options.
 */
export function loadVtdState(
  state: unknown,
  identity: readonly number[],
  faultRecords: number,
): Pick<VtdIommuState, 'registers' | 'latched'> {
  const root = plainObject(state, 'the root');
  plainEqual(root['version'], 1, 'version');
  plainEqual(root['model'], 'vtd', 'model');
  const saved = plainArray(root['identity'], 'identity');
  for (const [index, word] of identity.entries()) plainEqual(saved[index], word, `identity[${index}]`);
  const latched = plainObject(root['latched'], 'latched');
  const values = plainArray(root['registers'], 'registers').map((item, index): [number, number] => {
    const where = `registers[${index}]`;
    const pair = plainArray(item, where);
    const last = registers.REGISTER_BYTES - 4;
    const offset = plainInteger(pair[0], FIRST_WRITABLE, last, `${where}[0]`);
    const value = plainInteger(pair[1], 0, 0xffff_ffff, `${where}[1]`);
    const known = maskOf(offset, faultRecords);
    if (offset % 4 !== 0 || (value & ~known) !== 0) throw stateError(where, 'a register', value);
    return [offset, value];
  });
  return {
    registers: values,
    latched: {
      rootHigh: plainInteger(latched['rootHigh'], -0x8000_0000, 0x7fff_ffff, 'latched.rootHigh'),
      rootLow: plainInteger(latched['rootLow'], -0x8000_0000, 0x7fff_ffff, 'latched.rootLow') & ~0xfff,
      mode: plainInteger(latched['mode'], 0, 3, 'latched.mode'),
      alternateRights: plainBoolean(latched['alternateRights'], 'latched.alternateRights'),
      faultIndex: plainInteger(latched['faultIndex'], 0, faultRecords - 1, 'latched.faultIndex'),
    },
  };
}

function plainBoolean(value: unknown, where: string): boolean {
  if (typeof value === 'boolean') return value;
  throw stateError(where, 'true or false', value);
}

/** Bits that a register can have. */
function maskOf(offset: number, faultRecords: number): number {
  if (offset >= registers.FRCD && offset < registers.FRCD + faultRecords * registers.FRCD_BYTES) return -1;
  return MASKS.get(offset) ?? 0;
}

const EVENT_CONTROL = registers.EVENT_IM | registers.EVENT_IP;
const POINTER = 0xffff_f000;
const MASKS: ReadonlyMap<number, number> = new Map<number, number>([
  [registers.GSTS, registers.GCMD_TE | registers.GCMD_SRTP | registers.GCMD_QIE],
  [registers.RTADDR, POINTER | registers.RTADDR_TTM | registers.RTADDR_SSIRWE],
  [registers.RTADDR + 4, -1],
  [registers.CCMD, -1],
  [registers.CCMD + 4, -1],
  [
    registers.FSTS,
    registers.FSTS_PFO |
      registers.FSTS_PPF |
      registers.FSTS_IQE |
      registers.FSTS_ICE |
      registers.FSTS_ITE |
      registers.FSTS_FRI,
  ],
  ...eventMasks(registers.FECTL),
  [registers.IQH, registers.IQ_OFFSET],
  [registers.IQT, registers.IQ_OFFSET],
  [registers.IQA, POINTER | registers.IQA_QS | registers.IQA_DW],
  [registers.IQA + 4, -1],
  [registers.ICS, registers.ICS_IWC],
  ...eventMasks(registers.IECTL),
  [registers.IQERCD + 4, 0xffff],
  [registers.PQH, registers.PQ_OFFSET],
  [registers.PQT, registers.PQ_OFFSET],
  [registers.PQA, POINTER | registers.PQA_PQS],
  [registers.PQA + 4, -1],
  [registers.PRS, registers.PRS_PPR | registers.PRS_PRO],
  ...eventMasks(registers.PECTL),
  [registers.IVA, -1],
  [registers.IVA + 4, -1],
  [registers.IOTLB_REG, -1],
  [registers.IOTLB_REG + 4, -1],
]);

function eventMasks(control: number): [number, number][] {
  return [
    [control, EVENT_CONTROL],
    [control + registers.EVENT_DATA, -1],
    [control + registers.EVENT_ADDRESS, -4],
    [control + registers.EVENT_UPPER_ADDRESS, -1],
  ];
}
