/**
 * The few calls of Linux that Node has no API for: descriptors over sockets, mmap, eventfd. By koffi, loaded
 * when it is first asked for.
 *
 * @module
 */
export * from './abi.ts';
export { EventfdSignals } from './eventfd-signals.ts';
export { allocateBlock, type MemoryBlock } from './memory-block.ts';
export { ERRNO, errnoName, hostError, loadNative, type Native, type Watch } from './native.ts';
export { SocketMessage, socketMessageSize } from './socket-message.ts';
export { connectUnix, listenUnix, refuseCredentials, setReceiveTimeout, unixAddress } from './unix-socket.ts';
