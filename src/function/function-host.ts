import type { EndpointSink } from '../pci/endpoint.ts';
import type { PciFunction } from './pci-function.ts';

/** What a function tells the segment it is in. Calls come after the state has changed. */
export interface FunctionHost {
  /** BARs, windows or decode enables changed. */
  decodeChanged(fn: PciFunction): void;
  /** The function's interrupt pin (1..4) rose or fell. */
  pinChanged(fn: PciFunction, pin: number, asserted: boolean): void;
  /** A port's bus numbers changed. */
  busNumbersChanged(fn: PciFunction): void;
  /** The guest took the link below a port down (Secondary Bus Reset, Link Disable), or lets it come up again. */
  linkChanged(port: PciFunction, down: boolean): void;
  /** A port was reset: so is everything below, and its bus numbers are gone. */
  portReset(port: PciFunction): void;
  /** Whether the ports above let memory requests of `fn` through (PCIe 7.5.1.1.3). */
  passesRequests(fn: PciFunction): boolean;
}

/** Where a function is placed. */
export interface Placement {
  /** Requester ID, 16 bits; -1 while no bus number leads to it. */
  readonly rid: number;
  /** The vIOMMU that translates for it. */
  readonly sink: EndpointSink | undefined;
  readonly host: FunctionHost | undefined;
}
