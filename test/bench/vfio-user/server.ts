// What the benchmark measures, in a process of its own: `server.js WAY SOCKET`. Prints `ready` when it serves.
import { serveVfioUser } from '../../../vmm-glue/vfio-user/index.ts';
import { device } from './device-module.ts';

const [way = '', socket = ''] = process.argv.slice(2);

const ways: Readonly<Record<string, () => Promise<unknown>>> = {
  worker: () => serveVfioUser({ device: new URL('device-module.js', import.meta.url), data: socket }),
  linger: () => serveVfioUser({ device: device(), socket, transport: 'koffi', linger: 5 }),
  loop: () => serveVfioUser({ device: device(), socket, transport: 'koffi' }),
  net: () => serveVfioUser({ device: device(), socket, transport: 'net' }),
  inherited: () => serveVfioUser({ device: device(), fd: 3, transport: 'inherited' }),
};
await ways[way]?.();
console.log('ready');
