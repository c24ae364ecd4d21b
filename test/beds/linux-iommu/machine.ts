// One boot of Linux with our remapping unit and our request engine, and everything that was said.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type DeviceScope, dmarTable } from 'vpci/acpi';
import {
  compileGuest,
  type EngineOptions,
  type EngineResult,
  guestFiles,
  type GuestMode,
  type LinuxRun,
  RemappingUnit,
  RequestEngine,
  runLinux,
  UNIT_ADDRESS,
} from 'vpci/linux-guest';
import { serveVfioUser, type Transport } from 'vpci/vfio-user';
import { type FaultEvent, type GuestMemory, VtdIommu, type VtdOptions } from 'vpci/vtd';
import { kernelImage } from '../host-kernel/kernel.ts';
import { kernelPath, qemuMissing, qemuProgram, scratchFolder } from '../qemu/qemu.ts';

/** Why the bed cannot run here; undefined when it can. */
export function whyNotHere(): string | undefined {
  const reason = qemuMissing();
  if (reason !== undefined) return reason;
  if (!existsSync(kernelImage())) return 'the kernel is not built; test/beds/kernel/build.sh builds it';
  try {
    execFileSync('cc', ['--version'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'no C compiler (cc) for the guest program';
  }
}

/** Which devices the unit is told to translate for. */
export type Scope = 'endpoint' | 'bridge' | 'all';

const SCOPES: Readonly<Record<Scope, readonly DeviceScope[] | undefined>> = {
  endpoint: [
    {
      path: [
        [2, 0],
        [0, 0],
      ],
    },
  ],
  bridge: [{ kind: 'bridge', path: [[2, 0]] }],
  all: undefined,
};

export interface BootOptions {
  readonly mode: GuestMode;
  /** A kernel of the cache; default: the one with iommufd. */
  readonly kernel?: string;
  readonly unit?: VtdOptions;
  readonly engine?: EngineOptions;
  readonly scope?: Scope;
  /** Linux may use ATS and page requests. */
  readonly atsr?: boolean;
  readonly intelIommu?: string;
  readonly transport?: Transport;
  /** Makes the unit; default: the model as it is. */
  readonly makeIommu?: (memory: GuestMemory, options: VtdOptions) => VtdIommu;
  /** Hears of the machine before it starts. */
  readonly onMachine?: (machine: Machine) => void;
}

/** What was built for one boot. */
export interface Machine {
  readonly unit: RemappingUnit;
  readonly engine: RequestEngine;
}

export interface Boot extends Machine {
  /** Lines of the guest program up to what the kernel said, without the first, which names the kernel. */
  readonly steps: readonly string[];
  readonly release: string;
  /** What the driver said. */
  readonly kernel: readonly string[];
  /** The faults among it. */
  readonly reported: readonly string[];
  readonly requests: readonly EngineResult[];
  /** Faults that the unit counted, those of requests that the bed sent included. */
  readonly faults: readonly FaultEvent[];
  /** Requests, invalidations and page requests in the order in which they came. */
  readonly log: readonly string[];
  /** What went wrong in the service. */
  readonly errors: readonly unknown[];
  readonly run: LinuxRun;
  /** How bytes got here. */
  readonly transport: Transport;
}

/** Boots, plays, and waits for the end. */
export async function boot(options: BootOptions): Promise<Boot> {
  using folder = scratchFolder();
  const { mode, kernel, scope = 'endpoint', atsr = false, intelIommu, transport } = options;
  const make = options.makeIommu ?? ((memory, rest) => new VtdIommu({ ...rest, memory }));
  const unit = new RemappingUnit((memory) => make(memory, options.unit ?? {}));
  const engine = new RequestEngine(unit, options.engine);
  const watched = watch({ unit, engine });
  options.onMachine?.({ unit, engine });
  const sockets = { unit: join(folder.path, 'unit'), endpoint: join(folder.path, 'endpoint') };
  const program = join(folder.path, 'init');
  await compileGuest(join(dirname(kernelImage()), 'include'), program);
  await using server = await serveVfioUser({
    devices: [
      { socket: sockets.unit, device: unit.device },
      { socket: sockets.endpoint, device: engine.device },
    ],
    transport,
    onError: (error) => watched.errors.push(error),
  });
  const scopes = SCOPES[scope];
  const run = await runLinux({
    qemu: qemuProgram(),
    kernel: kernel === undefined ? kernelImage() : kernelPath(kernel),
    initramfs: guestFiles(program),
    dmar: dmarTable({
      units: [{ registers: UNIT_ADDRESS, ...(scopes === undefined ? {} : { scopes }) }],
      ...(atsr ? { atsr: [{}] } : {}),
    }),
    unitSocket: sockets.unit,
    endpointSocket: sockets.endpoint,
    folder: folder.path,
    mode,
    ...(intelIommu === undefined ? {} : { intelIommu }),
    seconds: 120,
  });
  const lines = run.console.split('\n');
  if (!lines.includes(`end: of ${mode}`)) {
    throw new Error(
      `the guest did not finish (exit code ${run.exitCode}): ${run.stderr.slice(0, 2000)}\n${run.console.slice(-3000)}`,
    );
  }
  const first = lines.findIndex((line) => line.startsWith('Linux: '));
  const played = lines.slice(first, lines.indexOf(`end: of ${mode}`));
  const driver = played.filter((line) => line.startsWith(KERNEL)).map((line) => line.slice(KERNEL.length));
  return {
    unit,
    engine,
    ...watched,
    steps: played.slice(1).filter((line) => !line.startsWith(KERNEL)),
    release: (played[0] ?? '').slice('Linux: '.length),
    kernel: driver,
    reported: driver.filter((line) => line.includes('[fault reason')),
    run,
    transport: server.transport,
  };
}

const KERNEL = 'kernel: ';

interface Watched {
  readonly requests: EngineResult[];
  readonly faults: FaultEvent[];
  readonly log: string[];
  readonly errors: unknown[];
}

/** Writes down what happens in a machine. */
function watch({ unit, engine }: Machine): Watched {
  const watched: Watched = { requests: [], faults: [], log: [], errors: [] };
  const { requests, faults, log, errors } = watched;
  for (const device of [unit.device, engine.device]) {
    device.on('handler-error', (error) => errors.push(error));
    device.on('protocol-error', (error) => errors.push(error));
  }
  unit.iommu.on('fault', (fault) => faults.push(fault));
  unit.iommu.on('translation-invalidated', ({ pasid, iova, size }) =>
    log.push(`translation-invalidated ${pasidWord(pasid)} ${range(iova, size)}`),
  );
  unit.iommu.on('pasid-invalidated', ({ pasid }) =>
    log.push(`pasid-invalidated ${pasid === 'all' ? 'all' : pasidWord(pasid)}`),
  );
  engine.on('request', (result) => {
    requests.push(result);
    log.push(`${result.order.kind} ${pasidWord(result.order.pasid)} ${result.outcome}`);
  });
  engine.on('atc-invalidated', ({ pasid, address, size }) =>
    log.push(`atc-invalidated ${pasidWord(pasid)} ${range(address, size)}`),
  );
  engine.on('page-request', ({ pasid, prgi, address }) =>
    log.push(`page-request ${pasidWord(pasid)} ${prgi} 0x${address.toString(16)}`),
  );
  engine.on('page-response', ({ pasid, prgi, response }) =>
    log.push(`page-response ${pasidWord(pasid)} ${prgi} ${response}`),
  );
  return watched;
}

const pasidWord = (pasid: number | null): string => (pasid === null ? '-' : String(pasid));
const range = (start: bigint, size: bigint): string =>
  size === 1n << 64n ? 'whole' : `0x${start.toString(16)}+0x${size.toString(16)}`;

/** What Linux prints about a fault, but for its words for the reason: a fault record has the address of the page. */
export function reportOf({ pasid, access, address, code }: FaultEvent): string {
  const what = access === 'write' || access === 'atomic' ? 'Write' : 'Read';
  const who = pasid === null ? 'NO_PASID' : `PASID 0x${pasid.toString(16)}`;
  const reason = (code ?? 0).toString(16).padStart(2, '0');
  return `[DMA ${what} ${who}] fault addr 0x${(address & ~0xfffn).toString(16)} [fault reason 0x${reason}]`;
}

/** A report of Linux's, in the form of {@link reportOf}, and its words. */
export function readReport(line: string): { report: string; words: string } {
  const match = /^DMAR: (\[.*?\]) Request device \[(?:0000:)?01:00\.0\] (fault addr .*?\]) (.*)$/.exec(line);
  const [, head = line, tail = '', words = ''] = match ?? [];
  return { report: `${head} ${tail}`, words };
}

/** What of `reports` is not in `recorded`, in this order: nothing, when Linux reported what we recorded. */
export function unrecorded(reports: readonly string[], recorded: readonly string[]): string[] {
  let at = -1;
  return reports.filter((report) => {
    const next = recorded.indexOf(report, at + 1);
    if (next !== -1) at = next;
    return next === -1;
  });
}
