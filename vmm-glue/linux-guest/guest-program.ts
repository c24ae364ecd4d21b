import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { VpciError } from '../../src/index.ts';
import { CONSOLE_DEVICES, initramfs, MODE_PROGRAM } from './initramfs.ts';

/**
 * What the guest program plays (`VPCI_MODE=` on the kernel's command line): PASIDs in two address spaces; a device
 * with ATS and PRI; nested translation; a unit without scalable mode; faults of requests that the host sends; and what
 * a kernel without iommufd does by itself.
 */
export type GuestMode = 'base' | 'ats' | 'nested' | 'legacy' | 'faults' | 'probe';

/** Beside the sources, in a checkout and in an installed package; this file runs from dist/vmm-glue/linux-guest. */
const SOURCE = new URL('../../../vmm-glue/linux-guest/guest.c', import.meta.url);

/**
 * Compiles the guest program into `program`, against the UAPI headers in `include` (Linux 6.15 or later).
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` with what the compiler said.
 */
export async function compileGuest(include: string, program: string, compiler = 'cc'): Promise<void> {
  const source = fileURLToPath(SOURCE);
  try {
    await promisify(execFile)(compiler, ['-static', '-Os', '-I', include, '-o', program, source]);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      `the guest program does not compile; it needs ${compiler}, a static libc, and headers of Linux 6.15 or later: ${said}`,
      { cause },
    );
  }
}

/** The initial file system of a guest: a console, and the compiled guest program as its init. */
export function guestFiles(program: string): Uint8Array {
  return initramfs([...CONSOLE_DEVICES, { name: 'init', mode: MODE_PROGRAM, data: readFileSync(program) }]);
}
