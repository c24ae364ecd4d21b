// Debian's i386 Linux in v86, with a segment behind it: boots once, and goes on from there as often as wanted.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { V86 } from 'v86';
import type { PciSegment, SegmentState } from 'vpci';
import { attachToV86 } from 'vpci/v86';
import { initialFileSystem } from './newc.ts';

const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vpci/v86');
const WASM_PATH = createRequire(import.meta.url).resolve('v86/build/v86.wasm');
/** Milliseconds that a command may take in the guest, on a busy machine. */
const PATIENCE = 240_000;

/** Why the bed cannot run here; undefined when it can. */
export function whyNoLinux(): string | undefined {
  return existsSync(join(cache, '.done'))
    ? undefined
    : 'no i386 kernel in the cache: test/beds/v86/fetch.sh gets it';
}

/** Reads commands from the console and says when each is done; the console echoes nothing. */
const INIT = `#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
dmesg -n 1
echo @@READY
while read -r line; do eval "$line"; echo "@@DONE $?"; done
`;
const APPLETS = ['sh', 'mount', 'stty', 'cat', 'dmesg', 'grep', 'devmem', 'hexdump', 'ls', 'wc', 'sed'];

/** A guest as it was when it had booted. */
export interface Booted {
  readonly machine: ArrayBuffer;
  readonly segment: SegmentState;
}

/** What a command printed, and its exit status. */
export interface Done {
  readonly output: string;
  readonly status: number;
}

export class LinuxGuest {
  readonly #emulator: V86;
  readonly #segment: PciSegment;
  #printed = '';
  #onByte: (() => void) | undefined;

  private constructor(emulator: V86, segment: PciSegment) {
    this.#emulator = emulator;
    this.#segment = segment;
    emulator.add_listener('serial0-output-byte', (byte) => {
      this.#printed += String.fromCharCode(byte);
      this.#onByte?.();
    });
  }

  /** Boots Linux with `segment` behind v86. */
  static async boot(segment: PciSegment): Promise<LinuxGuest> {
    const links = Object.fromEntries(APPLETS.map((name) => [`bin/${name}`, 'busybox']));
    const guest = await LinuxGuest.#load(segment, {
      bzimage: { buffer: file('vmlinuz') },
      initrd: { buffer: arrayBuffer(initialFileSystem(join(cache, 'root'), INIT, links)) },
      cmdline: 'console=ttyS0 tsc=reliable mitigations=off',
    });
    await guest.#emulator.run();
    await guest.#wait(/^@@READY\n/m);
    return guest;
  }

  /** Goes on from where `booted` was taken; `segment` holds the same functions. */
  static async restore(segment: PciSegment, booted: Booted): Promise<LinuxGuest> {
    const guest = await LinuxGuest.#load(segment, {});
    await guest.#emulator.restore_state(booted.machine);
    segment.restoreState(booted.segment);
    await guest.#emulator.run();
    return guest;
  }

  static async #load(segment: PciSegment, options: object): Promise<LinuxGuest> {
    const emulator = new V86({
      wasm_path: WASM_PATH,
      bios: { buffer: file('bios.bin') },
      vga_bios: { buffer: file('vgabios.bin') },
      memory_size: 96 << 20,
      vga_memory_size: 2 << 20,
      acpi: true,
      autostart: false,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      ...options,
    });
    await new Promise((resolve) => {
      emulator.add_listener('emulator-loaded', () => resolve(undefined));
    });
    attachToV86(emulator, segment);
    return new LinuxGuest(emulator, segment);
  }

  /** Runs a line of shell in the guest. */
  async run(command: string): Promise<Done> {
    this.#printed = '';
    this.#emulator.serial0_send(`${command}\n`);
    const match = await this.#wait(/^@@DONE (\d+)\n/m);
    return { output: this.#printed.slice(0, match.index).replaceAll('\r', ''), status: Number(match[1]) };
  }

  /** What a line of shell prints; it must succeed. */
  async output(command: string): Promise<string> {
    const { output, status } = await this.run(command);
    if (status !== 0) throw new Error(`${command}: exit ${status}: ${output}`);
    return output;
  }

  /** Stops the guest and keeps it. */
  async save(): Promise<Booted> {
    await this.#emulator.stop();
    return { machine: await this.#emulator.save_state(), segment: this.#segment.saveState() };
  }

  async close(): Promise<void> {
    await this.#emulator.destroy();
  }

  async #wait(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(
          new Error(`the guest did not print ${String(pattern)}; it printed: ${this.#printed.slice(-2000)}`),
        );
      }, PATIENCE);
      this.#onByte = () => {
        if (!this.#printed.endsWith('\n')) return;
        const match = pattern.exec(this.#printed);
        if (match === null) return;
        this.#onByte = undefined;
        clearTimeout(timer);
        resolve(match);
      };
    });
  }
}

function file(name: string): ArrayBuffer {
  return arrayBuffer(readFileSync(join(cache, name)));
}

function arrayBuffer(bytes: Uint8Array): ArrayBuffer {
  const buffer = new ArrayBuffer(bytes.length);
  new Uint8Array(buffer).set(bytes);
  return buffer;
}
