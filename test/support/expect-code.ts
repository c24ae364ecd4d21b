import { expect } from 'vitest';
import { VpciError, type VpciErrorCode } from '../../src/index.ts';

/** Runs `action`, which must throw a VpciError of `code`; gives its message. */
export function refusal(code: VpciErrorCode, action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    expect({ code: error.code, message: error.message }).toEqual({ code, message: error.message });
    return error.message;
  }
  throw new Error(`nothing was refused with ${code}`);
}
