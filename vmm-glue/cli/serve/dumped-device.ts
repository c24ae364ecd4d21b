import { createFunction, type PciFunction, VpciError } from '../../../src/index.ts';
import type { Arguments } from '../arguments.ts';
import { loadDump, selectFunctions } from '../dump-input.ts';
import { CliError, EXIT_NO, EXIT_USAGE } from '../exit-code.ts';
import { viewOptions } from '../view-options.ts';

/** The function of a dump that the command line names, as a guest gets it. */
export function dumpedDevice(path: string, given: Arguments): { fn: PciFunction; bdf: string } {
  const [dumped, ...more] = selectFunctions(loadDump(path), given.text('function'));
  if (dumped === undefined || more.length > 0) {
    throw new CliError(
      EXIT_USAGE,
      `the dump has ${more.length + (dumped === undefined ? 0 : 1)} functions: name one with --function BDF`,
    );
  }
  try {
    const fn = createFunction({ ...viewOptions(given), physical: dumped.bytes });
    if (fn.findings.some(({ code }) => code === 'vf-without-ids')) {
      throw new CliError(EXIT_NO, `${dumped.bdf} is a virtual function: give its IDs with --id VVVV:DDDD`);
    }
    // Its place in another machine's segment group says nothing here.
    return { fn, bdf: dumped.bdf.replace(/^[0-9a-f]+:(?=[0-9a-f]+:)/i, '') };
  } catch (error) {
    if (error instanceof VpciError)
      throw new CliError(EXIT_NO, `${dumped.bdf}: ${error.message} (${error.code})`);
    throw error;
  }
}
