// Bed E, `vpci serve --host`: our packed command, in a Linux guest, serves a device of that guest's kernel to a QEMU that
// runs in there, too. The device is one that we serve on the outside.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { expressCapability, msiCapability, msiXCapability } from 'vpci';
import { bed } from '../../support/beds.ts';
import { scratchFolder } from '../qemu/qemu.ts';
import { makeGuestImage } from './guest-image.ts';
import { jsonLines } from './guest.ts';
import { kernelMissing } from './kernel.ts';
import { type Machine, runMachine } from './machine.ts';

const BDF = '01:00.0';
/** The physical PASID capability. */
const HIDDEN = 0x520;
const SCALABLE =
  'intel-iommu,intremap=on,caching-mode=on,device-iotlb=on,scalable-mode=on,fsts=on,svm=on,pasid-bits=20';
const INTERRUPT_STATUS = 8;

/** True when all of `expected` are among `lines`, in this order. */
function inOrder(lines: readonly string[], expected: readonly string[]): boolean {
  let found = 0;
  for (const line of lines) if (line === expected[found]) found++;
  return found === expected.length;
}

bed('kernel', kernelMissing)('vpci serve --host on a real kernel', () => {
  const folder = scratchFolder();
  let machine: Machine;
  let checks: ReadonlyMap<string, unknown> = new Map();

  beforeAll(async () => {
    machine = await runMachine({
      folder: folder.path,
      name: 'serve',
      image: await makeGuestImage(folder.path, { qemu: true }),
      iommu: SCALABLE,
      functions: {
        [BDF]: {
          pasidOffset: HIDDEN,
          interruptPin: 1,
          capabilities: [
            expressCapability(),
            msiCapability(4),
            msiXCapability(4, { bar: 0, offset: 0x800 }, { bar: 0, offset: 0xc00 }),
          ],
        },
      },
      commands: {
        serve: `node serve-in-guest.mjs ${BDF} ${HIDDEN.toString(16)}`,
        log: 'dmesg | grep -E "DMAR: .DMA|WARNING:|BUG:|Oops|Call Trace"',
      },
    });
    checks = jsonLines(machine.run('serve').out, 'check');
  }, 600_000);
  afterAll(() => folder[Symbol.dispose]());

  function check(name: string): unknown {
    const line = checks.get(name);
    if (line === undefined) throw new Error(`the guest did not come to "${name}"`);
    return (line as { result: unknown }).result;
  }

  it('comes to its end, and neither kernel nor QEMU complains', () => {
    expect(machine.run('serve').code).toBe(0);
    expect(machine.errors).toEqual([]);
    expect(String(check('client said')).replace(/.*Could not enable error recovery.*\n/, '')).toBe('');
    // Of the addresses outside of the client's memory.
    const faults = machine.run('log').out.trimEnd().split('\n');
    expect(faults).toHaveLength(2);
    for (const [i, kind] of ['Read', 'Write'].entries()) {
      expect(faults[i]).toMatch(`[DMA ${kind} NO_PASID] Request device [0000:${BDF}] fault addr 0x70000000`);
    }
  });

  it('shows a PASID capability of our own, and hides the one of the device', () => {
    const { header, extended, pasid, hidden } = check('config') as {
      header: string;
      extended: readonly (readonly [number, number])[];
      pasid: string;
      hidden: string;
    };
    expect(header).toMatch(/^361bf500/);
    expect(extended.map(([id]) => id)).toEqual([0x0f, 0x13, 0x1b]);
    expect(extended.map(([, offset]) => offset)).not.toContain(HIDDEN);
    // 16 bits, execute and privileged; nothing enabled yet.
    expect(pasid.slice(8)).toBe('06100000');
    expect(hidden).toBe('0000000000000000');
    expect(check('latch')).toBe(7);
    expect(machine.served(BDF).between(1, 2)).toEqual([]);
  });

  it('leads to the BAR of the device', () => {
    expect(check('bar')).toBe(0x1234_5678);
    expect(machine.served(BDF).log).toContain('note 1');
  });

  it('lets the device reach the memory of the client, and nothing else', () => {
    expect(check('dma')).toEqual({
      inside: { read: [1, 0x2222_0000], written: [1, 0x2222_0001] },
      outside: [2, 2],
    });
  });

  it.each(['msi', 'msi-x'])('leads the interrupts of the device to the client, once each: %s', (kind) => {
    expect(check(kind)).toEqual({ first: true, more: 0 });
  });

  it('has the kernel signal the client: the server need not run', () => {
    expect(check('stopped')).toEqual({ came: true, state: 'T' });
  });

  it.each([
    ['intx raised', 1, 0, INTERRUPT_STATUS],
    // The client ends the interrupt while the device still holds its line up.
    ['intx still up', 2, 1, INTERRUPT_STATUS],
    ['intx lowered', 2, 2, 0],
    ['intx disabled', 2, 2, INTERRUPT_STATUS],
    ['intx enabled', 3, 2, INTERRUPT_STATUS],
    ['intx lowered again', 3, 3, 0],
  ])(
    'leads the interrupt line to the client, once for each interrupt: %s',
    (name, raised, lowered, status) => {
      expect(check(name)).toEqual({ raised, lowered, status });
    },
  );

  it('resets the device when the client resets the function', () => {
    expect(check('flr')).toEqual({ latch: 0, command: 0 });
    const log = machine.served(BDF).between(3, 4);
    expect(log.filter((line) => /^(?:reset|pasid)/.test(line))).toEqual([
      'reset flr',
      'pasid ---',
      'pasid EXP',
    ]);
  });

  it('serves one client after the other', () => {
    expect(check('disconnected')).toBe(true);
    expect(check('again')).toEqual({
      id: 0x00f5_1b36,
      inside: { read: [1, 0x3333_0000], written: [1, 0x3333_0001] },
      message: { first: true, more: 0 },
    });
  });

  it('has the device for itself until it is told to end, and lets go of it then', () => {
    expect(check('open while served')).toMatch(
      /^VFIO_DEVICE_BIND_IOMMUFD on vfio0 \(0000:01:00\.0\) failed:/,
    );
    expect(check('ended')).toEqual({ code: 0, socket: false, open: 'opened' });
  });

  it('tells what happens', () => {
    const log = check('log') as string[];
    expect(log[0]).toMatch(
      /^serving 01:00\.0 1b36:00f5, PASID of 16 bits at 0x[\da-f]{3}, at \/.* by koffi$/,
    );
    const client = ['client connected, protocol 0.0', 'function reset (flr)', 'BAR 0 at 0xe0000000'];
    const expected = [
      ...client,
      'PASID enabled with execute, privileged',
      'INTx: 0 vectors enabled',
      'MSI: 2 vectors enabled',
      'MSI: 0 vectors enabled',
      'INTx: 1 vector enabled',
      'MSI-X: 1 vector enabled',
      'MSI-X: 0 vectors enabled',
      'INTx: 1 vector enabled',
      'function reset (flr)',
      'client disconnected: the client closed the connection',
      ...client,
      'client disconnected: the client closed the connection',
    ];
    expect(inOrder(log, expected), log.join('\n')).toBe(true);
    expect(log.filter((line) => line.startsWith('error:'))).toEqual([]);
    expect(check('said')).toContain('"driver":"vfio-user-pci"');
  });
});
