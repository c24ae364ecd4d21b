// The package as its users get it: what is packed, what it imports, where it runs.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createContext, runInContext } from 'node:vm';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const repo = fileURLToPath(new URL('../..', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'vpci-package-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

type Target = string | { types?: string; node?: string; default: string | null };
const manifest = JSON.parse(readFileSync(join(repo, 'package.json'), 'utf8')) as {
  exports: Record<string, Target>;
  bin: { vpci: string };
};
/** Sub-paths that every host can import, with their built file. */
const portable = Object.entries(manifest.exports).flatMap(([path, target]) =>
  typeof target === 'object' && target.default !== null
    ? [{ specifier: `vpci${path.slice(1)}`, file: target.default }]
    : [],
);

describe('the packed tarball', () => {
  const app = join(scratch, 'app');
  const installed = join(app, 'node_modules/vpci');

  beforeAll(() => {
    const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', scratch];
    execFileSync('npm', pack, { cwd: repo, stdio: ['ignore', 'ignore', 'inherit'] });
    const tarball = readdirSync(scratch).find((name) => name.endsWith('.tgz'));
    mkdirSync(installed, { recursive: true });
    execFileSync('tar', ['-xzf', join(scratch, String(tarball)), '--strip-components=1', '-C', installed]);
    cpSync(join(repo, 'node_modules/eventemitter3'), join(app, 'node_modules/eventemitter3'), {
      recursive: true,
    });
    writeFileSync(join(app, 'package.json'), '{"type":"module"}\n');
  });

  function importAll(): string {
    const code = portable.map(({ specifier }) => `await import('${specifier}');`).join('\n');
    const result = spawnSync(process.execPath, ['--input-type=module', '-'], {
      cwd: app,
      encoding: 'utf8',
      input: `${code}\nconsole.log('imported');`,
    });
    return result.stdout + result.stderr;
  }

  it('imports without koffi', () => {
    expect(existsSync(join(app, 'node_modules/koffi'))).toBe(false);
    expect(importAll()).toBe('imported\n');
  });

  it.skipIf(!existsSync(join(repo, 'node_modules/koffi')))('imports with koffi', () => {
    const koffi = join(app, 'node_modules/koffi');
    symlinkSync(join(repo, 'node_modules/koffi'), koffi);
    try {
      expect(importAll()).toBe('imported\n');
    } finally {
      rmSync(koffi);
    }
  });

  it('holds the command and every exported file', () => {
    const command = readFileSync(join(installed, manifest.bin.vpci), 'utf8');
    expect(command.startsWith('#!/usr/bin/env node\n')).toBe(true);
    const files = Object.values(manifest.exports)
      .flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target)))
      .filter((file) => file !== null);
    expect(files.filter((file) => !existsSync(join(installed, file)))).toEqual([]);
  });

  it('holds no tests, benches or build state', () => {
    const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
    expect(files.filter((file) => /(^|\/)test\/|\.tsbuildinfo$|\.test\./.test(file))).toEqual([]);
  });
});

describe('the model in a browser', () => {
  it.each(portable)('$specifier bundles and runs with no Node globals', async ({ file }) => {
    const result = await build({
      configFile: false,
      root: repo,
      logLevel: 'error',
      build: {
        write: false,
        target: 'es2022',
        lib: { entry: join(repo, file), formats: ['iife'], name: 'vpci' },
      },
    });
    const output = Array.isArray(result) ? result[0] : undefined;
    const code = output?.output[0].code ?? '';
    expect(output?.output).toHaveLength(1);
    const context = createContext({});
    runInContext(code, context);
    expect(runInContext('typeof process + typeof require + typeof Buffer', context)).toBe(
      'undefined'.repeat(3),
    );
  });

  it('dist/src mentions neither koffi nor node:', () => {
    const dist = join(repo, 'dist/src');
    const files = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter((name) =>
      /\.(js|d\.ts)$/.test(name),
    );
    expect(files).toContain('index.js');
    const offenders = files.filter((name) =>
      /['"]koffi|['"]node:/.test(readFileSync(join(dist, name), 'utf8')),
    );
    expect(offenders).toEqual([]);
  });
});
