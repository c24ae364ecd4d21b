// Bed C: QEMU's vfio-user-pci client with no guest. Its test protocol makes the accesses, by CF8/CFC and by ECAM; what
// they read and leave behind is compared, access by access, with a function of the same kind that is asked directly.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  aerCapability,
  createFunction,
  expressCapability,
  msiCapability,
  msiXCapability,
  type PciFunction,
  powerManagementCapability,
  serialNumberCapability,
} from 'vpci';
import { serveVfioUser, VfioUserDevice, type VfioUserServer } from 'vpci/vfio-user';
import { bed } from '../support/beds.ts';
import { ECAM, openEcam, qemuMissing, Qtest, scratchFolder, vfioUserDevice, VTD } from './qemu/qemu.ts';

const MEMFD = ['-object', 'memory-backend-memfd,id=ram,size=256M,share=on', '-machine', 'memory-backend=ram'];
const PORT = ['-device', VTD, '-device', 'pcie-root-port,id=rp0,addr=2.0,chassis=1'];
/** Configuration space of 01:00.0. */
const CONFIG = ECAM + (1 << 20);
const BAR0 = 0xe0000000;

function makeFunction(bar: Uint8Array): PciFunction {
  const view = new DataView(bar.buffer);
  return createFunction({
    vendorId: 0x1b36,
    deviceId: 0x00f5,
    classCode: 0x120000,
    pasid: { width: 16, execute: true, privileged: true },
    ats: true,
    pri: true,
    interruptPin: 1,
    capabilities: [
      powerManagementCapability(),
      msiCapability(4),
      msiXCapability(8, { bar: 2, offset: 0 }, { bar: 2, offset: 0x800 }),
      expressCapability(),
      aerCapability(),
      serialNumberCapability(0x0123_4567_89ab_cdefn),
    ],
    bars: [
      {
        index: 0,
        size: 0x1000,
        read: (offset, size) =>
          size === 4
            ? view.getUint32(offset, true)
            : size === 2
              ? view.getUint16(offset, true)
              : view.getUint8(offset),
        write: (offset, size, value) => {
          if (size === 4) view.setUint32(offset, value, true);
          else if (size === 2) view.setUint16(offset, value, true);
          else view.setUint8(offset, value);
        },
      },
      { index: 2, size: 0x1000, kind: 'memory64' },
    ],
  });
}

/** Bytes that QEMU answers for itself: it keeps the guest's MSI and MSI-X settings, and tells the device by SET_IRQS. */
function emulatedBytes(fn: PciFunction): number[] {
  const at = (id: number): number => fn.capabilities.find((one) => one.id === id)?.offset ?? 0;
  return [...Array.from({ length: 22 }, (_, i) => at(0x05) + 2 + i), at(0x11) + 3];
}

/** Small, fast and the same in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

type Size = 1 | 2 | 4;

bed('qemu', qemuMissing)('vfio-user under QEMU, without a guest', () => {
  const folder = scratchFolder();
  afterAll(() => folder[Symbol.dispose]());

  describe.each(['koffi', 'net'] as const)('%s', (transport) => {
    const registers = new Uint8Array(0x1000);
    const fn = makeFunction(registers);
    const twin = makeFunction(new Uint8Array(0x1000));
    const device = new VfioUserDevice(fn);
    const errors: unknown[] = [];
    const reached: string[] = [];
    let server: VfioUserServer;
    let qtest: Qtest;

    beforeAll(async () => {
      const socket = `${folder.path}/${transport}`;
      device.on('protocol-error', (error) => errors.push(error));
      device.on('handler-error', (error) => errors.push(error));
      device.on('dma-map', ({ mapped, by }) => {
        if (mapped) reached.push(by);
      });
      server = await serveVfioUser({ socket, device, transport, onError: (error) => errors.push(error) });
      qtest = await Qtest.start(folder.path, [
        '-m',
        '256',
        ...MEMFD,
        ...PORT,
        '-device',
        vfioUserDevice(socket),
      ]);
      await openEcam(qtest);
    });
    afterAll(async () => {
      await qtest.close();
      await server.close();
    });

    /** What QEMU shows of our function where the transport cannot deliver every interrupt. */
    const hidden = (): ReadonlySet<number> => {
      if (transport === 'koffi') return new Set();
      const msiX = fn.capabilities.find(({ id }) => id === 0x11);
      const before = fn.capabilities.find(({ id }) => id === 0x05);
      const bytes = [0x3d, (before?.offset ?? 0) + 1];
      for (let i = 0; i < (msiX?.length ?? 0); i++) bytes.push((msiX?.offset ?? 0) + i);
      return new Set(bytes);
    };

    it('shows the function as it is', async () => {
      const own = new Uint8Array(4096);
      fn.readInto(0, own);
      const seen = await qtest.bytes(CONFIG, 4096);
      for (const offset of hidden()) seen[offset] = own[offset] ?? 0;
      expect(seen).toEqual(own);
    });

    it('reads and writes it, access by access', { timeout: 60_000 }, async () => {
      const next = generator(transport === 'koffi' ? 1 : 2);
      const unlike = new Set([...emulatedBytes(fn), ...hidden()]);
      // The power state and the BARs decide what else works; both have tests of their own.
      const powerControl = (fn.capabilities.find(({ id }) => id === 1)?.offset ?? 0) + 4;
      const untouched = (offset: number, size: number): boolean =>
        (offset < 0x34 && offset + size > 0x10) ||
        (offset < powerControl + 2 && offset + size > powerControl) ||
        [...hidden()].some((at) => at >= offset && at < offset + size);
      let compared = 0;
      for (let turn = 0; turn < 3000; turn++) {
        const size = ([1, 2, 4] as const)[next(3)] ?? 1;
        const byPorts = next(2) === 0;
        // Half of the accesses go where the registers are.
        const space = byPorts ? 0x100 : next(2) === 0 ? 0x200 : 0x1000;
        // Misaligned accesses end in QEMU's bus; protocol.test.ts makes those.
        const offset = size * next(space / size);
        if (next(3) === 0 && !untouched(offset, size)) {
          const value = next(2 ** (8 * size));
          if (byPorts) await writeByPorts(offset, size, value);
          else await qtest.write(CONFIG + offset, size, value);
          twin.write(offset, size, value);
          const [ours, theirs] = [new Uint8Array(4096), new Uint8Array(4096)];
          fn.readInto(0, ours);
          twin.readInto(0, theirs);
          // Looking closer takes a while.
          if (Buffer.compare(ours, theirs) !== 0) {
            expect(ours, `after ${size} bytes 0x${value.toString(16)} at 0x${offset.toString(16)}`).toEqual(
              theirs,
            );
          }
          continue;
        }
        let value = byPorts ? await readByPorts(offset, size) : await qtest.read(CONFIG + offset, size);
        const expected = twin.read(offset, size);
        for (let i = 0; i < size; i++) {
          if (!unlike.has(offset + i)) continue;
          value = ((value & ~(0xff << (8 * i))) | (expected & (0xff << (8 * i)))) >>> 0;
        }
        expect([offset, size, value]).toEqual([offset, size, expected]);
        compared++;
      }
      expect(compared).toBeGreaterThan(1500);
    });

    it('reads and writes eight bytes', async () => {
      const pasid = fn.pasid?.offset ?? 0;
      await qtest.write(CONFIG + pasid + 6, 2, 0);
      const both = (BigInt(twin.read(pasid + 4, 2)) << 32n) | BigInt(twin.read(pasid, 4));
      expect(await qtest.read64(CONFIG + pasid)).toBe(both);
      await qtest.write64(CONFIG + pasid, 0x0007_ffff_ffff_ffffn);
      expect(await qtest.read64(CONFIG + pasid)).toBe((7n << 48n) | both);
    });

    it('decodes a BAR where the guest puts it', async () => {
      await qtest.write(CONFIG + 0x10, 4, 0xffffffff);
      expect(await qtest.read(CONFIG + 0x10, 4)).toBe(0xfffff000);
      await qtest.write(CONFIG + 0x10, 4, BAR0);
      await qtest.write(CONFIG + 4, 2, 6);
      expect(fn.bars.find(({ index }) => index === 0)).toMatchObject({ address: BAR0, enabled: true });
      for (const [offset, size, value] of [
        [0x10, 4, 0x11223344],
        [0x16, 2, 0x5566],
        [0x19, 1, 0x77],
      ] as const) {
        await qtest.write(BAR0 + offset, size, value);
        expect(await qtest.read(BAR0 + offset, size)).toBe(value);
      }
      await qtest.write64(BAR0 + 0x20, 0x1122334455667788n);
      expect(await qtest.read64(BAR0 + 0x20)).toBe(0x1122334455667788n);
      expect([...registers.subarray(0x10, 0x1a)]).toEqual([
        0x44, 0x33, 0x22, 0x11, 0, 0, 0x66, 0x55, 0, 0x77,
      ]);
    });

    it('reaches the memory of the machine', async () => {
      await qtest.command('write 0x200000 8 0x0102030405060708');
      expect(await device.read(0x200000, 8)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
      expect(await device.write(0x200004, Uint8Array.of(9, 9))).toBe(true);
      expect(await qtest.command('read 0x200000 8')).toEqual(['0x0102030409090708']);
      expect(new Set(reached)).toEqual(
        new Set(transport === 'koffi' ? ['mapping', 'messages'] : ['messages']),
      );
      expect(device.readNow(0x200000, new Uint8Array(8))).toBe(transport === 'koffi');
    });

    it('has nothing to complain about, nor has QEMU', () => {
      expect(errors).toEqual([]);
      // Said of every device that has no error interrupt.
      expect(qtest.run.stderr().replace(/.*Could not enable error recovery.*\n/, '')).toBe('');
    });

    async function readByPorts(offset: number, size: Size): Promise<number> {
      await qtest.pioWrite(0xcf8, 4, 0x80010000 + (offset & 0xfc));
      return qtest.pioRead(0xcfc + (offset & 3), size);
    }

    async function writeByPorts(offset: number, size: Size, value: number): Promise<void> {
      await qtest.pioWrite(0xcf8, 4, 0x80010000 + (offset & 0xfc));
      await qtest.pioWrite(0xcfc + (offset & 3), size, value);
    }
  });

  it('leaves QEMU alive when the server goes', async () => {
    const socket = `${folder.path}/gone`;
    const server = await serveVfioUser({ socket, device: makeFunction(new Uint8Array(0x1000)) });
    const qtest = await Qtest.start(folder.path, ['-m', '64', ...PORT, '-device', vfioUserDevice(socket)]);
    await openEcam(qtest);
    expect(await qtest.read(CONFIG, 2)).toBe(0x1b36);
    await server.close();
    // What it reads then is QEMU's business; that it still answers is ours.
    await qtest.read(CONFIG + 0x40, 4);
    expect(await qtest.read(ECAM, 2)).toBe(0x8086);
    await qtest.close();
  });

  it('serves one machine after the other', async () => {
    const socket = `${folder.path}/again`;
    const fn = makeFunction(new Uint8Array(0x1000));
    const server = await serveVfioUser({ socket, device: fn });
    for (let i = 0; i < 3; i++) {
      const qtest = await Qtest.start(folder.path, ['-m', '64', ...PORT, '-device', vfioUserDevice(socket)]);
      await openEcam(qtest);
      const control = CONFIG + (fn.pasid?.offset ?? 0) + 6;
      // A machine begins with a reset, whatever the one before left.
      expect(await qtest.read(control, 2)).toBe(0);
      await qtest.write(control, 2, 7);
      expect(fn.endpointState.pasidEnable).toBe(true);
      await qtest.close();
    }
    await server.close();
  });
});
