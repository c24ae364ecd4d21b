import { demo, DEMO_HELP } from './demo.ts';
import { CliError, EXIT_BUG, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import { explain, EXPLAIN_HELP } from './explain.ts';
import { host, HOST_HELP } from './host.ts';
import type { Output } from './io.ts';
import { REPLAY_HELP, replayCommand } from './replay.ts';
import { SERVE_HELP, serve } from './serve.ts';
import { VIEW_HELP, view } from './view.ts';

interface Command {
  readonly help: string;
  readonly summary: string;
  readonly run: (args: readonly string[], output: Output) => number | Promise<number>;
}

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['demo', { help: DEMO_HELP, summary: 'the story of a PASID capability, played', run: demo }],
  ['view', { help: VIEW_HELP, summary: 'what a guest would see of the functions in a dump', run: view }],
  ['explain', { help: EXPLAIN_HELP, summary: 'whether Linux will enable PASID, and why', run: explain }],
  ['host', { help: HOST_HELP, summary: 'asks this host what PASIDs its devices carry', run: host }],
  ['serve', { help: SERVE_HELP, summary: 'serves a function to QEMU over vfio-user', run: serve }],
  ['replay', { help: REPLAY_HELP, summary: 'runs a trace and prints what its ops read', run: replayCommand }],
]);

/** Runs `vpci` with `args`; the result is the exit code. */
export async function run(args: readonly string[], output: Output): Promise<number> {
  const [name = '--help', ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    output.out(usage());
    return args.length === 0 ? EXIT_USAGE : EXIT_OK;
  }
  const command = COMMANDS.get(name);
  if (command === undefined) {
    output.err(`vpci: there is no command "${name}"\n\n${usage()}`);
    return EXIT_USAGE;
  }
  if (rest.includes('--help') || rest.includes('-h')) {
    output.out(command.help);
    return EXIT_OK;
  }
  try {
    return await command.run(rest, output);
  } catch (error) {
    if (error instanceof CliError) {
      output.err(`vpci ${name}: ${error.message}\n`);
      return error.exitCode;
    }
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    output.err(
      `vpci ${name}: this is a bug in vpci, please report it with the command and its input\n${text}\n`,
    );
    return EXIT_BUG;
  }
}

function usage(): string {
  const commands = [...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(8)} ${summary}`);
  return `Usage: vpci COMMAND [options]\n\n${commands.join('\n')}\n\n"vpci COMMAND --help" lists a command's options.\n`;
}
