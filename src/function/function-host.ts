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
  /** The guest set Secondary Bus Reset of a port: everything below is reset. */
  secondaryBusReset(fn: PciFunction): void;
}

/** Where a function is placed. */
export interface Placement {
  /** Requester ID, 16 bits; -1 while no bus number leads to it. */
  readonly rid: number;
  /** The vIOMMU that translates for it. */
  readonly sink: EndpointSink | undefined;
  readonly host: FunctionHost | undefined;
}
