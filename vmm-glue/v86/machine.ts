import { VpciError } from '../../src/index.ts';

/** A byte, word or dword handler of an I/O port; v86 calls it with the entry's `device` as `this`. */
export type PortRead = (port: number) => number;
export type PortWrite = (value: number) => void;

/** What v86 keeps for each of the 65,536 I/O ports. Values of dwords are signed. */
export interface PortEntry {
  read8: PortRead;
  read16: PortRead;
  read32: PortRead;
  write8: PortWrite;
  write16: PortWrite;
  write32: PortWrite;
  device: unknown;
}

/** Handlers of a block of memory space; addresses and dwords are signed. Undefined where the block is RAM. */
export type MemoryRead = (address: number) => number;
export type MemoryWrite = (address: number, value: number) => void;

/** A file that the firmware finds through fw_cfg. */
export interface FirmwareFile {
  /** At most 55 characters. */
  readonly name: string;
  readonly data: Uint8Array;
}

/**
 * What the adapter uses of v86's machine. Nothing of it is in v86's own types: the names are v86's, which its
 * published builds keep, and {@link machineOf} looks before use.
 */
export interface Machine {
  readonly io: { readonly ports: PortEntry[] };
  /** Bytes of RAM, as the one element of a view into v86's own memory. */
  readonly memory_size: { readonly 0: number };
  readonly memory_map_read8: (MemoryRead | undefined)[];
  readonly memory_map_write8: (MemoryWrite | undefined)[];
  readonly memory_map_read32: (MemoryRead | undefined)[];
  readonly memory_map_write32: (MemoryWrite | undefined)[];
  readonly option_roms: FirmwareFile[];
  readonly devices: {
    readonly pci: {
      /** Registers of v86's own functions, by requester ID. */
      readonly device_spaces: readonly unknown[];
      /** Registers of the PIIX3 ISA bridge. */
      readonly isa_bridge_space8: Uint8Array;
    };
  };
  mmap_write16: MemoryWrite;
  device_raise_irq: (irq: number) => void;
  device_lower_irq: (irq: number) => void;
  reboot_internal: () => void;
}

type Check = (value: unknown) => boolean;

const isFunction: Check = (value) => typeof value === 'function';
const isArray: Check = (value) => Array.isArray(value);
const BLOCKS = 0x8000;
const isBlockMap: Check = (value) => Array.isArray(value) && value.length === BLOCKS;

/** Where below the machine each need is, and what must be there. */
const NEEDS: readonly (readonly [path: string, check: Check])[] = [
  ['io.ports', (value) => Array.isArray(value) && value.length === 0x10000 && isPortEntry(value[0xcf8])],
  ['memory_size', (value) => typeof at(value, '0') === 'number' && at(value, '0') !== 0],
  ['memory_map_read8', isBlockMap],
  ['memory_map_write8', isBlockMap],
  ['memory_map_read32', isBlockMap],
  ['memory_map_write32', isBlockMap],
  ['option_roms', isArray],
  ['devices.pci.device_spaces', isArray],
  ['devices.pci.isa_bridge_space8', (value) => value instanceof Uint8Array && value.length === 0x100],
  ['mmap_write16', isFunction],
  ['device_raise_irq', isFunction],
  ['device_lower_irq', isFunction],
  ['reboot_internal', isFunction],
];

/**
 * The machine inside `emulator`, a `V86` of the npm package v86.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` when it is no loaded emulator, or of a version that lacks something.
 */
export function machineOf(emulator: object): Machine {
  const machine = at(emulator, 'v86.cpu');
  if (at(machine, 'io') === undefined || at(machine, 'devices') === undefined) {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      "this is no v86 emulator, or it has not loaded: attach after its 'emulator-loaded' event, before run()",
    );
  }
  if (isMachine(machine)) return machine;
  throw new VpciError(
    'VPCI_BAD_ARGUMENT',
    `this version of v86 does not fit: ${missing(machine).join(', ')} ${missing(machine).length === 1 ? 'is' : 'are'} not as in v86 0.5.462, with which vpci is tested; install that one`,
  );
}

function isMachine(machine: unknown): machine is Machine {
  return missing(machine).length === 0;
}

function missing(machine: unknown): string[] {
  return NEEDS.filter(([path, check]) => !check(at(machine, path))).map(([path]) => `cpu.${path}`);
}

function isPortEntry(entry: unknown): boolean {
  return [8, 16, 32].every(
    (bits) => isFunction(at(entry, `read${bits}`)) && isFunction(at(entry, `write${bits}`)),
  );
}

/** What `path` leads to from `root`; undefined when it leads nowhere. */
function at(root: unknown, path: string): unknown {
  let value = root;
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null) return undefined;
    value = Reflect.get(value, name);
  }
  return value;
}
