import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { hostTree, type Kernel, onHost, repo } from './shim.ts';

export { removeScratch, whyNoShim } from './shim.ts';

const world = pathToFileURL(join(repo, 'test/glue/vfio/mirror-world.mjs')).href;

/** Runs a script on a made-up host with mirror-world.mjs as `w`; it ends the process itself when it returns. */
export function inWorld(kernel: Kernel, script: string): { result: unknown; calls: readonly string[] } {
  const ran = onHost(
    hostTree(),
    kernel,
    `const w = await import(${JSON.stringify(world)});
     const run = async () => { ${script} };
     try { return await run(); }
     finally { setTimeout(() => process.exit(0), 100); }`,
  );
  const { result } = ran;
  if (typeof result === 'object' && result !== null && 'error' in result && 'message' in result) {
    throw new Error(String(result.message));
  }
  return { ...ran, result };
}

/** A field of what a script returned; undefined when it is not there. */
export function field(result: unknown, name: string): unknown {
  if (typeof result !== 'object' || result === null) return undefined;
  return new Map<string, unknown>(Object.entries(result)).get(name);
}

/** The same, as a list; empty when it is none. */
export function list(result: unknown, name?: string): readonly unknown[] {
  const value = name === undefined ? result : field(result, name);
  return Array.isArray(value) ? value : [];
}
