import { createFunction, formatBdf, type PciFunction, PciSegment, VpciError } from '../../../src/index.ts';
import type { DumpedFunction } from '../../../src/inspect/index.ts';
import { hex } from '../../../src/pci/bdf.ts';
import { capabilityName, extendedCapabilityName } from '../../../src/pci/capability-ids.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../../../src/pci/config-space.ts';
import * as pasidRegisters from '../../../src/pci/pasid.ts';
import {
  type AccessKind,
  type MemoryRequest,
  TableIommu,
  type Verdict,
} from '../../../src/viommu/table/index.ts';
import { CliError, EXIT_NO } from '../exit-code.ts';
import type { Guest, GuestKind, Met } from './guest.ts';
import { askHost, type HostAnswer } from './host.ts';
import { PhysicalFunction } from './physical-function.ts';

/** Whose turn it is. */
export type Actor = 'host' | 'VMM' | 'guest' | 'device';

/** One step of the story. */
export interface Step {
  readonly who: Actor;
  /** What they did: the rest of a sentence that begins with `who`. */
  readonly did: string;
  /** What came of it, a fact a line. */
  readonly result: string;
  /** Writes that reached the physical function meanwhile. */
  readonly physicalWrites: number;
}

/** One memory request of the device, and what the vIOMMU said. */
export interface Decided {
  readonly pasid: number;
  readonly address: bigint;
  readonly access: AccessKind;
  /** Bytes. */
  readonly size: number;
  readonly verdict: Verdict;
  /** The check that failed, and where it is written down; undefined when the request was accepted. */
  readonly failedCheck?: string;
}

/** The whole story, as it happened. */
export interface Story {
  readonly function: { readonly bdf: string; readonly title: string };
  /** Who played the guest. */
  readonly guest: { readonly kind: GuestKind; readonly about: string };
  /** Where the guest has the function. */
  readonly guestBdf: string;
  readonly host: HostAnswer;
  readonly steps: readonly Step[];
  readonly requests: readonly Decided[];
  /** Writes that reached the physical function in all. */
  readonly physicalWrites: number;
}

/** Where the guest gets the function: function 0 of a device, where every guest looks. */
const GUEST_BDF = '01:00.0';
const ECAM_BASE = 0xb0000000;
const UNIT_WIDTH = 20;
const PAGE = 0x1000n;
const DATA = { iova: 0x40000000n, gpa: 0x70000000n, size: PAGE, permissions: 'rw' };
const READ_ONLY = { iova: 0x40001000n, gpa: 0x90000000n, size: PAGE, permissions: 'r' };

/** What the story needs besides a dump. */
export interface Telling {
  /** Width that the host is taken to say, in bits; undefined: what the dump says. */
  readonly width: number | undefined;
  /** Puts a guest before the segment; it is after the function at the address. */
  boot(segment: PciSegment, bdf: string): Promise<Guest>;
  /** Hears of each step as it happens; the story waits for it. */
  onStep?(step: Step): Promise<void>;
  /** Hears of each request of the device's, before the step that tells of it. */
  onRequest?(request: Decided): void;
}

/**
 * Plays the story with the function of a dump, and writes down what happens.
 *
 * @throws CliError with exit code 1 when the function cannot show a PASID capability.
 */
export async function tellStory(dumped: DumpedFunction, telling: Telling): Promise<Story> {
  const stage = new Stage(dumped, telling);
  await stage.askHost();
  await stage.makeFunction();
  await stage.boot();
  try {
    await stage.scan();
    await stage.find();
    await stage.enable();
    await stage.request(
      'tries at once, before anybody has configured the vIOMMU',
      stage.pasid,
      DATA.iova,
      'read',
    );
    await stage.configure();
    await stage.request('tries again', stage.pasid, DATA.iova, 'read');
    await stage.request('', stage.pasid, DATA.iova + 0x40n, 'write');
    await stage.request('uses a PASID that nobody attached', stage.pasid - 1, DATA.iova, 'read');
    await stage.beyondWidth();
    await stage.request('writes where the PASID may only read', stage.pasid, READ_ONLY.iova, 'write');
    await stage.detach();
    await stage.request('tries once more', stage.pasid, DATA.iova, 'read');
    await stage.reset();
    return stage.story();
  } finally {
    await stage.end();
  }
}

class Stage {
  /** The PASID that the story is about. */
  readonly pasid: number;

  readonly #dumped: DumpedFunction;
  readonly #host: HostAnswer;
  readonly #physical: PhysicalFunction;
  readonly #fn: PciFunction;
  readonly #iommu = new TableIommu({ pasidWidth: UNIT_WIDTH });
  readonly #segment = new PciSegment({ ecamBase: ECAM_BASE, iommu: this.#iommu });
  readonly #steps: Step[] = [];
  readonly #requests: Decided[] = [];
  readonly #telling: Telling;
  #guest: Guest | undefined;
  #noted = 0;

  constructor(dumped: DumpedFunction, telling: Telling) {
    this.#dumped = dumped;
    this.#telling = telling;
    this.#host = askHost(dumped.bytes, telling.width);
    this.#physical = new PhysicalFunction(dumped.bytes.slice());
    this.#fn = createOrRefuse(dumped, this.#physical, this.#host);
    this.#segment.add(GUEST_BDF, this.#fn);
    this.pasid = Math.min(5, 2 ** this.#host.feature.width - 1);
  }

  story(): Story {
    const { bdf, title } = this.#dumped;
    return {
      function: { bdf, title },
      guest: { kind: this.#player.kind, about: this.#player.about },
      guestBdf: GUEST_BDF,
      host: this.#host,
      steps: this.#steps,
      requests: this.#requests,
      physicalWrites: this.#physical.writes,
    };
  }

  async askHost(): Promise<void> {
    const { feature, source } = this.#host;
    await this.#note(
      'host',
      'is asked which PASIDs the device and its IOMMU carry (here the dump stands in for it)',
      [
        `PASID width ${feature.width} bits; execute permission ${enabled(feature.execute)}; privileged mode ${enabled(feature.privileged)}`,
        source,
      ],
    );
  }

  async makeFunction(): Promise<void> {
    const fn = this.#fn;
    const { offset = 0, width = 0 } = fn.pasid ?? {};
    const unclaimed = fn.findings.filter(({ code }) => code === 'unclaimed-bytes').length;
    await this.#note(
      'VMM',
      `makes the guest's function from the physical one and puts it at ${GUEST_BDF}, behind a vIOMMU`,
      [
        `PASID capability of ${width} bits at 0x${hex(offset, 3)}: ${this.#whyThere(offset)}`,
        ...fn.findings.filter(({ code }) => code !== 'unclaimed-bytes').map(({ message }) => message),
        ...(unclaimed === 0
          ? []
          : [
              `unclaimed bytes in ${unclaimed === 1 ? 'one place' : `${unclaimed} places`} read 0 and take no writes`,
            ]),
      ],
    );
  }

  async boot(): Promise<void> {
    this.#guest = await this.#telling.boot(this.#segment, GUEST_BDF);
  }

  async scan(): Promise<void> {
    const { asked, answers } = await this.#player.scan();
    const isOurs = ({ rid }: { rid: number }): boolean => this.#segment.function(rid) !== undefined;
    const list = answers
      .filter(isOurs)
      .map(({ rid, ids }) => `${formatBdf(rid)}: ${hex(ids & 0xffff, 4)}:${hex(ids >>> 16, 4)}`);
    const others = answers.filter((one) => !isOurs(one)).map(({ rid }) => formatBdf(rid));
    await this.#note('guest', 'looks for devices: reads the vendor ID of each, through the ECAM window', [
      `${asked} are asked; somebody answers at ${list.join(', ')}`,
      ...(others.length === 0 ? [] : [`the machine's own functions answer at ${others.join(', ')}`]),
    ]);
    const { standard, extended } = await this.#player.walk();
    await this.#note('guest', 'walks the two chains of capabilities', [
      `standard: ${describeChain(standard, capabilityName)}`,
      `extended: ${describeChain(extended, extendedCapabilityName)}`,
    ]);
  }

  async find(): Promise<void> {
    const { offset, capability } = await this.#player.find();
    const width = (capability & pasidRegisters.PASID_MAX_WIDTH) >>> pasidRegisters.PASID_MAX_WIDTH_SHIFT;
    const execute = capability & pasidRegisters.PASID_EXECUTE_PERMISSION_SUPPORTED;
    const privileged = capability & pasidRegisters.PASID_PRIVILEGED_MODE_SUPPORTED;
    await this.#note(
      'guest',
      `reads the PASID Capability register at 0x${hex(offset + pasidRegisters.PASID_CAPABILITY, 3)}`,
      [`Max PASID Width ${width}, Exec${execute === 0 ? '-' : '+'} Priv${privileged === 0 ? '-' : '+'}`],
    );
  }

  async enable(): Promise<void> {
    const { written, readBack } = await this.#player.enable();
    await this.#note(
      'guest',
      `sets Bus Master Enable, and PASID Enable by writing 0x${hex(written, 4)} to PASID Control`,
      [`PASID Control reads back 0x${hex(readBack, 4)}: ${this.#describeLatch()}`],
    );
  }

  async configure(): Promise<void> {
    this.#iommu.attach(this.#fn, this.pasid);
    for (const mapping of [DATA, READ_ONLY]) this.#iommu.map(this.#fn, this.pasid, mapping);
    await this.#note(
      'VMM',
      `configures the vIOMMU: attaches ${named(this.pasid)} and maps two pages for it`,
      [DATA, READ_ONLY].map(
        ({ iova, gpa, permissions }) => `0x${hex(iova)} -> guest memory 0x${hex(gpa)}, ${permissions}`,
      ),
    );
  }

  async beyondWidth(): Promise<void> {
    const { width = 0 } = this.#fn.pasid ?? {};
    // A request carries 20 bits of PASID: nothing is beyond a width of 20.
    if (width < pasidRegisters.PASID_WIDTH_LIMIT)
      await this.request(`uses a PASID that does not fit ${width} bits`, 2 ** width, DATA.iova, 'read');
  }

  async detach(): Promise<void> {
    this.#iommu.detach(this.#fn, this.pasid);
    await this.#note('VMM', `detaches ${named(this.pasid)}, as when its process ends`, [
      `no translation of ${named(this.pasid)} is left`,
    ]);
  }

  async reset(): Promise<void> {
    this.#fn.reset('flr');
    const control = await this.#player.readControl();
    await this.#note('VMM', 'resets the function (Function Level Reset)', [
      `PASID Control reads 0x${hex(control, 4)}: ${this.#describeLatch()}`,
    ]);
  }

  async request(intent: string, pasid: number, address: bigint, access: AccessKind): Promise<void> {
    const request: MemoryRequest = { endpoint: this.#fn, pasid, address, access, size: 64 };
    const verdict = this.#iommu.request(request);
    const failed = this.#iommu.explain(request).steps.find(({ ok }) => !ok);
    const failedCheck =
      failed === undefined ? undefined : `${failed.check ?? failed.structure} (${failed.spec})`;
    const decided: Decided = {
      pasid,
      address,
      access,
      size: 64,
      verdict,
      ...(failedCheck === undefined ? {} : { failedCheck }),
    };
    this.#requests.push(decided);
    this.#telling.onRequest?.(decided);
    const what = `${access}s 64 bytes at 0x${hex(address)} with ${named(pasid)}`;
    await this.#note('device', intent === '' ? what : `${intent}: ${what}`, [
      describeVerdict(verdict),
      ...(failedCheck === undefined ? [] : [`the check that failed: ${failedCheck}`]),
    ]);
  }

  async end(): Promise<void> {
    await this.#guest?.close();
  }

  get #player(): Guest {
    if (this.#guest === undefined) throw new Error('the guest has not been booted');
    return this.#guest;
  }

  async #note(who: Actor, did: string, result: readonly string[]): Promise<void> {
    const physicalWrites = this.#physical.writes - this.#noted;
    this.#noted = this.#physical.writes;
    const step = { who, did, result: result.join('\n'), physicalWrites };
    this.#steps.push(step);
    await this.#telling.onStep?.(step);
  }

  #describeLatch(): string {
    const latched = this.#fn.endpointState.pasidEnable
      ? 'vpci keeps the bits'
      : 'nothing is enabled any more';
    const may = this.#fn.canIssue(this.pasid) ? 'may' : 'may not';
    return `${latched}, and the device ${may} send PASIDs`;
  }

  #whyThere(offset: number): string {
    if (this.#fn.findings.some((one) => one.code === 'capability-replaced' && one.offset === offset))
      return "in place of the device's own";
    if (offset === EXTENDED_CONFIG_SPACE_SIZE - pasidRegisters.PASID_LENGTH)
      return 'the last 8 bytes of config space, which no capability covers';
    const others = this.#fn.extendedCapabilities.filter((one) => one.offset !== offset);
    if (others.length === 0) return 'the first of the chain, which has no other';
    return others.every((one) => one.offset < offset)
      ? 'the first free bytes after the last capability'
      : 'the lowest gap between the capabilities';
  }
}

function createOrRefuse(dumped: DumpedFunction, physical: PhysicalFunction, host: HostAnswer): PciFunction {
  try {
    const fn = createFunction({ physical, pasid: host.feature });
    if (!fn.findings.some(({ code }) => code === 'vf-without-ids')) return fn;
  } catch (error) {
    if (error instanceof VpciError)
      throw new CliError(EXIT_NO, `${dumped.bdf}: ${error.message} (${error.code})`);
    throw error;
  }
  throw new CliError(
    EXIT_NO,
    `${dumped.bdf}: this is a virtual function whose own IDs read ffff, so no guest would find it; "vpci view --id VVVV:DDDD" shows it with IDs`,
  );
}

function named(pasid: number): string {
  return `PASID 0x${hex(pasid)}`;
}

function enabled(flag: boolean): string {
  return flag ? 'enabled' : 'not enabled';
}

function describeChain(chain: readonly Met[], nameOf: (id: number) => string | undefined): string {
  const names = chain.map(
    ({ id, offset }) => `${nameOf(id) ?? `unknown ID 0x${hex(id, 2)}`} (0x${hex(offset, 2)})`,
  );
  return names.join(' -> ') || 'none';
}

/** A verdict in one line. */
export function describeVerdict(verdict: Verdict): string {
  if ('reason' in verdict) return `rejected, ${verdict.status}: ${verdict.reason ?? ''}`;
  return 'address' in verdict ? `accepted: guest memory at 0x${hex(verdict.address ?? 0n)}` : verdict.status;
}
