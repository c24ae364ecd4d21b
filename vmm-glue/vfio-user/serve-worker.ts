import { Worker } from 'node:worker_threads';
import { VPCI_ERROR_CODES, VpciError } from '../../src/index.ts';
import type { Transport, VfioUserServer, WorkerServeOptions } from './options.ts';

/** What the worker is started with. */
export interface WorkerInput {
  readonly module: string;
  readonly data: unknown;
  readonly transport: Transport | 'auto' | undefined;
  readonly memoryFile: string | undefined;
}

/** What the worker says. */
export type WorkerMessage =
  | { readonly type: 'ready'; readonly transport: Transport; readonly reason: string | undefined }
  | { readonly type: 'refused'; readonly code: string | undefined; readonly message: string }
  | { readonly type: 'error'; readonly error: unknown };

/** Serves the devices of a module from a worker of their own. */
export async function serveInWorker(options: WorkerServeOptions): Promise<VfioUserServer> {
  const { device, data, transport, memoryFile, signal, onError } = options;
  const workerData: WorkerInput = { module: device.href, data, transport, memoryFile };
  const worker = new Worker(new URL('./worker.js', import.meta.url), { workerData });
  const ended = new Promise<void>((resolve) => {
    worker.once('exit', () => resolve());
  });
  const close = async (): Promise<void> => {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker, not a window
    worker.postMessage('close');
    await ended;
  };
  signal?.addEventListener('abort', () => void close(), { once: true });
  if (signal?.aborted === true) void close();
  const ready = await started(worker, onError ?? ((error) => process.emitWarning(String(error))));
  return { ...ready, devices: [], ended, close, [Symbol.asyncDispose]: close };
}

function started(
  worker: Worker,
  onError: (error: unknown) => void,
): Promise<{ readonly transport: Transport; readonly reason: string | undefined }> {
  return new Promise((resolve, reject) => {
    worker.on('message', (message: WorkerMessage) => {
      if (message.type === 'ready') resolve({ transport: message.transport, reason: message.reason });
      else if (message.type === 'error') onError(message.error);
      else reject(refusal(message.code, message.message));
    });
    // Errors after the start end the worker, and nothing waits for the promise any more.
    worker.on('error', (error) => {
      onError(error);
      reject(error);
    });
    worker.once('exit', () => reject(new VpciError('VPCI_SOCKET', 'the worker ended before it served')));
  });
}

function refusal(code: string | undefined, message: string): Error {
  const known = VPCI_ERROR_CODES.find((one) => one === code);
  return known === undefined ? new Error(message) : new VpciError(known, message);
}
