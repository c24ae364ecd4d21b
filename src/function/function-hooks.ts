import type { ResetKind } from '../pci/endpoint.ts';

/**
 * What a capability's registers can set off. The capability files know this interface only; `PciFunction`
 * implements it. Every call comes after the shadow was written.
 */
export interface FunctionHooks {
  /** The guest asked for a reset of the function. */
  initiateReset(kind: ResetKind): void;
  /** Command, a BAR, or the control register of a capability changed: whatever follows from it is worked out again. */
  registersChanged(): void;
  /** A port's bus numbers changed. */
  busNumbersChanged(): void;
  /** A port's window changed. */
  windowChanged(): void;
  /** The guest took the link below a port down (Secondary Bus Reset, Link Disable), or lets it come up again. */
  linkChanged(down: boolean): void;
  /** The guest wrote Slot Control or Slot Status; Slot Control read `previous` (16 bits) before. */
  slotControlWritten(previous: number): void;
  /** The MSI structure changed. */
  msiChanged(): void;
  /** MSI-X Message Control changed. */
  msiXChanged(): void;
  /** PMCSR at `offset` took power state `state` (0..3) after `previous`. */
  powerStateWritten(offset: number, previous: number, state: number): void;
}
