import type { PciFunction } from '../function/index.ts';
import type { Topology } from './topology.ts';

/** An interrupt line of the root bus. */
export interface RootInterrupt {
  /** Device number on the root bus, 0..31. */
  readonly device: number;
  /** 1..4 for INTA..INTD; 0 when the function has no pin. */
  readonly pin: number;
}

/** Where pin `pin` of `fn` comes out on the root bus: each port turns the pin by the device number (PCIe 2.2.8.1). */
export function rootInterrupt(topology: Topology, fn: PciFunction, pin: number): RootInterrupt {
  let at = fn;
  let turned = pin;
  for (const port of topology.above(fn)) {
    const device = topology.plugOf(at)?.device ?? 0;
    if (turned !== 0) turned = ((turned - 1 + device) % 4) + 1;
    at = port;
  }
  return { device: (at.endpointState.rid >>> 3) & 0x1f, pin: turned };
}
