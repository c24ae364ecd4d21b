// Sockets, threads and the command: how a service begins, goes on and ends.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createFunction } from 'vpci';
import { serveVfioUser, type Transport, VfioUserDevice } from 'vpci/vfio-user';
import { message, regionBody, valueOf, versionBody, VfioUserClient } from '../../support/vfio-user-client.ts';
import { collectGarbage, scratchFile, socketPath, testFunction } from './device.ts';

const repo = fileURLToPath(new URL('../../..', import.meta.url));
const cli = join(repo, 'dist/vmm-glue/cli/main.js');
const igb = join(repo, 'vmm-glue/captures/igb-82576.txt');

const cleanUps: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).toReversed()) await cleanUp();
});

async function identityAt(socket: string): Promise<number> {
  const client = await VfioUserClient.open(socket);
  const identity = await client.readConfig(0, 4);
  client.close();
  return identity;
}

describe.each<Transport>(['koffi', 'net'])('a socket by %s', (transport) => {
  const device = (): VfioUserDevice => new VfioUserDevice(testFunction().fn);

  it('is for its owner, and is gone afterwards', async () => {
    const socket = socketPath();
    const before = process.umask();
    const server = await serveVfioUser({ socket, device: device(), transport });
    expect(server).toMatchObject({ transport, reason: undefined });
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(before);
    await server.close();
    expect(existsSync(socket)).toBe(false);
    await server.close();
    await server.ended;
  });

  it('replaces one whose server died', async () => {
    const socket = socketPath();
    const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 9))`;
    await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('exit', resolve));
    expect(statSync(socket).isSocket()).toBe(true);
    await using server = await serveVfioUser({ socket, device: device(), transport });
    expect(await identityAt(socket)).toBe(0x00f51b36);
    expect(server.devices).toHaveLength(1);
  });

  it('is for one of two servers that begin where another died', async () => {
    const socket = socketPath();
    const script = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 9))`;
    await new Promise((resolve) => spawn(process.execPath, ['-e', script]).once('exit', resolve));
    const both = await Promise.allSettled(
      [device(), device()].map((one) => serveVfioUser({ socket, device: one, transport })),
    );
    const servers = both.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const refusals = both.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(refusals).toEqual([expect.objectContaining({ code: 'VPCI_SOCKET' })]);
    expect(await identityAt(socket)).toBe(0x00f51b36);
    for (const server of servers) await server.close();
  });

  it('is refused while somebody serves it, and where something else is', async () => {
    const socket = socketPath();
    await using server = await serveVfioUser({ socket, device: device(), transport });
    expect(server.devices).toHaveLength(1);
    await expect(serveVfioUser({ socket, device: device(), transport })).rejects.toThrow(
      expect.objectContaining({ code: 'VPCI_SOCKET' }),
    );
    expect(await identityAt(socket)).toBe(0x00f51b36);
    const file = scratchFile('file');
    writeFileSync(file, 'precious');
    await expect(serveVfioUser({ socket: file, device: device(), transport })).rejects.toThrow(
      expect.objectContaining({ code: 'VPCI_SOCKET' }),
    );
    expect(readFileSync(file, 'utf8')).toBe('precious');
  });

  it('is refused with a path that is too long', async () => {
    const socket = scratchFile('x'.repeat(108));
    await expect(serveVfioUser({ socket, device: device(), transport })).rejects.toThrow(
      expect.objectContaining({ code: 'VPCI_SOCKET' }),
    );
    expect(existsSync(socket.slice(0, 107))).toBe(false);
  });

  // Node removes whatever is at the path.
  it.skipIf(transport === 'net')('leaves a file alone that took its place', async () => {
    const socket = socketPath();
    const server = await serveVfioUser({ socket, device: device(), transport });
    rmSync(socket);
    writeFileSync(socket, 'new');
    await server.close();
    expect(readFileSync(socket, 'utf8')).toBe('new');
  });

  it('ends with a signal, and tells the client', async () => {
    const socket = socketPath();
    const ending = new AbortController();
    const server = await serveVfioUser({ socket, device: device(), transport, signal: ending.signal });
    const client = await VfioUserClient.open(socket);
    ending.abort();
    await client.closed;
    await server.ended;
    expect(existsSync(socket)).toBe(false);
    client.close();
  });

  it('is not for a device that another socket has', async () => {
    const one = device();
    const [first, second] = [socketPath(), socketPath()];
    const twice = { devices: [first, second].map((socket) => ({ socket, device: one })), transport };
    const refusal = expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' });
    await expect(serveVfioUser(twice)).rejects.toThrow(refusal);
    expect([first, second].map((socket) => existsSync(socket))).toEqual([false, false]);
    const server = await serveVfioUser({ socket: first, device: one, transport });
    await expect(serveVfioUser({ socket: second, device: one, transport })).rejects.toThrow(refusal);
    expect(await identityAt(first)).toBe(0x00f51b36);
    await server.close();
    await using again = await serveVfioUser({ socket: second, device: one, transport });
    expect(again.devices).toEqual([one]);
    expect(await identityAt(second)).toBe(0x00f51b36);
  });

  it('leaves nothing on a function', async () => {
    const { fn } = testFunction();
    const on = vi.spyOn(fn, 'on');
    const off = vi.spyOn(fn, 'off');
    const server = await serveVfioUser({ socket: socketPath(), device: fn, transport });
    expect(on).toHaveBeenCalledTimes(2);
    await server.close();
    expect(off.mock.calls).toEqual(on.mock.calls);
  });

  it('turns a client away whose device fails, and goes on', async () => {
    let fails = false;
    const bytes = Uint8Array.of(0x86, 0x80, 1, 0);
    const physical = {
      size: 4096,
      read: (offset: number, size: number) => valueOf(bytes.slice(offset, offset + size)),
      write: () => undefined,
    };
    const bad = new VfioUserDevice(
      createFunction({ physical, passthroughRanges: [[0x80, 0x100]], bars: [] }),
    );
    const ask = vi.spyOn(bad.function, 'interruptPin', 'get').mockImplementation(() => {
      if (fails) throw new Error('the physical function is gone');
      return 0;
    });
    const [broken, well] = [socketPath(), socketPath()];
    const devices = [
      { socket: broken, device: bad },
      { socket: well, device: device() },
    ];
    const errors: unknown[] = [];
    await using server = await serveVfioUser({ devices, transport, onError: (error) => errors.push(error) });
    expect(server.transport).toBe(transport);
    const isAsked = transport === 'koffi';
    fails = true;
    if (isAsked) {
      const client = await VfioUserClient.connect(broken);
      await client.closed;
      expect(String(errors)).toContain('the physical function is gone');
    }
    expect(await identityAt(well)).toBe(0x00f51b36);
    fails = false;
    expect(await identityAt(broken)).toBe(0x00018086);
    ask.mockRestore();
  });

  it('closes everything else when it cannot be removed', async () => {
    const folder = scratchFile(`folder-${transport}`);
    mkdirSync(folder);
    const errors: unknown[] = [];
    const kept = socketPath();
    const devices = [kept, join(folder, 'a.sock')].map((socket) => ({ socket, device: device() }));
    const server = await serveVfioUser({ devices, transport, onError: (error) => errors.push(error) });
    renameSync(folder, `${folder}-moved`);
    writeFileSync(folder, 'a file');
    await server.close();
    await server.ended;
    expect(existsSync(kept)).toBe(false);
    expect(errors).toEqual([expect.objectContaining({ code: 'ENOTDIR' })]);
  });

  // What Node's buffers leave is the allocator's.
  it.skipIf(transport === 'net')('leaves no memory behind', { timeout: 60_000 }, async () => {
    const mapped = (): number =>
      Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024;
    const before = mapped();
    for (let i = 0; i < 300; i++) {
      await (await serveVfioUser({ socket: socketPath(), device: device(), transport })).close();
    }
    // Two buffers of 1.1 MB each time.
    await expect
      .poll(
        () => {
          collectGarbage();
          return mapped() - before;
        },
        { timeout: 10_000 },
      )
      .toBeLessThan(200);
  });

  it('serves several devices, and again after a restart', async () => {
    const devices = [socketPath(), socketPath(), socketPath()].map((socket) => ({
      socket,
      device: device(),
    }));
    for (let restart = 0; restart < 2; restart++) {
      await using server = await serveVfioUser({ devices, transport });
      const clients = await Promise.all(devices.map(({ socket }) => VfioUserClient.open(socket)));
      for (const [i, client] of clients.entries()) await client.writeConfig(0x3c, 1, i + 1 + restart);
      for (const [i, client] of clients.entries())
        expect(await client.readConfig(0x3c, 1)).toBe(i + 1 + restart);
      for (const client of clients) client.close();
      expect(server.devices.map((one) => one.function.read(0x3c, 1))).toEqual(
        [1, 2, 3].map((n) => n + restart),
      );
    }
  });
});

describe('options', () => {
  const device = testFunction().fn;

  it.each([
    ['nothing', {}],
    ['a device alone', { device }],
    ['a socket alone', { socket: 'x' }],
    ['both ways', { device, socket: 'x', fd: 3 }],
    ['inherited without a descriptor', { device, socket: 'x', transport: 'inherited' as const }],
  ])('refuses %s', async (_name, options) => {
    await expect(serveVfioUser(options)).rejects.toThrow(
      expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }),
    );
  });

  it.each<Transport>(['koffi', 'net', 'inherited'])(
    'refuses a descriptor that is no socket, by %s',
    async (transport) => {
      const fd = openSync(igb, 'r');
      for (const one of [fd, 1_000_000, -1, 0.5]) {
        await expect(serveVfioUser({ device, fd: one, transport })).rejects.toThrow(
          expect.objectContaining({ code: 'VPCI_BAD_ARGUMENT' }),
        );
      }
      closeSync(fd);
    },
  );
});

/** What a script says until it ends by itself. */
async function outputOf(script: string): Promise<string> {
  const path = scratchFile(`script-${Math.random().toString(36).slice(2)}.mjs`);
  writeFileSync(path, script);
  const child = spawn(process.execPath, [path], { stdio: ['ignore', 'pipe', 'inherit'] });
  cleanUps.push(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  const code = await exitCode(child);
  return code === 0 ? out : `${out}exit code ${code}\n`;
}

describe('a watch', () => {
  it('goes on, and so do the others, when one throws', async () => {
    const script = `
      const { loadNative } = await import(${JSON.stringify(pathToFileURL(join(repo, 'dist/vmm-glue/linux/index.js')).href)});
      const native = await loadNative();
      process.on('uncaughtException', (error) => console.log('uncaught', error.message));
      const [one, other] = [native.eventfd(1, 0), native.eventfd(1, 0)];
      let times = 0;
      native.watch(one, false, () => { if (++times < 3) throw new Error('oops'); });
      native.watch(other, false, () => { if (times >= 3) { console.log('other'); process.exit(); } });`;
    expect(await outputOf(script)).toBe('uncaught oops\nuncaught oops\nother\n');
  });
});

describe('a worker', () => {
  function moduleFile(code: string): URL {
    const path = scratchFile(`device-${Math.random().toString(36).slice(2)}.mjs`);
    const from = pathToFileURL(join(repo, 'dist')).href;
    writeFileSync(
      path,
      `import { createFunction } from '${from}/src/index.js';
       import { VfioUserDevice } from '${from}/vmm-glue/vfio-user/index.js';\n${code}`,
    );
    return pathToFileURL(path);
  }

  it('builds the devices and serves them', async () => {
    const module = moduleFile(`export default async ({ sockets, deviceId }) => sockets.map((socket, i) => ({
      socket,
      device: createFunction({ vendorId: 0x1234, deviceId: deviceId + i, classCode: 0x120000 }),
    }));`);
    const sockets = [socketPath(), socketPath()];
    const server = await serveVfioUser({ device: module, data: { sockets, deviceId: 0x10 } });
    expect(server).toMatchObject({ transport: 'koffi', devices: [] });
    const clients = await Promise.all(sockets.map((socket) => VfioUserClient.open(socket)));
    for (let turn = 0; turn < 100; turn++) {
      for (const [i, client] of clients.entries()) expect(await client.readConfig(2, 2)).toBe(0x10 + i);
    }
    for (const client of clients) client.close();
    await server.close();
    expect(sockets.map((socket) => existsSync(socket))).toEqual([false, false]);
  });

  it('gets the answers to its DMA, though it blocks', async () => {
    const module = moduleFile(`export default (socket) => {
      const fn = createFunction({ vendorId: 1, deviceId: 2, classCode: 0, bars: [{
        index: 0, size: 4096, read: () => seen, write: (offset, size, value) => {
          void device.read(value, 4).then((bytes) => { seen = bytes === undefined ? 0xdead : bytes[0]; });
        } }] });
      let seen = 0;
      const device = new VfioUserDevice(fn);
      return { socket, device };
    };`);
    const socket = socketPath();
    await using server = await serveVfioUser({ device: module, data: socket });
    expect(server.devices).toEqual([]);
    const client = await VfioUserClient.open(socket);
    client.onRequest = ({ body }) => new Uint8Array([...body.slice(0, 16), 0x5a, 0, 0, 0]);
    await client.writeRegion(0, 0, Uint8Array.of(0, 0x10, 0, 0));
    await expect.poll(async () => valueOf((await client.readRegion(0, 0, 4)).body.slice(16))).toBe(0x5a);
    client.close();
  });

  it('ends, whatever its module has running', async () => {
    const module = moduleFile(`setInterval(() => undefined, 1000);
      export default (socket) => ({ socket, device: createFunction({ vendorId: 1, deviceId: 2, classCode: 0 }) });`);
    const taken = socketPath();
    const holder = createServer().listen(taken);
    cleanUps.push(() => new Promise((resolve) => holder.close(resolve)));
    const script = `
      const { serveVfioUser } = await import(${JSON.stringify(pathToFileURL(join(repo, 'dist/vmm-glue/vfio-user/index.js')).href)});
      const device = new URL(${JSON.stringify(module.href)});
      const server = await serveVfioUser({ device, data: ${JSON.stringify(socketPath())} });
      await server.close();
      console.log('closed');
      await serveVfioUser({ device, data: ${JSON.stringify(taken)} }).catch(({ code }) => console.log(code));`;
    expect(await outputOf(script)).toBe('closed\nVPCI_SOCKET\n');
  });

  it('ends with a signal, before it serves and afterwards', async () => {
    const data = socketPath();
    const ready = moduleFile(
      `export default (socket) => ({ socket, device: createFunction({ vendorId: 1, deviceId: 2, classCode: 0 }) });`,
    );
    const ending = new AbortController();
    const server = await serveVfioUser({ device: ready, data, signal: ending.signal });
    ending.abort();
    await server.ended;
    expect(existsSync(data)).toBe(false);

    const never = moduleFile(`export default () => new Promise(() => setInterval(() => undefined, 1000));`);
    const early = new AbortController();
    const starting = serveVfioUser({ device: never, signal: early.signal });
    setTimeout(() => early.abort(), 50);
    await expect(starting).rejects.toThrow(expect.objectContaining({ code: 'VPCI_SOCKET' }));
  });

  it('does not wait for a slow client while another asks', async () => {
    const module = moduleFile(`export default (sockets) => sockets.map((socket) => ({
      socket,
      device: createFunction({ vendorId: 1, deviceId: 2, classCode: 0 }),
    }));`);
    const sockets = [socketPath(), socketPath()];
    await using server = await serveVfioUser({ device: module, data: sockets });
    expect(server.transport).toBe('koffi');
    const [slow, quick] = await Promise.all(sockets.map((socket) => VfioUserClient.open(socket)));
    if (slow === undefined || quick === undefined) throw new Error('two clients');
    const dripping = new AbortController();
    const drip = (async () => {
      while (!dripping.signal.aborted) {
        await slow.readConfig(0, 4);
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
    })();
    const times: number[] = [];
    for (let i = 0; i < 9; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      const start = performance.now();
      await quick.readConfig(0, 4);
      times.push(performance.now() - start);
    }
    dripping.abort();
    await drip;
    slow.close();
    quick.close();
    expect(times.toSorted((a, b) => a - b)[4]).toBeLessThan(200);
  });

  it.each([
    ['a module without a default export', 'export const nothing = 1;', 'VPCI_BAD_ARGUMENT'],
    ['a module that throws', "throw new Error('broken');", undefined],
    ['a socket that is taken', undefined, 'VPCI_SOCKET'],
  ])('passes on what is wrong with %s', async (_name, code, expected) => {
    const taken = socketPath();
    const holder = createServer().listen(taken);
    cleanUps.push(() => new Promise((resolve) => holder.close(resolve)));
    const module = moduleFile(
      code ??
        `export default (socket) => ({ socket, device: createFunction({ vendorId: 1, deviceId: 2, classCode: 0 }) });`,
    );
    const refused = serveVfioUser({ device: module, data: taken });
    await expect(refused).rejects.toThrow(
      expected === undefined ? /broken/ : expect.objectContaining({ code: expected }),
    );
  });
});

/** A child whose descriptor 3 is one end of a socket pair; the other end is returned. */
function withSocket(args: readonly string[]): { child: ChildProcess; socket: Socket } {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
  cleanUps.push(() => child.kill('SIGKILL'));
  const socket = child.stdio[3];
  if (!(socket instanceof Socket)) throw new Error('no socket');
  return { child, socket };
}

async function exchange(socket: Socket, request: Uint8Array): Promise<Buffer> {
  const answer = new Promise<Buffer>((resolve) => {
    socket.once('data', resolve);
  });
  socket.write(request);
  return answer;
}

const exitCode = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => {
    child.once('exit', resolve);
  });

describe('an inherited socket', () => {
  it.each(['inherited', 'koffi', 'net', 'auto'])('is served by %s, until its end', async (transport) => {
    const { child, socket } = withSocket([
      cli,
      'serve',
      '--demo',
      '--fd',
      '3',
      '--transport',
      transport,
      '--quiet',
    ]);
    const ended = exitCode(child);
    expect((await exchange(socket, message(1, 1, versionBody(0, 1, '{}')))).readUInt32LE(8)).toBe(1);
    for (let id = 2; id < 50; id++) {
      const reply = await exchange(socket, message(id, 9, regionBody(7, 0, 4)));
      expect([reply.readUInt16LE(0), reply.readUInt32LE(32)]).toEqual([id, 0x00f51b36]);
    }
    socket.end();
    expect(await ended).toBe(0);
  });
});

describe('vpci serve', () => {
  function command(...args: string[]): { child: ChildProcess; out: () => string; err: () => string } {
    const child = spawn(process.execPath, [cli, 'serve', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    cleanUps.push(() => child.kill('SIGKILL'));
    let [out, err] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    return { child, out: () => out, err: () => err };
  }

  it.each(['SIGINT', 'SIGTERM'] as const)('serves until %s, and cleans up', async (signal) => {
    const socket = socketPath();
    const { child, out, err } = command('--socket', socket, '--demo');
    const ended = exitCode(child);
    await expect.poll(() => existsSync(socket) && err().includes(socket), { timeout: 10_000 }).toBe(true);
    const client = await VfioUserClient.open(socket);
    await client.readConfig(0, 4);
    await client.writeConfig(4, 2, 6);
    client.close();
    await expect.poll(out).toContain('disconnected');
    child.kill(signal);
    expect(await ended).toBe(0);
    expect(existsSync(socket)).toBe(false);
    const lines = out().replaceAll(/^\S+ /gm, '').split('\n');
    expect(lines[0]).toMatch(/^serving 01:00\.0 1b36:00f5, PASID of 16 bits at 0x[0-9a-f]+, at .* by koffi$/);
    expect(lines.slice(1)).toEqual([
      'client connected, protocol 0.1',
      '  1 reads',
      'write header + 0x4 (0x004), 2 bytes = 0x0006',
      'client disconnected: the client closed the connection',
      '',
    ]);
    expect(err()).toContain('-device vfio-user-pci'.slice(0, 8));
    expect(err()).toContain(JSON.stringify(socket));
  });

  it('logs JSON lines', async () => {
    const socket = socketPath();
    const { out } = command(
      '--socket',
      socket,
      '--demo',
      '--json',
      '--reads',
      '--pasid-width',
      '20',
      '--transport',
      'net',
    );
    await expect.poll(() => out().includes('\n'), { timeout: 10_000 }).toBe(true);
    const client = await VfioUserClient.open(socket);
    await client.readConfig(0, 4);
    client.close();
    await expect.poll(out).toContain('"disconnect"');
    const events = out()
      .trim()
      .split('\n')
      .map((line): { event: string } => JSON.parse(line));
    expect(events.map(({ event }) => event)).toEqual([
      'serving',
      'limits',
      'connect',
      'access',
      'disconnect',
    ]);
    expect(events[0]).toMatchObject({
      transport: 'net',
      bdf: '01:00.0',
      pasid: { width: 20, execute: false },
    });
    expect(events[3]).toMatchObject({ region: 7, write: false, offset: 0, size: 4, value: 0x00f51b36 });
  });

  it('serves a function of a dump', async () => {
    const socket = socketPath();
    command('--socket', socket, '--dump', igb, '--pasid-width', '8', '--pasid-offset', '0x200', '--quiet');
    await expect.poll(() => existsSync(socket), { timeout: 10_000 }).toBe(true);
    const client = await VfioUserClient.open(socket);
    expect(await client.readConfig(0, 4)).toBe(0x10c98086);
    expect([await client.readConfig(0x200, 2), await client.readConfig(0x204, 2)]).toEqual([0x1b, 0x0800]);
    client.close();
  });

  it.each([
    [['--demo'], 2, '--socket PATH'],
    [['--socket', 'x'], 2, '--demo'],
    [['--socket', 'x', '--demo', '--dump', igb], 2, '--demo'],
    [['--socket', 'x', '--demo', 'more'], 2, '"more"'],
    [['--socket', 'x', '--demo', '--transport', 'pigeon'], 2, 'pigeon'],
    [['--socket', 'x', '--demo', '--rid', 'nowhere'], 2, 'nowhere'],
    [['--socket', '/nonexistent/x', '--demo'], 1, 'ENOENT'],
    [['--socket', tmpdir(), '--demo'], 1, 'no socket'],
    [['--fd', '0', '--demo'], 1, 'descriptor 0 is no socket'],
    [['--fd', '99', '--demo', '--transport', 'inherited'], 1, 'descriptor 99'],
    [['--socket', 'x', '--demo', '--transport', 'inherited'], 1, '--fd'],
    [['--socket', 'x', '--dump', igb, '--pasid-width', '8', '--pasid-offset', '0x104'], 1, '0x104'],
  ])('refuses %j', async (args, code, text) => {
    const { child, err } = command(...args);
    expect(await exitCode(child)).toBe(code);
    await expect.poll(err).toContain(text);
  });
});
