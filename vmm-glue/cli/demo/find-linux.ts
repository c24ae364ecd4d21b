import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { CliError, EXIT_NO } from '../exit-code.ts';

/** What `vpci demo --linux` was told; undefined: look for it. */
export interface LinuxWishes {
  readonly qemu: string | undefined;
  readonly kernel: string | undefined;
  readonly headers: string | undefined;
}

/** What a Linux guest is made of, as found on this machine. */
export interface LinuxParts {
  readonly qemu: string;
  readonly qemuVersion: string;
  readonly kernel: string;
  /** The kernel has iommufd and VFIO built in, as far as its configuration tells. */
  readonly hasIommufd: boolean;
  /** Folder of UAPI headers. */
  readonly headers: string;
}

const OPTIONS = [
  'IOMMUFD',
  'VFIO_DEVICE_CDEV',
  'VFIO_PCI',
  'INTEL_IOMMU',
  'PCI_PASID',
  'SERIAL_8250_CONSOLE',
];

function configName(option: string): string {
  return `CONFIG_${option}=y`;
}

/** Where the scripts in `test/beds` of a checkout put what they fetch and build. */
function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vpci');
}

/**
 * Finds QEMU, a kernel, a compiler and headers.
 *
 * @throws CliError that says all that is missing, and how to get it.
 */
export function findLinux(wishes: LinuxWishes): LinuxParts {
  const qemu = findQemu(wishes.qemu);
  const kernel = findKernel(wishes.kernel);
  const headers = findHeaders(wishes.headers, kernel);
  const lacks = [
    ...('lack' in qemu ? [qemu.lack] : []),
    ...(kernel === undefined ? [noKernel(wishes.kernel)] : []),
    ...(headers === undefined ? [NO_HEADERS] : []),
    ...(output('cc', ['--version']) === undefined ? [NO_COMPILER] : []),
  ];
  if ('lack' in qemu || kernel === undefined || headers === undefined || lacks.length > 0) {
    throw new CliError(EXIT_NO, `a Linux guest needs more than is here.\n\n${lacks.join('\n\n')}\n\n${ALL}`);
  }
  return { qemu: qemu.path, qemuVersion: qemu.version, kernel, hasIommufd: hasIommufd(kernel), headers };
}

function noKernel(wish: string | undefined): string {
  return `kernel    ${wish === undefined ? 'none found that can be read' : `${wish} cannot be read`}; give a bzImage with --kernel. Built in, not as modules, it needs
          ${OPTIONS.slice(0, 3).map(configName).join(', ')},
          ${OPTIONS.slice(3).map(configName).join(', ')},
          and its configuration beside it, as "config" or config-RELEASE. Without iommufd, as in Debian's
          cloud kernels, it shows the first half: the unit comes up, and every PASID is rejected.`;
}
const NO_HEADERS = `headers   linux/iommufd.h with PASIDs, of Linux 6.15 or later. "make headers_install" in the kernel's source makes
          them; give the folder with --headers. Debian: linux-libc-dev of trixie-backports.`;
const NO_COMPILER = `compiler  cc, to build the guest program. Debian: apt-get install gcc libc6-dev`;
const ALL = `On Debian and amd64, two scripts in a checkout of vpci fetch QEMU and build a kernel with its headers, in
${cacheFolder()} and without a change to the system: test/beds/qemu/fetch.sh and test/beds/kernel/build.sh.`;

function findQemu(wish: string | undefined): { path: string; version: string } | { lack: string } {
  const candidates =
    wish === undefined ? [join(cacheFolder(), 'beds', 'qemu'), 'qemu-system-x86_64'] : [wish];
  const unfit: string[] = [];
  for (const path of candidates) {
    const version = /version (\d+)\.(\d+)(?:\.\d+)?/.exec(output(path, ['--version']) ?? '');
    if (version === null) {
      if (wish !== undefined) unfit.push(`${path} does not run`);
      continue;
    }
    const [text, major, minor] = version;
    const hasDevice = (output(path, ['-device', 'help']) ?? '').includes('"vfio-user-pci"');
    if (hasDevice) return { path, version: text.slice('version '.length) };
    unfit.push(`${path} is ${String(major)}.${String(minor)} and has no vfio-user-pci`);
  }
  const seen = unfit.length === 0 ? 'none found' : unfit.join('; ');
  return {
    lack: `QEMU      ${seen}. It takes 10.1 or later, for x86-64, with vfio-user-pci; give it with --qemu.
          Debian 13: apt-get install -t trixie-backports qemu-system-x86`,
  };
}

/** The kernel that was named, or the newest with iommufd that is found, or the newest without. */
function findKernel(wish: string | undefined): string | undefined {
  if (wish !== undefined) return isReadable(wish) ? wish : undefined;
  const cache = cacheFolder();
  const built = filesIn(cache)
    .filter((name) => name.startsWith('kernel-'))
    .map((name) => join(cache, name, 'bzImage'));
  const system = filesIn('/boot')
    .filter((name) => name.startsWith('vmlinuz'))
    .map((name) => join('/boot', name));
  const fetched = filesIn(join(cache, 'beds', 'kernels')).map((name) => join(cache, 'beds', 'kernels', name));
  const found = [...built, ...system, ...fetched].filter((path) => isReadable(path));
  return found.toSorted((left, right) => rank(right) - rank(left))[0];
}

/** Kernels with iommufd come first, then newer ones. */
function rank(kernel: string): number {
  return (hasIommufd(kernel) ? 1e15 : 0) + statSync(kernel).mtimeMs;
}

function hasIommufd(kernel: string): boolean {
  const name = kernel.slice(dirname(kernel).length + 1);
  const beside = [
    join(dirname(kernel), 'config'),
    join(dirname(kernel), name.replace(/^vmlinuz/, 'config')),
  ].find((path) => path !== kernel && isReadable(path));
  if (beside === undefined) return false;
  const lines = new Set(readFileSync(beside, 'utf8').split('\n'));
  return OPTIONS.every((option) => lines.has(`CONFIG_${option}=y`));
}

/** Headers that were named, those of the kernel, or the system's. */
function findHeaders(wish: string | undefined, kernel: string | undefined): string | undefined {
  const cache = cacheFolder();
  const candidates =
    wish === undefined
      ? [
          ...(kernel === undefined ? [] : [join(dirname(kernel), 'include')]),
          ...filesIn(cache)
            .filter((name) => name.startsWith('kernel-'))
            .map((name) => join(cache, name, 'include')),
          '/usr/include',
        ]
      : [wish];
  return candidates.find((folder) => {
    const iommufd = join(folder, 'linux', 'iommufd.h');
    const vfio = join(folder, 'linux', 'vfio.h');
    if (!isReadable(iommufd) || !isReadable(vfio)) return false;
    return (
      readFileSync(iommufd, 'utf8').includes('IOMMU_HWPT_ALLOC_PASID') &&
      readFileSync(vfio, 'utf8').includes('VFIO_DEVICE_ATTACH_PASID')
    );
  });
}

function isReadable(path: string): boolean {
  return existsSync(path) && statSync(path).isFile();
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** What a program prints; undefined when it does not run. */
function output(program: string, args: readonly string[]): string | undefined {
  try {
    return execFileSync(program, [...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
}
