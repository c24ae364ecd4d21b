import {
  createFunction,
  expressCapability,
  msiCapability,
  type PciFunction,
  powerManagementCapability,
  serialNumberCapability,
} from '../../../src/index.ts';
import { type Arguments, refuseOptions } from '../arguments.ts';
import { viewOptions } from '../view-options.ts';

/** Bits of PASID of the demonstration, unless `--pasid-width` says otherwise. */
const DEMO_WIDTH = 16;
const SCRATCH_BYTES = 0x1000;

/** A device of our own: PASID, ATS, PRI, MSI, and 4 KiB of registers that hold what is written to them. */
export function demoDevice(given: Arguments): { fn: PciFunction; bdf: string } {
  const scratch = new DataView(new ArrayBuffer(SCRATCH_BYTES));
  refuseOptions(given, ['function', 'id'], 'is about a dump: --demo has one device, with IDs of its own');
  const asked = viewOptions(given);
  const fn = createFunction({
    vendorId: 0x1b36,
    deviceId: 0x00f5,
    classCode: 0x120000,
    pasid: asked.pasid ?? { width: DEMO_WIDTH, execute: true, privileged: true },
    pasidOffset: asked.pasidOffset,
    control: asked.control,
    present: asked.present,
    ats: true,
    pri: true,
    capabilities: [
      powerManagementCapability(),
      msiCapability(),
      expressCapability(),
      serialNumberCapability(0x7650_6369_0000_0001n),
    ],
    bars: [
      {
        index: 0,
        size: SCRATCH_BYTES,
        read: (offset, size) => {
          if (size === 4) return scratch.getUint32(offset, true);
          return size === 2 ? scratch.getUint16(offset, true) : scratch.getUint8(offset);
        },
        write: (offset, size, value) => {
          if (size === 4) scratch.setUint32(offset, value, true);
          else if (size === 2) scratch.setUint16(offset, value, true);
          else scratch.setUint8(offset, value);
        },
      },
    ],
  });
  return { fn, bdf: '01:00.0' };
}
