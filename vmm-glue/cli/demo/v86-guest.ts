import { parseBdf, type PciSegment } from '../../../src/index.ts';
import {
  type AccessListener,
  attachToV86,
  BareMetalGuest,
  type V86Constructor,
  type V86Like,
} from '../../v86/index.ts';
import type { Chains, Enabled, Found, Guest, Met, Scan } from './guest.ts';
import * as program from './guest-program.ts';

/** The npm package v86, however it was loaded. */
export interface V86Package {
  readonly V86: V86Constructor<V86Like>;
  /** Path or URL of its `build/v86.wasm`. */
  readonly wasmPath: string;
}

/** The guest's part as x86 machine code, run by v86: each access is an instruction of the guest's. */
export class V86Guest implements Guest {
  readonly kind = 'v86';
  readonly about = 'x86 machine code on the bare metal of an emulated PC, run by v86';
  readonly #machine: BareMetalGuest;
  readonly #ecamBase: number;

  private constructor(machine: BareMetalGuest, ecamBase: number) {
    this.#machine = machine;
    this.#ecamBase = ecamBase;
  }

  /**
   * Starts v86 with `segment` behind it; the guest is after the function at `bdf`.
   *
   * @throws VpciError `VPCI_BAD_ARGUMENT` when this version of v86 does not fit.
   */
  static async load(
    { V86, wasmPath }: V86Package,
    segment: PciSegment,
    bdf: string,
    onAccess?: AccessListener,
  ): Promise<V86Guest> {
    const { ecamBase, ecamSize } = segment;
    const image = program.guestImage(ecamBase, ecamSize, segment.ecamAddress(parseBdf(bdf)));
    const machine = await BareMetalGuest.load(V86, { image, wasmPath });
    attachToV86(machine.emulator, segment, { onAccess });
    return new V86Guest(machine, ecamBase);
  }

  async scan(): Promise<Scan> {
    const [asked = 0, ...found] = await this.#part(program.SCANNED);
    const answers = pairs(found).map(([address, ids]) => ({ rid: (address - this.#ecamBase) >>> 12, ids }));
    return { asked, answers };
  }

  async walk(): Promise<Chains> {
    const met = pairs(await this.#part(program.WALKED));
    const between = met.findIndex(([offset]) => offset === 0);
    return {
      standard: chain(met.slice(0, between), 0xff),
      extended: chain(met.slice(between + 1), 0xffff),
    };
  }

  async find(): Promise<Found> {
    const [offset = 0, capability = 0] = await this.#part(program.FOUND);
    return { offset, capability };
  }

  async enable(): Promise<Enabled> {
    const [written = 0, readBack = 0] = await this.#part(program.ENABLED);
    return { written, readBack };
  }

  async readControl(): Promise<number> {
    const [control = 0] = await this.#part(program.CONTROL_READ);
    return control;
  }

  async close(): Promise<void> {
    await this.#machine.close();
  }

  /** Lets the guest do its next part, and fetches the results. */
  async #part(bell: number): Promise<number[]> {
    const rung = await this.#machine.run();
    if (rung !== bell) throw new Error(`the guest rang ${rung} where ${bell} was expected`);
    const [count = 0] = this.#machine.readWords(program.RESULT_COUNT, 1);
    return [...this.#machine.readWords(program.RESULTS, count)];
  }
}

function chain(met: readonly (readonly [offset: number, header: number])[], mask: number): Met[] {
  // All zeroes stand for an empty chain.
  return met.filter(([, header]) => header !== 0).map(([offset, header]) => ({ offset, id: header & mask }));
}

function pairs(words: readonly number[]): (readonly [number, number])[] {
  return Array.from(
    { length: words.length >>> 1 },
    (_, i) => [words[2 * i] ?? 0, words[2 * i + 1] ?? 0] as const,
  );
}
