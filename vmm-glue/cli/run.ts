import { readFileSync } from 'node:fs';
import { CliError, EXIT_BUG, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import type { Output } from './io.ts';

interface Command {
  readonly help: string;
  readonly run: (args: readonly string[], output: Output) => number | Promise<number>;
}

interface Entry {
  readonly summary: string;
  /** A command is loaded when it is called: most need a small part of the library only. */
  readonly load: () => Promise<Command>;
}

const COMMANDS: ReadonlyMap<string, Entry> = new Map<string, Entry>([
  [
    'demo',
    {
      summary: 'the story of a PASID capability, played',
      load: async () => {
        const { demo, DEMO_HELP } = await import('./demo.ts');
        return { help: DEMO_HELP, run: demo };
      },
    },
  ],
  [
    'view',
    {
      summary: 'what a guest would see of the functions in a dump',
      load: async () => {
        const { view, VIEW_HELP } = await import('./view.ts');
        return { help: VIEW_HELP, run: view };
      },
    },
  ],
  [
    'explain',
    {
      summary: 'whether Linux will enable PASID, and why',
      load: async () => {
        const { explain, EXPLAIN_HELP } = await import('./explain.ts');
        return { help: EXPLAIN_HELP, run: explain };
      },
    },
  ],
  [
    'host',
    {
      summary: 'asks this host what PASIDs its devices carry',
      load: async () => {
        const { host, HOST_HELP } = await import('./host.ts');
        return { help: HOST_HELP, run: host };
      },
    },
  ],
  [
    'serve',
    {
      summary: 'serves a function to QEMU over vfio-user',
      load: async () => {
        const { serve, SERVE_HELP } = await import('./serve.ts');
        return { help: SERVE_HELP, run: serve };
      },
    },
  ],
  [
    'replay',
    {
      summary: 'runs a trace and prints what its ops read',
      load: async () => {
        const { REPLAY_HELP, replayCommand } = await import('./replay.ts');
        return { help: REPLAY_HELP, run: replayCommand };
      },
    },
  ],
]);

/** Beside the sources, in a checkout and in an installed package; this file runs from dist/vmm-glue/cli. */
const MANIFEST = new URL('../../../package.json', import.meta.url);

/** Runs `vpci` with `args`; the result is the exit code. */
export async function run(args: readonly string[], output: Output): Promise<number> {
  // "vpci help view" is "vpci view --help".
  if (args[0] === 'help' && args[1] !== undefined) return await run([args[1], '--help'], output);
  const [name = '--help', ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    output.out(usage());
    return args.length === 0 ? EXIT_USAGE : EXIT_OK;
  }
  if (name === '--version') {
    output.out(`${version()}\n`);
    return EXIT_OK;
  }
  const entry = COMMANDS.get(name);
  if (entry === undefined) {
    output.err(`vpci: there is no command "${name}"\n\n${usage()}`);
    return EXIT_USAGE;
  }
  const command = await entry.load();
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

function version(): string {
  const manifest: { readonly version: string } = JSON.parse(readFileSync(MANIFEST, 'utf8'));
  return manifest.version;
}

function usage(): string {
  const commands = [...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(8)} ${summary}`);
  return `Usage: vpci COMMAND [options]\n\n${commands.join('\n')}\n\n"vpci COMMAND --help" lists a command's options, and "vpci --version" says which vpci this is.\n`;
}
