// Page requests of the mock device, through the package to a vIOMMU, and its answers to the kernel.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { IOVA, objectCount, PAGE, struct } from './mock-device-in-guest.mjs';
import { print, world } from './mock-world-in-guest.mjs';

/** The messages between the package and a fault queue, as they are read and written. */
const wire = [];
const { readSync, writeSync } = fs;

function listenIn(descriptor) {
  fs.readSync = (fd, bytes, ...more) => {
    const length = readSync(fd, bytes, ...more);
    if (fd === descriptor()) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, length);
      for (let at = 0; at < length; at += 40) {
        const [flags, , pasid, group, permissions] = [0, 4, 8, 12, 16].map((offset) =>
          view.getUint32(at + offset, true),
        );
        const address = Number(view.getBigUint64(at + 24, true));
        wire.push(['read', view.getUint32(at + 36, true), { flags, pasid, group, permissions, address }]);
      }
    }
    return length;
  };
  fs.writeSync = (fd, bytes, ...more) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const note = (outcome) => {
      if (fd === descriptor())
        wire.push(['wrote', view.getUint32(0, true), view.getUint32(4, true), outcome]);
    };
    try {
      const length = writeSync(fd, bytes, ...more);
      note(length);
      return length;
    } catch (error) {
      note(error.code);
      throw error;
    }
  };
  syncBuiltinESMExports();
}

/** Answers a group ourselves: `EINVAL` when the kernel waits for no answer to it. */
function answer(fd, cookie) {
  try {
    return writeSync(fd, new Uint8Array(struct(8, { 0: cookie }).buffer));
  } catch (error) {
    return error.code;
  }
}

/** What becomes of them, in each way that there is. */
export async function pageRequests(device) {
  const before = objectCount();
  const { iommu, fn, mirror, events, pri, map, lands: in_ } = world(device);
  let heard = [];
  const listen = ({ address, rid, ...request }) => {
    heard.push({ rid, ...request, address: `0x${address.toString(16)}` });
  };
  listenIn(() => device.watched);
  iommu.on('page-request', listen);
  iommu.attach(fn);
  iommu.attach(fn, 5);
  map(5, IOVA, 0x3000);

  /** What was heard, and what went over the wire. */
  const seen = async (run) => {
    heard = [];
    wire.length = 0;
    await run();
    // The kernel queues at once, and the event loop looks at descriptors in each round.
    for (let round = 0; round < 3; round += 1) await new Promise((resolve) => setImmediate(resolve));
    return { heard, wire: [...wire] };
  };
  const requests = (...list) =>
    seen(() => {
      for (const one of list) device.pageRequest(...one);
    });
  const respond = (pasid, prgi, response) => seen(() => iommu.respond(fn, { pasid, prgi, response }));
  const waits = () =>
    wire.filter(([what]) => what === 'read').map(([, cookie]) => answer(device.watched, cookie));

  print('page requests: PRI off', await requests([5, 3, 3, IOVA]));
  pri(true);
  print('page requests: PRI on', { events: [...events], mapped: in_(5, IOVA, 0x3000) });

  const one = await requests([5, 3, 3, IOVA + PAGE]);
  map(5, IOVA + PAGE, 0x7000);
  print('page requests: success', {
    one,
    answered: await respond(5, 3, 0),
    mapped: in_(5, IOVA + PAGE, 0x7000),
  });
  print('page requests: invalid', [await requests([5, 0x1ff, 0xd, IOVA]), await respond(5, 0x1ff, 1)]);
  print('page requests: failure', [await requests([5, 4, 2, IOVA]), await respond(5, 4, 15)]);
  print('page requests: without PASID', [await requests([0, 3, 0xd, IOVA]), await respond(null, 3, 0)]);
  print('page requests: not attached', await requests([7, 3, 1, IOVA]));
  print('page requests: two at once', [
    await requests([5, 1, 1, IOVA], [0, 1, 1, IOVA]),
    await respond(null, 1, 0),
    await respond(5, 1, 1),
  ]);
  print('page requests: answered once', [
    await requests([5, 2, 1, IOVA]),
    await respond(5, 2, 0),
    await respond(5, 2, 0),
    await respond(5, 9, 0),
  ]);
  print('page requests: waiting', {
    unanswered: await requests([5, 2, 1, IOVA]),
    taken: waits(),
    late: await respond(5, 2, 0),
  });
  print('page requests: same index', [
    await requests([5, 6, 1, IOVA], [5, 6, 1, IOVA + PAGE]),
    await respond(5, 6, 0),
  ]);
  iommu.off('page-request', listen);
  print('page requests: nobody listens', [await requests([5, 2, 1, IOVA]), waits()]);
  iommu.on('page-request', listen);
  const gone = await requests([5, 2, 1, IOVA]);
  iommu.detach(fn, 5);
  print('page requests: detached meanwhile', [gone, waits(), await respond(5, 2, 0)]);
  print('page requests: detached', await requests([5, 2, 1, IOVA]));
  iommu.attach(fn, 5);
  print('page requests: attached again', [await requests([5, 2, 1, IOVA]), await respond(5, 2, 0)]);
  await requests([5, 8, 1, IOVA]);
  mirror.close();
  print('page requests: closed', { left: objectCount() - before, failures: mirror.failures });
}
