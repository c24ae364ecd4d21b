// The guest's root: the Node that runs the test, with its libraries, our package as npm packs and installs it, busybox,
// and the programs of this folder.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { transformWithOxc } from 'vite';
import { initialFileSystem } from '../v86/newc.ts';
import { busybox, repo } from './kernel.ts';

const APPLETS = ['sh', 'cat', 'dmesg', 'echo', 'env', 'grep', 'ls', 'mount', 'poweroff', 'sleep'];

/** Makes the archive, without what `/init` runs. `folder` gets the files it is made of. */
export async function makeGuestImage(folder: string): Promise<Buffer> {
  const root = join(folder, 'root');
  const modules = join(root, 'app/node_modules');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'usr'])
    mkdirSync(join(root, name), { recursive: true });
  symlinkSync(busybox(), join(root, 'bin/busybox'));
  symlinkSync(process.execPath, join(root, 'bin/node'));
  for (const library of librariesOf(process.execPath)) {
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
  for (const name of readdirSync(import.meta.dirname).filter((file) => /in-guest\.(?:ts|mjs)$/.test(file))) {
    const source = readFileSync(join(import.meta.dirname, name), 'utf8');
    const { code } = await transformWithOxc(source, name);
    writeFileSync(join(root, 'app', name.replace(/\.ts$/, '.mjs')), code);
  }
  return initialFileSystem(root, '', {
    ...Object.fromEntries(APPLETS.map((applet) => [`bin/${applet}`, 'busybox'])),
    'usr/bin': '../bin',
    'bin/vpci': '/app/node_modules/vpci/dist/vmm-glue/cli/main.js',
  });
}

/** What the loader loads for a program, itself included. */
function librariesOf(program: string): string[] {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = '']) => path);
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
