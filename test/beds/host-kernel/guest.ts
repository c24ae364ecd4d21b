// A guest with the kernel of test/beds/kernel: binds devices to vfio-pci, runs commands, switches itself off.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { initramfs, MODE_PROGRAM } from 'vpci/linux-guest';
import { startQemu } from '../qemu/qemu.ts';
import { kernelImage } from './kernel.ts';

/** What one command printed, and its exit code. */
export interface CommandRun {
  readonly code: number;
  readonly out: string;
}

export interface HostGuestOptions {
  /** A folder for this guest's files. */
  readonly folder: string;
  /** What {@link makeGuestImage} made. */
  readonly image: Buffer;
  /** QEMU's options: the IOMMU, then the devices. */
  readonly devices: readonly string[];
  /** QEMU's options for the board and its memory. */
  readonly board?: readonly string[];
  /** Bound to vfio-pci before the commands run. */
  readonly bind: readonly string[];
  /** Run in busybox sh, by name. */
  readonly commands: Readonly<Record<string, string>>;
  /** Added to the kernel's command line. */
  readonly append?: string;
  readonly seconds?: number;
}

/** Memory of a guest; its root takes 130 MiB, and 180 with QEMU. */
export const MEGABYTES = 1024;
const MACHINE = `-accel tcg,thread=multi -cpu max -smp 2 -m ${MEGABYTES} -nodefaults -display none -no-reboot`;

/** Boots, runs the commands one after the other, and gives what each printed. */
export async function runHostGuest(options: HostGuestOptions): Promise<ReadonlyMap<string, CommandRun>> {
  const { folder, image, devices, bind, commands, append = '', seconds = 280 } = options;
  const { board = ['-M', 'q35'] } = options;
  const initrd = join(folder, 'initrd');
  // A second archive: the kernel unpacks it behind the first, over its /init.
  const init = { name: 'init', mode: MODE_PROGRAM, data: Buffer.from(initScript(bind, commands)) };
  writeFileSync(initrd, Buffer.concat([image, initramfs([init])]));
  const output = join(folder, 'output');
  const serial = ['-serial', 'stdio', '-serial', `file:${output}`];
  const boot = ['-kernel', kernelImage(), '-initrd', initrd];
  // On a busy machine the kernel's check of its timer fails.
  const line = `console=ttyS0 panic=-1 quiet no_timer_check ${append}`.trim();
  const run = startQemu([...MACHINE.split(' '), ...board, ...serial, ...devices, ...boot, '-append', line], {
    seconds,
  });
  let console = '';
  run.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    console += text;
  });
  await run.ended;
  const text = readFileSync(output, 'utf8').replaceAll('\r', '');
  const runs = new Map<string, CommandRun>();
  for (const [, name = '', out = '', code = ''] of text.matchAll(/^== (.*)\n([^]*?)^== exit (\d+)$/gm)) {
    runs.set(name, { code: Number(code), out });
  }
  const lost = Object.keys(commands).filter((name) => !runs.has(name));
  if (lost.length === 0) return runs;
  const said = `${run.stderr().slice(0, 2000)}\n${console.slice(-3000)}\n${text.slice(-3000)}`;
  throw new Error(`the guest did not come to the end of "${lost.join('", "')}":\n${said}`);
}

/** Lines of JSON, each by the name that its member `key` says. */
export function jsonLines(text: string, key: string): ReadonlyMap<string, unknown> {
  const lines = text.trimEnd().split('\n');
  return new Map(
    lines.map((line): [string, unknown] => {
      const parsed: unknown = JSON.parse(line);
      const name: unknown =
        typeof parsed === 'object' && parsed !== null ? Reflect.get(parsed, key) : undefined;
      return [String(name), parsed];
    }),
  );
}

function initScript(bind: readonly string[], commands: Readonly<Record<string, string>>): string {
  const binds = bind.map(
    (bdf) =>
      `echo vfio-pci >/sys/bus/pci/devices/0000:${bdf}/driver_override; echo 0000:${bdf} >/sys/bus/pci/drivers_probe`,
  );
  const runs = Object.entries(commands).map(
    ([name, command]) => `echo '== ${name}'; ${command}\necho "== exit $?"`,
  );
  return `#!/bin/sh
export PATH=/bin HOME=/
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec >/dev/ttyS1
cd /app
${binds.join('\n')}
${runs.join('\n')}
poweroff -f
`;
}
