import type { SavedRegisters } from '../config/index.ts';
import { hex } from '../pci/bdf.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { InterruptState } from './interrupts/function-interrupts.ts';
import type { PasidCapability } from './capabilities/index.ts';

/** Version of {@link FunctionState}. */
export const FUNCTION_STATE_VERSION = 1;

/** What `PciFunction.saveState` gives: plain data, fit for JSON. */
export interface FunctionState {
  readonly version: number;
  /** Bytes of the guest's configuration space. */
  readonly size: number;
  /** Vendor ID in bits 15:0, Device ID in bits 31:16. */
  readonly id: number;
  /** The PASID capability shown, its offset included. */
  readonly pasid: PasidCapability | null;
  /** The guest has accessed the function. */
  readonly touched: boolean;
  /** Every bit that a guest can change, but for those that the embedder passes through raw. */
  readonly registers: SavedRegisters;
  /** What interrupts keep outside the registers. */
  readonly interrupts: InterruptState;
}

/** The function that a state is to be of. */
export interface StateHolder {
  readonly size: number;
  readonly id: number;
  readonly pasid: PasidCapability | undefined;
  readonly space: { fits(registers: SavedRegisters): boolean };
  readonly interrupts: { fits(state: InterruptState): boolean };
}

/**
 * `state`, when it is one of a function made like `holder`.
 *
 * @throws VpciError `VPCI_STATE` with what does not fit.
 */
export function checkFunctionState(
  state: unknown,
  holder: StateHolder,
): Pick<FunctionState, 'interrupts' | 'registers' | 'touched'> {
  if (!isRecord(state) || state['version'] !== FUNCTION_STATE_VERSION) {
    throw refused(`it is not a function's state of version ${FUNCTION_STATE_VERSION}`);
  }
  const { touched, registers, interrupts } = state;
  if (state['size'] !== holder.size)
    throw refused(`it is of ${String(state['size'])} bytes, and the function has ${holder.size}`);
  if (state['id'] !== holder.id) {
    const id = typeof state['id'] === 'number' ? hex(state['id'], 8) : 'none';
    throw refused(`its Device and Vendor ID are ${id}, and the function's are ${hex(holder.id, 8)}`);
  }
  const pasid = describe(isRecord(state['pasid']) ? state['pasid'] : undefined);
  if (pasid !== describe(holder.pasid)) {
    throw refused(`its PASID capability is ${pasid}, and the function shows ${describe(holder.pasid)}`);
  }
  if (typeof touched !== 'boolean' || !isRegisters(registers) || !isInterrupts(interrupts)) {
    throw refused('its registers are damaged');
  }
  if (!holder.space.fits(registers))
    throw refused('it is of a function with other registers: other capabilities, BARs or options');
  if (!holder.interrupts.fits(interrupts)) throw refused('it is of a function that has other interrupts');
  return { registers, touched, interrupts };
}

/** The dword at `offset` as a guest reads it, with the bits of the physical side as they were at power-on, 32 bits. */
export function shownDword(
  { virtual }: { readonly virtual: Int32Array },
  shadow: { peek(offset: number): number },
  image: ConfigSpace,
  offset: number,
): number {
  const mask = virtual[offset >>> 2] ?? 0;
  return ((image.read(offset, 4) & ~mask) | (shadow.peek(offset) & mask)) >>> 0;
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
  return Array.isArray(value) && value.every((entry) => isWords(entry) && entry.length === 3);
}

function isInterrupts(value: unknown): value is InterruptState {
  if (!isRecord(value) || typeof value['level'] !== 'boolean' || !isWord(value['msiPending'])) return false;
  const msiX = value['msiX'];
  return msiX === null || (isRecord(msiX) && isWords(msiX['table']) && isWords(msiX['pending']));
}

function isWords(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(isWord);
}

function isWord(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 32;
}
