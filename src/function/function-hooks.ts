import type { ResetKind } from '../pci/endpoint.ts';

/**
 * What a capability's registers can set off. The capability files know this interface only; `PciFunction`
 * implements it. Every call comes after the shadow was written.
 */
export interface FunctionHooks {
  /** The guest asked for a reset of the function. */
  initiateReset(kind: ResetKind): void;
  /** PASID Control reads `control` (16 bits) now. */
  pasidControlChanged(control: number): void;
  /** ATS Control reads `control` (16 bits) now. */
  atsControlChanged(control: number): void;
  /** Page Request Control reads `control` (16 bits) now; `offset` is that of its dword. */
  priControlChanged(control: number, offset: number): void;
}
