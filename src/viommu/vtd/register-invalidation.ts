import type { Commands } from './commands.ts';
import { DESCRIPTOR_DONE } from './queues.ts';
import type { RegisterFile } from './register-file.ts';
import * as registers from './registers.ts';

/**
 * The guest writes one of the registers that invalidate (6.5.1), which a unit below version 6 has. They work in
 * legacy mode; elsewhere nothing is invalidated, and the actual granularity says so.
 */
export function writeInvalidation(
  file: RegisterFile,
  commands: Commands,
  offset: number,
  value: number,
): void {
  switch (offset) {
    case registers.CCMD:
    case registers.IVA:
    case registers.IVA + 4:
    case registers.IOTLB_REG:
      file.set(offset, value);
      break;
    case registers.CCMD + 4:
      file.set(offset, contextCommand(file, commands, value));
      break;
    case registers.IOTLB_REG + 4:
      file.set(offset, iotlbCommand(file, commands, value));
      break;
    default:
  }
}

/** What CCMD reads after it: ICC clear, and CAIG. */
function contextCommand(file: RegisterFile, commands: Commands, value: number): number {
  const granularity = (value >>> registers.CCMD_CIRG_SHIFT_HIGH) & 3;
  const low = file.get(registers.CCMD);
  const asked = (value & registers.CCMD_ICC_HIGH) !== 0 && commands.legacy;
  const mask = value & registers.CCMD_FM_HIGH;
  const done =
    asked && commands.contextCache(granularity, low & 0xffff, low >>> 16, mask) === DESCRIPTOR_DONE;
  const actual = done ? granularity << registers.CCMD_CAIG_SHIFT_HIGH : 0;
  return (value & ~registers.CCMD_ICC_HIGH & ~(3 << registers.CCMD_CAIG_SHIFT_HIGH)) | actual;
}

/** What IOTLB reads after it: IVT clear, and IAIG. */
function iotlbCommand(file: RegisterFile, commands: Commands, value: number): number {
  const granularity = (value >>> registers.IOTLB_IIRG_SHIFT_HIGH) & 3;
  const low = file.get(registers.IVA);
  const high = file.get(registers.IVA + 4);
  const asked = (value & registers.IOTLB_IVT_HIGH) !== 0 && commands.legacy;
  const domain = value & 0xffff;
  const done =
    asked && commands.iotlb(granularity, domain, low & registers.IVA_AM, high, low) === DESCRIPTOR_DONE;
  const actual = done ? granularity << registers.IOTLB_IAIG_SHIFT_HIGH : 0;
  return (value & ~registers.IOTLB_IVT_HIGH & ~(3 << registers.IOTLB_IAIG_SHIFT_HIGH)) | actual;
}
