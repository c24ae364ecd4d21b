// The thread that serves the devices of a module: it builds them, and has nothing else to do.
import { parentPort, workerData } from 'node:worker_threads';
import { VpciError } from '../../src/index.ts';
import type { DeviceFactory, ServedDevice } from './options.ts';
import { serveHere } from './serve.ts';
import type { WorkerInput, WorkerMessage } from './serve-worker.ts';

/** Milliseconds to wait for the next message before the event loop has a turn. */
const LINGER_MS = 5;

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a worker, not a window
const say = (message: WorkerMessage): void => parentPort?.postMessage(message);

const ending = new AbortController();
let isServing = false;
parentPort?.once('message', () => {
  ending.abort();
  if (!isServing) process.exit();
});

try {
  const { module, data, transport, memoryFile }: WorkerInput = workerData;
  const served = await factoryOf(await import(module), module)(data);
  isServing = true;
  const server = await serveHere({
    devices: isList(served) ? served : [served],
    transport,
    memoryFile,
    linger: LINGER_MS,
    signal: ending.signal,
    onError: (error) => say({ type: 'error', error: error instanceof Error ? error : String(error) }),
  });
  say({ type: 'ready', transport: server.transport, reason: server.reason });
  await server.ended;
} catch (error) {
  const code = error instanceof VpciError ? error.code : undefined;
  say({ type: 'refused', code, message: error instanceof Error ? error.message : String(error) });
}
// Timers and the like of the module would keep the thread alive.
process.exit();

function factoryOf(loaded: unknown, module: string): DeviceFactory {
  if (hasFactory(loaded)) return loaded.default;
  throw new VpciError(
    'VPCI_BAD_ARGUMENT',
    `${module} has no function as its default export: it must build the devices to serve`,
  );
}

function hasFactory(loaded: unknown): loaded is { readonly default: DeviceFactory } {
  return (
    typeof loaded === 'object' &&
    loaded !== null &&
    'default' in loaded &&
    typeof loaded.default === 'function'
  );
}

function isList(served: ServedDevice | readonly ServedDevice[]): served is readonly ServedDevice[] {
  return Array.isArray(served);
}
