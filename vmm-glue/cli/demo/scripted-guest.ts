import { type ConfigSpace, parseBdf, type PciSegment } from '../../../src/index.ts';
import { walkCapabilities, walkExtendedCapabilities } from '../../../src/pci/capability-chain.ts';
import { EXT_CAP_PASID } from '../../../src/pci/capability-ids.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../../../src/pci/config-space.ts';
import { COMMAND, COMMAND_BUS_MASTER_ENABLE, VENDOR_ID } from '../../../src/pci/header.ts';
import * as pasid from '../../../src/pci/pasid.ts';
import type { Answer, Chains, Enabled, Found, Guest, Scan } from './guest.ts';

/** The guest's part as a script: it makes the loads and stores in the ECAM window that a guest would make. */
export class ScriptedGuest implements Guest {
  readonly kind = 'scripted';
  readonly about: string;
  readonly #segment: PciSegment;
  readonly #function: EcamFunction;

  /** The guest is after the function at `bdf`; `why`: why it is a script, for people. */
  constructor(segment: PciSegment, bdf: string, why: string) {
    this.about = `a script, which makes the accesses that a guest would make (${why})`;
    this.#segment = segment;
    this.#function = new EcamFunction(segment, parseBdf(bdf));
  }

  async scan(): Promise<Scan> {
    const answers: Answer[] = [];
    let asked = 0;
    for (let rid = 0; rid < this.#segment.ecamSize / EXTENDED_CONFIG_SPACE_SIZE; rid += 8) {
      const one = new EcamFunction(this.#segment, rid);
      asked++;
      if (one.read(VENDOR_ID, 2) !== 0xffff) answers.push({ rid, ids: one.read(VENDOR_ID, 4) });
    }
    return { asked, answers };
  }

  async walk(): Promise<Chains> {
    return walkChains(this.#function);
  }

  async find(): Promise<Found> {
    const offset = this.#findPasid();
    return { offset, capability: this.#function.read(offset + pasid.PASID_CAPABILITY, 2) };
  }

  async enable(): Promise<Enabled> {
    const { offset, capability } = await this.find();
    const command = this.#function.read(COMMAND, 2);
    this.#function.write(COMMAND, 2, command | COMMAND_BUS_MASTER_ENABLE);
    // The enables of Execute and Privileged have the bit positions of their Supported bits.
    const supported = pasid.PASID_EXECUTE_PERMISSION_SUPPORTED | pasid.PASID_PRIVILEGED_MODE_SUPPORTED;
    const written = pasid.PASID_ENABLE | (capability & supported);
    this.#function.write(offset + pasid.PASID_CONTROL, 2, written);
    return { written, readBack: await this.readControl() };
  }

  async readControl(): Promise<number> {
    return this.#function.read(this.#findPasid() + pasid.PASID_CONTROL, 2);
  }

  async close(): Promise<void> {}

  #findPasid(): number {
    const found = walkChains(this.#function).extended.find(({ id }) => id === EXT_CAP_PASID);
    if (found === undefined) throw new Error('the guest finds no PASID capability in its chain');
    return found.offset;
  }
}

/** Configuration space of one function as a guest reaches it: loads and stores in the ECAM window. */
class EcamFunction implements ConfigSpace {
  readonly size: number = EXTENDED_CONFIG_SPACE_SIZE;
  readonly #segment: PciSegment;
  readonly #base: number;

  constructor(segment: PciSegment, rid: number) {
    this.#segment = segment;
    this.#base = segment.ecamAddress(rid);
  }

  read(offset: number, size: number): number {
    return this.#segment.ecamRead(this.#base + offset, size);
  }

  write(offset: number, size: number, value: number): void {
    this.#segment.ecamWrite(this.#base + offset, size, value);
  }
}

/** Both capability chains of a function, as found by following their links. */
export function walkChains(space: ConfigSpace): Chains {
  const standard = walkCapabilities(space);
  return {
    standard: standard.capabilities,
    extended: walkExtendedCapabilities(space, standard).capabilities,
  };
}
