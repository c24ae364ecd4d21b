// What an access of a guest in v86 costs, in v86's own PCI and in ours: the loop is x86 code, run by v86.
import { createRequire } from 'node:module';
import { V86 } from 'v86';
import { createFunction, type PciFunction, PciSegment } from 'vpci';
import { type Assembler, attachToV86, BareMetalGuest, multibootImage } from 'vpci/v86';
import type { Row } from './harness.ts';

const WASM_PATH: string = createRequire(import.meta.url).resolve('v86/build/v86.wasm');
/** The guest writes here after each block of accesses. */
const BLOCK_PORT = 0x5e4;
const BLOCK = 1000;
const ECAM_BASE = 0xb0000000;
const OURS = 0x100;
const HOST_BRIDGE = 0;
const BAR = 0xe1000000;

/** What the rows use inside v86; none of it is in its types. */
interface Machine {
  readonly io: { register_write(port: number, device: object, write8: () => void): void };
  main_loop(): number;
}

/** Rows about v86, with the emulators that they need. */
export async function v86Rows(): Promise<Row[]> {
  return [
    await row('v86 guest: empty loop, what the rows below have in common', undefined, () => undefined),
    await row("v86 guest: CF8 write and CFC read, v86's own PCI", undefined, (asm) => cam(asm, HOST_BRIDGE)),
    await row('v86 guest: CF8 write and CFC read, ours', segment(), (asm) => cam(asm, OURS)),
    await row("v86 guest: CF8 write and CFC read, v86's own behind ours", segment(), (asm) =>
      cam(asm, HOST_BRIDGE),
    ),
    await row('v86 guest: ECAM read of 32 bits', segment(), (asm) => load(asm, ECAM_BASE + OURS * 0x1000)),
    await row('v86 guest: BAR read of 32 bits', segment(), (asm) => load(asm, BAR)),
  ];
}

function segment(): PciSegment {
  const made = new PciSegment({ ecamBase: ECAM_BASE });
  const fn = made.add(OURS, device());
  fn.write(0x10, 4, BAR);
  fn.write(0x04, 2, 2);
  return made;
}

function device(): PciFunction {
  const bars = [{ index: 0, size: 0x1000, read: () => 0x1234 }];
  return createFunction({
    vendorId: 0x1af4,
    deviceId: 0x10f0,
    classCode: 0xff0000,
    pasid: { width: 16 },
    bars,
  });
}

function cam(asm: Assembler, rid: number): void {
  asm
    .mov('edx', 0xcf8)
    .mov('eax', 0x80000000 + (rid << 8))
    .out()
    .mov('edx', 0xcfc)
    .in();
}

function load(asm: Assembler, address: number): void {
  asm.load('eax', { offset: address });
}

/** A guest that does `access` for ever. */
async function row(
  name: string,
  behind: PciSegment | undefined,
  access: (asm: Assembler) => void,
): Promise<Row> {
  const image = multibootImage((asm) => {
    asm.label('block').mov('ecx', BLOCK).label('loop');
    access(asm);
    asm.arithmetic('sub', 'ecx', 1).jump('loop', 'notEqual');
    asm.mov('edx', BLOCK_PORT).out(1).jump('block');
  });
  const { emulator } = await BareMetalGuest.load(V86, { image, wasmPath: WASM_PATH });
  if (behind !== undefined) attachToV86(emulator, behind);
  // The class that v86 exports does not declare its machine.
  const machine: Machine = Reflect.get(Reflect.get(emulator, 'v86'), 'cpu');
  const done = { blocks: 0 };
  machine.io.register_write(BLOCK_PORT, {}, () => {
    done.blocks++;
  });
  return {
    name,
    allocationFree: false,
    make: () => (iterations) => {
      const end = done.blocks + iterations / BLOCK;
      // v86 runs for about a millisecond at a time.
      while (done.blocks < end) machine.main_loop();
      return done.blocks;
    },
  };
}
