import { once } from 'node:events';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { PciFunction, VpciError } from '../../src/index.ts';
import { loadNative, type Native } from '../linux/index.ts';
import type { ConnectionEvents } from './connection.ts';
import { VfioUserDevice } from './device.ts';
import { GuestFile } from './guest-file.ts';
import { blocks, InheritedWire } from './inherited-wire.ts';
import { KoffiListener } from './koffi-listener.ts';
import { allocateBuffers, KoffiWire } from './koffi-wire.ts';
import { NetListener } from './net-listener.ts';
import { NetWire } from './net-wire.ts';
import type {
  ServedDevice,
  ServeOptions,
  Transport,
  TransportOptions,
  VfioUserServer,
  WorkerServeOptions,
} from './options.ts';
import { Pump, type PumpOptions } from './pump.ts';
import { serveInWorker } from './serve-worker.ts';
import { WireBuffer } from './wire-buffer.ts';

/** Something that the service keeps open. */
interface Service {
  close(): void | Promise<void>;
}

interface Choice {
  readonly transport: Transport;
  readonly native: Native | undefined;
  readonly reason: string | undefined;
}

/**
 * Serves devices to vfio-user clients such as QEMU: from the calling thread's event loop, or from a worker when
 * `device` is the URL of a module.
 *
 * @throws VpciError `VPCI_SOCKET` for a socket that cannot be had, `VPCI_NO_KOFFI` when that transport was asked for
 * and does not load, `VPCI_HOST_CALL`, `VPCI_BAD_ARGUMENT`.
 */
export async function serveVfioUser(options: ServeOptions | WorkerServeOptions): Promise<VfioUserServer> {
  return isForWorker(options) ? await serveInWorker(options) : await serveHere(options);
}

function isForWorker(options: ServeOptions | WorkerServeOptions): options is WorkerServeOptions {
  return options.device instanceof URL;
}

/** Serves from the calling thread. */
export async function serveHere(options: ServeOptions): Promise<VfioUserServer> {
  const { fd, signal, onError = warn, linger = 0 } = options;
  if (fd !== undefined) requireSocket(fd);
  const served = servedDevices(options);
  const choice = await chooseTransport(options, fd);
  const { transport, native, reason } = choice;
  const services: Service[] = [];
  const end = ending(services, onError);
  const memoryFile = openMemoryFile(options.memoryFile);
  if (memoryFile !== undefined) services.push({ close: () => memoryFile.release() });
  const events: ConnectionEvents = {
    failed: onError,
    closed: () => {
      if (fd !== undefined) void end.close();
    },
  };
  try {
    for (const { socket, device, isOwn } of served) {
      device.beginService();
      services.push({
        close: () => {
          device.endService();
          if (isOwn) device.letGo();
        },
      });
      const shared = { device, memoryFile, events };
      if (fd !== undefined) services.push(connectionOn(fd, choice, shared, linger));
      else if (native !== undefined)
        services.push(await KoffiListener.open(socket, { ...shared, native, linger }));
      else services.push(await NetListener.open(socket, shared));
    }
  } catch (error) {
    await end.close();
    throw error;
  }
  if (signal?.aborted === true) await end.close();
  signal?.addEventListener('abort', () => void end.close(), { once: true });
  return {
    transport,
    reason,
    devices: served.map(({ device }) => device),
    ended: end.ended,
    close: () => end.close(),
    [Symbol.asyncDispose]: () => end.close(),
  };
}

function connectionOn(
  fd: number,
  { native, transport }: Choice,
  shared: Omit<PumpOptions, 'input' | 'output'>,
  linger: number,
): Service {
  let pump: Pump;
  if (native !== undefined) {
    const buffers = allocateBuffers(native);
    const { input, output } = buffers;
    pump = new Pump(new KoffiWire(native, fd, buffers, linger), native, { ...shared, input, output });
  } else {
    const [input, output] = [new WireBuffer(), new WireBuffer()];
    const isWatched = transport === 'net' || !blocks(fd);
    const wire = isWatched ? new NetWire(new Socket({ fd }), input) : new InheritedWire(fd, input);
    pump = new Pump(wire, undefined, { ...shared, input, output });
  }
  return { close: () => pump.close('the server was closed') };
}

function requireSocket(fd: number): void {
  let why = 'is no socket';
  try {
    if (fstatSync(fd).isSocket()) return;
  } catch (error) {
    why = `cannot be used (${error instanceof Error ? error.message : String(error)})`;
  }
  throw new VpciError(
    'VPCI_BAD_ARGUMENT',
    `descriptor ${fd} ${why}: give that of a connected socket which the process was started with`,
  );
}

interface OwnedDevice extends ServedDevice {
  readonly device: VfioUserDevice;
  /** It was made here, of a function. */
  readonly isOwn: boolean;
}

function servedDevices(options: ServeOptions): OwnedDevice[] {
  const { device, socket, fd, devices = [] } = options;
  const one = device === undefined ? [] : [{ socket: socket ?? '', device }];
  const all = [...one, ...devices];
  const reachable = fd === undefined ? all.every((each) => each.socket !== '') : all.length === 1 && !socket;
  if (all.length === 0 || !reachable) {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      'give a device with a socket path, or with the descriptor of a connected socket (fd), or several in devices',
    );
  }
  return all.map(({ socket: path, device: given }) => ({
    socket: path,
    device: given instanceof PciFunction ? new VfioUserDevice(given) : given,
    isOwn: given instanceof PciFunction,
  }));
}

async function chooseTransport(
  { transport = 'auto' }: TransportOptions,
  fd: number | undefined,
): Promise<Choice> {
  if (transport === 'inherited' && fd === undefined) {
    throw new VpciError(
      'VPCI_BAD_ARGUMENT',
      'the inherited transport serves a connected socket that the process was started with: give its number (fd, --fd on the command line)',
    );
  }
  if (transport === 'koffi') return { transport, native: await loadNative(), reason: undefined };
  if (transport !== 'auto') return { transport, native: undefined, reason: undefined };
  try {
    return { transport: 'koffi', native: await loadNative(), reason: undefined };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { transport: fd === undefined ? 'net' : 'inherited', native: undefined, reason };
  }
}

function openMemoryFile(path: string | undefined): GuestFile | undefined {
  if (path === undefined) return undefined;
  try {
    const fd = openSync(path, 'r+');
    return new GuestFile(fd, fstatSync(fd).size, undefined, () => closeSync(fd)).acquire();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new VpciError('VPCI_BAD_ARGUMENT', `the guest's memory file ${path} cannot be opened: ${why}`, {
      cause,
    });
  }
}

/** Closes all services, once, and says when that is done; `onError` hears what went wrong with one. */
function ending(
  services: readonly Service[],
  onError: (error: unknown) => void,
): { readonly ended: Promise<void>; close(): Promise<void> } {
  const done = new EventTarget();
  const ended = once(done, 'ended').then(() => undefined);
  let closing: Promise<void> | undefined;
  const closeAll = async (): Promise<void> => {
    const errors: unknown[] = [];
    // Connections first: they still use the memory file.
    for (const service of services.toReversed()) {
      try {
        await service.close();
      } catch (error) {
        errors.push(error);
      }
    }
    done.dispatchEvent(new Event('ended'));
    for (const error of errors) onError(error);
  };
  return { ended, close: () => (closing ??= closeAll()) };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
