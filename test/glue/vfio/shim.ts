// A made-up host: a tree with /sys and /dev, and a process in which kernel-shim.c stands for the kernel.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseDump } from 'vpci/inspect';

export const repo = fileURLToPath(new URL('../../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'vpci-vfio-'));
const library = join(scratch, 'kernel-shim.so');

/** Removes what the file made. */
export function removeScratch(): void {
  rmSync(scratch, { recursive: true, force: true });
}

/** Why there is no shim here, or undefined. */
export function whyNoShim(): string | undefined {
  if (process.platform !== 'linux') return 'it is for Linux';
  if (!existsSync(join(repo, 'node_modules/koffi'))) return 'koffi is not installed';
  const source = join(repo, 'test/glue/vfio/kernel-shim.c');
  const flags = ['-Wall', '-Wextra', '-Werror', '-O1', '-shared', '-fPIC'];
  const { status, error, stderr } = spawnSync('cc', [...flags, '-o', library, source, '-ldl'], {
    encoding: 'utf8',
  });
  if (error !== undefined) return 'there is no C compiler cc';
  if (status !== 0 && /fatal error: linux\/vfio\.h/.test(stderr)) return 'there are no headers of the kernel';
  if (status !== 0) throw new Error(stderr);
  return undefined;
}

/** Where the physical PASID capability is that vfio-pci hides. */
export const HIDDEN_PASID = 0xf00;

/** The configuration space of a device with a PASID capability (execute), as sysfs shows it. */
export function rawConfig(enable: boolean, width = 16): Uint8Array {
  const bytes = Uint8Array.from(igb());
  bytes.set([0x1b, 0, 1, 0, 0x02, width, enable ? 3 : 0, 0], HIDDEN_PASID);
  // The last one of the chain: the SR-IOV capability at 0x160.
  new DataView(bytes.buffer).setUint16(0x162, (HIDDEN_PASID << 4) | 1, true);
  return bytes;
}

function igb(): Uint8Array {
  const [dumped] = parseDump(readFileSync(join(repo, 'vmm-glue/captures/igb-82576.txt')));
  if (dumped === undefined) throw new Error('the capture is empty');
  return dumped.bytes;
}

interface HostTree {
  readonly driver?: string;
  /** The kernel has VFIO cdevs. */
  readonly cdev?: boolean;
  /** It has /dev/iommu. */
  readonly iommufd?: boolean;
  readonly group?: boolean;
  readonly raw?: Uint8Array;
  readonly physicalFunction?: string;
}

let trees = 0;

/** Makes a tree with the device 0000:01:00.0; the result is where it is. */
export function hostTree(options: HostTree = {}): string {
  const { driver = 'vfio-pci', cdev = true, iommufd = true, group = true, raw, physicalFunction } = options;
  trees += 1;
  const root = join(scratch, `root-${trees}`);
  const sys = join(root, 'sys/bus/pci/devices/0000:01:00.0');
  mkdirSync(sys, { recursive: true });
  mkdirSync(join(root, 'dev/vfio/devices'), { recursive: true });
  symlinkSync(`../../../../bus/pci/drivers/${driver}`, join(sys, 'driver'));
  if (group) symlinkSync('../../../../kernel/iommu_groups/12', join(sys, 'iommu_group'));
  if (cdev) mkdirSync(join(sys, 'vfio-dev/vfio0'), { recursive: true });
  writeFileSync(join(sys, 'vendor'), '0x8086\n');
  writeFileSync(join(sys, 'device'), '0x10ca\n');
  if (raw !== undefined) writeFileSync(join(sys, 'config'), raw);
  if (physicalFunction !== undefined) symlinkSync(`../${physicalFunction}`, join(sys, 'physfn'));
  for (const name of ['vfio/vfio', 'vfio/12', ...(iommufd ? ['iommu'] : [])])
    writeFileSync(join(root, 'dev', name), '');
  const device = join(root, 'dev/vfio/devices/vfio0');
  const config = Uint8Array.from(igb());
  // What vfio-pci hides is still there, and can be written.
  config.set([0x1b, 0, 1, 0, 0x02, 0x10, 3, 0], HIDDEN_PASID);
  if (physicalFunction !== undefined) config.fill(0xff, 0, 4);
  writeFileSync(device, config);
  truncateSync(device, 0x20000);
  return root;
}

/** The registers that the physical device in `root` has now. */
export function deviceBytes(root: string): Uint8Array {
  return readFileSync(join(root, 'dev/vfio/devices/vfio0')).subarray(0, 0x20000);
}

export type Kernel = Readonly<Record<string, string>>;

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
  /** The calls that the kernel got, with their outcome. */
  readonly calls: readonly string[];
}

/** Runs node with `args` on the made-up host; keys of `kernel` are those of kernel-shim.c without VPCI_SHIM_. */
export function runOnHost(args: readonly string[], kernel: Kernel, input = ''): Ran {
  const log = join(scratch, 'calls');
  writeFileSync(log, '');
  const shim = Object.fromEntries(
    Object.entries(kernel).map(([name, value]) => [`VPCI_SHIM_${name}`, value]),
  );
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args], {
    cwd: repo,
    encoding: 'utf8',
    input,
    timeout: 50_000,
    env: { ...process.env, ...shim, LD_PRELOAD: library, VPCI_SHIM_LOG: log, NO_COLOR: '1' },
  });
  const calls = readFileSync(log, 'utf8').trimEnd().split('\n');
  return { code: status, out: stdout, err: stderr, calls };
}

/** Starts node with `args` on the made-up host; `calls` gives what the kernel got by now. */
export function startOnHost(
  args: readonly string[],
  kernel: Kernel,
): { readonly child: ChildProcess; readonly calls: () => readonly string[] } {
  trees += 1;
  const log = join(scratch, `calls-${trees}`);
  writeFileSync(log, '');
  const shim = Object.fromEntries(
    Object.entries(kernel).map(([name, value]) => [`VPCI_SHIM_${name}`, value]),
  );
  const child = spawn(process.execPath, [...args], {
    cwd: repo,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...shim, LD_PRELOAD: library, VPCI_SHIM_LOG: log, NO_COLOR: '1' },
  });
  return { child, calls: () => readFileSync(log, 'utf8').trimEnd().split('\n') };
}

/** A path for a socket that is not there yet. */
export function socketPath(): string {
  trees += 1;
  return join(scratch, `socket-${trees}`);
}

/** Runs a script with `root` and all of `vpci/vfio` in scope, and gives what it returns, or `{ error }`. */
export function onHost(
  root: string,
  kernel: Kernel,
  script: string,
): { result: unknown; calls: readonly string[] } {
  const code = `
    import * as vfio from 'vpci/vfio';
    const root = ${JSON.stringify(root)};
    const script = async () => { ${script} };
    const result = await script().catch((error) => ({ error: error.code ?? 'none', message: error.message }));
    console.log(JSON.stringify(result ?? null));`;
  const { code: status, out, err, calls } = runOnHost(['--input-type=module', '-'], kernel, code);
  if (status !== 0) throw new Error(`exit ${status}: ${err}`);
  return { result: JSON.parse(out), calls };
}
