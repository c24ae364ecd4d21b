// attachToV86 itself: what it refuses, what detach puts back, resets, snapshots.
import { V86 } from 'v86';
import { createFunction, type PciFunction, PciSegment, VpciError } from 'vpci';
import { attachToV86, BareMetalGuest, multibootImage, ring } from 'vpci/v86';
import { afterEach, describe, expect, it } from 'vitest';
import { assemble, boot, ECAM_BASE, type Op, play, RESULTS, WASM_PATH } from './guest.ts';

const guests: BareMetalGuest<V86>[] = [];
afterEach(async () => {
  for (const guest of guests.splice(0)) await guest.close();
});

type Cpu = Record<string, unknown> & {
  io: { ports: Record<string, unknown>[] };
  option_roms: { name: string; data: Uint8Array }[];
  devices: { pci: { isa_bridge_space8: Uint8Array } };
  device_raise_irq: (irq: number) => void;
  device_lower_irq: (irq: number) => void;
  reboot_internal: () => void;
};

function cpuOf(emulator: V86): Cpu {
  return (emulator as unknown as { v86: { cpu: Cpu } }).v86.cpu;
}

async function idle(): Promise<V86> {
  const image = multibootImage((asm) => ring(asm, 1));
  const guest = await BareMetalGuest.load(V86, { image, wasmPath: WASM_PATH });
  guests.push(guest);
  return guest.emulator;
}

/** Everything that an attachment may touch. */
function snapshot(cpu: Cpu): unknown[] {
  return [
    ...cpu.io.ports.flatMap((entry) => [
      entry,
      entry['read8'],
      entry['read32'],
      entry['write8'],
      entry['write32'],
    ]),
    ...['read8', 'read32', 'write8', 'write32'].flatMap((name) => cpu[`memory_map_${name}`] as unknown[]),
    ...Object.entries(cpu).flat(),
    ...cpu.option_roms,
  ];
}

function differences(one: unknown[], two: unknown[]): number[] {
  const indices = Array.from({ length: Math.max(one.length, two.length) }, (_, i) => i);
  return indices.filter((i) => !Object.is(one[i], two[i]));
}

function pasidFunction(): PciFunction {
  return createFunction({
    vendorId: 0x10de,
    deviceId: 0x2941,
    classCode: 0x030200,
    pasid: { width: 16 },
    interruptPin: 1,
    bars: [
      { index: 0, size: 0x20000 },
      { index: 1, size: 16, kind: 'io' },
    ],
  });
}

function refusal(action: () => unknown): VpciError {
  try {
    action();
  } catch (error) {
    if (error instanceof VpciError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('what is refused', () => {
  it('something that is no emulator, or has not loaded', () => {
    expect(refusal(() => attachToV86({}, new PciSegment()))).toMatchObject({
      code: 'VPCI_BAD_ARGUMENT',
      message: expect.stringContaining("'emulator-loaded'") as unknown,
    });
  });

  it('a version that lacks something, naming it', async () => {
    const emulator = await idle();
    const { devices, ...cpu } = cpuOf(emulator);
    const older = { v86: { cpu: { ...cpu, devices: { ...devices, pci: {} }, memory_map_read8: undefined } } };
    const { code, message } = refusal(() => attachToV86(older, new PciSegment()));
    expect(code).toBe('VPCI_BAD_ARGUMENT');
    expect(message).toContain('this version of v86 does not fit');
    expect(message).toContain('cpu.memory_map_read8, ');
    expect(message).toContain('cpu.devices.pci.isa_bridge_space8');
    expect(message).not.toContain('cpu.io.ports');
  });

  it.each([
    ['in RAM', 0, 1],
    ['across the end of RAM', 0xf00000, 4],
    ["on v86's frame buffer", 0xdff00000, 2],
    ['above 4 GiB', 0x100000000, 1],
    ['across 4 GiB', 0xfff00000, 2],
  ])('an ECAM window %s', async (_where, ecamBase, buses) => {
    const emulator = await idle();
    const before = snapshot(cpuOf(emulator));
    expect(refusal(() => attachToV86(emulator, new PciSegment({ ecamBase, buses }))).code).toBe('VPCI_ECAM');
    expect(differences(before, snapshot(cpuOf(emulator)))).toEqual([]);
  });

  it('a function where v86 has one', async () => {
    const emulator = await idle();
    const segment = new PciSegment();
    segment.add('00:01.0', pasidFunction());
    const { code, message } = refusal(() => attachToV86(emulator, segment));
    expect(code).toBe('VPCI_BDF_TAKEN');
    expect(message).toContain('00:01.0');
  });

  it('a second segment, until the first is detached', async () => {
    const emulator = await idle();
    const attachment = attachToV86(emulator, new PciSegment());
    expect(refusal(() => attachToV86(emulator, new PciSegment())).code).toBe('VPCI_BAD_ARGUMENT');
    attachment.detach();
    attachToV86(emulator, new PciSegment()).detach();
  });
});

describe('detach', () => {
  it('puts back every port, block and method, and lets go of the interrupt line', async () => {
    const emulator = await idle();
    const cpu = cpuOf(emulator);
    const irqs: string[] = [];
    cpu.device_raise_irq = (irq) => void irqs.push(`raise ${irq}`);
    cpu.device_lower_irq = (irq) => void irqs.push(`lower ${irq}`);
    cpu.devices.pci.isa_bridge_space8[0x63] = 11;
    const before = snapshot(cpu);

    const segment = new PciSegment();
    const fn = segment.add('01:00.0', pasidFunction());
    const attachment = attachToV86(emulator, segment);
    fn.write(0x10, 4, 0xe1000000);
    fn.write(0x14, 4, 0xc000);
    fn.write(0x04, 2, 3);
    fn.setInterrupt(true);
    expect(differences(before, snapshot(cpu)).length).toBeGreaterThan(2048);

    attachment.detach();
    attachment.detach();
    expect(differences(before, snapshot(cpu))).toEqual([]);
    expect(irqs).toEqual(['raise 11', 'lower 11']);
    // Nothing is heard of any more.
    fn.write(0x10, 4, 0xe2000000);
    fn.setInterrupt(false);
    expect(differences(before, snapshot(cpu))).toEqual([]);
    expect(irqs).toHaveLength(2);
  });

  it('leaves a port to whom took it over since', async () => {
    const emulator = await idle();
    const { ports } = cpuOf(emulator).io;
    const attachment = attachToV86(emulator, new PciSegment());
    const theirs = { ...ports[0xcfc] };
    ports[0xcfc] = theirs;
    attachment.detach();
    expect(ports[0xcfc]).toBe(theirs);
  });
});

describe('a shared interrupt line', () => {
  it("stays up until v86's device and the segment's functions have let go", async () => {
    const emulator = await idle();
    const cpu = cpuOf(emulator);
    const irqs: string[] = [];
    cpu.device_raise_irq = (irq) => void irqs.push(`raise ${irq}`);
    cpu.device_lower_irq = (irq) => void irqs.push(`lower ${irq}`);
    cpu.devices.pci.isa_bridge_space8.set([11, 11, 11, 11], 0x60);
    const segment = new PciSegment();
    const one = segment.add('01:00.0', pasidFunction());
    const two = segment.add('01:01.0', pasidFunction());
    attachToV86(emulator, segment);

    one.setInterrupt(true);
    two.setInterrupt(true);
    cpu.device_raise_irq(11);
    one.setInterrupt(false);
    cpu.device_lower_irq(11);
    expect(irqs).toEqual(['raise 11', 'raise 11']);
    two.setInterrupt(false);
    expect(irqs.splice(0)).toEqual(['raise 11', 'raise 11', 'lower 11']);

    cpu.device_raise_irq(11);
    one.setInterrupt(true);
    one.setInterrupt(false);
    expect(irqs.splice(0)).toEqual(['raise 11', 'raise 11']);
    cpu.device_lower_irq(11);
    expect(irqs.splice(0)).toEqual(['lower 11']);

    // Values of the router that lead nowhere: disabled, and the reserved IRQs.
    for (const route of [0x8b, 0, 1, 2, 8, 13]) {
      cpu.devices.pci.isa_bridge_space8.fill(route, 0x60, 0x64);
      one.setInterrupt(true);
      one.setInterrupt(false);
    }
    expect(irqs).toEqual([]);
  });
});

describe('the firmware', () => {
  it('finds the window in an MCFG table and reserved in the memory map', async () => {
    const emulator = await idle();
    attachToV86(emulator, new PciSegment({ ecamBase: 0xc0000000, buses: 64 }));
    const files = new Map(cpuOf(emulator).option_roms.map(({ name, data }) => [name, data]));
    const mcfg = files.get('acpi/mcfg.bin') ?? new Uint8Array();
    const text = new TextDecoder('latin1').decode(mcfg);
    expect(text.slice(0, 4)).toBe('MCFG');
    expect(mcfg.reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
    const table = new DataView(mcfg.buffer);
    expect([table.getUint32(4, true), mcfg.length]).toEqual([60, 60]);
    expect(table.getBigUint64(44, true)).toBe(0xc0000000n);
    expect([table.getUint16(52, true), mcfg[54], mcfg[55]]).toEqual([0, 0, 63]);

    const map = new DataView(files.get('etc/e820')?.buffer ?? new ArrayBuffer());
    const entries = Array.from({ length: map.byteLength / 20 }, (_, i) => [
      map.getBigUint64(20 * i, true),
      map.getBigUint64(20 * i + 8, true),
      map.getUint32(20 * i + 16, true),
    ]);
    expect(entries).toEqual([
      [0n, 0x1000000n, 1],
      [0xc0000000n, 0x4000000n, 2],
    ]);
  });

  it("finds nothing at v86's missing PCI hot-plug registers", async () => {
    const hotPlug = [0xae00, 0xae04, 0xae08].map((port): Op => ({ via: 'port', port, size: 4 }));
    expect(await play(new PciSegment(), hotPlug)).toEqual([0, 0, 0]);
  });
});

describe('a reset of the machine', () => {
  it.each<[string, Op[]]>([
    ['through port 0xcf9', [2, 6].map((value): Op => ({ via: 'port', port: 0xcf9, size: 1, value }))],
    ['through the keyboard controller', [{ via: 'port', port: 0x64, size: 1, value: 0xfe }]],
  ])('%s resets the segment', async (_how, ops) => {
    const segment = new PciSegment();
    const fn = segment.add('01:00.0', pasidFunction());
    const control: Op = { via: 'ecam', rid: 0x100, offset: (fn.pasid?.offset ?? 0) + 6, size: 2, value: 1 };
    const { guest } = await boot(segment, (asm) => {
      assemble(asm, control);
      ring(asm, 1);
      for (const op of ops) assemble(asm, op);
      ring(asm, 2);
    });
    guests.push(guest);
    await guest.run();
    expect(fn.endpointState.pasidEnable).toBe(true);
    const reset = new Promise((resolve) => {
      fn.once('reset', resolve);
    });
    await Promise.race([reset, guest.run()]);
    expect(fn.endpointState.pasidEnable).toBe(false);
    await guest.emulator.stop();
  });
});

describe('a snapshot', () => {
  it("goes on in another emulator: v86's state and the segment's", async () => {
    const setUp: Op[] = [
      // As firmware does. v86 cannot restore the BARs that its IDE controller has not got otherwise.
      { via: 'cam', rid: 0xf0, offset: 0x10, size: 4, value: 0 },
      { via: 'cam', rid: 0xf0, offset: 0x14, size: 4, value: 0 },
      { via: 'cam', rid: 0x100, offset: 0x10, size: 4, value: 0xe1000000 },
      { via: 'cam', rid: 0x100, offset: 0x14, size: 4, value: 0xc001 },
      { via: 'cam', rid: 0x100, offset: 0x04, size: 2, value: 3 },
      { via: 'cam', rid: 0x100, offset: 0x3c, size: 1, value: 11 },
    ];
    const look: Op[] = [
      { via: 'port', port: 0xcfc, size: 1 },
      { via: 'memory', address: 0xe1000000, size: 4 },
      { via: 'port', port: 0xc000, size: 4 },
      { via: 'memory', address: ECAM_BASE + 0x100000, size: 4 },
    ];
    const make = async (): Promise<{ segment: PciSegment; guest: BareMetalGuest<V86> }> => {
      const segment = new PciSegment();
      const bars = [0, 1].map((index) => ({
        index,
        size: index === 0 ? 0x1000 : 16,
        kind: index === 0 ? ('memory32' as const) : ('io' as const),
        read: () => 0x600d0000 + index,
      }));
      segment.add(
        '01:00.0',
        createFunction({ vendorId: 0x1234, deviceId: 0x5678, classCode: 0xff0000, bars }),
      );
      const { guest } = await boot(segment, (asm) => {
        for (const op of setUp) assemble(asm, op);
        ring(asm, 1);
        asm.mov('edi', RESULTS);
        for (const op of look) assemble(asm, op);
        ring(asm, 2);
      });
      guests.push(guest);
      return { segment, guest };
    };
    const first = await make();
    expect(await first.guest.run()).toBe(1);
    const machine = await first.guest.emulator.save_state();
    const state: unknown = JSON.parse(JSON.stringify(first.segment.saveState()));

    const second = await make();
    await second.guest.emulator.restore_state(machine);
    second.segment.restoreState(state);
    expect(await second.guest.run()).toBe(2);
    expect([...second.guest.readWords(RESULTS, 4)]).toEqual([11, 0x600d0000, 0x600d0001, 0x56781234]);
  });
});
