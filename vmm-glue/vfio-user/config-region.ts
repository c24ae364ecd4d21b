import type { PciFunction, PlannedCapability } from '../../src/index.ts';
import { CAP_MSI_X } from '../../src/pci/capability-ids.ts';
import { CAPABILITIES_POINTER, INTERRUPT_PIN } from '../../src/pci/header.ts';
import type { Region } from './regions.ts';

/** The configuration space of `fn`, all of it. */
export class ConfigRegion implements Region {
  readonly #function: PciFunction;

  constructor(fn: PciFunction) {
    this.#function = fn;
  }

  get size(): number {
    return this.#function.size;
  }

  read(offset: number, size: number): number {
    return this.#function.read(offset, size);
  }

  write(offset: number, size: number, value: number): void {
    this.#function.write(offset, size, value);
  }

  readInto(offset: number, bytes: Uint8Array): void {
    this.#function.readInto(offset, bytes);
  }

  writeFrom(offset: number, bytes: Uint8Array): void {
    this.#function.writeFrom(offset, bytes);
  }
}

/**
 * The configuration space of `fn` without the interrupts that need descriptors: Interrupt Pin reads 0, and the MSI-X
 * Capability is not in the chain. MSI stays: its messages can be delivered by DMA.
 */
export class DescriptorlessConfigRegion implements Region {
  readonly #function: PciFunction;
  /** What bytes read instead of what they hold; writes to them vanish. */
  readonly #instead: ReadonlyMap<number, number>;

  constructor(fn: PciFunction) {
    this.#function = fn;
    this.#instead = replacedBytes(fn.capabilities);
  }

  get size(): number {
    return this.#function.size;
  }

  read(offset: number, size: number): number {
    let value = this.#function.read(offset, size);
    for (let i = 0; i < size; i++) {
      const byte = this.#instead.get(offset + i);
      if (byte !== undefined) value = (value & ~(0xff << (8 * i))) | (byte << (8 * i));
    }
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    if (!this.#touches(offset, size)) return this.#function.write(offset, size, value);
    for (let i = 0; i < size; i++) {
      if (!this.#instead.has(offset + i)) this.#function.write(offset + i, 1, (value >>> (8 * i)) & 0xff);
    }
  }

  readInto(offset: number, bytes: Uint8Array): void {
    this.#function.readInto(offset, bytes);
    for (const [at, byte] of this.#instead) {
      if (at >= offset && at < offset + bytes.length) bytes[at - offset] = byte;
    }
  }

  writeFrom(offset: number, bytes: Uint8Array): void {
    if (!this.#touches(offset, bytes.length)) return this.#function.writeFrom(offset, bytes);
    for (const [i, byte] of bytes.entries()) this.write(offset + i, 1, byte);
  }

  #touches(offset: number, length: number): boolean {
    for (const at of this.#instead.keys()) if (at >= offset && at < offset + length) return true;
    return false;
  }
}

function replacedBytes(chain: readonly PlannedCapability[]): ReadonlyMap<number, number> {
  const replaced = new Map([[INTERRUPT_PIN, 0]]);
  for (const [i, { id, offset, length }] of chain.entries()) {
    if (id !== CAP_MSI_X) continue;
    const before = chain[i - 1];
    for (let at = offset; at < offset + length; at++) replaced.set(at, 0);
    const link = before === undefined ? CAPABILITIES_POINTER : before.offset + 1;
    replaced.set(link, chain[i + 1]?.offset ?? 0);
  }
  return replaced;
}
