// A machine whose IOMMU is our own VT-d unit: the guest's kernel drives it, nested translation and all, and the device
// behind it sends requests with PASIDs.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { dmarTable } from 'vpci/acpi';
import { RemappingUnit, RequestEngine, UNIT_ADDRESS } from 'vpci/linux-guest';
import { serveVfioUser } from 'vpci/vfio-user';
import { VtdIommu } from 'vpci/vtd';
import { PATIENT } from '../qemu/qemu.ts';
import { type CommandRun, MEGABYTES, runHostGuest } from './guest.ts';

// QEMU's own disk controller would be a device that our unit does not see.
const BOARD =
  `-M q35,sata=off,memory-backend=ram -object memory-backend-memfd,id=ram,size=${MEGABYTES}M,share=on`.split(
    ' ',
  );

/** Interrupts are not remapped: VFIO has to hear that it may go on. */
const APPEND =
  'intel_iommu=on,sm_on intremap=off iommufd.allow_unsafe_interrupts=1 vfio_iommu_type1.allow_unsafe_interrupts=1 loglevel=0';

/** What came of the machine. */
export interface OwnUnitMachine {
  readonly unit: RemappingUnit;
  readonly engine: RequestEngine;
  readonly errors: readonly unknown[];
  run(command: string): CommandRun;
}

/** Boots with the engine at 01:00.0, bound to vfio-pci, and runs the commands. */
export async function runOwnUnit(
  parent: string,
  image: Buffer,
  commands: Readonly<Record<string, string>>,
): Promise<OwnUnitMachine> {
  const folder = join(parent, 'own-unit');
  mkdirSync(folder);
  const unit = new RemappingUnit((memory) => new VtdIommu({ memory, pasidWidth: 16 }));
  const engine = new RequestEngine(unit, { ats: true, pri: true });
  const errors: unknown[] = [];
  const places = [
    { device: unit.device, socket: join(folder, 'unit'), bus: 'pcie.0', addr: '3.0' },
    { device: engine.device, socket: join(folder, 'engine'), bus: 'rp0', addr: '0.0' },
  ];
  for (const { device } of places) {
    device.on('handler-error', (error) => errors.push(error));
    device.on('protocol-error', (error) => errors.push(error));
  }
  const server = await serveVfioUser({
    devices: places,
    transport: 'koffi',
    onError: (error) => errors.push(error),
  });
  const dmar = join(folder, 'dmar');
  const scopes = [{ path: [[2, 0] as const, [0, 0] as const] }];
  writeFileSync(dmar, dmarTable({ units: [{ registers: UNIT_ADDRESS, scopes }], atsr: [{}] }));
  const devices = places.map(({ socket, bus, addr }) =>
    JSON.stringify({
      driver: 'vfio-user-pci',
      bus,
      addr,
      socket: { type: 'unix', path: socket },
      ...PATIENT,
    }),
  );
  const boot = async (): Promise<ReadonlyMap<string, CommandRun>> => {
    return await runHostGuest({
      folder,
      image,
      board: BOARD,
      devices: [
        '-acpitable',
        `file=${dmar}`,
        '-device',
        'pcie-root-port,id=rp0,bus=pcie.0,addr=2.0,chassis=1',
        ...devices.flatMap((device) => ['-device', device]),
      ],
      bind: ['01:00.0'],
      append: APPEND,
      commands,
    });
  };
  const runs = await boot().finally(() => server.close());
  return {
    unit,
    engine,
    errors,
    run: (command) => {
      const found = runs.get(command);
      if (found === undefined) throw new Error(`the guest ran no "${command}"`);
      return found;
    },
  };
}
