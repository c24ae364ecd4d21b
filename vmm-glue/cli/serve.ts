import { formatBdf, parseBdf, PciSegment, VpciError } from '../../src/index.ts';
import { serveVfioUser, type Transport, VfioUserDevice, type VfioUserServer } from '../vfio-user/index.ts';
import { type Arguments, type OptionTable, parseArguments } from './arguments.ts';
import { CliError, EXIT_NO, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import type { Output } from './io.ts';
import { demoDevice } from './serve/demo-device.ts';
import { dumpedDevice } from './serve/dumped-device.ts';
import { ServeLog } from './serve/log.ts';
import { qemuCommand } from './serve/qemu-command.ts';
import { VIEW_OPTIONS, VIEW_OPTIONS_HELP } from './view-options.ts';

export const SERVE_HELP: string = `Usage: vpci serve --socket PATH (--demo | --dump DUMP) [options]

Serves a function over vfio-user, for QEMU (10.1 or later) and whoever else speaks the protocol, until it is
interrupted. Prints the QEMU options to use it, and then what the guest does with it.

  --socket PATH          where to listen; only its owner may connect. A socket left by a dead server is replaced
  --demo                 serve a small device of our own, with PASID
  --dump DUMP            serve a function of a dump: lspci -xxxx text, or a binary config file of sysfs
  --rid BB:DD.F          its requester ID in the log; default: as in the dump, else 01:00.0
${VIEW_OPTIONS_HELP}  --transport NAME       koffi, net or inherited; default: the best that works here
  --fd N                 serve the connected socket that is descriptor N, in place of --socket
  --memory-file PATH     the guest's memory (memory-backend-file, share=on), where no descriptor of it arrives
  --reads                log every read, too
  --quiet                no log
  --json                 the log as JSON lines

Exit code: 0 interrupted, or the inherited connection ended; 1 refused; 2 usage or unreadable input.
`;

const OPTIONS: OptionTable = {
  ...VIEW_OPTIONS,
  socket: { type: 'string' },
  demo: { type: 'boolean' },
  dump: { type: 'string' },
  rid: { type: 'string' },
  transport: { type: 'string' },
  fd: { type: 'string' },
  'memory-file': { type: 'string' },
  reads: { type: 'boolean' },
  quiet: { type: 'boolean' },
};

/** Milliseconds that the process blocks for the next message after one: it has nothing else to do. */
const LINGER_MS = 5;

/** `vpci serve`. */
export async function serve(args: readonly string[], output: Output): Promise<number> {
  const given = parseArguments('serve', args, OPTIONS);
  const [stray] = given.positionals;
  if (stray !== undefined)
    throw new CliError(EXIT_USAGE, `"${stray}" is no option; give the dump with --dump`);
  const socket = given.text('socket');
  const fd = given.number('fd');
  if ((socket === undefined) === (fd === undefined)) {
    throw new CliError(
      EXIT_USAGE,
      'give --socket PATH to listen at, or --fd N for a socket that is connected',
    );
  }
  const { device, rid } = deviceFor(given);
  const log = new ServeLog(output, {
    device,
    json: given.flag('json'),
    quiet: given.flag('quiet'),
    reads: given.flag('reads'),
  });
  const interrupted = new AbortController();
  const server = await start(given, device, socket, fd, interrupted.signal, log);
  log.serving(server, formatBdf(rid), socket ?? `descriptor ${fd}`);
  if (socket !== undefined && !given.flag('json') && !given.flag('quiet')) output.err(qemuCommand(socket));
  await untilEnded(server, interrupted);
  return EXIT_OK;
}

function deviceFor(given: Arguments): { device: VfioUserDevice; rid: number } {
  const dump = given.text('dump');
  if ((dump === undefined) !== given.flag('demo')) {
    throw new CliError(EXIT_USAGE, 'say what to serve: --demo, or --dump DUMP');
  }
  const { fn, bdf } = dump === undefined ? demoDevice(given) : dumpedDevice(dump, given);
  const rid = ridOf(given.text('rid') ?? bdf);
  // Its place; a vIOMMU of ours is for programs that embed this.
  new PciSegment().add(rid, fn);
  return { device: new VfioUserDevice(fn), rid };
}

function ridOf(bdf: string): number {
  try {
    return parseBdf(bdf);
  } catch (error) {
    if (error instanceof VpciError) throw new CliError(EXIT_USAGE, error.message);
    throw error;
  }
}

async function start(
  given: Arguments,
  device: VfioUserDevice,
  socket: string | undefined,
  fd: number | undefined,
  signal: AbortSignal,
  log: ServeLog,
): Promise<VfioUserServer> {
  try {
    return await serveVfioUser({
      device,
      socket,
      fd,
      signal,
      transport: transportOf(given.text('transport')),
      memoryFile: given.text('memory-file'),
      linger: LINGER_MS,
      onError: (error) => log.error(error),
    });
  } catch (error) {
    if (error instanceof VpciError) throw new CliError(EXIT_NO, `${error.message} (${error.code})`);
    throw error;
  }
}

function transportOf(name: string | undefined): Transport | undefined {
  if (name === undefined || name === 'auto') return undefined;
  if (name === 'koffi' || name === 'net' || name === 'inherited') return name;
  throw new CliError(EXIT_USAGE, `--transport is "${name}": it is koffi, net, inherited or auto`);
}

async function untilEnded(server: VfioUserServer, interrupted: AbortController): Promise<void> {
  const interrupt = (): void => interrupted.abort();
  // A thread that blocks in a read hears no signal; then the default action ends the process, which owns no socket.
  const signals = server.transport === 'inherited' ? [] : (['SIGINT', 'SIGTERM'] as const);
  for (const signal of signals) process.once(signal, interrupt);
  await server.ended;
  for (const signal of signals) process.off(signal, interrupt);
}
