// Bed E: our built package in a Linux guest asks that guest's kernel, VFIO and iommufd, about devices that we serve,
// behind QEMU's VT-d.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expressCapability, type PciFunction } from 'vpci';
import { parseDump } from 'vpci/inspect';
import { bed } from '../../support/beds.ts';
import { scratchFolder } from '../qemu/qemu.ts';
import { makeGuestImage } from './guest-image.ts';
import { jsonLines } from './guest.ts';
import { kernelMissing, kernelRelease } from './kernel.ts';
import { type Machine, type MachineOptions, runMachine } from './machine.ts';
import type { Served, ServedOptions } from './served.ts';

const CAP_EXPRESS = 0x10;
const DEVICE_CAPABILITIES_2 = 0x24;
const EXT_CAP_ATS = 0x0f;
const EXT_CAP_PRI = 0x13;
const EXT_CAP_PASID = 0x1b;

// The IOMMU comes before what is behind it.
const VTD = 'intel-iommu,intremap=on,caching-mode=on';
const SCALABLE = `${VTD},device-iotlb=on,scalable-mode=on,fsts=on,svm=on`;

const endEndPrefix = (fn: PciFunction): readonly [number, number] => [
  (fn.capabilities.find(({ id }) => id === CAP_EXPRESS)?.offset ?? 0) + DEVICE_CAPABILITIES_2,
  1 << 21,
];
const pasidWidth = (fn: PciFunction): readonly [number, number] => [(fn.pasid?.offset ?? 0) + 4, 0x1f00];

const WIDE = { width: 20, execute: true, privileged: true };
/** In the group of 05:00.0; the kernel has a driver for it. */
const SERIAL_PORT = '05:00.1';
/** The machine that most is asked of. */
const FULL: Readonly<Record<string, ServedOptions>> = {
  '01:00.0': { pasidOffset: 0x520 },
  '02:00.0': { pasid: WIDE, pasidOffset: 0xff8 },
  '03:00.0': { without: pasidWidth },
  '04:00.0': { without: endEndPrefix },
  '00:09.0': {},
  '05:00.0': {},
  [SERIAL_PORT]: {
    classCode: 0x070002,
    pasid: undefined,
    bars: [{ index: 0, size: 8, kind: 'io' }],
    capabilities: [expressCapability()],
    ats: false,
    pri: false,
    // Its driver wants an interrupt.
    interruptPin: 1,
  },
};

interface Step {
  readonly call: string;
  readonly outcome: string;
  readonly errno?: string;
  readonly text: string;
}

interface Query {
  readonly feature?: { readonly width: number; readonly execute: boolean; readonly privileged: boolean };
  readonly steps: readonly Step[];
}

interface Shown {
  readonly pasid: { readonly offset: number };
  readonly extended: readonly (readonly [id: number, offset: number])[];
  readonly bytes: string;
}

/** Offsets in the extended chain, by ID. */
function extendedChain(bytes: Buffer): ReadonlyMap<number, number> {
  const chain = new Map<number, number>();
  for (let at = 0x100; at !== 0 && chain.size < 9; at = bytes.readUInt16LE(at + 2) >>> 4) {
    chain.set(bytes.readUInt16LE(at), at);
  }
  return chain;
}

bed('kernel', kernelMissing)('vpci/vfio on a real kernel', () => {
  const folder = scratchFolder();
  const machines = new Map<string, Machine>();
  let checks: ReadonlyMap<string, unknown> = new Map();

  beforeAll(async () => {
    const image = await makeGuestImage(folder.path);
    const run = async (name: string, iommu: string, more: Partial<MachineOptions> = {}): Promise<void> => {
      const functions = { '01:00.0': { pasid: WIDE } };
      const commands = { json: 'vpci host --json' };
      const options = { folder: folder.path, image, name, iommu, functions, commands, ...more };
      machines.set(name, await runMachine(options));
    };
    await Promise.all([
      run('full', `${SCALABLE},pasid-bits=20`, {
        functions: FULL,
        notBound: [SERIAL_PORT],
        commands: {
          kernel: 'cat /proc/version',
          device: 'node device-in-guest.mjs 01:00.0=520 02:00.0=ff8 03:00.0 04:00.0 00:09.0',
          host: 'vpci host 2>&1',
        },
      }),
      (async () => {
        const commands = { json: 'vpci host --json', view: 'vpci view --host 01:00.0 2>/dev/null' };
        await run('8 bits', `${SCALABLE},pasid-bits=8`, { commands });
        await run('0 bits', `${VTD},scalable-mode=on,fsts=on`);
        await run('not scalable', `${VTD},device-iotlb=on`);
      })(),
    ]);
    checks = jsonLines(machine('full').run('device').out, 'check');
  }, 600_000);
  afterAll(() => folder[Symbol.dispose]());

  function machine(name: string): Machine {
    const found = machines.get(name);
    if (found === undefined) throw new Error(`the machine "${name}" did not run`);
    return found;
  }

  function check(name: string): unknown {
    const line = checks.get(name);
    if (line === undefined) throw new Error(`the guest did not come to "${name}"`);
    return (line as { result: unknown }).result;
  }

  const served = (bdf: string): Served => machine('full').served(bdf);

  /** What the kernel of a machine said about its first device, by the command. */
  function fromCommand(name: string): unknown {
    const { devices } = JSON.parse(machine(name).run('json').out) as { devices: readonly unknown[] };
    return devices[0];
  }

  const text = ({ steps }: Query): string =>
    steps
      .map(({ call, outcome, errno = '-', text: words }) => `${outcome} ${call} ${errno} ${words}`)
      .join('\n');

  it('is the kernel that was built, whose drivers send nothing wrong', () => {
    expect(machine('full').run('kernel').out).toContain(`Linux version ${kernelRelease()}`);
    expect(machine('full').run('device').code).toBe(0);
    expect([...machines.values()].flatMap(({ errors }) => errors)).toEqual([]);
  });

  describe('the query', () => {
    const permissions = { execute: true, privileged: true };
    it.each([
      ['16 bits', '01:00.0', { feature: { width: 16, ...permissions }, attach: true, enabled: true }],
      [
        '20 bits at 0xff8',
        '02:00.0',
        { feature: { width: 20, ...permissions }, attach: true, enabled: true },
      ],
      [
        '16 bits on bus 0',
        '00:09.0',
        { feature: { width: 16, ...permissions }, attach: true, enabled: true },
      ],
      // Reported and attached, and yet the device cannot use it.
      [
        '16 bits without End-End TLP Prefix',
        '04:00.0',
        { feature: { width: 16, execute: false, privileged: false }, attach: true, enabled: false },
      ],
    ])('of %s', (_, bdf, expected) => {
      expect(check(`query ${bdf}`)).toMatchObject({
        source: 'iommufd',
        iommu: 'intel-vtd',
        ats: true,
        ...expected,
      });
    });

    it('of 0 bits says that this is why there is none', () => {
      const answer = check('query 03:00.0') as Query;
      expect(answer).toMatchObject({ source: 'none', iommu: 'intel-vtd', ats: true, enabled: true });
      expect(answer.feature).toBeUndefined();
      expect(text(answer)).toContain('the physical capability has a width of 0 bits');
    });

    it('says that PASID Enable is clear although a width is reported', () => {
      expect(text(check('query 04:00.0') as Query)).toContain(
        'PASID Enable is clear although a width is reported',
      );
    });

    it.each([
      [
        '8 bits',
        { feature: { width: 8, ...permissions }, source: 'iommufd', attach: true, ats: true, enabled: true },
        '8 bits of PASID',
      ],
      [
        '0 bits',
        { source: 'none', ats: false, enabled: false },
        'has 20 bits, and PASID Enable is clear: it is the IOMMU',
      ],
      [
        'not scalable',
        { source: 'none', ats: true, enabled: false },
        'has 20 bits, and PASID Enable is clear: it is the IOMMU',
      ],
    ])('takes the limit of the IOMMU: %s', (name, expected, words) => {
      const answer = fromCommand(name) as Query;
      expect(answer).toMatchObject({ bdf: '0000:01:00.0', iommu: 'intel-vtd', ...expected });
      expect(answer.feature).toEqual('feature' in expected ? expected.feature : undefined);
      expect(text(answer)).toContain(words);
      expect(machine(name).run('json').code).toBe(0);
    });
  });

  describe('attaching', () => {
    const pasids = (outcomes: Readonly<Record<number, string>>): Record<string, string> => ({
      ...Object.fromEntries(Object.entries(outcomes).map(([pasid, outcome]) => [`attach ${pasid}`, outcome])),
      // A PASID that is not attached is detached without a complaint.
      ...Object.fromEntries(Object.keys(outcomes).map((pasid) => [`detach ${pasid}`, 'ok'])),
    });

    // PASID 0 is that of requests without one, which are attached already.
    it.each([
      ['01:00.0', { 0: 'EBUSY', 1: 'ok', 5: 'ok', 0xffff: 'ok', 0x10000: 'EINVAL' }],
      ['02:00.0', { 0: 'EBUSY', 1: 'ok', 5: 'ok', 0xfffff: 'ok', 0x100000: 'EINVAL' }],
      ['03:00.0', { 0: 'EBUSY', 1: 'EINVAL', 5: 'EINVAL' }],
      ['04:00.0', { 0: 'EBUSY', 1: 'ok', 5: 'ok', 0xffff: 'ok', 0x10000: 'EINVAL' }],
      ['00:09.0', { 0: 'EBUSY', 1: 'ok', 5: 'ok', 0xffff: 'ok', 0x10000: 'EINVAL' }],
    ])('to PASIDs of %s', (bdf, outcomes) => {
      expect(check(`attach ${bdf}`)).toEqual({
        ioas: 'ok',
        hwpt: 'ok',
        rid: 'ok',
        ...pasids(outcomes),
        'detach rid': 'ok',
      });
    });
  });

  // The physical capability is in the device that we serve; the kernel gives that device to the guest's Node; and
  // there it is a function once more.
  describe.each([
    ['01:00.0', 0x520, 16],
    ['02:00.0', 0xff8, 20],
  ])('the function of %s', (bdf, hidden, width) => {
    const shown = (): Shown => check(`shown ${bdf}`) as Shown;
    const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
    const capability = (width << 8) | 0x6;

    it('has the registers of the device, as far as the kernel shows them', () => {
      const kernel = bytes(String(check(`by vfio-pci ${bdf}`)));
      const device = served(bdf).bytes();
      const guest = bytes(shown().bytes);
      // Identity; class and revision; subsystem; the PCI Express Capability; ATS but for its Control.
      const { fn } = served(bdf);
      const express = fn.capabilities.find(({ id }) => id === CAP_EXPRESS)?.offset ?? 0;
      const ats = fn.extendedCapabilities.find(({ id }) => id === EXT_CAP_ATS)?.offset ?? 0;
      for (const [start, end] of [
        [0x00, 0x04],
        [0x08, 0x0c],
        [0x2c, 0x30],
        [express + 2, express + 0x08],
        [express + DEVICE_CAPABILITIES_2, express + DEVICE_CAPABILITIES_2 + 4],
        [ats + 4, ats + 6],
      ] as const) {
        const range = `0x${start.toString(16)}`;
        expect(kernel.subarray(start, end).toString('hex'), range).toBe(
          Buffer.from(device.subarray(start, end)).toString('hex'),
        );
        expect(guest.subarray(start, end), range).toEqual(kernel.subarray(start, end));
      }
      expect(shown()).toMatchObject({
        bars: [[0, 0x1000]],
        irqs: [
          ['intx', 0],
          ['msi', 0],
          ['msi-x', 4],
          ['error', 1],
          ['request', 1],
        ],
      });
    });

    it('has a PASID capability of our own, and the kernel shows none', () => {
      const { pasid, extended } = shown();
      expect(shown()).toMatchObject({
        feature: { width, execute: true, privileged: true },
        pasid: { width, execute: true, privileged: true, control: 'latch' },
        findings: ['physical-pasid-hidden'],
      });
      expect(pasid.offset).not.toBe(hidden);
      expect(extended.map(([id]) => id).toSorted((a, b) => a - b)).toEqual([
        EXT_CAP_ATS,
        EXT_CAP_PRI,
        EXT_CAP_PASID,
      ]);
      expect(bytes(shown().bytes).readUInt16LE(pasid.offset + 4)).toBe(capability);
      const kernel = bytes(String(check(`by vfio-pci ${bdf}`)));
      expect(extendedChain(kernel).has(EXT_CAP_PASID)).toBe(false);
      // It is there all the same.
      expect(kernel.readUInt32LE(hidden + 4)).toBe(capability + 0x7_0000);
    });

    it('does not reach the physical PASID capability, which keeps its values', () => {
      const result = check(`hidden ${bdf}`) as { reads: number[]; before: number; after: number };
      expect(new Set(result.reads)).toEqual(new Set([0]));
      expect([result.before, result.after]).toEqual([capability + 0x7_0000, capability + 0x7_0000]);
      expect(served(bdf).between(1, 2)).toEqual([]);
    });

    it('latches PASID Control without a write to the device', () => {
      expect(check(`latch ${bdf}`)).toEqual({ latched: [0, 1, 7, 7], raw: capability + 0x7_0000 });
      expect(served(bdf).between(2, 3)).toEqual([]);
    });

    it('passes on Bus Master Enable, and nothing else of Command', () => {
      expect(check(`command ${bdf}`)).toEqual([
        [0x006, 0x107],
        [0x002, 0x103],
      ]);
      expect(served(bdf).between(3, 4)).toEqual(['write 0x4 2 0x107', 'write 0x4 2 0x103']);
    });

    it('resets the device when its guest resets the function', () => {
      expect(check(`flr ${bdf}`)).toMatchObject({ latch: 0, command: 0, raw: capability + 0x7_0000 });
      const log = served(bdf).between(4, 5);
      expect(log.filter((line) => /^(?:reset|pasid)/.test(line))).toEqual([
        'reset flr',
        'pasid ---',
        'pasid EXP',
      ]);
    });

    it('is what keeps it from there: by the descriptor the kernel lets it be switched off', () => {
      expect(check(`raw ${bdf}`)).toEqual({
        offered: capability + 0x7_0000,
        cleared: capability,
        restored: capability + 0x7_0000,
      });
      const control = `0x${(hidden + 6).toString(16)}`;
      expect(served(bdf).between(5, 6)).toEqual([
        `write ${control} 2 0x0`,
        'pasid ---',
        `write ${control} 2 0x7`,
        'pasid EXP',
      ]);
    });

    it('is all-ones once the device is closed', () => {
      expect(check(`closed ${bdf}`)).toEqual([0xffffffff, 0xffffffff]);
    });
  });

  it('lets the device reach memory of this process, and its interrupts the function', () => {
    expect(check('dma')).toEqual({ read: [1, 0x1234_5678], written: [1, 0x8765_4321], unmapped: 2 });
    expect(check('interrupts')).toEqual([['msi-x', 0, 0xfee0_1000, 0x4041]]);
  });

  describe('opening', () => {
    it('by group gives the device, and says why PASID cannot be asked about', () => {
      const answer = check('by group') as { answer: Query; ids: number[] };
      expect(answer).toMatchObject({
        openedBy: 'group',
        subject: '0000:01:00.0',
        canReset: true,
        answer: { source: 'none' },
        ids: [0x00f51b36, 0x00f51b36],
      });
      expect(answer).not.toHaveProperty('pasid');
      expect(answer).not.toHaveProperty('deviceId');
      expect(text(answer.answer)).toContain('a device that was opened by its group has no ID in an iommufd');
    });

    it.each([
      [
        'not bound',
        /^0000:00:02\.0 is bound to pcieport: run "driverctl set-override 0000:00:02\.0 vfio-pci"/,
      ],
      ['no such device', /^the host has no PCI device 0000:77:00\.0/],
      [
        'second cdev',
        /^VFIO_DEVICE_BIND_IOMMUFD on vfio0 \(0000:01:00\.0\) failed: EINVAL \(the device is bound or open already/,
      ],
      [
        'group while cdev',
        /^open on \/dev\/vfio\/\d+ failed: EBUSY \(.* one of its devices is open by its cdev/,
      ],
      ['second group', /^open on \/dev\/vfio\/\d+ failed: EBUSY \(the group is open in another process/],
      [
        'cdev while group',
        /^VFIO_DEVICE_BIND_IOMMUFD on .* failed: EBUSY \(the IOMMU group is open by another process/,
      ],
      [
        'neighbour',
        /^VFIO_DEVICE_BIND_IOMMUFD on vfio5 \(0000:05:00\.0\) failed: EPERM \(a driver of the host, or another iommufd, owns a device of the IOMMU group/,
      ],
      [
        'neighbour by group',
        /^IOMMU group \d+ is not viable: one of its devices is bound to a driver of the host/,
      ],
      ['token', /^VFIO_DEVICE_BIND_IOMMUFD on .* failed: EINVAL \(.*leave vfToken out/],
      ['token by group', /^VFIO_GROUP_GET_DEVICE_FD on .* failed: EINVAL \(.*leave vfToken out/],
    ])('is refused with the cause: %s', (what, sentence) => {
      expect(check(`refused ${what}`)).toMatch(sentence);
    });

    it('works again when the other one has closed', () => {
      expect(check('opened again')).toBe('cdev');
    });
  });

  it('does not take DMA_BUF for the feature that was never merged', () => {
    const answer = check('unmerged') as Query;
    expect(answer).toMatchObject({ source: 'none' });
    expect(text(answer)).toMatch(/^no VFIO_DEVICE_FEATURE index 11 E/m);
  });

  it('hands PASIDs over, and says what an IOMMU without nesting cannot take', () => {
    const steps = jsonLines(machine('full').run('device').out, 'step');
    expect([...steps.values()].filter((line) => !Object.hasOwn(Object(line), 'check'))).toMatchObject([
      { step: 'open', width: 16, attach: true },
      { step: 'table', ok: true, attached: [[5], [null, 5], [5]], failures: [] },
      { step: 'cut', ok: true, attached: [5], failures: [] },
      { step: 'beyond', ok: true, blocked: true, after: [] },
      { step: 'pasid-0', ok: true, blocked: true },
      { step: 'closed', ok: true, closed: [], again: [5], reset: [] },
      { step: 'nested', ok: false, code: 'VPCI_UNSUPPORTED', text: expect.stringContaining('ECAP.NEST') },
      { step: 'guest-dma', ok: true },
      { step: 'interrupts', ok: true, taken: { 'msi-x': true } },
      { step: 'end', ok: true },
    ]);
  });

  it("vpci view --host prints what the device's guest would see", () => {
    const { code, out } = machine('8 bits').run('view');
    expect(code).toBe(0);
    const [dumped, ...more] = parseDump(out);
    expect(more).toEqual([]);
    const bytes = Buffer.from(dumped?.bytes ?? []);
    const chain = extendedChain(bytes);
    expect([...chain.keys()].toSorted((a, b) => a - b)).toEqual([EXT_CAP_ATS, EXT_CAP_PRI, EXT_CAP_PASID]);
    expect(bytes.readUInt16LE((chain.get(EXT_CAP_PASID) ?? 0) + 4)).toBe(0x0806);
  });

  it('vpci host prints what every device answered', () => {
    const { code, out } = machine('full').run('host');
    expect(code).toBe(0);
    const bits = (bdf: string, answer: string): string => `0000:${bdf}  ${answer}`;
    const all = 'execute and privileged enabled (source: iommufd), IOMMU intel-vtd, PASIDs can be attached';
    expect(out.split('\n').filter((line) => /^[\d:.]+ {2}/.test(line))).toEqual([
      bits('00:09.0', `PASID of 16 bits, ${all}`),
      bits('01:00.0', `PASID of 16 bits, ${all}`),
      bits('02:00.0', `PASID of 20 bits, ${all}`),
      bits('03:00.0', 'no PASID, IOMMU intel-vtd'),
      bits(
        '04:00.0',
        'PASID of 16 bits, no permissions enabled (source: iommufd), IOMMU intel-vtd, PASIDs can be attached, but PASID Enable is clear',
      ),
    ]);
    expect(out).toMatch(/^0000:05:00\.0: VFIO_DEVICE_BIND_IOMMUFD .*EPERM/m);
    const [, second = ''] = out.split('\n\n');
    expect(second.split('\n').slice(1, 4)).toEqual([
      '  opened by cdev, driver vfio-pci, 4096 bytes of configuration space, can be reset',
      '  BAR 0: 4 KiB, mappable',
      '  interrupts: msi-x 4, error 1, request 1',
    ]);
    expect(second).toContain('\n  yes  VFIO_DEVICE_ATTACH_IOMMUFD_PT: attached to PASID 0xffff');
  });
});
