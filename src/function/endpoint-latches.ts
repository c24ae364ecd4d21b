import { ATS_CONTROL, ATS_ENABLE, PRI_CONTROL, PRI_ENABLE, PRI_STOPPED } from '../pci/ats.ts';
import * as id from '../pci/capability-ids.ts';
import type { EndpointState } from '../pci/endpoint.ts';
import * as pasid from '../pci/pasid.ts';
import type { ShownPasid } from './capabilities/index.ts';
import type { PlannedCapability } from './guest-plan.ts';
import type { RegisterFile } from './interrupts/interrupt-types.ts';

/** Where the synthesized capabilities with latches are; undefined when they are not shown. */
export interface LatchOffsets {
  readonly pasid: number | undefined;
  readonly ats: number | undefined;
  readonly pri: number | undefined;
}

/** Where they are in the guest's extended chain. */
export function latchOffsets(extended: readonly PlannedCapability[]): LatchOffsets {
  const at = (capability: number): number | undefined =>
    extended.find((one) => one.id === capability && one.synthesized)?.offset;
  return { pasid: at(id.EXT_CAP_PASID), ats: at(id.EXT_CAP_ATS), pri: at(id.EXT_CAP_PAGE_REQUEST) };
}

/** Tells in `state` what the guest is shown. */
export function showLatches(state: EndpointState, at: LatchOffsets, shown: ShownPasid | undefined): void {
  state.pasidWidth = shown?.width ?? 0;
  state.execute = shown?.execute ?? false;
  state.privileged = shown?.privileged ?? false;
  state.ats = at.ats !== undefined;
  state.pri = at.pri !== undefined;
}

/** Brings the latches of `state` in line with the registers that they mirror, and Stopped with Page Request Enable. */
export function settleLatches(state: EndpointState, at: LatchOffsets, registers: RegisterFile): void {
  const control = at.pasid === undefined ? 0 : registers.peek(at.pasid + pasid.PASID_CONTROL) >>> 16;
  state.pasidEnable = (control & pasid.PASID_ENABLE) !== 0;
  state.executeEnable = (control & pasid.PASID_EXECUTE_PERMISSION_ENABLE) !== 0;
  state.privilegedEnable = (control & pasid.PASID_PRIVILEGED_MODE_ENABLE) !== 0;
  state.atsEnable =
    at.ats !== undefined && ((registers.peek(at.ats + ATS_CONTROL) >>> 16) & ATS_ENABLE) !== 0;
  state.priEnable = at.pri !== undefined && (registers.peek(at.pri + PRI_CONTROL) & PRI_ENABLE) !== 0;
  // Nothing is outstanding in a model without a device: Stopped follows Enable at once (PCIe 10.5.2.3).
  const stopped = PRI_STOPPED << 16;
  if (at.pri !== undefined) registers.poke(at.pri + PRI_CONTROL, stopped, state.priEnable ? 0 : stopped);
}
