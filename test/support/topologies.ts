import {
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  type EmulatedOptions,
  type PciFunction,
  type PciSegment,
} from '../../src/index.ts';

/** An endpoint of device ID `deviceId`, by which a test knows it again. */
export function endpoint(deviceId: number, options: Partial<EmulatedOptions> = {}): PciFunction {
  return createFunction({ vendorId: 0x1234, deviceId, classCode: 0x020000, ...options });
}

/** Writes the three bus numbers of a port through its own registers. */
export function number(port: PciFunction, primary: number, secondary: number, subordinate: number): void {
  port.write(0x18, 4, primary | (secondary << 8) | (subordinate << 16));
}

/** A root port at `bdf` with a switch of `ports` downstream ports behind it. */
export interface Switch {
  readonly root: PciFunction;
  readonly upstream: PciFunction;
  readonly downstream: readonly PciFunction[];
}

/** Nothing is numbered yet. */
export function addSwitch(segment: PciSegment, bdf: string, ports: number): Switch {
  const root = segment.add(bdf, createRootPort());
  const upstream = segment.plug(root, createUpstreamPort());
  const downstream = Array.from({ length: ports }, (_, device) =>
    segment.plug(upstream, createDownstreamPort(), { device }),
  );
  return { root, upstream, downstream };
}

/** Address of a function now, for comparisons; undefined out of reach. */
export function ridOf(fn: PciFunction): number | undefined {
  const { rid } = fn.endpointState;
  return rid === -1 ? undefined : rid;
}
