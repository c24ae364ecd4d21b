import { createRequire } from 'node:module';
import type { V86Package } from './v86-guest.ts';

/** The npm package v86; undefined when it is not installed. */
export async function loadV86(): Promise<V86Package | undefined> {
  try {
    const { V86 } = await import('v86');
    return { V86, wasmPath: createRequire(import.meta.url).resolve('v86/build/v86.wasm') };
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}
