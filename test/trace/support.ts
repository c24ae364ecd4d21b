import { replay, type ReplayResult } from '../../src/trace/index.ts';

/** Offsets of the function of {@link endpointConfig}. */
export const EXPRESS = 0x40;
export const DEVICE_CONTROL = EXPRESS + 0x08;
/** Where the PASID capability of a function without other capabilities up there is put. */
export const PASID = 0xff8;

/** Registers of an endpoint with a PCI Express Capability of version 2 (FLR) at 0x40 and AER at 0x100. */
export function endpointConfig(change: (registers: DataView) => void = () => undefined): string {
  const bytes = new Uint8Array(4096);
  const registers = new DataView(bytes.buffer);
  registers.setUint32(0x00, 0x2941_10de, true);
  registers.setUint16(0x06, 0x0010, true);
  registers.setUint32(0x08, 0x0302_0001, true);
  registers.setUint8(0x34, EXPRESS);
  registers.setUint32(EXPRESS, 0x0002_0010, true);
  registers.setUint32(EXPRESS + 4, 0x1000_0000, true);
  registers.setUint16(DEVICE_CONTROL, 0x2810, true);
  registers.setUint32(0x100, 0x0001_0001, true);
  change(registers);
  return Buffer.from(bytes).toString('hex');
}

/** The results of a trace given as objects, or as text where it is no JSON. */
export function results(...lines: readonly (object | string)[]): ReplayResult[] {
  return [...replay(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))))];
}

/** The same without the line numbers. */
export function answers(...lines: readonly (object | string)[]): object[] {
  return results(...lines).map((result) =>
    Object.fromEntries(Object.entries(result).filter(([name]) => name !== 'i')),
  );
}

/** The code of the error that the last line of the trace gives. */
export function errorOf(...lines: readonly (object | string)[]): unknown {
  const last = results(...lines).find(({ i }) => i === lines.length);
  return (last?.['error'] as { code?: unknown } | undefined)?.code;
}
