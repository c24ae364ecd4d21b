import { mcfgTable } from '../../src/acpi/index.ts';
import type { FirmwareFile } from './machine.ts';

const E820_RAM = 1;
const E820_RESERVED = 2;

/**
 * The files by which SeaBIOS learns of the ECAM window: it adds each `acpi/*` file to the RSDT, and `etc/e820`
 * replaces what it would find out about memory itself.
 */
export function firmwareFiles(memorySize: number, ecamBase: number, ecamSize: number): FirmwareFile[] {
  return [
    { name: 'acpi/mcfg.bin', data: mcfgTable([{ base: ecamBase, endBus: ecamSize / 0x100000 - 1 }]) },
    {
      name: 'etc/e820',
      data: e820Map([
        [0, memorySize, E820_RAM],
        [ecamBase, ecamSize, E820_RESERVED],
      ]),
    },
  ];
}

/** Entries of 20 bytes: address, length, type. */
function e820Map(entries: readonly (readonly [address: number, length: number, type: number])[]): Uint8Array {
  const map = new Uint8Array(20 * entries.length);
  const view = new DataView(map.buffer);
  for (const [i, [address, length, type]] of entries.entries()) {
    view.setUint32(20 * i, address, true);
    view.setUint32(20 * i + 8, length, true);
    view.setUint32(20 * i + 16, type, true);
  }
  return map;
}
