// One machine of the bed: an IOMMU of QEMU's, served functions, and a guest that runs commands.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandRun, runHostGuest } from './guest.ts';
import { Served, serveAll, type ServedOptions } from './served.ts';

export interface MachineOptions {
  /** A folder for its files; the machine makes its own in there. */
  readonly folder: string;
  readonly name: string;
  /** What makeGuestImage made. */
  readonly image: Buffer;
  /** QEMU's IOMMU device with its options. */
  readonly iommu: string;
  /** What is served, by BDF. */
  readonly functions: Readonly<Record<string, ServedOptions>>;
  /** BDFs that vfio-pci does not get. */
  readonly notBound?: readonly string[];
  /** What the guest runs, by name. */
  readonly commands: Readonly<Record<string, string>>;
}

/** What is left of a machine that ran. */
export interface Machine {
  readonly name: string;
  /** What each command printed. */
  run(command: string): CommandRun;
  /** What the guest's kernel did to a function. */
  served(bdf: string): Served;
  /** What a client of vfio-user may never send. */
  readonly errors: readonly unknown[];
}

/** Boots it, and waits until it has switched itself off. */
export async function runMachine(options: MachineOptions): Promise<Machine> {
  const { name, image, iommu, functions, notBound = [], commands } = options;
  const folder = join(options.folder, name.replaceAll(' ', '-'));
  mkdirSync(folder);
  const all = Object.entries(functions).map(([bdf, one]) => new Served(bdf, one));
  await using servers = await serveAll(folder, all);
  const runs = await runHostGuest({
    folder,
    image,
    devices: ['-device', iommu, ...servers.devices],
    bind: Object.keys(functions).filter((bdf) => !notBound.includes(bdf)),
    commands,
  });
  const found = <T>(one: T | undefined, what: string): T => {
    if (one === undefined) throw new Error(`the machine "${name}" has no ${what}`);
    return one;
  };
  return {
    name,
    run: (command) => found(runs.get(command), `command "${command}"`),
    served: (bdf) =>
      found(
        all.find((one) => one.bdf === bdf),
        `function at ${bdf}`,
      ),
    errors: servers.errors,
  };
}
