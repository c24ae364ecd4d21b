import type { PciFunction } from '../../src/index.ts';
import type { VfioUserDevice } from './device.ts';

/**
 * How bytes and descriptors get here. `koffi`: everything works, at full speed. `net`: no native code; no
 * descriptors, so no INTx and no MSI-X, and guest memory by messages. `inherited`: as `net`, but at full speed, for
 * a connected socket that the process was started with.
 */
export type Transport = 'koffi' | 'net' | 'inherited';

/** A device and the socket that it is served on. */
export interface ServedDevice {
  /** Path of the socket to listen at, at most 107 bytes. */
  readonly socket: string;
  /** What is served; a function becomes a device of its own. */
  readonly device: VfioUserDevice | PciFunction;
}

/** Options that every way to serve has. */
export interface TransportOptions {
  /** Default `auto`: `koffi` where it loads, else what works without. */
  readonly transport?: Transport | 'auto' | undefined;
  /**
   * File that holds the guest's memory (QEMU's memory-backend-file with `share=on`), for transports that lose its
   * descriptor. Default: none; such memory is reached by messages.
   */
  readonly memoryFile?: string | undefined;
  /**
   * Milliseconds for which the thread may block for the next message after one; `koffi` only. 0, the default of the
   * calling thread, never waits for a client and is about half as fast; a thread with nothing else to do takes 5.
   */
  readonly linger?: number | undefined;
  /** Ends the service when it aborts. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of errors in this server or in a listener; the client is disconnected by then. Default: a warning. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** Options of `serveVfioUser` in the calling thread. */
export interface ServeOptions extends TransportOptions {
  /** What is served, on `socket` or `fd`. */
  readonly device?: VfioUserDevice | PciFunction | undefined;
  /** Path of the socket to listen at, at most 107 bytes. */
  readonly socket?: string | undefined;
  /** Descriptor of a connected socket that the process was started with, in place of `socket`. */
  readonly fd?: number | undefined;
  /** Several devices, each with its socket, in place of one. */
  readonly devices?: readonly ServedDevice[] | undefined;
}

/** Options of `serveVfioUser` in a worker of its own. */
export interface WorkerServeOptions extends Omit<TransportOptions, 'linger'> {
  /** Module that builds the devices inside the worker; its default export is a {@link DeviceFactory}. */
  readonly device: URL;
  /** What the factory gets; anything that can be cloned. */
  readonly data?: unknown;
}

/** Default export of a device module: builds the devices inside the worker that serves them. */
export type DeviceFactory = (
  data: unknown,
) => ServedDevice | readonly ServedDevice[] | Promise<ServedDevice | readonly ServedDevice[]>;

/** A running service. */
export interface VfioUserServer extends AsyncDisposable {
  /** The transport in use. */
  readonly transport: Transport;
  /** Why `auto` did not take koffi; undefined when it did, or was not asked. */
  readonly reason: string | undefined;
  /** The devices; none when they live in a worker. */
  readonly devices: readonly VfioUserDevice[];
  /** Fulfilled when the service has ended: by `close`, the signal, or the end of an inherited connection. */
  readonly ended: Promise<void>;
  /** Disconnects the clients and removes the sockets. */
  close(): Promise<void>;
}
