import { formatBdf, parseBdf, type PciFunction, PciSegment, VpciError } from '../../src/index.ts';
import { serveVfioUser, type Transport, VfioUserDevice, type VfioUserServer } from '../vfio-user/index.ts';
import { type Arguments, type OptionTable, parseArguments } from './arguments.ts';
import { CliError, EXIT_NO, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import { HOST_DEVICE_HELP, HOST_DEVICE_OPTIONS, refuseHostOptions } from './host-device.ts';
import type { Output } from './io.ts';
import { demoDevice } from './serve/demo-device.ts';
import { dumpedDevice } from './serve/dumped-device.ts';
import { type ServedHost, serveHost } from './serve/host-device.ts';
import { ServeLog } from './serve/log.ts';
import { qemuCommand } from './serve/qemu-command.ts';
import { VIEW_OPTIONS, VIEW_OPTIONS_HELP } from './view-options.ts';

export const SERVE_HELP: string = `Usage: vpci serve --socket PATH (--demo | --dump DUMP | --host BDF) [options]

Serves a function over vfio-user, for QEMU (10.1 or later) and whoever else speaks the protocol, until it is
interrupted. Prints the options of QEMU 11.1 to use it, and then what the guest does with it.

  --socket PATH          where to listen; only its owner may connect. A socket left by a dead server is replaced
  --demo                 serve a small device of our own, with PASID
  --dump DUMP            serve a function of a dump: lspci -xxxx text, or a binary config file of sysfs
${HOST_DEVICE_HELP}                         (its interrupts and the client's memory need the transport koffi)
  --rid BB:DD.F          its requester ID in the log; default: as in the dump, else 01:00.0
${VIEW_OPTIONS_HELP}  --transport NAME       koffi, net, inherited, or auto, the default: the best that works here
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
  host: { type: 'string' },
  ...HOST_DEVICE_OPTIONS,
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
  if (socket === '') throw new CliError(EXIT_USAGE, '--socket is empty: give the path to listen at');
  const fd = given.number('fd');
  if ((socket === undefined) === (fd === undefined)) {
    throw new CliError(
      EXIT_USAGE,
      'give --socket PATH to listen at, or --fd N for a socket that is connected',
    );
  }
  const { device, rid, host } = await deviceFor(given);
  const log = new ServeLog(output, {
    device,
    json: given.flag('json'),
    quiet: given.flag('quiet'),
    reads: given.flag('reads'),
  });
  try {
    const interrupted = new AbortController();
    const server = await start(given, device, socket, fd, interrupted.signal, log);
    log.serving(server, formatBdf(rid), socket ?? `descriptor ${fd}`);
    if (socket !== undefined && !given.flag('json') && !given.flag('quiet')) output.err(qemuCommand(socket));
    host?.follow(device, (error) => log.error(error));
    await untilEnded(server, interrupted, output.closed);
  } finally {
    host?.close();
  }
  return EXIT_OK;
}

interface Served {
  readonly device: VfioUserDevice;
  readonly rid: number;
  /** With `--host`. */
  readonly host: ServedHost | undefined;
}

async function deviceFor(given: Arguments): Promise<Served> {
  const dump = given.text('dump');
  const bdf = given.text('host');
  const named = [dump !== undefined, bdf !== undefined, given.flag('demo')];
  if (named.filter(Boolean).length !== 1) {
    throw new CliError(EXIT_USAGE, 'say what to serve: --demo, --dump DUMP or --host BDF');
  }
  const asked = given.text('rid');
  if (bdf !== undefined) {
    const host = await serveHost(bdf, given);
    return placed(host.fn, asked ?? host.bdf, host);
  }
  refuseHostOptions(given);
  const made = dump === undefined ? demoDevice(given) : dumpedDevice(dump, given);
  return placed(made.fn, asked ?? made.bdf, undefined);
}

/** In its place; a vIOMMU of ours is for programs that embed this. */
function placed(fn: PciFunction, bdf: string, host: ServedHost | undefined): Served {
  try {
    const rid = ridOf(bdf);
    new PciSegment().add(rid, fn);
    return { device: new VfioUserDevice(fn), rid, host };
  } catch (error) {
    host?.close();
    throw error;
  }
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

async function untilEnded(
  server: VfioUserServer,
  interrupted: AbortController,
  closed: AbortSignal,
): Promise<void> {
  const interrupt = (): void => interrupted.abort();
  closed.addEventListener('abort', interrupt);
  if (closed.aborted) interrupt();
  // A thread that blocks in a read hears no signal; then the default action ends the process, which owns no socket.
  const signals = server.transport === 'inherited' ? [] : (['SIGINT', 'SIGTERM'] as const);
  for (const signal of signals) process.once(signal, interrupt);
  await server.ended;
  for (const signal of signals) process.off(signal, interrupt);
  closed.removeEventListener('abort', interrupt);
}
