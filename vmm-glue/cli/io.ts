import { readFileSync } from 'node:fs';
import { CliError, EXIT_USAGE } from './exit-code.ts';

/** What a command writes to: real streams, or a test's. */
export interface Output {
  /** Standard output is a terminal that wants colours. */
  readonly colour: boolean;
  /** Writes text to standard output. */
  out(text: string): void;
  /** Writes text to standard error. */
  err(text: string): void;
  /** Aborts when what is written arrives nowhere any more: the reader has gone, or the disk is full. */
  readonly closed: AbortSignal;
}

/** The file at `path`, or standard input for `-`. */
export function readInput(path: string): Uint8Array {
  try {
    return readFileSync(path === '-' ? 0 : path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(EXIT_USAGE, `cannot read ${path === '-' ? 'standard input' : path}: ${why}`);
  }
}
