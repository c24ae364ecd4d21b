import { VpciError } from '../../src/index.ts';
import type { Assembler } from './assembler.ts';
import { machineOf } from './machine.ts';
import { PortClaims } from './ports.ts';

/** The parts of v86's `V86` that {@link BareMetalGuest} uses. */
export interface V86Like {
  add_listener(event: string, listener: (argument: unknown) => void): void;
  run(): Promise<void>;
  stop(): Promise<void>;
  destroy(): Promise<void>;
  read_memory(offset: number, length: number): Uint8Array;
}

/** v86's `V86` class, as `import { V86 } from 'v86'` gives it. */
export type V86Constructor<Emulator extends V86Like> = new (options: Record<string, unknown>) => Emulator;

/** What a {@link BareMetalGuest} is made of. */
export interface BareMetalOptions {
  /** The guest: see `multibootImage`. */
  readonly image: ArrayBuffer;
  /** Path or URL of v86's `build/v86.wasm`. */
  readonly wasmPath: string;
  /** Bytes of guest memory, a multiple of 1 MiB. Default 16 MiB. */
  readonly memorySize?: number;
}

/** The guest writes a byte here when it has something to say, and reads here until it may go on: see {@link ring}. */
export const DOORBELL_PORT = 0x5e0;

const DEFAULT_MEMORY = 0x1000000;
/** Milliseconds after which a guest that does not ring is given up. */
const PATIENCE = 30_000;

/** Assembles: tell the host `value` (8 bits, not 0), and wait until it says go on. Changes `eax` and `edx`. */
export function ring(assembler: Assembler, value: number): void {
  const wait = `(wait ${assembler.length})`;
  assembler.mov('edx', DOORBELL_PORT).mov('eax', value).out(1);
  assembler.label(wait).in(1).arithmetic('and', 'eax', 0xff).jump(wait, 'equal');
}

/**
 * A guest without firmware or operating system in v86, for tests and demonstrations: it runs until it rings, the
 * host looks, and it runs on.
 */
export class BareMetalGuest<Emulator extends V86Like = V86Like> {
  /** The emulator; attach a segment to it before the first `run`. */
  readonly emulator: Emulator;
  readonly #ports: PortClaims;
  #mayGoOn = false;
  #onRing: ((value: number) => void) | undefined;

  private constructor(emulator: Emulator) {
    this.emulator = emulator;
    this.#ports = new PortClaims(machineOf(emulator).io.ports);
    this.#ports.claim(DOORBELL_PORT, {
      read: () => {
        const go = this.#mayGoOn ? 1 : 0;
        this.#mayGoOn = false;
        return go;
      },
      write: (_port, _size, value) => {
        this.#mayGoOn = false;
        this.#onRing?.(value & 0xff);
      },
    });
  }

  /**
   * Starts `V86` with a guest in it; nothing runs yet.
   *
   * @throws VpciError `VPCI_BAD_ARGUMENT` when this version of v86 does not fit.
   */
  static async load<Emulator extends V86Like>(
    V86: V86Constructor<Emulator>,
    { image, wasmPath, memorySize = DEFAULT_MEMORY }: BareMetalOptions,
  ): Promise<BareMetalGuest<Emulator>> {
    const emulator = new V86({
      wasm_path: wasmPath,
      multiboot: { buffer: image },
      memory_size: memorySize,
      vga_memory_size: 0x100000,
      autostart: false,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      net_device: { type: 'none' },
    });
    await new Promise((resolve) => {
      emulator.add_listener('emulator-loaded', resolve);
    });
    return new BareMetalGuest(emulator);
  }

  /** Lets the guest run until it rings, and returns what it said. @throws VpciError when it does not in 30 seconds. */
  async run(): Promise<number> {
    const rung = new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new VpciError('VPCI_BAD_ARGUMENT', 'the guest did not ring: its program has an error'));
      }, PATIENCE);
      this.#onRing = (value) => {
        clearTimeout(timer);
        resolve(value);
      };
    });
    this.#mayGoOn = true;
    await this.emulator.run();
    try {
      return await rung;
    } finally {
      this.#onRing = undefined;
      await this.emulator.stop();
    }
  }

  /** `length` dwords of guest memory from `address` on. */
  readWords(address: number, length: number): Uint32Array {
    const bytes = this.emulator.read_memory(address, 4 * length).slice();
    return new Uint32Array(bytes.buffer);
  }

  /** Ends the emulator. */
  async close(): Promise<void> {
    this.#ports.releaseAll();
    await this.emulator.destroy();
  }
}
