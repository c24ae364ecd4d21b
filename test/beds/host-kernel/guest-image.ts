// The guest's root: the Node that runs the test, with its libraries, our package as npm packs and installs it, busybox,
// and the programs of this folder.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { transformWithOxc } from 'vite';
import { qemuProgram } from '../qemu/qemu.ts';
import { initialFileSystem } from '../v86/newc.ts';
import { busybox, repo } from './kernel.ts';

/** What programs in the guest import besides the package. */
const QEMU_MODULE = '../qemu/qemu.ts';
const REGISTERS_MODULE = './device-registers.ts';
const APPLETS = ['sh', 'cat', 'dmesg', 'echo', 'env', 'grep', 'ls', 'mount', 'poweroff', 'sleep', 'timeout'];

export interface GuestImageOptions {
  /** With QEMU, and ../qemu/qemu.ts to start it without a guest. */
  readonly qemu?: boolean;
}

/** Makes the archive, without what `/init` runs. `folder` gets the files it is made of. */
export async function makeGuestImage(
  folder: string,
  { qemu = false }: GuestImageOptions = {},
): Promise<Buffer> {
  const root = join(folder, 'root');
  const modules = join(root, 'app/node_modules');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'usr'])
    mkdirSync(join(root, name), { recursive: true });
  symlinkSync(busybox(), join(root, 'bin/busybox'));
  symlinkSync(process.execPath, join(root, 'bin/node'));
  for (const library of libraries(execFileSync('ldd', [process.execPath], { encoding: 'utf8' }))) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    symlinkSync(library, join(root, library));
  }
  installPackage(folder, join(modules, 'vpci'));
  for (const name of ['eventemitter3', 'koffi', '@koromix/koffi-linux-x64']) {
    cpSync(join(repo, 'node_modules', name), join(modules, name), {
      recursive: true,
      // The sources of koffi, and its build for another libc.
      filter: (path) => !/\/(?:vendor|doc|lib|musl_x64)$/.test(path),
    });
  }
  if (qemu) addQemu(root);
  const programs = readdirSync(import.meta.dirname).filter((file) => /in-guest\.(?:ts|mjs)$/.test(file));
  for (const name of [...programs, QEMU_MODULE, REGISTERS_MODULE]) {
    const source = readFileSync(join(import.meta.dirname, name), 'utf8');
    const { code } = await transformWithOxc(source, name);
    // All in one folder.
    const moved = code
      .replaceAll(QEMU_MODULE, './qemu.mjs')
      .replaceAll(REGISTERS_MODULE, './device-registers.mjs');
    writeFileSync(join(root, 'app', basename(name).replace(/\.ts$/, '.mjs')), moved);
  }
  return initialFileSystem(root, '', {
    ...Object.fromEntries(APPLETS.map((applet) => [`bin/${applet}`, 'busybox'])),
    'usr/bin': '../bin',
    'bin/vpci': '/app/node_modules/vpci/dist/vmm-glue/cli/main.js',
  });
}

/** The paths in what a loader says that it loads, itself included. */
function libraries(text: string): string[] {
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = '']) => path);
}

/** The QEMU of the beds with what it needs for a machine without a guest, where qemu.ts looks for it. */
function addQemu(root: string): void {
  const tree = join(dirname(qemuProgram()), 'tree/usr');
  const loader = join(tree, 'lib64/ld-linux-x86-64.so.2');
  const folder = join(tree, 'lib/x86_64-linux-gnu');
  const program = join(tree, 'bin/qemu-system-x86_64');
  const list = execFileSync(loader, ['--library-path', folder, '--list', program], { encoding: 'utf8' });
  const files = [
    program,
    loader,
    ...libraries(list),
    join(folder, 'qemu/accel-qtest.so'),
    join(tree, 'share/seabios/bios-256k.bin'),
    join(tree, 'share/qemu/kvmvapic.bin'),
  ];
  mkdirSync(join(root, 'qemu'));
  for (const [name, file] of new Map(files.map((path) => [basename(path), path]))) {
    symlinkSync(file, join(root, 'qemu', name));
  }
  const cache = join(root, '.cache/vpci/beds');
  mkdirSync(cache, { recursive: true });
  const start = `/qemu/${basename(loader)} --library-path /qemu /qemu/${basename(program)} -L /qemu "$@"`;
  writeFileSync(join(cache, 'qemu'), `#!/bin/sh\nQEMU_MODULE_DIR=/qemu exec ${start}\n`, { mode: 0o755 });
}

function installPackage(folder: string, to: string): void {
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: repo,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error(`npm packed nothing into ${basename(folder)}`);
  mkdirSync(to, { recursive: true });
  execFileSync('tar', ['-xzf', join(folder, tarball), '--strip-components=1', '-C', to]);
}
