// A client that means harm: whatever it sends is answered or ends its connection, and the next client is served.
import { closeSync, openSync, readdirSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFunction } from 'vpci';
import { serveVfioUser, type Transport, VfioUserDevice, type VfioUserServer } from 'vpci/vfio-user';
import {
  concat,
  dmaMapBody,
  dmaUnmapBody,
  irqSetBody,
  message,
  regionBody,
  versionBody,
  VfioUserClient,
  words,
} from '../../support/vfio-user-client.ts';
import { collectGarbage, socketPath, testFunction } from './device.ts';

const descriptorsOpen = (): number => readdirSync('/proc/self/fd').length;

describe.each<Transport>(['koffi', 'net'])('%s', (transport) => {
  const { fn } = testFunction();
  const device = new VfioUserDevice(fn);
  const socket = socketPath();
  const failures: unknown[] = [];
  let server: VfioUserServer;
  beforeAll(async () => {
    server = await serveVfioUser({ socket, device, transport, onError: (error) => failures.push(error) });
  });
  afterAll(async () => {
    await server.close();
  });

  /** The server is well: it serves a new client. */
  async function expectService(): Promise<void> {
    const client = await VfioUserClient.open(socket);
    expect(await client.readConfig(0, 4)).toBe(0x00f51b36);
    client.close();
  }

  /** Sends, lets the server work, and leaves. */
  async function attack(...parts: { bytes: Uint8Array; fds?: number[] }[]): Promise<void> {
    const client = await VfioUserClient.connect(socket);
    client.onRequest = () => 5;
    for (const { bytes, fds } of parts) client.send(bytes, fds);
    client.send(message(0xffff, 9, regionBody(7, 0, 4)));
    const answered = (async () => {
      for (;;) if ((await client.reply()).id === 0xffff) return;
    })().catch(() => undefined);
    await Promise.race([answered, client.closed, new Promise((resolve) => setTimeout(resolve, 20))]);
    client.close();
  }

  const hello = { bytes: message(1, 1, versionBody(0, 1, '{}')) };

  it.each([
    ['a size smaller than the header', message(1, 9, new Uint8Array(0)).fill(0, 4, 8)],
    ['a size of 15', concat(words(0x00090001, 15, 0, 0))],
    ['a size beyond the limit', words(0x00090001, 0x7fffffff, 0, 0)],
    ['the largest size', words(0x00090001, 0xffffffff, 0, 0)],
  ])('ends the connection of a client with %s', async (_name, bytes) => {
    const client = await VfioUserClient.open(socket);
    client.send(bytes);
    expect((await client.reply()).errno).toBe(22);
    await client.closed;
    await expectService();
  });

  it('waits for the rest of a message no longer than the client is there', async () => {
    for (const length of [1, 15, 16, 17, 31]) {
      const client = await VfioUserClient.open(socket);
      client.send(message(1, 9, regionBody(7, 0, 4)).slice(0, length));
      client.close();
      await expectService();
    }
  });

  it('takes the longest message there is', async () => {
    const client = await VfioUserClient.open(socket);
    const body = concat(regionBody(7, 0, 0x100000), new Uint8Array(0x100000));
    client.send(message(1, 10, body));
    expect((await client.reply()).errno).toBe(22);
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
    client.close();
  });

  it('does not answer a client that does not listen, and keeps to its memory', async () => {
    const client = await VfioUserClient.open(socket);
    client.stopListening();
    const before = process.memoryUsage().rss;
    const flood = concat(...Array.from({ length: 2000 }, (_, id) => message(id, 9, regionBody(7, 0, 4096))));
    // It would be 80 MB of answers. What the sockets hold is less, and the rest is not even read.
    const sending = (async () => {
      for (let i = 0; i < 10; i++) {
        await new Promise((resolve) => setImmediate(resolve));
        client.sendNow(flood);
      }
    })();
    await sending;
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
    client.close();
    await expectService();
  });

  it('forgets a client that it ended, whatever that did not take and still sends', async () => {
    const reads = concat(...Array.from({ length: 32 }, (_, id) => message(id, 9, regionBody(7, 0, 4))));
    const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    // Somewhere in between, what the kernel does not take is little enough for the server to read on.
    for (let sent = 60; sent < 260; sent += 8) {
      const client = await VfioUserClient.open(socket);
      client.stopListening();
      for (let i = 0; i < sent && client.sendNow(reads) > 0; i++) await turn();
      client.sendNow(words(0x00090001, 5, 0, 0));
      await turn();
      const next = await VfioUserClient.connect(socket);
      next.send(message(1, 1, versionBody(0, 1, '{}')));
      for (let i = 0; i < 40; i++) {
        client.sendNow(new Uint8Array(0x10000));
        await turn();
      }
      // The second client is served once the first is gone, by the server or by itself.
      client.close();
      expect((await next.reply()).errno).toBe(0);
      expect(await next.readConfig(0, 4)).toBe(0x00f51b36);
      next.close();
    }
  });

  it('leaves a flood of messages for later, so that others have their turn', async () => {
    let [inARow, most, total] = [0, 0, 0];
    const write = (): void => {
      total++;
      most = Math.max(most, ++inARow);
      for (const until = performance.now() + 1; performance.now() < until; );
    };
    const busy = createFunction({
      vendorId: 1,
      deviceId: 2,
      classCode: 0,
      bars: [{ index: 0, size: 4096, write }],
    });
    const path = socketPath();
    await using second = await serveVfioUser({ socket: path, device: busy, transport });
    expect(second.transport).toBe(transport);
    const client = await VfioUserClient.open(path);
    const one = message(1, 10, concat(regionBody(0, 0, 4), new Uint8Array(4)), 0x10);
    const ticking = setInterval(() => (inARow = 0), 1);
    client.send(concat(...Array.from({ length: 400 }, () => one)));
    await expect.poll(() => total, { timeout: 10_000 }).toBe(400);
    clearInterval(ticking);
    client.close();
    expect(most).toBeLessThan(100);
  });

  it('finds a range among 60,000 at once', async () => {
    const client = await VfioUserClient.open(socket);
    const maps = Array.from({ length: 60_000 }, (_, i) =>
      message(0, 2, dmaMapBody(3, 0, i * 8192, 4096), 0x10),
    );
    client.send(concat(...maps));
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
    const unmap = message(0, 3, dmaUnmapBody(2 ** 52, 4096), 0x10);
    client.send(concat(...Array.from({ length: 5000 }, () => unmap)));
    const start = performance.now();
    expect(await client.readConfig(0, 2)).toBe(0x1b36);
    expect(performance.now() - start).toBeLessThan(2000);
    client.close();
  });

  it('does not keep what a device sends to a client that answers nothing', async () => {
    const client = await VfioUserClient.open(socket);
    const errors: string[] = [];
    device.on('protocol-error', ({ message: text, fatal }) => errors.push(`${text} ${fatal}`));
    const sent = Array.from({ length: 3000 }, () => device.write(0x1000, Uint8Array.of(1)));
    expect(await sent.at(-1)).toBe(false);
    expect(await device.read(0x1000, 4)).toBeUndefined();
    expect(errors).toEqual(['no answers to 1024 DMA transfers: more are refused false']);
    await expect.poll(() => client.requests.length).toBe(64);
    // Once it answers, everything is as before.
    client.onRequest = ({ body }) => body.slice(0, 16);
    for (const { id, command, body } of client.requests)
      client.send(message(id, command, body.slice(0, 16), 1));
    expect(await Promise.all(sent.slice(0, 1024))).toEqual(Array.from({ length: 1024 }, () => true));
    expect(await device.write(0x1000, Uint8Array.of(1))).toBe(true);
    client.close();
  });

  it('ends, though a client does not listen, and does nothing after that', async () => {
    const { fn: other, accesses } = testFunction();
    const path = socketPath();
    const second = await serveVfioUser({ socket: path, device: other, transport });
    const client = await VfioUserClient.open(path);
    client.stopListening();
    const flood = concat(...Array.from({ length: 240 }, (_, id) => message(id, 9, regionBody(7, 0, 4096))));
    for (let i = 0; i < 50; i++) {
      client.sendNow(flood);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const start = performance.now();
    await second.close();
    expect(performance.now() - start).toBeLessThan(1000);
    client.sendNow(message(1, 10, concat(regionBody(0, 0, 4), new Uint8Array(4)), 0x10));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(accesses).toEqual([]);
    client.close();
  });

  it('closes descriptors where none belong', async () => {
    await expectService();
    const before = descriptorsOpen();
    const fd = openSync('/dev/null', 'r');
    const many = Array.from({ length: 60 }, () => fd);
    for (const fds of [[fd], [fd, fd, fd], many]) {
      await attack({ ...hello, fds });
      await attack(
        hello,
        { bytes: message(2, 9, regionBody(7, 0, 4)), fds },
        { bytes: message(3, 10, concat(regionBody(7, 4, 2), new Uint8Array(2))), fds },
        { bytes: message(4, 2, dmaMapBody(3, 0, 0, 4096)), fds },
        { bytes: message(5, 8, irqSetBody(0x24, 2, 0, 2)), fds },
        { bytes: message(6, 8, irqSetBody(0x21, 2, 0, 1)), fds },
        { bytes: message(7, 13, new Uint8Array(0)), fds },
        { bytes: message(8, 77, new Uint8Array(0)), fds },
        { bytes: message(9, 11, new Uint8Array(0), 1), fds },
        { bytes: message(10, 9, regionBody(7, 0, 4)).slice(0, 20), fds },
      );
    }
    // A message in many parts, each with descriptors, that never ends.
    const client = await VfioUserClient.open(socket);
    client.send(words(0x00020001, 0x100000, 0, 0), [fd]);
    for (let i = 0; i < 500; i++) client.send(Uint8Array.of(0), [fd, fd, fd, fd]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(descriptorsOpen() - before).toBeLessThan(100);
    client.close();
    closeSync(fd);
    await expectService();
    await expect.poll(descriptorsOpen).toBeLessThanOrEqual(before);
  });

  it('stands random messages', async () => {
    const bytes = fc.uint8Array({ maxLength: 64 });
    const body = fc.oneof(
      bytes,
      fc
        .array(fc.oneof(fc.nat(64), fc.constantFrom(0x1000, 0x100000, 0x7fffffff, 0xffffffff)), {
          maxLength: 12,
        })
        .map((all) => words(...all)),
    );
    const any = fc
      .record({
        command: fc.oneof(fc.nat(20), fc.nat(0xffff)),
        body,
        flags: fc.oneof(fc.constant(0), fc.nat(0x3f)),
      })
      .map((one) => message(7, one.command, one.body, one.flags));
    const damaged = fc.tuple(any, fc.nat(15), fc.nat(255)).map(([whole, at, value]) => {
      whole[at] = value;
      return whole;
    });
    const stream = fc.array(
      fc.oneof({ weight: 8, arbitrary: any }, { weight: 1, arbitrary: damaged }, bytes),
      {
        maxLength: 30,
      },
    );
    await fc.assert(
      fc.asyncProperty(stream, fc.boolean(), async (parts, negotiated) => {
        await attack(...(negotiated ? [hello] : []), { bytes: concat(...parts) });
      }),
      { numRuns: 150 },
    );
    await expectService();
  });

  it('serves 10,000 clients, one after the other', { timeout: 120_000 }, async () => {
    await expectService();
    const before = descriptorsOpen();
    const memory: number[] = [];
    for (let i = 0; i < 10_000; i++) {
      const client = await VfioUserClient.connect(socket);
      if (i % 10 === 0) client.send(hello.bytes);
      if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      client.close();
      // The server is in this thread: it must have its turn before the queue of the socket is full.
      if (i % 32 === 0) await expectService();
      if (i % 1000 !== 999) continue;
      collectGarbage();
      memory.push(process.memoryUsage().rss);
    }
    await expectService();
    await expect.poll(descriptorsOpen).toBeLessThanOrEqual(before);
    expect((memory.at(-1) ?? 0) - (memory[3] ?? 0)).toBeLessThan(24 * 2 ** 20);
  });

  it('did not fail in all that', () => {
    expect(failures).toEqual([]);
  });
});
