// An unmodified Linux in v86 and its lspci and setpci: extended configuration space through ECAM, PASID, BARs.
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createFunction, createRootPort, type PasidControlEvent, type PciFunction, PciSegment } from 'vpci';
import { parseDump } from 'vpci/inspect';
import { bed } from '../../support/beds.ts';
import { type Booted, LinuxGuest, whyNoLinux } from './linux.ts';

const BAR = 0x56504349;

interface Machine {
  readonly segment: PciSegment;
  /** An RC integrated endpoint at 00:04.0. */
  readonly rciep: PciFunction;
  /** An endpoint behind the root port at 00:08.0. */
  readonly endpoint: PciFunction;
}

/** A register that reads a constant, one that keeps what is written. */
function endpoint(present: 'rciep' | 'as-is', deviceId: number): PciFunction {
  let scratch = 0;
  return createFunction({
    vendorId: 0x1af4,
    deviceId,
    classCode: 0xff0000,
    interruptPin: 1,
    present,
    pasid: { width: 20, execute: true, privileged: true },
    ats: true,
    pri: true,
    bars: [
      {
        index: 0,
        size: 0x4000,
        read: (offset) => (offset === 0 ? BAR : offset === 4 ? scratch : 0),
        write: (offset, _size, value) => {
          if (offset === 4) scratch = value;
        },
      },
    ],
  });
}

function machine(): Machine {
  const segment = new PciSegment();
  const rciep = segment.add('00:04.0', endpoint('rciep', 0x10f0));
  const port = segment.add('00:08.0', createRootPort());
  return { segment, rciep, endpoint: segment.plug(port, endpoint('as-is', 0x10f1)) };
}

bed('v86-linux', whyNoLinux)('Linux in v86', () => {
  let booted: Booted;
  let log: string;
  let bars: number;
  let guest: LinuxGuest;
  let made: Machine;
  const open: LinuxGuest[] = [];

  beforeAll(async () => {
    const first = machine();
    const linux = await LinuxGuest.boot(first.segment);
    log = await linux.output('dmesg');
    booted = await linux.save();
    bars = first.rciep.bars[0]?.address ?? 0;
    await linux.close();
  }, 300_000);

  beforeEach(async () => {
    made = machine();
    guest = await LinuxGuest.restore(made.segment, booted);
    open.push(guest);
  });

  afterEach(async () => {
    for (const one of open.splice(0)) await one.close();
  });

  afterAll(async () => {
    for (const one of open.splice(0)) await one.close();
  });

  /** Address of BAR 0 of the function at `bdf`, as Linux sees it. */
  const resource = async (bdf: string): Promise<number> =>
    Number((await guest.output(`cat /sys/bus/pci/devices/0000:${bdf}/resource`)).split(' ')[0]);
  const devmem = async (address: number, ...more: string[]): Promise<number> =>
    Number(await guest.output(`devmem 0x${address.toString(16)} ${more.join(' ')}`));

  it('finds the ECAM window in MCFG, reserved, and uses it', () => {
    expect(log).toMatch(/MMCONFIG for domain 0000 \[bus 00-ff\] at \[mem 0xb0000000-0xbfffffff\]/);
    expect(log).toContain('reserved in E820');
    expect(log).toContain('PCI: Using MMCONFIG for extended config space');
  });

  it("has v86's own devices where they were, and ours beside them", async () => {
    const lines = (await guest.output('lspci -n')).trim().split('\n');
    const ids = new Map(lines.map((line) => [line.slice(0, 7), line.split(' ')[2]]));
    expect(Object.fromEntries(ids)).toMatchObject({
      '00:00.0': '8086:1237',
      '00:01.0': '8086:7000',
      '00:04.0': '1af4:10f0',
      '00:08.0': '1b36:000c',
      '00:07.0': '8086:7113',
      '01:00.0': '1af4:10f1',
    });
  });

  it.each(['04.0', '08.0'])('reads all 4096 bytes of 00:%s as they are', async (slot) => {
    const [dumped] = parseDump(Buffer.from(await guest.output(`lspci -s 00:${slot} -xxxx`)));
    const fn = made.segment.function(`00:${slot}`);
    const bytes = new Uint8Array(4096);
    fn?.readInto(0, bytes);
    expect(dumped?.bytes.length).toBe(4096);
    expect(Buffer.from(dumped?.bytes ?? []).toString('hex')).toBe(Buffer.from(bytes).toString('hex'));
  });

  it("v86's own functions have no extended space", async () => {
    const [dumped] = parseDump(Buffer.from(await guest.output('lspci -s 00:01.0 -xxxx')));
    expect(dumped?.bytes.length).toBe(256);
  });

  it.each(['00:04.0', '01:00.0'])('lspci shows PASID, ATS and PRI of %s', async (bdf) => {
    const text = await guest.output(`lspci -s ${bdf} -vvv`);
    expect(text).toContain('Address Translation Service (ATS)');
    expect(text).toContain('Page Request Interface (PRI)');
    expect(text).toMatch(/Process Address Space ID \(PASID\)\s+PASIDCap: Exec\+ Priv\+, Max PASID Width: 14/);
    expect(text).toMatch(/PASIDCtl: Enable- Exec- Priv-/);
  });

  it.each([
    ['00:04.0', 'rciep' as const],
    ['01:00.0', 'endpoint' as const],
  ])('setpci writes PASID Control of %s, which latches and is forwarded', async (bdf, which) => {
    const fn = made[which];
    const heard: PasidControlEvent[] = [];
    fn.on('pasid-control', (event) => heard.push(event));
    expect(await guest.output(`setpci -s ${bdf} ECAP_PASID+6.w`)).toBe('0000\n');
    await guest.output(`setpci -s ${bdf} ECAP_PASID+6.w=ffff`);
    expect(await guest.output(`setpci -s ${bdf} ECAP_PASID+6.w`)).toBe('0007\n');
    expect(await guest.output(`lspci -s ${bdf} -vvv`)).toContain('PASIDCtl: Enable+ Exec+ Priv+');
    expect(heard).toEqual([{ enable: true, execute: true, privileged: true }]);
    expect(fn.endpointState.pasidEnable).toBe(true);
  });

  it('a function level reset by Linux clears the latch', async () => {
    await guest.output('setpci -s 00:04.0 ECAP_PASID+6.w=1');
    const resets: string[] = [];
    made.rciep.on('reset', ({ kind }) => resets.push(kind));
    await guest.output('echo 1 > /sys/bus/pci/devices/0000:00:04.0/reset');
    expect(resets).toEqual(['flr']);
    expect(await guest.output('setpci -s 00:04.0 ECAP_PASID+6.w')).toBe('0000\n');
  });

  it.each(['0000:00:04.0', '0000:01:00.0'])('BAR 0 of %s was placed and answers', async (bdf) => {
    const base = await resource(bdf.slice(5));
    expect(base).toBeGreaterThan(0);
    await guest.output(`setpci -s ${bdf} COMMAND.w=2:2`);
    expect(await devmem(base)).toBe(BAR);
    await devmemWrite(base + 4, 0xcafe);
    expect(await devmem(base + 4)).toBe(0xcafe);
  });

  const devmemWrite = async (address: number, value: number): Promise<void> => {
    await guest.output(`devmem 0x${address.toString(16)} 32 ${value}`);
  };

  it('BAR 0 moves, and answers at the new address only', async () => {
    await guest.output('setpci -s 00:04.0 COMMAND.w=2:2 BASE_ADDRESS_0=f8000000');
    expect(made.rciep.bars[0]).toMatchObject({ address: 0xf8000000, enabled: true });
    expect(await devmem(0xf8000000)).toBe(BAR);
    expect(await devmem(bars)).toBe(0xffffffff);
  });

  it('every test begins where the boot ended', async () => {
    expect(await guest.output('setpci -s 00:04.0 ECAP_PASID+6.w')).toBe('0000\n');
    expect(await resource('00:04.0')).toBe(bars);
  });
});
