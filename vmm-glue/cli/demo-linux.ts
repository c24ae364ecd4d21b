import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { dmarTable } from '../../src/acpi/index.ts';
import { VpciError } from '../../src/index.ts';
import { hex } from '../../src/pci/bdf.ts';
import {
  compileGuest,
  type EngineResult,
  guestFiles,
  type LinuxRun,
  RemappingUnit,
  RequestEngine,
  runLinux,
  UNIT_ADDRESS,
} from '../linux-guest/index.ts';
import { serveVfioUser } from '../vfio-user/index.ts';
import { type Arguments, pasidWidth } from './arguments.ts';
import { findLinux, type LinuxParts } from './demo/find-linux.ts';
import { describeVerdict } from './demo/story.ts';
import { WatchedUnit } from './demo/watched-unit.ts';
import { CliError, EXIT_NO, EXIT_OK } from './exit-code.ts';
import type { Output } from './io.ts';

/** Who did something: the guest's kernel, the guest's program, or the unit. */
type Who = 'Linux' | 'guest' | 'unit';

/** A line of the story. */
interface Moment {
  /** Milliseconds since QEMU was started; null for Linux's log, which comes at the end. */
  readonly at: number | null;
  readonly who: Who;
  readonly what: string;
}

/** How the guest program begins a line of the kernel's log. */
const KERNEL = 'kernel: ';

/** What ends the demo, and with it QEMU. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const COLOURS = { Linux: 'magenta', guest: 'cyan', unit: 'blue' } as const;

/** `vpci demo --linux`. */
export async function demoLinux(given: Arguments, output: Output): Promise<number> {
  const parts = findLinux({
    qemu: given.text('qemu'),
    kernel: given.text('kernel'),
    headers: given.text('headers'),
  });
  const width = pasidWidth(given) ?? 16;
  const json = given.flag('json');
  if (!json) output.out(introduction(parts, width));
  const print = (moment: Moment): void => {
    output.out(json ? `${JSON.stringify(moment)}\n` : printMoment(moment, output.colour));
  };
  const run = await playUntilInterrupted(parts, width, print, output.closed);
  if (run === undefined) {
    if (output.closed.aborted) return EXIT_OK;
    throw new CliError(EXIT_NO, 'interrupted');
  }
  const { exitCode, console, stderr, milliseconds } = run;
  if (exitCode !== 0 || !/^end: /m.test(console)) {
    const said = [...console.trimEnd().split('\n').slice(-5), ...stderr.trimEnd().split('\n').slice(0, 5)];
    throw new CliError(EXIT_NO, `the guest did not come to its end\n${said.join('\n')}`);
  }
  const log = console.split('\n').filter((line) => line.startsWith(KERNEL));
  if (!json && log.length > 0) output.out('\nWhat Linux has in its log, in its order:\n');
  for (const line of log) print({ at: null, who: 'Linux', what: `says ${line.slice(KERNEL.length)}` });
  if (!json) output.out(`\nThe virtual machine ran for ${(milliseconds / 1000).toFixed(1)} s.\n`);
  return EXIT_OK;
}

function introduction({ qemu, qemuVersion, kernel, hasIommufd }: LinuxParts, width: number): string {
  return `An unmodified Linux drives a remapping unit of vpci

QEMU:    ${qemu} (${qemuVersion}), which has no IOMMU of its own here
Kernel:  ${kernel}${hasIommufd ? '' : '\n         without iommufd, so that nobody can attach a PASID: all of them are rejected'}
Unit:    00:03.0, Intel VT-d in scalable mode; the DMAR table puts its registers at 0x${hex(UNIT_ADDRESS)}
Device:  01:00.0, with a PASID capability of ${width} bits; it sends what the guest orders, past the unit

`;
}

/** Undefined when a signal ended it, or nobody reads the output any more. */
async function playUntilInterrupted(
  parts: LinuxParts,
  width: number,
  print: (moment: Moment) => void,
  closed: AbortSignal,
): Promise<LinuxRun | undefined> {
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  for (const name of SIGNALS) process.on(name, interrupt);
  closed.addEventListener('abort', interrupt);
  if (closed.aborted) interrupt();
  try {
    const run = await play(parts, width, print, interrupted.signal);
    return interrupted.signal.aborted ? undefined : run;
  } catch (error) {
    // The terminal interrupts the compiler too.
    if (interrupted.signal.aborted) return undefined;
    if (error instanceof VpciError) throw new CliError(EXIT_NO, `${error.message} (${error.code})`);
    throw error;
  } finally {
    for (const name of SIGNALS) process.off(name, interrupt);
    closed.removeEventListener('abort', interrupt);
  }
}

async function play(
  parts: LinuxParts,
  width: number,
  print: (moment: Moment) => void,
  signal: AbortSignal,
): Promise<LinuxRun> {
  const folder = mkdtempSync(join(tmpdir(), 'vpci-'));
  const service = new AbortController();
  try {
    const program = join(folder, 'init');
    await compileGuest(parts.headers, program);
    signal.throwIfAborted();
    const started = performance.now();
    const tell = (who: Who, what: string): void => print({ at: performance.now() - started, who, what });
    const unit = new RemappingUnit((memory) => new WatchedUnit({ memory }, (what) => tell('Linux', what)));
    const engine = new RequestEngine(unit, { pasidWidth: width });
    engine.function.on('pasid-control', ({ enable }) =>
      tell('Linux', `${enable ? 'sets' : 'clears'} PASID Enable of the device, which stays in vpci`),
    );
    engine.on('request', (result) => tell('unit', describeRequest(result)));
    const sockets = { unit: join(folder, 'unit.sock'), endpoint: join(folder, 'endpoint.sock') };
    await serveVfioUser({
      devices: [
        { socket: sockets.unit, device: unit.device },
        { socket: sockets.endpoint, device: engine.device },
      ],
      signal: service.signal,
    });
    return await runLinux({
      qemu: parts.qemu,
      kernel: parts.kernel,
      initramfs: guestFiles(program),
      dmar: dmarTable({
        units: [
          {
            registers: UNIT_ADDRESS,
            scopes: [
              {
                path: [
                  [2, 0],
                  [0, 0],
                ],
              },
            ],
          },
        ],
      }),
      unitSocket: sockets.unit,
      endpointSocket: sockets.endpoint,
      folder,
      mode: parts.hasIommufd ? 'base' : 'probe',
      signal,
      onLine: (line) => {
        if (!line.startsWith(KERNEL) && line.includes(': ')) tell('guest', line);
      },
    });
  } finally {
    service.abort();
    rmSync(folder, { recursive: true, force: true });
  }
}

function describeRequest({ order, outcome, verdict }: EngineResult): string {
  const { kind, pasid, address } = order;
  const request = `${kind} ${pasid === null ? 'without PASID' : `PASID 0x${hex(pasid)}`} at 0x${hex(address)}`;
  if (verdict === undefined) return `${request}: not sent, the device may not`;
  const code = 'code' in verdict && verdict.code !== undefined ? ` (${hex(verdict.code, 2)}h)` : '';
  const memory = outcome === 'no-memory' ? ', where there is no memory' : '';
  return `${request}: ${describeVerdict(verdict)}${code}${memory}`;
}

function printMoment({ at, who, what }: Moment, colour: boolean): string {
  const name = colour ? styleText(COLOURS[who], who.padEnd(5), { validateStream: false }) : who.padEnd(5);
  const text =
    colour && who === 'unit'
      ? styleText(what.includes('rejected') ? 'red' : 'green', what, { validateStream: false })
      : what;
  const time = at === null ? '' : `${(at / 1000).toFixed(2)} s`;
  return `${time.padStart(8)}  ${name}  ${text}\n`;
}
