import { once } from 'node:events';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import { PciFunction, VpciError } from '../../src/index.ts';
import { loadNative, type Native } from '../linux/index.ts';
import type { ConnectionEvents } from './connection.ts';
import { VfioUserDevice } from './device.ts';
import { GuestFile } from './guest-file.ts';
import { InheritedConnection } from './inherited-connection.ts';
import { allocateBuffers, KoffiConnection } from './koffi-connection.ts';
import { KoffiListener } from './koffi-listener.ts';
import { NetConnection } from './net-connection.ts';
import { NetListener } from './net-listener.ts';
import type {
  ServedDevice,
  ServeOptions,
  Transport,
  TransportOptions,
  VfioUserServer,
  WorkerServeOptions,
} from './options.ts';
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
  const served = servedDevices(options);
  const choice = await chooseTransport(options, fd);
  const { transport, native, reason } = choice;
  const services: Service[] = [];
  const end = ending(services);
  const memoryFile = openMemoryFile(options.memoryFile);
  if (memoryFile !== undefined) services.push({ close: () => memoryFile.release() });
  const events: ConnectionEvents = {
    failed: onError,
    closed: () => {
      if (fd !== undefined) void end.close();
    },
  };
  try {
    for (const { socket, device } of served) {
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

interface SharedOptions {
  readonly device: VfioUserDevice;
  readonly memoryFile: GuestFile | undefined;
  readonly events: ConnectionEvents;
}

function connectionOn(
  fd: number,
  { native, transport }: Choice,
  shared: SharedOptions,
  linger: number,
): Service {
  if (native !== undefined) {
    const connection = new KoffiConnection(fd, {
      ...shared,
      native,
      linger,
      buffers: allocateBuffers(native),
    });
    return { close: () => connection.close('the server was closed') };
  }
  const options = { ...shared, input: new WireBuffer(), output: new WireBuffer() };
  const connection =
    transport === 'net'
      ? new NetConnection(new Socket({ fd }), options)
      : new InheritedConnection(fd, options);
  return { close: () => connection.close('the server was closed') };
}

function servedDevices(options: ServeOptions): (ServedDevice & { readonly device: VfioUserDevice })[] {
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

/** Closes all services, once, and says when that is done. */
function ending(services: readonly Service[]): { readonly ended: Promise<void>; close(): Promise<void> } {
  const done = new EventTarget();
  const ended = once(done, 'ended').then(() => undefined);
  let closing: Promise<void> | undefined;
  const closeAll = async (): Promise<void> => {
    // Connections first: they still use the memory file.
    for (const service of services.toReversed()) await service.close();
    done.dispatchEvent(new Event('ended'));
  };
  return { ended, close: () => (closing ??= closeAll()) };
}

function warn(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}
