import { VpciError } from '../../src/index.ts';
import { type DumpedFunction, parseDump } from '../../src/inspect/index.ts';
import { CliError, EXIT_USAGE } from './exit-code.ts';
import { readInput } from './io.ts';

/** The functions in the dump at `path`. */
export function loadDump(path: string): DumpedFunction[] {
  const bytes = withoutMark(readInput(path));
  try {
    return parseDump(bytes);
  } catch (error) {
    if (error instanceof VpciError)
      throw new CliError(EXIT_USAGE, `${path}: ${error.message} (${error.code})`);
    throw error;
  }
}

/** Sizes of a binary config file, which may begin with any bytes. */
const CONFIG_SIZES: ReadonlySet<number> = new Set([64, 256, 4096]);

/** Some editors put a byte order mark before text. */
function withoutMark(bytes: Uint8Array): Uint8Array {
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  return marked && !CONFIG_SIZES.has(bytes.length) ? bytes.subarray(3) : bytes;
}

/** The function that `bdf` names, with or without its domain; all of them when `bdf` is undefined. */
export function selectFunctions(
  functions: readonly DumpedFunction[],
  bdf: string | undefined,
): readonly DumpedFunction[] {
  if (bdf === undefined) return functions;
  const wanted = bdf.toLowerCase();
  const found = functions.find(
    (one) => one.bdf === wanted || one.bdf.endsWith(`:${wanted}`) || `0000:${one.bdf}` === wanted,
  );
  if (found !== undefined) return [found];
  throw new CliError(
    EXIT_USAGE,
    `the dump has no function ${bdf}: it has ${functions.map((one) => one.bdf).join(', ')}`,
  );
}
