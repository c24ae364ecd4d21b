import { ATS_CONTROL, ATS_ENABLE, PRI_CONTROL, PRI_ENABLE } from '../pci/ats.ts';
import type { EndpointState } from '../pci/endpoint.ts';
import * as pasid from '../pci/pasid.ts';

/** Where the synthesized capabilities with latches are; undefined when they are not shown. */
export interface LatchOffsets {
  readonly pasid: number | undefined;
  readonly ats: number | undefined;
  readonly pri: number | undefined;
}

/** Brings the latches of `state` in line with the registers that they mirror. */
export function readLatches(state: EndpointState, at: LatchOffsets, peek: (offset: number) => number): void {
  latchPasid(state, at.pasid === undefined ? 0 : peek(at.pasid + pasid.PASID_CONTROL) >>> 16);
  state.atsEnable = at.ats !== undefined && ((peek(at.ats + ATS_CONTROL) >>> 16) & ATS_ENABLE) !== 0;
  state.priEnable = at.pri !== undefined && (peek(at.pri + PRI_CONTROL) & PRI_ENABLE) !== 0;
}

/** Takes over PASID Control, 16 bits. */
export function latchPasid(state: EndpointState, control: number): void {
  state.pasidEnable = (control & pasid.PASID_ENABLE) !== 0;
  state.executeEnable = (control & pasid.PASID_EXECUTE_PERMISSION_ENABLE) !== 0;
  state.privilegedEnable = (control & pasid.PASID_PRIVILEGED_MODE_ENABLE) !== 0;
}
