import type { LayoutBuilder } from '../../config/index.ts';
import { hex } from '../../pci/bdf.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { Finding } from '../../pci/finding.ts';
import type { FunctionHooks } from '../function-hooks.ts';

/** Where a structure stands in the guest's view. */
export interface Place {
  /** Config-space offset of its header, in bytes. */
  readonly offset: number;
  /** Bytes it occupies, header included. */
  readonly length: number;
}

/** What a capability file needs to write its rules down. */
export interface RulesContext {
  readonly builder: LayoutBuilder<FunctionHooks>;
  /** The registers as they were at power-on: the physical function's, or an emulated one's. */
  readonly image: ConfigSpace;
  /** Registers without a rule of their own are read from the physical function; else from the image. */
  readonly physical: boolean;
  /** What is shown otherwise than the registers have it goes here. */
  readonly findings: Finding[];
}

/**
 * Write rules of one kind of capability, on top of "reads as it is, writes are dropped". A rule that would
 * reach past `place.length` must be left out: a clipped structure is not to be trusted.
 */
export type CapabilityRules = (context: RulesContext, place: Place) => void;

/** True when the `size`-byte register at `register` (from the structure's start) is inside the structure. */
export function holds(place: Place, register: number, size: number): boolean {
  return register + size <= place.length;
}

/** Bytes [`start`, `end`) read as they are and drop writes. */
export function readAsIs({ builder, image, physical }: RulesContext, start: number, end: number): void {
  if (physical) builder.physical(start, end);
  else
    for (let offset = start; offset < end; offset++)
      builder.register(offset, 1, { value: image.read(offset, 1) });
}

/** The finding for state of the host's own interrupts in the `length` bytes at `offset`, which no guest is to see. */
export function interruptState(offset: number, length: number, what: string): Finding {
  const message = `${what} at 0x${hex(offset, 2)} reads 0: what waits there is the host's interrupt`;
  return { code: 'interrupt-state', offset, length, message };
}
