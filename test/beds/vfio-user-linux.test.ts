// Bed D: an unmodified Linux under QEMU uses our functions: it finds their capabilities, enables PASID, resets, removes
// and finds them again; and it refuses PASID where `vpci explain` says that it will.
//
// One machine has them all, each behind a root port of QEMU's and its IOMMU:
//   01:00.0  PASID at an offset of our choice, control latched
//   02:00.0  control dropped
//   03:00.0  without descriptors (Node's sockets)
//   04:00.0  no End-End TLP Prefix: the fix-up of Device Capabilities 2 undone
//   05:00.0, 05:00.1  two functions in a slot, without ACS
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createFunction, type EmulatedOptions, type PciFunction } from 'vpci';
import { explainFunction } from 'vpci/inspect';
import { serveVfioUser, type Transport, VfioUserDevice, type VfioUserServer } from 'vpci/vfio-user';
import { bed } from '../support/beds.ts';
import { FINISHED, type GuestRun, makeInitrd, runGuest, section } from './qemu/guest.ts';
import { kernelPath, kernels, qemuMissing, qemuProgram, scratchFolder, vfioUserDevice } from './qemu/qemu.ts';

const CAP_EXPRESS = 0x10;
const DEVICE_CAPABILITIES_2 = 0x24;
const END_END_PREFIX = 1 << 21;
const PASID_OFFSET = 0x520;

type Options = Partial<EmulatedOptions>;

function make(options: Options = {}): PciFunction {
  return createFunction({
    vendorId: 0x1b36,
    deviceId: 0x00f5,
    classCode: 0x120000,
    pasid: { width: 16, execute: true, privileged: true },
    ats: true,
    pri: true,
    ...options,
  });
}

/** A function whose guest sees Device Capabilities 2 without the bit that PASID needs. */
function withoutPrefix(): PciFunction {
  const fn = make();
  const express = fn.capabilities.find(({ id }) => id === CAP_EXPRESS)?.offset ?? 0;
  const register = express + DEVICE_CAPABILITIES_2;
  const hide = (offset: number, bytes: Uint8Array): void => {
    for (let i = 0; i < 4; i++) {
      const at = register + i - offset;
      if (at >= 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) & ~(END_END_PREFIX >>> (8 * i));
    }
  };
  const readInto = fn.readInto.bind(fn);
  const inspectInto = fn.inspectInto.bind(fn);
  fn.readInto = (offset, bytes) => {
    readInto(offset, bytes);
    hide(offset, bytes);
  };
  fn.inspectInto = (offset, bytes) => {
    inspectInto(offset, bytes);
    hide(offset, bytes);
  };
  fn.read = (offset, size) => {
    const bytes = new Uint8Array(4);
    fn.readInto(offset, bytes.subarray(0, size));
    return new DataView(bytes.buffer).getUint32(0, true);
  };
  return fn;
}

interface Served {
  readonly bdf: string;
  readonly fn: PciFunction;
  readonly device: VfioUserDevice;
  /** What the guest did to PASID Control, as our events tell it: E, X and P for the bits that are set. */
  readonly log: string[];
}

function served(bdf: string, fn: PciFunction): Served {
  const log: string[] = [];
  fn.on('pasid-control', ({ enable, execute, privileged }) => {
    log.push(`${enable ? 'E' : '-'}${execute ? 'X' : '-'}${privileged ? 'P' : '-'}`);
  });
  fn.on('reset', ({ kind }) => log.push(kind));
  return { bdf, fn, device: new VfioUserDevice(fn), log };
}

const VALUES = [...Array.from({ length: 8 }, (_, value) => value), 0x8, 0xf8, 0xff, 0x100, 0xff00, 0xffff];

// The kernel restores what it had set when it resets a function itself; a reset by setpci is not its own.
const SCRIPT = `
all='01:00.0 02:00.0 03:00.0 04:00.0 05:00.0 05:00.1'
echo '== kernel'; cat /proc/version
for f in $all; do echo "== lspci $f"; lspci -s $f -vvv; done
for f in 01:00.0 02:00.0 03:00.0; do
  echo "== words $f"
  for v in ${VALUES.map((value) => value.toString(16)).join(' ')}; do
    setpci -s $f ECAP_PASID+6.w=$v; setpci -s $f ECAP_PASID+6.w
  done
done
echo '== pieces'
setpci -s 01:00.0 ECAP_PASID+6.w=0
setpci -s 01:00.0 ECAP_PASID+6.b=7; setpci -s 01:00.0 ECAP_PASID+6.w
setpci -s 01:00.0 ECAP_PASID+7.b=ff; setpci -s 01:00.0 ECAP_PASID+6.w
setpci -s 01:00.0 ECAP_PASID+4.w=ffff; setpci -s 01:00.0 ECAP_PASID+4.l
setpci -s 01:00.0 ECAP_PASID+4.l=00020000; setpci -s 01:00.0 ECAP_PASID+4.l
setpci -s 01:00.0 ECAP_PASID+0.l=ffffffff; setpci -s 01:00.0 ECAP_PASID+0.l
echo '== flr by hand'
setpci -s 01:00.0 ECAP_PASID+6.w=7
setpci -s 01:00.0 CAP_EXP+8.w=8000:8000; setpci -s 01:00.0 ECAP_PASID+6.w
echo '== reset by the kernel'
setpci -s 02:00.0 COMMAND=2:2
cat /sys/bus/pci/devices/0000:01:00.0/reset_method
setpci -s 01:00.0 ECAP_PASID+6.w=7
echo 1 >/sys/bus/pci/devices/0000:01:00.0/reset; setpci -s 01:00.0 ECAP_PASID+6.w
echo '== remove'
echo 1 >/sys/bus/pci/devices/0000:01:00.0/remove; lspci -s 01:00.0
echo '== rescan'
echo 1 >/sys/bus/pci/rescan; lspci -s 01:00.0 -vvv
`;

const execute = promisify(execFile);
const cli = fileURLToPath(new URL('../../dist/vmm-glue/cli/main.js', import.meta.url));

bed('qemu-linux', qemuMissing)('vfio-user under a Linux guest', () => {
  it('starts as vpci serve says', { timeout: 120_000 }, async () => {
    using folder = scratchFolder();
    const socket = join(folder.path, 'demo');
    const server = spawn(process.execPath, [cli, 'serve', '--demo', '--socket', socket]);
    let [log, said] = ['', ''];
    server.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
    server.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    await expect.poll(() => said, { timeout: 20_000 }).toContain('lspci -vvv');
    const [command = ''] = /qemu-system-x86_64(?:.*\\\n)*.*/.exec(said) ?? [];
    const guest = await execute('timeout', [
      '-s',
      'KILL',
      '60',
      'sh',
      '-c',
      command
        .replace('qemu-system-x86_64', `exec '${qemuProgram()}' -accel tcg -cpu max -no-reboot`)
        .replace('KERNEL', kernelPath(kernels()[0] ?? ''))
        .replace('INITRD', makeInitrd(folder.path, 'lspci -vvv -s 01:00.0')),
    ]);
    expect(guest.stdout, guest.stderr).toContain(FINISHED);
    expect(guest.stdout.replaceAll('\r', '')).toMatch(
      /Address Space ID \(PASID\)\n\t\tPASIDCap: Exec\+ Priv\+, Max PASID Width: 10\n\t\tPASIDCtl: Enable\+ Exec\+ Priv\+/,
    );
    server.kill('SIGINT');
    await new Promise((resolve) => server.once('exit', resolve));
    expect(server.exitCode).toBe(0);
    expect(log).toContain('PASID enabled with execute, privileged');
    expect(log).toContain('ranges of guest memory opened');
  });

  describe.each(kernels())('Linux %s', (kernel) => {
    const folder = scratchFolder();
    const all = [
      served('01:00.0', make({ pasidOffset: PASID_OFFSET })),
      served('02:00.0', make({ control: 'drop' })),
      served('03:00.0', make({ pasid: { width: 20, execute: false, privileged: true } })),
      served('04:00.0', withoutPrefix()),
      served('05:00.0', make()),
      served('05:00.1', make()),
    ];
    const errors: unknown[] = [];
    const servers: VfioUserServer[] = [];
    let guest: GuestRun;

    beforeAll(async () => {
      const devices: string[] = [];
      for (const { bdf, device } of all) {
        const [bus = '', slot = ''] = bdf.split(':');
        const socket = `${folder.path}/${bus}${slot}`;
        const transport: Transport = bdf === '03:00.0' ? 'net' : 'koffi';
        device.on('protocol-error', (error) => errors.push(error));
        servers.push(
          await serveVfioUser({ socket, device, transport, onError: (error) => errors.push(error) }),
        );
        const port = `rp${Number(bus)}`;
        const place = { addr: slot.slice(1), multifunction: bdf === '05:00.0' };
        if (slot === '00.0') {
          devices.push(
            '-device',
            `pcie-root-port,id=${port},addr=${Number(bus) + 1}.0,chassis=${Number(bus)}`,
          );
        }
        const options: object = JSON.parse(vfioUserDevice(socket, port, `v${bus}${slot.at(-1)}`));
        devices.push('-device', JSON.stringify({ ...options, ...place }));
      }
      guest = await runGuest({ folder: folder.path, kernel, script: SCRIPT, devices });
      for (const server of servers) await server.close();
      if (!guest.finished)
        throw new Error(`the guest did not finish: ${guest.stderr}${guest.console.slice(-3000)}`);
    }, 180_000);
    afterAll(() => folder[Symbol.dispose]());

    const lspci = (bdf: string): string => section(guest, `lspci ${bdf}`);
    const pasidLines = (text: string): string[] =>
      text
        .split('\n')
        .filter((line) => /\(PASID\)|PASID(?:Cap|Ctl)/.test(line))
        .map((line) => line.trim());
    const one = (bdf: string): Served => {
      const found = all.find((each) => each.bdf === bdf);
      if (found === undefined) throw new Error(`nothing is served at ${bdf}`);
      return found;
    };

    it('is the kernel that was asked for, and sends nothing wrong', () => {
      expect(section(guest, 'kernel')).toContain(kernel.replace(/-cloud-amd64$/, ''));
      expect(errors).toEqual([]);
    });

    it('sees the capability where we chose to put it, and enables it', () => {
      expect(pasidLines(lspci('01:00.0'))).toEqual([
        'Capabilities: [520 v1] Process Address Space ID (PASID)',
        'PASIDCap: Exec+ Priv+, Max PASID Width: 10',
        'PASIDCtl: Enable+ Exec+ Priv+',
      ]);
      // The machine begins with a reset.
      expect(one('01:00.0').log.find((line) => line !== 'flr')).toBe('EXP');
      expect(explainFunction(one('01:00.0').fn).answer.failed).toEqual([]);
    });

    it('decodes everything that lspci knows', () => {
      const text = lspci('01:00.0');
      expect(text).toContain('Express (v2) Endpoint');
      expect(text).toContain('EETLPPrefix+');
      expect(text).toContain('Address Translation Service (ATS)');
      expect(text).toContain('Page Request Interface (PRI)');
      expect(text).not.toMatch(/broken|loop|unknown|access denied/i);
    });

    it('boots with a control register that drops writes', () => {
      expect(pasidLines(lspci('02:00.0')).slice(1)).toEqual([
        'PASIDCap: Exec+ Priv+, Max PASID Width: 10',
        'PASIDCtl: Enable- Exec- Priv-',
      ]);
      expect(one('02:00.0').log.filter((line) => line !== 'flr')).toEqual([]);
    });

    it('works without descriptors', () => {
      expect(pasidLines(lspci('03:00.0')).slice(1)).toEqual([
        'PASIDCap: Exec- Priv+, Max PASID Width: 14',
        'PASIDCtl: Enable+ Exec- Priv+',
      ]);
    });

    it.each([
      ['01:00.0', 7],
      ['02:00.0', 0],
      ['03:00.0', 5],
    ])('latches, of every word written to PASID Control of %s, the bits %i', (bdf, mask) => {
      const read = section(guest, `words ${bdf}`).trim().split('\n');
      expect(read.map((text) => Number.parseInt(text, 16))).toEqual(VALUES.map((value) => value & mask));
    });

    it('latches bytes and dwords, and nothing but Control', () => {
      expect(section(guest, 'pieces').trim().split('\n')).toEqual([
        '0007',
        '0007',
        '00071006',
        '00021006',
        expect.stringMatching(/^...1001b$/),
      ]);
    });

    it('clears the latch by FLR, and the kernel restores it after its own', () => {
      expect(section(guest, 'flr by hand').trim()).toBe('0000');
      const [methods, control] = section(guest, 'reset by the kernel').trim().split('\n');
      expect(methods).toContain('flr');
      expect(control).toBe('0007');
      // By hand: set, reset. By the kernel: set by hand, reset, restored.
      const { log } = one('01:00.0');
      const last = log.lastIndexOf('flr');
      expect(log.slice(last - 4, last + 3)).toEqual(['EXP', 'flr', '---', 'EXP', 'flr', '---', 'EXP']);
    });

    it('is removed and found again', () => {
      expect(section(guest, 'remove').trim()).toBe('');
      expect(pasidLines(section(guest, 'rescan'))[2]).toBe('PASIDCtl: Enable+ Exec+ Priv+');
      expect(one('01:00.0').log.slice(-2)).toEqual(['---', 'EXP']);
    });

    it('refuses PASID without the End-End prefix, as explain says', () => {
      expect(pasidLines(lspci('04:00.0'))[2]).toBe('PASIDCtl: Enable- Exec- Priv-');
      expect(lspci('04:00.0')).toContain('EETLPPrefix-');
      const { fn, log } = one('04:00.0');
      expect(log.filter((line) => line.startsWith('E'))).toEqual([]);
      expect(explainFunction(fn).answer).toMatchObject({ verdict: 'no', failed: ['end-end-prefix'] });
    });

    it('refuses PASID for functions that share a slot without ACS, as explain says', () => {
      // Linux looks at ACS since 6.2.
      const [major = 0, minor = 0] = kernel.split('.').map(Number);
      const control =
        major > 6 || (major === 6 && minor >= 2) ? 'Enable- Exec- Priv-' : 'Enable+ Exec+ Priv+';
      for (const bdf of ['05:00.0', '05:00.1']) {
        expect(pasidLines(lspci(bdf))[2]).toBe(`PASIDCtl: ${control}`);
        const { fn } = one(bdf);
        fn.setMultiFunction(true);
        expect(explainFunction(fn).answer).toMatchObject({ verdict: 'no', failed: ['acs'] });
      }
    });
  });
});
