/**
 * `vpci/vfio-user`: functions as vfio-user devices, for QEMU and whoever else speaks the protocol.
 *
 * @packageDocumentation
 */
export {
  type AccessEvent,
  type ConnectEvent,
  type DeviceEvents,
  type DisconnectEvent,
  type DmaMapEvent,
  type DmaPart,
  type InterruptsEvent,
  type ProtocolErrorEvent,
  VfioUserDevice,
} from './device.ts';
export type {
  DeviceFactory,
  ServedDevice,
  ServeOptions,
  Transport,
  TransportOptions,
  VfioUserServer,
  WorkerServeOptions,
} from './options.ts';
export { serveVfioUser } from './serve.ts';
