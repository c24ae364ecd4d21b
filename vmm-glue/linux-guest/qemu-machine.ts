import { execFile, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { GuestMode } from './guest-program.ts';

/** A Linux in QEMU, without an IOMMU of QEMU's, and two functions of ours. */
export interface LinuxMachine {
  /** QEMU 10.1 or later, for x86-64. */
  readonly qemu: string;
  /** The kernel's image. */
  readonly kernel: string;
  readonly initramfs: Uint8Array;
  /** The DMAR table. */
  readonly dmar: Uint8Array;
  /** Socket of the remapping unit, which becomes 00:03.0; at most 107 bytes. */
  readonly unitSocket: string;
  /** Socket of the endpoint, which becomes 01:00.0, behind a root port at 00:02.0. */
  readonly endpointSocket: string;
  /** Folder for the machine's files. */
  readonly folder: string;
  /** What the guest program plays. Default `base`. */
  readonly mode?: GuestMode;
  /** Added to the kernel's command line. */
  readonly append?: string;
  /** What `intel_iommu=` says. Default `on,sm_on`: scalable mode. */
  readonly intelIommu?: string;
  /** Memory, MiB. Default 256. */
  readonly megabytes?: number;
  /** Seconds after which QEMU is killed. Default 60. */
  readonly seconds?: number;
  /**
   * Ends QEMU when it aborts. Abort it at the signals that end this process: a QEMU before 10.2 outlives a process that
   * a signal ends.
   */
  readonly signal?: AbortSignal;
  /** Hears what the guest prints, line by line, without carriage returns. */
  readonly onLine?: (line: string) => void;
}

/** What came of a machine. */
export interface LinuxRun {
  /** What the guest printed, without carriage returns. */
  readonly console: string;
  /** What QEMU said. */
  readonly stderr: string;
  /** QEMU's exit code; null when it was killed. */
  readonly exitCode: number | null;
  /** Milliseconds from start to end. */
  readonly milliseconds: number;
}

/** QEMU's arguments for a machine whose DMAR table and initramfs are at the given paths. */
function qemuArguments(machine: LinuxMachine, dmar: string, initrd: string): string[] {
  const { megabytes = 256, kernel, unitSocket, endpointSocket } = machine;
  return [
    ['-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio'],
    // QEMU's own disk controller would be a device that our unit does not see.
    ['-accel', 'tcg', '-cpu', 'max', '-M', 'q35,sata=off,memory-backend=ram', '-m', String(megabytes)],
    // Sealed, as QEMU makes it: our side maps it.
    ['-object', `memory-backend-memfd,id=ram,size=${megabytes}M,share=on`],
    ['-acpitable', `file=${dmar}`],
    ['-device', 'pcie-root-port,id=rp0,bus=pcie.0,addr=2.0,chassis=1'],
    ['-device', vfioUser('unit', 'pcie.0', '3.0', unitSocket)],
    ['-device', vfioUser('endpoint', 'rp0', '0.0', endpointSocket)],
    ['-kernel', kernel, '-initrd', initrd, '-append', commandLine(machine)],
  ].flat();
}

/** For a QEMU that can do it: it ends with this process, whatever ends that. */
async function withParent(qemu: string): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)(qemu, ['-help']);
    return stdout.includes('exit-with-parent=') ? ['-run-with', 'exit-with-parent=on'] : [];
  } catch {
    // Starting it says why it does not run.
    return [];
  }
}

function vfioUser(id: string, bus: string, addr: string, path: string): string {
  const socket = { type: 'unix', path };
  // Where a machine is busy, this process may take longer than the 5 seconds after which QEMU gives a device up.
  return JSON.stringify({ driver: 'vfio-user-pci', id, bus, addr, socket, 'x-msg-timeout': 120_000 });
}

function commandLine({ intelIommu = 'on,sm_on', mode = 'base', append = '' }: LinuxMachine): string {
  return [
    'console=ttyS0 quiet loglevel=0 panic=-1',
    // On a busy machine the kernel's check of its timer fails.
    'no_timer_check',
    // With interrupt remapping Linux looks at the unit before PCI has claimed its BAR, and moves that away then.
    `intel_iommu=${intelIommu} intremap=off`,
    // Without it, interrupts are unprotected, which VFIO wants to be told.
    'iommufd.allow_unsafe_interrupts=1',
    `VPCI_MODE=${mode} ${append}`,
  ]
    .join(' ')
    .trimEnd();
}

/** Starts QEMU, and waits for its end. Both functions have to be served already. */
export async function runLinux(machine: LinuxMachine): Promise<LinuxRun> {
  const { qemu, folder, seconds = 60, signal, onLine } = machine;
  const dmar = join(folder, 'dmar.bin');
  const initrd = join(folder, 'initrd');
  writeFileSync(dmar, machine.dmar);
  writeFileSync(initrd, machine.initramfs);
  const options = [...(await withParent(qemu)), ...qemuArguments(machine, dmar, initrd)];
  const started = performance.now();
  const child = spawn(qemu, options, { stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = (): void => void child.kill('SIGKILL');
  const timer = setTimeout(kill, seconds * 1000);
  signal?.addEventListener('abort', kill, { once: true });
  if (signal?.aborted === true) kill();
  process.once('exit', kill);
  const lines = new LineBuffer(onLine);
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => lines.add(text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    // A QEMU whose device died says so thousands of times.
    if (stderr.length < 100_000) stderr += text;
  });
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return { console: lines.text, stderr, exitCode, milliseconds: performance.now() - started };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    process.off('exit', kill);
  }
}

/** Characters of the console that are kept at most. */
const CONSOLE_LIMIT = 1_000_000;

class LineBuffer {
  text = '';
  #rest = '';
  readonly #onLine: ((line: string) => void) | undefined;

  constructor(onLine: ((line: string) => void) | undefined) {
    this.#onLine = onLine;
  }

  add(text: string): void {
    const plain = text.replaceAll('\r', '');
    if (this.text.length < CONSOLE_LIMIT) this.text += plain;
    if (this.#onLine === undefined) return;
    const lines = (this.#rest + plain).split('\n');
    this.#rest = (lines.pop() ?? '').slice(0, CONSOLE_LIMIT);
    for (const line of lines) this.#onLine(line);
  }
}
