// The protocol, command by command, by the two transports that listen.
import { afterEach, describe, expect, it } from 'vitest';
import {
  type AccessEvent,
  type Transport,
  VfioUserDevice,
  type VfioUserServer,
  serveVfioUser,
} from 'vpci/vfio-user';
import {
  bytesOf64,
  bytesOf,
  concat,
  dmaMapBody,
  dmaUnmapAllBody,
  dmaUnmapBody,
  message,
  regionBody,
  valueOf,
  versionBody,
  VfioUserClient,
  words,
  wordsOf,
} from '../../support/vfio-user-client.ts';
import { MSI_X_VECTORS, socketPath, testFunction } from './device.ts';

const EINVAL = 22;
const EEXIST = 17;
const ENOTTY = 25;
const ENOTSUP = 95;

const open: (VfioUserServer | VfioUserClient)[] = [];
afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one.close();
});

async function serve(transport: Transport, served = testFunction()) {
  const device = new VfioUserDevice(served.fn);
  const socket = socketPath();
  const server = await serveVfioUser({ socket, device, transport });
  open.push(server);
  return { ...served, device, socket, server };
}

async function session(transport: Transport, served = testFunction()) {
  const one = await serve(transport, served);
  const client = await VfioUserClient.open(one.socket);
  open.push(client);
  return { ...one, client };
}

describe.each<Transport>(['koffi', 'net'])('%s', (transport) => {
  const descriptors = transport === 'koffi';

  describe('VERSION', () => {
    it.each([
      [0, 0],
      [1, 1],
      [7, 1],
    ])('answers minor version %i with %i', async (asked, answered) => {
      const { socket } = await serve(transport);
      const client = await VfioUserClient.connect(socket);
      open.push(client);
      const { errno, body, flags } = await client.request(1, versionBody(0, asked, '{"capabilities":{}}'));
      expect([errno, flags, valueOf(body.slice(0, 2)), valueOf(body.slice(2, 4))]).toEqual([
        0,
        1,
        0,
        answered,
      ]);
      expect(body.at(-1)).toBe(0);
      const { capabilities } = JSON.parse(new TextDecoder().decode(body.slice(4, -1)));
      expect(capabilities).toEqual({
        max_msg_fds: descriptors ? 16 : 0,
        max_data_xfer_size: 0x100000,
        max_dma_maps: 0xffff,
        pgsizes: 4096,
        write_multiple: true,
      });
    });

    it('takes a client that says nothing', async () => {
      const { socket } = await serve(transport);
      const client = await VfioUserClient.connect(socket);
      open.push(client);
      expect((await client.request(1, words(0))).errno).toBe(0);
    });

    it.each([
      ['another major version', versionBody(1, 0, '{}')],
      ['half of it', bytesOf(0, 2)],
      ['no JSON', versionBody(0, 1, '{"capabilities":')],
      ['a list', versionBody(0, 1, '[]')],
      ['capabilities that are none', versionBody(0, 1, '{"capabilities":3}')],
      ['a transfer size of nothing', versionBody(0, 1, '{"capabilities":{"max_data_xfer_size":0}}')],
      ['a transfer size below a page', versionBody(0, 1, '{"capabilities":{"max_data_xfer_size":4095}}')],
      ['bytes that are no text', concat(words(0), new Uint8Array([0xff, 0xfe, 0]))],
      ['deep JSON', versionBody(0, 1, '['.repeat(50_000))],
    ])('refuses %s, and ends the connection', async (_name, body) => {
      const { socket } = await serve(transport);
      const client = await VfioUserClient.connect(socket);
      open.push(client);
      expect((await client.request(1, body)).errno).toBe(EINVAL);
      await client.closed;
    });

    it('comes first and once', async () => {
      const { socket } = await serve(transport);
      const early = await VfioUserClient.connect(socket);
      open.push(early);
      expect((await early.request(4, words(16, 0, 0, 0))).errno).toBe(EINVAL);
      await early.closed;
      const client = await VfioUserClient.open(socket);
      open.push(client);
      expect((await client.request(1, versionBody(0, 1, '{}'))).errno).toBe(EINVAL);
      expect((await client.request(4, words(16, 0, 0, 0))).errno).toBe(0);
    });
  });

  describe('information', () => {
    it('describes the device', async () => {
      const { client } = await session(transport);
      expect(wordsOf((await client.request(4, words(16, 0, 0, 0))).body)).toEqual([16, 3, 9, 5]);
    });

    it('describes the regions', async () => {
      const { client } = await session(transport);
      const sizes: number[] = [];
      for (let index = 0; index < 9; index++) {
        const { body } = await client.request(5, words(32, 0, index, 0, 0, 0, 0, 0));
        const [argsz, flags, echoed, capabilities, size = 0, high, ...offset] = wordsOf(body);
        expect([argsz, flags, echoed, capabilities, high, offset]).toEqual([
          32,
          size ? 3 : 0,
          index,
          0,
          0,
          [0, 0],
        ]);
        sizes.push(size);
      }
      expect(sizes).toEqual([0x1000, 0, 0x1000, 0, 0, 0, 0, 0x1000, 0]);
      expect((await client.request(5, words(32, 0, 9, 0, 0, 0, 0, 0))).errno).toBe(EINVAL);
      expect((await client.request(5, words(32, 0, 0xdeadbeef, 0, 0, 0, 0, 0))).errno).toBe(EINVAL);
    });

    it('describes the interrupts', async () => {
      const { client } = await session(transport);
      const counts: number[] = [];
      for (let index = 0; index < 5; index++) {
        const { body } = await client.request(7, words(16, 0, index, 0));
        const [argsz, flags, echoed, count = -1] = wordsOf(body);
        expect([argsz, flags, echoed]).toEqual([16, index === 0 ? 7 : 9, index]);
        counts.push(count);
      }
      expect(counts).toEqual(descriptors ? [1, 4, MSI_X_VECTORS, 1, 1] : [0, 4, 0, 0, 0]);
      expect((await client.request(7, words(16, 0, 5, 0))).errno).toBe(EINVAL);
    });

    it('has no file descriptors for regions', async () => {
      const { client } = await session(transport);
      expect(wordsOf((await client.request(6, words(16, 0, 0, 0))).body)).toEqual([16, 0, 0, 0]);
      expect((await client.request(6, words(16, 0, 11, 0))).errno).toBe(EINVAL);
    });

    it.each([4, 5, 6, 7])('refuses command %i with too little body or room', async (command) => {
      const { client } = await session(transport);
      expect((await client.request(command, words(16, 0))).errno).toBe(EINVAL);
      expect((await client.request(command, words(8, 0, 0, 0, 0, 0, 0, 0))).errno).toBe(EINVAL);
    });
  });

  it('answers unknown commands with an error, and goes on', async () => {
    const { client } = await session(transport);
    for (const command of [0, 11, 12, 14, 17, 18, 19, 0xffff]) {
      expect([command, (await client.request(command, words(1, 2, 3, 4))).errno]).toEqual([command, ENOTSUP]);
    }
    expect((await client.request(16, words(16, 0x10001, 0, 0))).errno).toBe(ENOTTY);
    expect((await client.request(16, words(16))).errno).toBe(EINVAL);
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
  });

  describe('regions', () => {
    it('read as the function itself, at every size and alignment', async () => {
      const { client, fn } = await session(transport, {
        ...testFunction(),
        // Without the interrupts that a transport may hide.
        fn: (await import('vpci')).createFunction({
          vendorId: 0x1234,
          deviceId: 0x5678,
          classCode: 0x020000,
          pasid: { width: 20, execute: true, privileged: true },
        }),
      });
      for (const size of [1, 2, 4]) {
        for (let offset = 0; offset + size <= 0x200; offset++) {
          expect([offset, size, await client.readConfig(offset, size)]).toEqual([
            offset,
            size,
            fn.read(offset, size),
          ]);
        }
      }
      const whole = new Uint8Array(4096);
      fn.readInto(0, whole);
      expect((await client.readRegion(7, 0, 4096)).body.slice(16)).toEqual(whole);
      expect((await client.readRegion(7, 3, 13)).body.slice(16)).toEqual(whole.slice(3, 16));
    });

    it('echo the access in the reply', async () => {
      const { client } = await session(transport);
      const read = await client.readRegion(7, 0x40, 4);
      expect(read.body.slice(0, 16)).toEqual(regionBody(7, 0x40, 4));
      const write = await client.writeRegion(7, 4, bytesOf(6, 2));
      expect(write.body).toEqual(regionBody(7, 4, 2));
    });

    it('give BAR accesses to the device in aligned pieces', async () => {
      const { client, accesses } = await session(transport);
      expect(valueOf((await client.readRegion(0, 8, 4)).body.slice(16))).toBe(0xa0b0c0d0);
      await client.writeRegion(0, 0x10, bytesOf(0x1234, 2));
      await client.writeRegion(0, 0x20, bytesOf64(0x1122334455667788n));
      await client.writeRegion(0, 0x31, bytesOf(0xddccbbaa, 4));
      await client.readRegion(0, 0x42, 7);
      expect(accesses).toEqual([
        ['read', 8, 4],
        ['write', 0x10, 2, 0x1234],
        ['write', 0x20, 4, 0x55667788],
        ['write', 0x24, 4, 0x11223344],
        ['write', 0x31, 1, 0xaa],
        ['write', 0x32, 1, 0xbb],
        ['write', 0x33, 1, 0xcc],
        ['write', 0x34, 1, 0xdd],
        ['read', 0x42, 2],
        ['read', 0x44, 4],
        ['read', 0x48, 1],
      ]);
    });

    it('survive a device that throws', async () => {
      const { client, device } = await session(transport);
      const errors: unknown[] = [];
      device.on('handler-error', (error) => errors.push(error));
      expect(valueOf((await client.readRegion(0, 0xf00, 4)).body.slice(16))).toBe(0xffffffff);
      expect((await client.writeRegion(0, 0xf00, words(1))).errno).toBe(0);
      expect(errors.map(String)).toEqual(Array(2).fill('Error: a device with a bug'));
      expect(await client.readConfig(0, 2)).toBe(0x1b36);
    });

    it.each([
      ['beyond the end', 7, 0xffe, 4],
      ['far beyond the end', 7, 0x1_0000_0000, 4],
      ['at the end of the address space', 7, 2 ** 53, 4],
      ['of a region that is not there', 1, 0, 4],
      ['of a region that cannot be', 0xffffffff, 0, 4],
      ['of too much', 7, 0, 0x100001],
      ['of more than anything', 7, 0, 0xffffffff],
    ])('refuse accesses %s', async (_name, region, offset, count) => {
      const { client } = await session(transport);
      expect((await client.readRegion(region, offset, count)).errno).toBe(EINVAL);
      expect((await client.request(10, regionBody(region, offset, count))).errno).toBe(EINVAL);
      expect(await client.readConfig(0, 2)).toBe(0x1b36);
    });

    it('take reads of nothing', async () => {
      const { client } = await session(transport);
      expect(await client.readRegion(7, 0x1000, 0)).toMatchObject({
        errno: 0,
        body: regionBody(7, 0x1000, 0),
      });
      expect((await client.writeRegion(7, 0, new Uint8Array(0))).errno).toBe(0);
    });

    it('refuse writes whose data is longer or shorter than they say', async () => {
      const { client, fn } = await session(transport);
      for (const count of [0, 1, 3, 5, 0xffffffff]) {
        const body = concat(regionBody(7, 4, count), bytesOf(6, 4));
        expect([count, (await client.request(10, body)).errno]).toEqual([count, EINVAL]);
      }
      expect((await client.request(10, words(4, 0, 7))).errno).toBe(EINVAL);
      expect(fn.read(4, 2)).toBe(0);
    });
  });

  it('writes many at once', async () => {
    const { client, accesses, fn } = await session(transport);
    const entry = (region: number, offset: number, count: number, value: number | bigint): Uint8Array =>
      concat(regionBody(region, offset, count), bytesOf64(value));
    const writes = [entry(0, 0, 4, 1), entry(0, 8, 8, 0x22_0000_0001n), entry(7, 4, 2, 6)];
    const { errno, body } = await client.request(15, concat(bytesOf64(3), ...writes));
    expect([errno, body]).toEqual([0, bytesOf64(3)]);
    expect(accesses).toEqual([
      ['write', 0, 4, 1],
      ['write', 8, 4, 1],
      ['write', 12, 4, 0x22],
    ]);
    expect(fn.read(4, 2)).toBe(6);
    for (const wrong of [
      concat(bytesOf64(2), ...writes),
      concat(bytesOf64(2n ** 32n), ...writes),
      concat(bytesOf64(1), entry(0, 0, 9, 1)),
      concat(bytesOf64(1), entry(1, 0, 4, 1)),
      words(1),
    ]) {
      expect((await client.request(15, wrong)).errno).toBe(EINVAL);
    }
  });

  it('answers nothing to what wants no answer, right or wrong', async () => {
    const { client, fn } = await session(transport);
    const noReply = 0x10;
    client.send(message(1, 10, concat(regionBody(7, 4, 2), bytesOf(6, 2)), noReply));
    client.send(message(2, 10, concat(regionBody(99, 4, 2), bytesOf(6, 2)), noReply));
    client.send(message(3, 9, regionBody(7, 0, 4), noReply));
    client.send(message(4, 77, words(1), noReply));
    client.send(message(5, 9, regionBody(7, 4, 2)));
    const { id, body } = await client.reply();
    expect([id, valueOf(body.slice(16))]).toEqual([5, 6]);
    expect(fn.read(4, 2)).toBe(6);
  });

  it.each([0, 0x10])('sends the DMA that a write sets off, with flags %#', async (flags) => {
    const { client, device } = await session(transport);
    const read: (Uint8Array | undefined)[] = [];
    client.onRequest = () => concat(bytesOf64(0x5000n), bytesOf64(8n), bytesOf64(0x1122334455667788n));
    device.once('access', () => void device.read(0x5000, 8).then((bytes) => read.push(bytes)));
    client.send(message(1, 10, concat(regionBody(0, 4, 4), bytesOf(1, 4)), flags));
    await expect.poll(() => read).toEqual([bytesOf64(0x1122334455667788n)]);
  });

  it('answers 32 requests in order, in one piece', async () => {
    const { client } = await session(transport);
    client.reads = 0;
    client.send(
      concat(...Array.from({ length: 32 }, (_, id) => message(id, 9, regionBody(7, 4 * (id % 4), 4)))),
    );
    const ids: number[] = [];
    for (let i = 0; i < 32; i++) ids.push((await client.reply()).id);
    expect(ids).toEqual(Array.from({ length: 32 }, (_, id) => id));
    expect(client.reads).toBe(1);
  });

  it('answers more than fits into one go', async () => {
    const { client, fn } = await session(transport);
    const count = 1000;
    client.send(concat(...Array.from({ length: count }, (_, id) => message(id, 9, regionBody(7, 0, 4096)))));
    for (let id = 0; id < count; id++) {
      const { id: answered, body } = await client.reply();
      expect([answered, valueOf(body.slice(16, 20))]).toEqual([id, fn.read(0, 4)]);
    }
  });

  it('puts messages together, however they are cut', async () => {
    const { client } = await session(transport);
    const bytes = concat(...Array.from({ length: 5 }, (_, id) => message(id, 9, regionBody(7, 0, 4))));
    for (let at = 0; at < bytes.length; at += 7) {
      client.send(bytes.slice(at, at + 7));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    for (let id = 0; id < 5; id++) {
      expect(await client.reply()).toMatchObject({ id, errno: 0 });
    }
  });

  it('resets: FLR by the guest, DEVICE_RESET by the client', async () => {
    const { client, fn } = await session(transport);
    const express = fn.capabilities.find(({ id }) => id === 0x10)?.offset ?? 0;
    const control = (fn.pasid?.offset ?? 0) + 6;
    const resets: string[] = [];
    fn.on('reset', ({ kind }) => resets.push(kind));
    await client.writeConfig(control, 2, 7);
    expect(await client.readConfig(control, 2)).toBe(7);
    await client.writeConfig(express + 8, 2, 0x8000 | (await client.readConfig(express + 8, 2)));
    expect(await client.readConfig(control, 2)).toBe(0);
    await client.writeConfig(control, 2, 1);
    expect((await client.request(13)).errno).toBe(0);
    expect(await client.readConfig(control, 2)).toBe(0);
    expect((await client.request(13, words(0))).errno).toBe(EINVAL);
    expect(resets).toEqual(['flr', 'flr']);
  });

  it('keeps the device when a client goes, and serves the next', async () => {
    const { client, socket, device, fn } = await session(transport);
    const events: string[] = [];
    device.on('connect', ({ version }) => events.push(version));
    device.on('disconnect', ({ reason }) => events.push(reason));
    await client.writeConfig((fn.pasid?.offset ?? 0) + 6, 2, 7);
    const waiting = await VfioUserClient.connect(socket);
    open.push(waiting);
    const negotiated = waiting.request(1, versionBody(0, 0, '{}'));
    expect(device.connected).toBe(true);
    client.close();
    expect((await negotiated).errno).toBe(0);
    expect(await waiting.readConfig((fn.pasid?.offset ?? 0) + 6, 2)).toBe(7);
    expect(events).toEqual(['the client closed the connection', '0.0']);
  });

  it('tells what happens', async () => {
    const { client, device } = await session(transport);
    const accesses: AccessEvent[] = [];
    device.on('access', (access) => accesses.push(access));
    await client.readConfig(0, 2);
    await client.writeConfig(4, 2, 6);
    await client.readRegion(7, 0, 64);
    expect(accesses).toEqual([
      { region: 7, write: false, offset: 0, size: 2, value: 0x1b36 },
      { region: 7, write: true, offset: 4, size: 2, value: 6 },
      { region: 7, write: false, offset: 0, size: 64, value: undefined },
    ]);
  });

  describe('DMA_MAP and DMA_UNMAP without descriptors', () => {
    it('keeps ranges apart', async () => {
      const { client } = await session(transport);
      const map = async (address: number, size: number, flags = 3): Promise<number> =>
        (await client.request(2, dmaMapBody(flags, 0, address, size))).errno;
      const unmap = async (address: number | bigint, size: number | bigint): Promise<number> =>
        (await client.request(3, dmaUnmapBody(address, size))).errno;
      expect(await map(0x1000, 0x1000)).toBe(0);
      expect(await map(0x3000, 0x1000)).toBe(0);
      expect(await map(0x1000, 0x1000)).toBe(EEXIST);
      expect(await map(0x1fff, 2)).toBe(EEXIST);
      expect(await map(0, 0x1001)).toBe(EEXIST);
      expect(await map(0, 0x10000)).toBe(EEXIST);
      expect(await map(0x2000, 0x1000)).toBe(0);
      expect(await map(0x8000, 0)).toBe(EINVAL);
      expect(await map(0x8000, 0x1000, 4)).toBe(EINVAL);
      expect(await map(2 ** 53, 0x1000)).toBe(EINVAL);
      expect(await unmap(0x1800, 0x1000)).toBe(EINVAL);
      expect(await unmap(0x1000, 0x1800)).toBe(EINVAL);
      expect(await unmap(0x2000, 0x1000)).toBe(0);
      // QEMU unmaps ranges in which nothing is mapped, and ranges as large as the address space.
      expect(await unmap(0x100000, 2n ** 47n)).toBe(0);
      expect(await unmap(0, 0xffffffff01100000n)).toBe(0);
      expect(await map(0x1000, 0x3000)).toBe(0);
    });

    it('unmaps everything', async () => {
      const { client, device } = await session(transport);
      const gone: [bigint, bigint][] = [];
      await client.request(2, dmaMapBody(3, 0, 0x1000, 0x1000));
      await client.request(2, dmaMapBody(3, 0, 0x8000, 0x2000));
      device.on('dma-map', ({ mapped, address, size }) => {
        if (!mapped) gone.push([address, size]);
      });
      expect((await client.request(3, dmaUnmapAllBody(0x1000))).errno).toBe(EINVAL);
      for (const flags of [1, 3, 4]) {
        expect((await client.request(3, concat(words(24, flags), new Uint8Array(16)))).errno).toBe(EINVAL);
      }
      expect(gone).toEqual([]);
      const { errno, body } = await client.request(3, dmaUnmapAllBody());
      expect([errno, body]).toEqual([0, dmaUnmapAllBody()]);
      expect(gone).toEqual([
        [0x1000n, 0x1000n],
        [0x8000n, 0x2000n],
      ]);
      expect((await client.request(2, dmaMapBody(3, 0, 0x1000, 0x1000))).errno).toBe(0);
    });

    it('refuses to unmap beyond the address space', async () => {
      const { client } = await session(transport);
      expect((await client.request(3, dmaUnmapBody(0x1000, 2n ** 64n - 1n))).errno).toBe(EINVAL);
      expect((await client.request(3, dmaUnmapBody(0x1000, 2n ** 64n - 0x1000n))).errno).toBe(0);
    });

    it('echoes what was unmapped', async () => {
      const { client } = await session(transport);
      const body = dmaUnmapBody(0x1000, 2n ** 63n);
      expect((await client.request(3, body)).body).toEqual(body);
      expect((await client.request(3, concat(words(24, 1), bytesOf64(0), bytesOf64(1)))).errno).toBe(EINVAL);
      expect((await client.request(2, words(32, 3))).errno).toBe(EINVAL);
    });

    it('reaches memory by messages', async () => {
      const { client, device } = await session(transport);
      const memory = Uint8Array.from({ length: 256 }, (_, i) => i);
      await client.request(2, dmaMapBody(3, 0, 0x1000, 0x1000));
      client.onRequest = ({ command, body }) => {
        const view = new DataView(body.buffer, body.byteOffset);
        const at = Number(view.getBigUint64(0, true)) - 0x1000;
        const count = Number(view.getBigUint64(8, true));
        if (at < 0 || at + count > memory.length) return 14;
        if (command === 12) memory.set(body.slice(16), at);
        return concat(body.slice(0, 16), command === 11 ? memory.slice(at, at + count) : new Uint8Array(0));
      };
      expect(await device.read(0x1004, 4)).toEqual(Uint8Array.of(4, 5, 6, 7));
      expect(await device.write(0x1000, Uint8Array.of(9, 8))).toBe(true);
      expect(memory.slice(0, 3)).toEqual(Uint8Array.of(9, 8, 2));
      expect(await device.read(0x5000, 4)).toBeUndefined();
      expect(await device.write(0x5000n, Uint8Array.of(1))).toBe(false);
      expect(device.readNow(0x1000, new Uint8Array(1))).toBe(false);
      expect(await device.fetchPage(0x5000)).toBe(false);
    });

    it('cuts long transfers as the client wants them', async () => {
      const { socket, device } = await serve(transport);
      const client = await VfioUserClient.open(socket, '{"capabilities":{"max_data_xfer_size":4096}}');
      open.push(client);
      const sizes: number[] = [];
      client.onRequest = ({ body }) => {
        const count = Number(new DataView(body.buffer, body.byteOffset).getBigUint64(8, true));
        sizes.push(count);
        return concat(body.slice(0, 16), new Uint8Array(count).fill(7));
      };
      expect(await device.read(0x2000, 10_000)).toEqual(new Uint8Array(10_000).fill(7));
      expect(sizes).toEqual([4096, 4096, 1808]);
      expect(await device.write(0x2000, new Uint8Array(5000))).toBe(true);
      expect(await device.read(0, 0)).toEqual(new Uint8Array(0));
    });

    it('gives up a long transfer that the client refuses in the middle', async () => {
      const { socket, device } = await serve(transport);
      const client = await VfioUserClient.open(socket, '{"capabilities":{"max_data_xfer_size":4096}}');
      open.push(client);
      let asked = 0;
      client.onRequest = ({ body }) =>
        ++asked === 10 ? 14 : concat(body.slice(0, 16), new Uint8Array(4096));
      expect(await device.read(0, 0x100000)).toBeUndefined();
      // Those that were on their way, and not all 256.
      expect(asked).toBeLessThan(100);
      client.onRequest = ({ body }) => body.slice(0, 16);
      expect(await device.write(0, new Uint8Array(0x100000))).toBe(true);
    });

    it('ends DMA when the client goes', async () => {
      const { client, device } = await session(transport);
      const pending = device.read(0x1000, 4);
      client.close();
      expect(await pending).toBeUndefined();
      expect(await device.read(0x1000, 4)).toBeUndefined();
    });

    it('ignores answers that nobody asked for', async () => {
      const { client, device } = await session(transport);
      const errors: string[] = [];
      device.on('protocol-error', ({ message: text, fatal }) => errors.push(`${text} ${fatal}`));
      client.send(message(5, 11, new Uint8Array(20), 1));
      client.send(message(6, 12, new Uint8Array(0), 0x21, 14));
      expect(await client.readConfig(0, 2)).toBe(0x1b36);
      expect(errors).toEqual([
        'a reply to DMA_READ that nobody asked for false',
        'a reply to DMA_WRITE that nobody asked for false',
      ]);
    });
  });
});
