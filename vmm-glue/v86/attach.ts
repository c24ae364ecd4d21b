import { formatBdf, type PciSegment, type SegmentEvents, VpciError } from '../../src/index.ts';
import { hex } from '../../src/pci/bdf.ts';
import { CONFIG_ADDRESS_PORT, CONFIG_DATA_PORT } from '../../src/segment/config-mechanism.ts';
import { BarWindows } from './bar-windows.ts';
import { ConfigAccess } from './config-access.ts';
import { firmwareFiles } from './firmware-files.ts';
import type { AccessListener } from './guest-access.ts';
import { InterruptLines } from './interrupt-lines.ts';
import { type Machine, machineOf } from './machine.ts';
import { BLOCK_SIZE, MemoryBlocks } from './memory-blocks.ts';
import { override } from './override.ts';
import { OwnFunctions } from './own-functions.ts';
import { PortClaims, type PortHandler } from './ports.ts';

/** Options of {@link attachToV86}. */
export interface AttachOptions {
  /**
   * Hears of each guest access to the segment, after it was carried out. v86 splits a 16-bit read of memory space
   * into two of 8 bits. Must not throw.
   */
  readonly onAccess?: AccessListener | undefined;
}

/** A segment behind v86. */
export interface V86Attachment {
  /** Takes the segment out of v86 and puts everything back as it was. Doing it twice does nothing. */
  detach(): void;
}

/** Where SeaBIOS' ACPI code looks for PCI hot-plug; v86 has nothing there, and all-ones says "eject every slot". */
const HOT_PLUG_FIRST = 0xae00;
const HOT_PLUG_LAST = 0xae0b;
/** From here on memory space is v86's: its frame buffer, interrupt controllers and firmware. */
const FRAME_BUFFER = 0xe0000000;

const attached = new WeakSet<Machine>();

/**
 * Puts `segment` behind `emulator`, a `V86` of the npm package v86, in Node or in a browser: the ports at 0xcf8, the
 * ECAM window and the tables that tell the firmware of it, BARs wherever the guest puts them, and INTx. v86's own
 * devices stay where they are on bus 0. A reset of the machine resets the segment.
 *
 * Attach after the `emulator-loaded` event and before `run()`; `docs/v86.md` has an example.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` when the emulator has not loaded, is of a version that does not fit, or has a
 * segment already; `VPCI_ECAM` when the window does not fit into its memory space; `VPCI_BDF_TAKEN` when a function
 * is at an address where v86 has one.
 */
export function attachToV86(
  emulator: object,
  segment: PciSegment,
  options: AttachOptions = {},
): V86Attachment {
  const machine = machineOf(emulator);
  if (attached.has(machine)) {
    throw new VpciError('VPCI_BAD_ARGUMENT', 'this v86 has a segment already: detach that one first');
  }
  checkWindow(machine, segment);
  const ports = new PortClaims(machine.io.ports);
  const own = new OwnFunctions(machine, ports);
  checkFunctions(segment, own);

  attached.add(machine);
  const { onAccess } = options;
  const lines = new InterruptLines(machine);
  const config = new ConfigAccess(segment, own, () => lines.update(), onAccess);
  claimPorts(ports, segment, config);
  const window = new MemoryBlocks(machine, config.window);
  window.replace(blocksOf(segment));
  const bars = new BarWindows(machine, segment, ports, onAccess);
  bars.update(segment.windows());
  const decode = ({ windows }: SegmentEvents['decode']): void => bars.update(windows);
  const intx = (event: SegmentEvents['intx']): void => lines.pinChanged(event);
  segment.on('decode', decode).on('intx', intx);
  const files = firmwareFiles(machine.memory_size[0], segment.ecamBase, segment.ecamSize);
  machine.option_roms.push(...files);
  const restore = [wholeWords(machine, window, config, bars), resetWith(machine, segment)];

  return {
    detach() {
      if (!attached.delete(machine)) return;
      segment.off('decode', decode).off('intx', intx);
      for (const undo of restore) undo();
      for (const file of files) {
        const at = machine.option_roms.indexOf(file);
        if (at !== -1) machine.option_roms.splice(at, 1);
      }
      bars.update([]);
      window.replace(new Set());
      lines.release();
      ports.releaseAll();
    },
  };
}

function checkWindow({ memory_size }: Machine, { ecamBase, ecamSize }: PciSegment): void {
  if (ecamBase >= memory_size[0] && ecamBase + ecamSize <= FRAME_BUFFER) return;
  throw new VpciError(
    'VPCI_ECAM',
    `the ECAM window at 0x${hex(ecamBase)}, ${ecamSize / 0x100000} MiB, must be above v86's RAM of 0x${hex(memory_size[0])} bytes and below its frame buffer at 0x${hex(FRAME_BUFFER)}: give PciSegment another ecamBase or fewer buses`,
  );
}

function checkFunctions(segment: PciSegment, own: OwnFunctions): void {
  for (const [rid] of segment.functions()) {
    if (!own.has(rid)) continue;
    throw new VpciError(
      'VPCI_BDF_TAKEN',
      `v86 has a function of its own at ${formatBdf(rid)}: add yours elsewhere, such as on bus 1`,
    );
  }
}

function blocksOf({ ecamBase, ecamSize }: PciSegment): Set<number> {
  const first = ecamBase / BLOCK_SIZE;
  return new Set(Array.from({ length: ecamSize / BLOCK_SIZE }, (_, i) => first + i));
}

function claimPorts(ports: PortClaims, segment: PciSegment, config: ConfigAccess): void {
  // Bytes and words at 0xcf8 are no business of the configuration mechanism; 0xcf9 resets the machine.
  const address: PortHandler = {
    read: (port, size) => (size === 4 ? segment.pioRead(port, 4) : readNarrow(ports, port, size)),
    write: (port, size, value) => {
      if (size === 4) segment.pioWrite(port, 4, value);
      else writeNarrow(ports, port, size, value);
    },
  };
  ports.claim(CONFIG_ADDRESS_PORT, address);
  for (let lane = 0; lane < 4; lane++) ports.claim(CONFIG_DATA_PORT + lane, config.dataPort);
  const nothing: PortHandler = { read: () => 0, write: () => undefined };
  for (let port = HOT_PLUG_FIRST; port <= HOT_PLUG_LAST; port++) ports.claim(port, nothing);
}

function readNarrow(ports: PortClaims, port: number, size: number): number {
  const entry = ports.previous(port);
  if (entry === undefined) return 0xffff;
  return (size === 2 ? entry.read16 : entry.read8).call(entry.device, port);
}

function writeNarrow(ports: PortClaims, port: number, size: number, value: number): void {
  const entry = ports.previous(port);
  (size === 2 ? entry?.write16 : entry?.write8)?.call(entry?.device, value);
}

/** v86 makes two writes of a 16-bit write to memory space; here it stays one. */
function wholeWords(
  machine: Machine,
  window: MemoryBlocks,
  config: ConfigAccess,
  bars: BarWindows,
): () => void {
  const halves = machine.mmap_write16;
  return override(machine, 'mmap_write16', (address, value) => {
    if (window.answersAt(address)) config.ecamWrite(address >>> 0, 2, value & 0xffff);
    else if (bars.blocks.answersAt(address) && bars.claims(address))
      bars.write(address >>> 0, 2, value & 0xffff);
    else halves.call(machine, address, value);
  });
}

function resetWith(machine: Machine, segment: PciSegment): () => void {
  const reboot = machine.reboot_internal;
  return override(machine, 'reboot_internal', () => {
    segment.reset('bus');
    reboot.call(machine);
  });
}
