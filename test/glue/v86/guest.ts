// Plays accesses through real guest instructions: each op becomes x86 code that v86 runs.
import { createRequire } from 'node:module';
import { V86 } from 'v86';
import type { PciSegment } from 'vpci';
import {
  type Assembler,
  attachToV86,
  type AttachOptions,
  BareMetalGuest,
  multibootImage,
  ring,
  type V86Attachment,
} from 'vpci/v86';

export const WASM_PATH: string = createRequire(import.meta.url).resolve('v86/build/v86.wasm');
/** Where guests put what they read. */
export const RESULTS = 0x200000;

/** One access of the guest; `value` is there for a write. */
export type Op =
  | { readonly via: 'port'; readonly port: number; readonly size: number; readonly value?: number }
  | { readonly via: 'memory'; readonly address: number; readonly size: number; readonly value?: number }
  | {
      readonly via: 'cam';
      readonly rid: number;
      readonly offset: number;
      readonly size: number;
      readonly value?: number;
    }
  | {
      readonly via: 'ecam';
      readonly rid: number;
      readonly offset: number;
      readonly size: number;
      readonly value?: number;
    };

export const ECAM_BASE = 0xb0000000;

function port(asm: Assembler, at: number, size: number, value: number | undefined): void {
  asm.mov('edx', at);
  if (value === undefined) asm.mov('eax', 0).in(size).stosd();
  else asm.mov('eax', value).out(size);
}

function memory(asm: Assembler, address: number, size: number, value: number | undefined): void {
  if (value === undefined) asm.load('eax', { offset: address }, size).stosd();
  else asm.mov('eax', value).store({ offset: address }, 'eax', size);
}

/** Assembles `op`; `edi` points to where a result goes. */
export function assemble(asm: Assembler, op: Op): void {
  if (op.via === 'port') port(asm, op.port, op.size, op.value);
  else if (op.via === 'memory') memory(asm, op.address, op.size, op.value);
  else if (op.via === 'ecam') memory(asm, ECAM_BASE + op.rid * 0x1000 + op.offset, op.size, op.value);
  else {
    port(asm, 0xcf8, 4, 0x80000000 + (op.rid << 8) + (op.offset & 0xfc));
    port(asm, 0xcfc + (op.offset & 3), op.size, op.value);
  }
}

/** A guest with `program` in v86, and `segment` behind it. */
export async function boot(
  segment: PciSegment,
  program: (asm: Assembler) => void,
  options?: AttachOptions,
): Promise<{ guest: BareMetalGuest<V86>; attachment: V86Attachment }> {
  const guest = await BareMetalGuest.load(V86, { image: multibootImage(program), wasmPath: WASM_PATH });
  return { guest, attachment: attachToV86(guest.emulator, segment, options) };
}

/** What the reads among `ops` give when a guest carries all of them out, in order. */
export async function play(
  segment: PciSegment,
  ops: readonly Op[],
  options?: AttachOptions,
): Promise<number[]> {
  const { guest } = await boot(
    segment,
    (asm) => {
      asm.mov('edi', RESULTS);
      for (const op of ops) assemble(asm, op);
      ring(asm, 1);
    },
    options,
  );
  try {
    await guest.run();
    return [...guest.readWords(RESULTS, ops.filter(({ value }) => value === undefined).length)];
  } finally {
    await guest.close();
  }
}
