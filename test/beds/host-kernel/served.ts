// The devices of the guest: functions of ours, served by vfio-user, with a log of what the guest's kernel did to them.
import { join } from 'node:path';
import {
  createFunction,
  type EmulatedOptions,
  expressCapability,
  msiXCapability,
  type PciFunction,
} from 'vpci';
import { serveVfioUser, VfioUserDevice, type VfioUserServer } from 'vpci/vfio-user';
import { PATIENT } from '../qemu/qemu.ts';
import {
  DATA,
  DOORBELL,
  INTERRUPT,
  IOVA_HIGH,
  IOVA_LOW,
  LOWER,
  MSI_X_TABLE,
  NOTE,
  RAISE,
  STATUS,
  WRITE,
} from './device-registers.ts';

const BAR_SIZE = 0x1000;
const VECTORS = 4;
const CONFIG_REGION = 7;

export interface ServedOptions extends Partial<EmulatedOptions> {
  /** Bits of dwords of its configuration space that read 0 whatever the function says: `[offset, bits]`. */
  readonly without?: (fn: PciFunction) => readonly [offset: number, bits: number];
}

/** One served function. */
export class Served {
  readonly bdf: string;
  readonly fn: PciFunction;
  readonly device: VfioUserDevice;
  /**
   * In order: `pasid EXP` or with `-` for clear bits, `reset KIND`, `write OFFSET SIZE VALUE` of configuration space,
   * `note VALUE`.
   */
  readonly log: string[] = [];
  readonly #registers = new Uint8Array(0x40);

  constructor(bdf: string, { without, ...options }: ServedOptions = {}) {
    this.bdf = bdf;
    this.fn = createFunction({
      vendorId: 0x1b36,
      deviceId: 0x00f5,
      classCode: 0x120000,
      pasid: { width: 16, execute: true, privileged: true },
      ats: true,
      pri: true,
      capabilities: [
        expressCapability(),
        msiXCapability(VECTORS, { bar: 0, offset: MSI_X_TABLE }, { bar: 0, offset: 0xc00 }),
      ],
      bars: [
        {
          index: 0,
          size: BAR_SIZE,
          read: (offset, size) => this.#read(offset, size),
          write: (offset, size, value) => this.#write(offset, size, value),
        },
      ],
      ...options,
    });
    if (without !== undefined) hideBits(this.fn, ...without(this.fn));
    this.device = new VfioUserDevice(this.fn);
    this.fn.on('pasid-control', ({ enable, execute, privileged }) => {
      this.log.push(`pasid ${enable ? 'E' : '-'}${execute ? 'X' : '-'}${privileged ? 'P' : '-'}`);
    });
    this.fn.on('reset', ({ kind }) => this.log.push(`reset ${kind}`));
    this.device.on('access', ({ region, write, offset, size, value = 0 }) => {
      if (region === CONFIG_REGION && write) {
        this.log.push(`write 0x${offset.toString(16)} ${size} 0x${value.toString(16)}`);
      }
    });
  }

  /** The lines of the log between two notes of the guest. */
  between(first: number, second: number): string[] {
    const [start, end] = [this.log.indexOf(`note ${first}`), this.log.indexOf(`note ${second}`)];
    if (start === -1 || end < start)
      throw new Error(`no notes ${first} and ${second}:\n${this.log.join('\n')}`);
    return this.log.slice(start + 1, end);
  }

  /** All bytes that the function shows. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(this.fn.size);
    this.fn.inspectInto(0, bytes);
    return bytes;
  }

  #read(offset: number, size: number): number {
    let value = 0;
    for (let i = 0; i < size; i++) value += (this.#registers[offset + i] ?? 0) * 2 ** (8 * i);
    return value;
  }

  #write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      if (offset + i < this.#registers.length) this.#registers[offset + i] = (value >>> (8 * i)) & 0xff;
    }
    if (offset === NOTE) this.log.push(`note ${value}`);
    if (offset === DOORBELL) void this.#transfer(value);
  }

  async #transfer(command: number): Promise<void> {
    if (command === INTERRUPT) {
      this.device.interrupt(0);
      return;
    }
    if (command === RAISE || command === LOWER) {
      this.fn.setInterrupt(command === RAISE);
      return;
    }
    const address = this.#read(IOVA_HIGH, 4) * 2 ** 32 + this.#read(IOVA_LOW, 4);
    const data = this.#registers.subarray(DATA, DATA + 16);
    if (command === WRITE) {
      this.#registers[STATUS] = (await this.device.write(address, Uint8Array.from(data))) ? 1 : 2;
      return;
    }
    const bytes = await this.device.read(address, 16);
    if (bytes !== undefined) data.set(bytes);
    this.#registers[STATUS] = bytes === undefined ? 2 : 1;
  }
}

function hideBits(fn: PciFunction, register: number, bits: number): void {
  const hide = (offset: number, bytes: Uint8Array): void => {
    for (let i = 0; i < 4; i++) {
      const at = register + i - offset;
      if (at >= 0 && at < bytes.length) bytes[at] = (bytes[at] ?? 0) & ~(bits >>> (8 * i));
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
}

/** Running servers, and QEMU's options for the devices: each behind a root port of its bus, or on bus 0. */
export interface ServedMachine extends AsyncDisposable {
  readonly devices: readonly string[];
  readonly errors: readonly unknown[];
}

/** Serves all of them on sockets in `folder`. */
export async function serveAll(folder: string, all: readonly Served[]): Promise<ServedMachine> {
  const errors: unknown[] = [];
  const servers: VfioUserServer[] = [];
  const devices: string[] = [];
  for (const { bdf, device } of all) {
    const [bus = '', slot = '', fnNumber = ''] = bdf.split(/[:.]/);
    const socket = join(folder, bdf.replaceAll(':', '-'));
    device.on('protocol-error', (error) => errors.push(error));
    servers.push(
      await serveVfioUser({ socket, device, transport: 'koffi', onError: (error) => errors.push(error) }),
    );
    const number = Number.parseInt(bus, 16);
    const port = number === 0 ? 'pcie.0' : `rp${number}`;
    if (number !== 0 && fnNumber === '0') {
      devices.push('-device', `pcie-root-port,id=${port},addr=${number + 1}.0,chassis=${number}`);
    }
    const shared = all.some((other) => other.bdf !== bdf && other.bdf.startsWith(`${bus}:${slot}`));
    devices.push(
      '-device',
      JSON.stringify({
        driver: 'vfio-user-pci',
        id: `v${bus}${slot}${fnNumber}`,
        bus: port,
        addr: `${slot}.${fnNumber}`,
        multifunction: shared && fnNumber === '0',
        socket: { type: 'unix', path: socket },
        ...PATIENT,
      }),
    );
  }
  return {
    devices,
    errors,
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) await server.close();
    },
  };
}
