// Bed B: QEMU's own synthesis of the PASID capability (vfio-pci with an emulated VT-d) as the oracle for ours. QEMU runs
// without a host: vfio-shim.c answers its ioctls, and a file is the device. Each case is played to both. Where they
// differ, the case names the difference, and both sides are written down.
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions, PciSegment } from 'vpci';
import { TableIommu } from 'vpci/table';
import { bed } from '../support/beds.ts';
import { ECAM, openEcam, qemuMissing, Qtest, scratchFolder } from './qemu/qemu.ts';

type Capability = readonly [offset: number, id: number, version: number];

const AER: Capability = [0x100, 0x01, 2];
const ATS: Capability = [0x160, 0x0f, 1];
const PRI: Capability = [0x170, 0x13, 1];
const SERIAL: Capability = [0x200, 0x03, 1];
const USUAL: readonly Capability[] = [AER, ATS, PRI, SERIAL];
const CONFIG = ECAM + (1 << 20);
const DEVICE_CAPABILITIES_2 = 0x94;
const END_END_PREFIX = 1 << 21;

/** Configuration space of an endpoint with a PCI Express Capability at 0x70 and the extended chain given. */
function configSpace(chain: readonly Capability[]): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint32(0x00, 0x00f51b36, true);
  view.setUint32(0x04, 0x00100000, true);
  view.setUint32(0x08, 0x12000001, true);
  view.setUint32(0x2c, 0x11001b36, true);
  view.setUint8(0x34, 0x70);
  view.setUint32(0x70, 0x00020010, true);
  view.setUint32(0x74, 0x10008fc0, true);
  view.setUint32(0x78, 0x00002810, true);
  view.setUint32(0x7c, 0x00000d02, true);
  view.setUint32(0x80, 0x10220000, true);
  view.setUint32(DEVICE_CAPABILITIES_2, 0x0010001f, true);
  for (const [i, [offset, id, version]] of chain.entries()) {
    view.setUint32(offset, id | (version << 16) | ((chain[i + 1]?.[0] ?? 0) << 20), true);
  }
  return bytes;
}

/** What a guest sees of PASID. */
interface Seen {
  /** The extended chain: `offset:id/version`, hexadecimal. */
  readonly chain: string;
  /** The PASID capability's register of Capability and Control; undefined without one. */
  readonly registers: number | undefined;
}

function look(bytes: Uint8Array): Seen {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const parts: string[] = [];
  let registers: number | undefined;
  for (let at = 0x100; at !== 0 && parts.length < 100; ) {
    const header = view.getUint32(at, true);
    const id = header & 0xffff;
    parts.push(`${at.toString(16)}:${id.toString(16)}/${(header >>> 16) & 15}`);
    if (id === 0x1b) registers = view.getUint32(at + 4, true);
    at = (header >>> 20) & 0xffc;
  }
  return { chain: parts.join(' '), registers };
}

interface Case {
  readonly name: string;
  readonly chain?: readonly Capability[];
  readonly offset?: number;
  /** Bits of PASID that the host has. */
  readonly width?: number;
  /** out_capabilities of the host: 2 execute, 4 privileged, 8 ATS is not supported. */
  readonly caps?: number;
  /** Bits of PASID of the vIOMMU; 0 for none. */
  readonly viommu?: number;
  /** Where ours is another answer: why, and which. */
  readonly difference?: string;
  readonly ours?: Partial<Seen> | string;
}

const USUAL_CHAIN = '100:1/2 160:f/1 170:13/1 200:3/1';
const BODY = 'QEMU puts a capability into the body of another';

const CASES: readonly Case[] = [
  { name: 'default place' },
  { name: 'between two capabilities', offset: 0x148 },
  { name: 'right behind AER', offset: 0x12c },
  { name: 'in the gap before the last', offset: 0x1f8 },
  { name: 'behind the last', offset: 0x20c },
  { name: 'at the end', offset: 0xff8 },
  { name: 'before the end', offset: 0xff4 },
  { name: 'one dword beyond the end', offset: 0xffc },
  { name: 'beyond the end', offset: 0x1000 },
  { name: 'misaligned', offset: 0x142 },
  { name: 'in the standard space', offset: 0xf0 },
  { name: 'on the head of the chain', offset: 0x100 },
  { name: 'on a header', offset: 0x160 },
  {
    name: 'in the body of AER',
    offset: 0x104,
    difference: BODY,
    ours: { chain: USUAL_CHAIN, registers: undefined },
  },
  { name: 'in the last bytes of AER', offset: 0x128, difference: BODY, ours: { chain: USUAL_CHAIN } },
  { name: 'over the header of ATS', offset: 0x15c, difference: BODY, ours: { chain: USUAL_CHAIN } },
  { name: 'in the body of PRI', offset: 0x174, difference: BODY, ours: { chain: USUAL_CHAIN } },
  {
    name: 'over the body of the serial number',
    offset: 0x208,
    difference: BODY,
    ours: { chain: USUAL_CHAIN },
  },
  ...[0, 1, 5, 8, 16].map((width) => ({ name: `${width} bits`, width })),
  ...[17, 20].map((width) => ({ name: `${width} bits, vIOMMU of 20`, width, viommu: 20 })),
  { name: '8 bits, vIOMMU of 20', width: 8, viommu: 20 },
  {
    name: '20 bits, vIOMMU of 16',
    width: 20,
    viommu: 16,
    difference: 'QEMU shows more bits than its vIOMMU has',
    ours: { chain: `${USUAL_CHAIN} ff8:1b/1`, registers: 0x1006 },
  },
  {
    name: '20 bits, vIOMMU of 5',
    width: 20,
    viommu: 5,
    difference: 'QEMU shows more bits than its vIOMMU has',
    ours: { chain: `${USUAL_CHAIN} ff8:1b/1`, registers: 0x0506 },
  },
  ...[21, 31].map((width) => ({
    name: `${width} bits`,
    width,
    difference: 'QEMU aborts',
    ours: 'VPCI_PASID_WIDTH',
  })),
  ...[0, 2, 4, 6, 8, 0xe].map((caps) => ({ name: `capabilities ${caps} of the host`, caps })),
  { name: 'vIOMMU without PASID', viommu: 0 },
  {
    name: 'no extended capability',
    chain: [],
    difference: 'QEMU adds none',
    ours: { chain: '100:1b/1', registers: 0x1006 },
  },
  {
    name: 'default place taken',
    chain: [...USUAL, [0xff8, 0x03, 1]],
    difference: 'QEMU looks for no other place',
    ours: { chain: '100:1/2 12c:1b/1 160:f/1 170:13/1 200:3/1 ff8:3/1', registers: 0x1006 },
  },
  {
    name: 'a physical PASID capability in the chain',
    chain: [AER, [0x180, 0x1b, 1], SERIAL],
    difference: 'QEMU shows the physical one',
    ours: { chain: '100:1/2 180:1b/1 200:3/1', registers: 0x1006 },
  },
  { name: 'ARI alone', chain: [[0x100, 0x0e, 1]] },
  { name: 'ARI first', chain: [[0x100, 0x0e, 1], SERIAL] },
  { name: 'SR-IOV between', chain: [AER, [0x180, 0x10, 1], SERIAL] },
];

function ourAnswer({ chain = USUAL, offset, width = 16, caps = 6, viommu = 16 }: Case): Seen | string {
  const options: PassthroughOptions = {
    physical: configSpace(chain),
    pasid: { width, execute: (caps & 2) !== 0, privileged: (caps & 4) !== 0 },
    pasidOffset: offset,
    onPasidRefused: 'omit',
    ats: (caps & 8) === 0 ? undefined : false,
  };
  try {
    const fn = createFunction(options);
    new PciSegment({ iommu: new TableIommu({ pasidWidth: viommu }) }).add('01:00.0', fn);
    const bytes = new Uint8Array(4096);
    fn.readInto(0, bytes);
    return look(bytes);
  } catch (error) {
    if (error instanceof Error && 'code' in error) return String(error.code);
    throw error;
  }
}

function compilerMissing(): string | undefined {
  return spawnSync('cc', ['--version']).error === undefined
    ? undefined
    : 'no C compiler; Debian package gcc has one';
}

bed('qemu-oracle', () => qemuMissing() ?? compilerMissing())("QEMU's PASID capability beside ours", () => {
  const folder = scratchFolder();
  const shim = join(folder.path, 'shim.so');
  const deviceFile = join(folder.path, 'device');
  beforeAll(() => {
    const source = join(import.meta.dirname, 'qemu/vfio-shim.c');
    execFileSync('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', shim, source]);
  });
  afterAll(() => folder[Symbol.dispose]());

  /** QEMU with the device of `one`; undefined when it does not start. */
  async function start(
    { chain = USUAL, offset, width = 16, caps = 6, viommu = 16 }: Case,
    hidden = new Uint8Array(0),
  ): Promise<Qtest | undefined> {
    const space = new Uint8Array(16 << 20);
    space.set(configSpace(chain));
    space.set(hidden, 0x1c0);
    writeFileSync(deviceFile, space);
    const [iommufd, device] = [openSync('/dev/null', 'r+'), openSync(deviceFile, 'r+')];
    const bits = viommu === 0 ? '' : `,pasid-bits=${viommu}`;
    const place = offset === undefined ? '' : `,x-vpasid-cap-offset=0x${offset.toString(16)}`;
    const args = [
      `-m 64 -device intel-iommu,caching-mode=on,scalable-mode=on,fsts=on,device-iotlb=on${bits}`,
      '-device pcie-root-port,id=rp0,addr=2.0,chassis=1 -object iommufd,id=iommufd0,fd=10',
      `-device vfio-pci,fd=11,iommufd=iommufd0,bus=rp0,id=v0${place}`,
    ].flatMap((part) => part.split(' '));
    const env = { SHIM: shim, VPCI_SHIM_WIDTH: String(width), VPCI_SHIM_CAPS: String(caps) };
    try {
      const qtest = await Qtest.start(folder.path, args, {
        env,
        seconds: 20,
        descriptors: { 10: iommufd, 11: device },
      });
      await openEcam(qtest);
      return qtest;
    } catch (error) {
      if (String(error).includes('Assertion') || String(error).includes('QEMU is gone')) return undefined;
      throw error;
    } finally {
      closeSync(iommufd);
      closeSync(device);
    }
  }

  async function qemuAnswer(one: Case): Promise<Seen | string> {
    const qtest = await start(one);
    if (qtest === undefined) return 'aborted';
    try {
      return look(await qtest.bytes(CONFIG, 4096));
    } finally {
      await qtest.close();
    }
  }

  describe('where QEMU is right', () => {
    it.each(CASES.filter(({ difference }) => difference === undefined))('$name: the same', async (one) => {
      const theirs = await qemuAnswer(one);
      expect(theirs).not.toBe('aborted');
      expect(ourAnswer(one)).toEqual(theirs);
    });
  });

  describe('where it is not', () => {
    it.each(CASES.filter(({ difference }) => difference !== undefined))('$name: $difference', async (one) => {
      const ours = ourAnswer(one);
      if (typeof one.ours === 'string') expect(ours).toBe(one.ours);
      else expect(ours).toMatchObject(one.ours ?? {});
      // If QEMU comes to agree, the difference is history.
      expect(await qemuAnswer(one)).not.toEqual(ours);
    });

    it('End-End TLP Prefix Supported is not set, and Linux refuses PASID', async () => {
      const qtest = await start(CASES[0] ?? { name: '' });
      if (qtest === undefined) throw new Error('QEMU did not start');
      expect((await qtest.read(CONFIG + DEVICE_CAPABILITIES_2, 4)) & END_END_PREFIX).toBe(0);
      await qtest.close();
      const fn = createFunction({
        physical: configSpace(USUAL),
        pasid: { width: 16, execute: true, privileged: true },
      });
      expect(fn.read(DEVICE_CAPABILITIES_2, 4) & END_END_PREFIX).toBe(END_END_PREFIX);
    });

    it('control bits that the capability does not have are latched', async () => {
      const qtest = await start({ name: '', caps: 0 });
      if (qtest === undefined) throw new Error('QEMU did not start');
      await qtest.write(CONFIG + 0xffe, 2, 0xffff);
      expect(await qtest.read(CONFIG + 0xffe, 2)).toBe(7);
      await qtest.close();
      const fn = createFunction({
        physical: configSpace(USUAL),
        pasid: { width: 16, execute: false, privileged: false },
      });
      fn.write(0xffe, 2, 0xffff);
      expect(fn.read(0xffe, 2)).toBe(1);
    });

    it('writes to the synthesized capability reach the device', async () => {
      const qtest = await start({ name: '' });
      if (qtest === undefined) throw new Error('QEMU did not start');
      await qtest.write(CONFIG + 0xffe, 2, 7);
      await qtest.write(CONFIG + 0xff8, 4, 0x12345678);
      await qtest.close();
      expect([...readFileSync(deviceFile).subarray(0xff8, 0x1000)]).toEqual([
        0x78, 0x56, 0x34, 0x12, 0, 0, 7, 0,
      ]);
      const physical = configSpace(USUAL);
      const fn = createFunction({ physical, pasid: { width: 16, execute: true, privileged: true } });
      fn.write(0xffe, 2, 7);
      fn.write(0xff8, 4, 0x12345678);
      expect(physical).toEqual(configSpace(USUAL));
    });

    it('the physical capability that the host hid can be written through the gap it left', async () => {
      const hidden = Uint8Array.of(0x1b, 0, 0x01, 0x16, 0x06, 0x10, 0x07, 0);
      const qtest = await start({ name: '' }, hidden);
      if (qtest === undefined) throw new Error('QEMU did not start');
      expect(await qtest.read(CONFIG + 0x1c6, 2)).toBe(7);
      await qtest.write(CONFIG + 0x1c6, 2, 0);
      await qtest.close();
      expect(readFileSync(deviceFile).readUInt16LE(0x1c6)).toBe(0);
      const physical = configSpace(USUAL);
      physical.set(hidden, 0x1c0);
      const fn = createFunction({ physical, pasid: { width: 16, execute: true, privileged: true } });
      expect(fn.read(0x1c4, 4)).toBe(0);
      fn.write(0x1c6, 2, 0);
      expect([...physical.subarray(0x1c0, 0x1c8)]).toEqual([...hidden]);
    });
  });
});
