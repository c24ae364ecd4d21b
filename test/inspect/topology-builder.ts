import type { DumpedFunction } from '../../src/inspect/index.ts';
import { tryParseBdf } from '../../src/pci/bdf.ts';

// Configuration spaces written down for the checks: only what Linux looks at.

export interface FunctionPlan {
  readonly bdf: string;
  /** Device/Port Type; null: no PCI Express Capability. */
  readonly type?: number | null;
  readonly version?: number;
  /** Device Capabilities 2. */
  readonly devCap2?: number;
  /** ACS Capability and Control; null: no such capability. */
  readonly acs?: readonly [capability: number, control: number] | null;
  readonly multiFunction?: boolean;
  /** Secondary bus: makes it a type 1 header. */
  readonly secondary?: number;
  readonly size?: number;
  readonly ids?: number;
}

const EXPRESS = 0x40;
const ACS = 0x100;

export function build(plan: FunctionPlan): DumpedFunction {
  const { type = 0, version = 2, devCap2 = 0x00300000, acs = null, size = 0x1000 } = plan;
  const view = new DataView(new ArrayBuffer(0x1000));
  view.setUint32(0, plan.ids ?? 0x56781234, true);
  view.setUint16(6, type === null ? 0 : 0x10, true);
  view.setUint32(8, 0x02000000, true);
  view.setUint8(0x0e, (plan.secondary === undefined ? 0 : 1) | (plan.multiFunction === true ? 0x80 : 0));
  if (plan.secondary !== undefined) view.setUint8(0x19, plan.secondary);
  if (type !== null) {
    view.setUint8(0x34, EXPRESS);
    view.setUint16(EXPRESS, 0x10, true);
    view.setUint16(EXPRESS + 2, version | (type << 4), true);
    view.setUint32(EXPRESS + 0x24, devCap2, true);
  }
  if (acs !== null) {
    view.setUint32(ACS, 0x0001000d, true);
    view.setUint16(ACS + 4, acs[0], true);
    view.setUint16(ACS + 6, acs[1], true);
  }
  const { bdf } = plan;
  const bytes = new Uint8Array(view.buffer).slice(0, size);
  return { bdf, rid: tryParseBdf(bdf)?.rid ?? -1, title: 'built', bytes };
}

/** A root port that is good enough, unless `changes` make it worse. */
export function rootPort(changes: Partial<FunctionPlan> = {}): FunctionPlan {
  return { bdf: '00:01.0', type: 4, secondary: 1, acs: [0x5f, 0x1d], ...changes };
}
