import type { ResetKind } from '../pci/endpoint.ts';

/**
 * What a capability's registers can set off. The capability files know this interface only; `PciFunction`
 * implements it. Every call comes after the shadow was written.
 */
export interface FunctionHooks {
  /** The guest asked for a reset of the function. */
  initiateReset(kind: ResetKind): void;
  /** Command changed: decoding, bus mastering or the interrupt pin may have. */
  commandChanged(): void;
  /** A BAR changed. */
  decodeChanged(): void;
  /** A port's bus numbers changed. */
  busNumbersChanged(): void;
  /** A port's window changed. */
  windowChanged(): void;
  /** The guest took the link below a port down (Secondary Bus Reset, Link Disable), or lets it come up again. */
  linkChanged(down: boolean): void;
  /** The guest wrote Slot Control or Slot Status; Slot Control reads `control` (16 bits) after `previous`. */
  slotControlWritten(previous: number, control: number): void;
  /** The guest wrote the MSI structure. */
  msiWritten(): void;
  /** The guest wrote MSI-X Message Control. */
  msiXWritten(): void;
  /** PMCSR at `offset` took power state `state` (0..3) after `previous`. */
  powerStateWritten(offset: number, previous: number, state: number): void;
  /** PASID Control reads `control` (16 bits) now. */
  pasidControlChanged(control: number): void;
  /** ATS Control reads `control` (16 bits) now. */
  atsControlChanged(control: number): void;
  /** Page Request Control changed. */
  priControlChanged(): void;
}
