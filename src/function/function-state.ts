import type { SavedRegisters } from '../config/index.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { InterruptState } from './interrupts/function-interrupts.ts';
import type { PasidCapability } from './pci-function.ts';

/** Version of {@link FunctionState}. */
export const FUNCTION_STATE_VERSION = 1;

/** What `PciFunction.saveState` gives: plain data, fit for JSON. */
export interface FunctionState {
  readonly version: number;
  /** Bytes of the guest's configuration space. */
  readonly size: number;
  /** The PASID capability shown, its offset included. */
  readonly pasid: PasidCapability | null;
  /** The guest has accessed the function. */
  readonly touched: boolean;
  /** Every dword that holds a bit a guest can change. */
  readonly registers: SavedRegisters;
  /** What interrupts keep outside the registers. */
  readonly interrupts: InterruptState;
}

/**
 * `state`, when it fits a function that shows `pasid` in `size` bytes.
 *
 * @throws VpciError `VPCI_STATE` with what does not fit.
 */
export function checkFunctionState(
  state: unknown,
  size: number,
  pasid: PasidCapability | undefined,
): Pick<FunctionState, 'interrupts' | 'registers' | 'touched'> {
  if (!isRecord(state) || state['version'] !== FUNCTION_STATE_VERSION) {
    throw refused(`it is not a function's state of version ${FUNCTION_STATE_VERSION}`);
  }
  const { touched, registers, interrupts } = state;
  if (state['size'] !== size)
    throw refused(`it is of ${String(state['size'])} bytes, and the function has ${size}`);
  const saved = state['pasid'];
  if (describe(isRecord(saved) ? saved : undefined) !== describe(pasid)) {
    throw refused(
      `its PASID capability is ${describe(isRecord(saved) ? saved : undefined)}, and the function shows ${describe(pasid)}`,
    );
  }
  if (typeof touched !== 'boolean' || !isRegisters(registers) || !isInterrupts(interrupts)) {
    throw refused('its registers are damaged');
  }
  return { registers, touched, interrupts };
}

function refused(why: string): VpciError {
  return new VpciError('VPCI_STATE', `the state cannot be restored: ${why}`);
}

function describe(pasid: PasidCapability | Record<string, unknown> | undefined): string {
  if (pasid === undefined) return 'none';
  const { offset, width, execute, privileged, control } = pasid;
  return [offset, width, execute, privileged, control].map(String).join('/');
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isRegisters(value: unknown): value is SavedRegisters {
  return (
    Array.isArray(value) &&
    value.every(
      (entry) => Array.isArray(entry) && entry.length === 2 && entry.every((one) => Number.isInteger(one)),
    )
  );
}

function isInterrupts(value: unknown): value is InterruptState {
  if (!isRecord(value) || typeof value['level'] !== 'boolean' || !Number.isInteger(value['msiPending']))
    return false;
  const msiX = value['msiX'];
  return msiX === null || (isRecord(msiX) && isWords(msiX['table']) && isWords(msiX['pending']));
}

function isWords(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((one) => Number.isInteger(one));
}
