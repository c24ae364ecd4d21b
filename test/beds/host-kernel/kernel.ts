// The kernel that test/beds/kernel/build.sh built, for guests in which our own package asks VFIO and iommufd.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { qemuMissing, qemuProgram } from '../qemu/qemu.ts';

export const repo: string = fileURLToPath(new URL('../../..', import.meta.url));

const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vpci');

/** What build.sh keeps for this configuration: `bzImage`, `release`, `config`, `include`. */
function kernelFolder(): string {
  const hash = createHash('sha256');
  for (const name of ['build.sh', 'iommufd.config']) {
    hash.update(readFileSync(join(repo, 'test/beds/kernel', name)));
  }
  return join(cache, `kernel-${hash.digest('hex').slice(0, 12)}`);
}

export const kernelImage = (): string => join(kernelFolder(), 'bzImage');
export const kernelRelease = (): string => readFileSync(join(kernelFolder(), 'release'), 'utf8').trim();

/** The static one, unpacked by test/beds/qemu/fetch.sh. */
export const busybox = (): string => join(dirname(qemuProgram()), 'tree/usr/bin/busybox');

/** Why no guest with this kernel can run here, or undefined. */
export function kernelMissing(): string | undefined {
  const noQemu = qemuMissing();
  if (noQemu !== undefined) return noQemu;
  if (process.arch !== 'x64') return 'the guest runs the Node of this machine, and is x86-64';
  if (!existsSync(kernelImage())) return 'the kernel is not built; test/beds/kernel/build.sh builds it';
  if (!existsSync(join(repo, 'node_modules/@koromix/koffi-linux-x64'))) return 'koffi is not installed';
  return undefined;
}
