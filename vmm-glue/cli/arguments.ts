import { type ParseArgsConfig, parseArgs } from 'node:util';
import { PASID_WIDTH_LIMIT } from '../../src/pci/pasid.ts';
import { CliError, EXIT_USAGE } from './exit-code.ts';

/** Options of a command, as `node:util` describes them. */
export type OptionTable = NonNullable<ParseArgsConfig['options']>;

/** What was given on the command line. */
export interface Arguments {
  readonly positionals: readonly string[];
  /** True when the option was given, whatever its value. */
  has(name: string): boolean;
  /** True when the flag was given. */
  flag(name: string): boolean;
  /** Value of the option; undefined when it was not given. */
  text(name: string): string | undefined;
  /** The same as a whole number, decimal or `0x` hexadecimal. Refuses anything else. */
  number(name: string): number | undefined;
}

/** Takes the arguments of `command` apart; what it does not know is a usage error. */
export function parseArguments(command: string, args: readonly string[], options: OptionTable): Arguments {
  const { values, positionals } = parse(command, args, options);
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  return {
    positionals,
    has: (name) => values[name] !== undefined,
    flag: (name) => values[name] === true,
    text,
    number: (name) => {
      const value = text(name);
      if (value === undefined) return undefined;
      if (/^(?:0x[0-9a-f]+|\d+)$/i.test(value)) return Number(value);
      throw new CliError(EXIT_USAGE, `--${name} takes a number, decimal or 0x hexadecimal, not "${value}"`);
    },
  };
}

function parse(
  command: string,
  args: readonly string[],
  options: OptionTable,
): { values: Record<string, unknown>; positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true, strict: true });
  } catch (error) {
    const why = describe(error instanceof Error ? error.message : String(error));
    throw new CliError(EXIT_USAGE, `${why}; ${seeHelp(command)}`);
  }
}

/** What Node says, in one line. */
function describe(message: string): string {
  const [, ambiguous] = /^Option '[^']*?(--[\w-]+)[^']*' argument is ambiguous/.exec(message) ?? [];
  if (ambiguous !== undefined)
    return `${ambiguous} takes a value, and one that begins with "-" as ${ambiguous}=VALUE`;
  return message.split(/\. To specify|\n/)[0] ?? message;
}

function seeHelp(command: string): string {
  return `"vpci ${command} --help" lists the options`;
}

/** Refuses the options `names`, which would do nothing; `why` follows the option's name. */
export function refuseOptions(given: Arguments, names: readonly string[], why: string): void {
  const name = names.find((one) => given.has(one));
  if (name !== undefined) throw new CliError(EXIT_USAGE, `--${name} ${why}`);
}

/** The one file that a command takes. */
export function onlyPositional(command: string, what: string, { positionals }: Arguments): string {
  const [path, ...more] = positionals;
  if (path !== undefined && more.length === 0) return path;
  throw new CliError(
    EXIT_USAGE,
    `takes one ${what} (- for standard input), not ${positionals.length}; ${seeHelp(command)}`,
  );
}

/** `--pasid-width`; undefined when it was not given. Refuses what no PASID has. */
export function pasidWidth(given: Arguments): number | undefined {
  const width = given.number('pasid-width');
  if (width === undefined || (width >= 1 && width <= PASID_WIDTH_LIMIT)) return width;
  throw new CliError(
    EXIT_USAGE,
    `--pasid-width is ${width}: a PASID has 1 to ${PASID_WIDTH_LIMIT} bits; --help says what is shown without this option`,
  );
}
