// The import arrows between the rooms (docs/architecture), checked on the sources.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const repo = fileURLToPath(new URL('../..', import.meta.url));

/** What each room of src may import besides itself. */
const rooms: Record<string, readonly string[]> = {
  pci: [],
  config: ['pci'],
  function: ['pci', 'config'],
  segment: ['pci', 'config', 'function'],
  memory: ['pci'],
  viommu: ['pci', 'memory'],
  acpi: ['pci'],
  inspect: ['pci', 'config', 'function', 'segment', 'memory', 'viommu', 'acpi'],
  trace: ['pci', 'config', 'function', 'segment', 'memory', 'viommu', 'acpi', 'inspect'],
};

/** What each room of vmm-glue may import besides itself and src. */
const glue: Record<string, readonly string[]> = {
  linux: [],
  vfio: ['linux'],
  kvm: ['linux'],
  v86: [],
  'vfio-user': ['linux'],
  'linux-guest': ['vfio-user'],
  cli: ['linux', 'vfio', 'kvm', 'v86', 'vfio-user', 'linux-guest'],
};

interface Import {
  readonly file: string;
  readonly specifier: string;
}

function specifiersOf(source: string): string[] {
  const code = source.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const pattern =
    /^\s*(?:import|export)\b[^'";]*?\bfrom\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm;
  return [...code.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
}

function importsUnder(folder: string): Import[] {
  const root = join(repo, folder);
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => {
      const file = posix.join(folder, name);
      return specifiersOf(readFileSync(join(repo, file), 'utf8')).map((specifier) => ({ file, specifier }));
    });
}

/** The room a specifier leads to ("src/pci"), or undefined for a package. */
function target({ file, specifier }: Import): string | undefined {
  if (!specifier.startsWith('.')) return undefined;
  return posix.join(dirname(file), specifier).split('/').slice(0, 2).join('/');
}

const describeImport = ({ file, specifier }: Import): string => `${file}: ${specifier}`;

/** The rooms of src or vmm-glue: the folders that hold TypeScript. */
function roomsOf(top: string): string[] {
  const names = readdirSync(join(repo, top), { recursive: true, encoding: 'utf8' });
  const inFolders = names.filter((name) => name.endsWith('.ts') && name.includes('/'));
  return [...new Set(inFolders.map((name) => name.slice(0, name.indexOf('/'))))];
}

describe('src', () => {
  it('has only known rooms', () => {
    expect(roomsOf('src').filter((name) => !Object.hasOwn(rooms, name))).toEqual([]);
  });

  it('imports nothing from outside but eventemitter3', () => {
    const foreign = importsUnder('src').filter((entry) => {
      const to = target(entry);
      return to === undefined ? entry.specifier !== 'eventemitter3' : !to.startsWith('src/');
    });
    expect(foreign.map(describeImport)).toEqual([]);
  });

  it.each(Object.entries(rooms))('%s imports only: %s', (room, allowed) => {
    const reach = new Set([room, ...allowed].map((name) => `src/${name}`));
    const wrong = importsUnder(`src/${room}`).filter((entry) => {
      const to = target(entry);
      return to !== undefined && !reach.has(to);
    });
    expect(wrong.map(describeImport)).toEqual([]);
  });
});

describe('vmm-glue', () => {
  it('has only known rooms', () => {
    expect(roomsOf('vmm-glue').filter((name) => !Object.hasOwn(glue, name))).toEqual([]);
  });

  it.each(Object.entries(glue))('%s imports only src and: %s', (room, allowed) => {
    const reach = new Set([room, ...allowed].map((name) => `vmm-glue/${name}`));
    const wrong = importsUnder(`vmm-glue/${room}`).filter((entry) => {
      const to = target(entry);
      return to !== undefined && !to.startsWith('src/') && !reach.has(to);
    });
    expect(wrong.map(describeImport)).toEqual([]);
  });
});

describe('specifiersOf', () => {
  it('sees every form of import and no comment', () => {
    const source = [
      "import a, { b } from './a.ts';",
      'import {',
      '  c,',
      "} from './b.ts';",
      "import type { D } from './c.ts';",
      "export * from './d.ts';",
      "import './e.ts';",
      "const f = await import('./f.ts');",
      "// import g from './g.ts';",
      "/* export * from './h.ts'; */",
      "const text = 'away from home';",
    ].join('\n');
    expect(specifiersOf(source)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts', './f.ts']);
  });
});
