import { Assembler } from './assembler.ts';

/** Where the image lies in guest memory. */
export const MULTIBOOT_LOAD_ADDRESS = 0x100000;

const MAGIC = 0x1badb002;
/** The header says where the image goes; it need not be ELF. */
const ADDRESS_FIELDS = 0x10000;

/**
 * A bare-metal guest for v86's `multiboot` option, which needs no firmware: `program` assembles it, the first
 * instruction is its entry. It starts in 32-bit protected mode with flat segments, interrupts off, and no stack, GDT
 * or IDT of its own (Multiboot Specification 0.6.96, 3.2).
 */
export function multibootImage(program: (assembler: Assembler) => void): ArrayBuffer {
  const assembler = new Assembler(MULTIBOOT_LOAD_ADDRESS)
    .dword(MAGIC)
    .dword(ADDRESS_FIELDS)
    .dword(-(MAGIC + ADDRESS_FIELDS))
    // header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr
    .dword(MULTIBOOT_LOAD_ADDRESS)
    .dword(MULTIBOOT_LOAD_ADDRESS)
    .dword('(end of the image)')
    .dword('(end of the image)')
    .dword('(entry)')
    .label('(entry)');
  program(assembler);
  const code = assembler.label('(end of the image)').assemble();
  const image = new ArrayBuffer(code.length);
  new Uint8Array(image).set(code);
  return image;
}
