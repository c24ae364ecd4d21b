// A Linux guest that runs one script and switches itself off.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { initramfs, MODE_PROGRAM } from 'vpci/linux-guest';
import { guestRoot, kernelPath, startQemu, VTD } from './qemu.ts';

export interface GuestOptions {
  /** Folder for the guest's files. */
  readonly folder: string;
  /** Name of a kernel in the cache. */
  readonly kernel: string;
  /** What /init does, in busybox sh; /proc, /sys and /dev are mounted. */
  readonly script: string;
  /** QEMU's options for the devices. */
  readonly devices: readonly string[];
  readonly seconds?: number;
}

export interface GuestRun {
  /** What the script printed, and the kernel said, without carriage returns. */
  readonly console: string;
  readonly stderr: string;
  /** True when the script came to its end. */
  readonly finished: boolean;
}

/** What the guest prints when its script is done. */
export const FINISHED = 'GUEST-FINISHED';

const MACHINE =
  `-accel tcg -cpu max -M q35 -m 256 -nodefaults -display none -serial stdio -no-reboot -device ${VTD}`.split(
    ' ',
  );

/** An initramfs that runs the script; returns its path. */
export function makeInitrd(folder: string, script: string): string {
  const path = join(folder, 'initrd');
  const init = initramfs([{ name: 'init', mode: MODE_PROGRAM, data: Buffer.from(initScript(script)) }]);
  writeFileSync(path, Buffer.concat([readFileSync(guestRoot()), init]));
  return path;
}

/** Boots, runs the script, and waits for the end. */
export async function runGuest({
  folder,
  kernel,
  script,
  devices,
  seconds = 120,
}: GuestOptions): Promise<GuestRun> {
  const initrd = makeInitrd(folder, script);
  const run = startQemu(
    [
      ...MACHINE,
      ...devices,
      '-kernel',
      kernelPath(kernel),
      '-initrd',
      initrd,
      '-append',
      'console=ttyS0 intel_iommu=on,sm_on panic=-1 quiet',
    ],
    { seconds },
  );
  let console = '';
  run.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    console += text;
  });
  await run.ended;
  console = console.replaceAll('\r', '');
  return { console, stderr: run.stderr(), finished: console.includes(FINISHED) };
}

/** What the script printed between `== name` and the next such line. */
export function section({ console }: GuestRun, name: string): string {
  const lines = console.split('\n');
  const start = lines.indexOf(`== ${name}`);
  if (start === -1) throw new Error(`the guest printed no section "${name}":\n${console.slice(-3000)}`);
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => line.startsWith('== ') || line === FINISHED);
  return rest.slice(0, end === -1 ? undefined : end).join('\n');
}

function initScript(script: string): string {
  return `#!/bin/sh
export PATH=/bin LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
${script}
echo ${FINISHED}
poweroff -f
`;
}
