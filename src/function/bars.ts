import type { ConfigSpace } from '../pci/config-space.ts';
import * as reg from '../pci/header.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { RulesContext } from './capabilities/index.ts';
import { onBarWrite } from './header-hooks.ts';

/** What a BAR decodes: 32-bit memory, 64-bit memory (it takes two registers), or I/O ports. */
export type BarKind = 'memory32' | 'memory64' | 'io';

/** A Base Address Register of a function (PCIe 7.5.1.2.1). */
export interface BarOptions {
  /** 0..5; a 64-bit BAR takes `index + 1` too. */
  readonly index: number;
  /**
   * Bytes, a power of two: 16 to 2^31 (memory32) or 2^52 (memory64), 4 to 256 (io). A memory32 BAR does not decode at
   * the last place below 4 GiB, which reads like the answer of the sizing protocol, unless it has 2^31 bytes.
   */
  readonly size: number;
  /** Default: as the physical register says; `memory32` for an emulated function. */
  readonly kind?: BarKind | undefined;
  /** Reads have no side effects. Default: as the physical register says; false for an emulated function. */
  readonly prefetchable?: boolean | undefined;
  /**
   * What the device answers at `offset` (bytes from the BAR's start); `size` is 1, 2 or 4. Default: all-ones. Neither
   * this nor `write` may throw: what they throw comes out of the access.
   */
  readonly read?: ((offset: number, size: number) => number) | undefined;
  /** What the device does with a write. Default: nothing. */
  readonly write?: ((offset: number, size: number, value: number) => void) | undefined;
}

/** Index by which events and handlers name the expansion ROM. */
export const ROM_BAR = 6;

/** A BAR with its defaults filled in. */
export interface Bar extends BarOptions {
  readonly kind: BarKind;
  readonly prefetchable: boolean;
}

/** Smallest and largest size, in bytes, by kind. */
const LIMITS: Readonly<Record<BarKind, readonly [smallest: number, largest: number]>> = {
  memory32: [16, 2 ** 31],
  memory64: [16, 2 ** 52],
  io: [4, 256],
};
const ROM_LIMITS = [2048, 2 ** 24] as const;

/**
 * The BARs that `options` describe, the ROM last, checked and completed from the registers in `image`.
 *
 * @throws VpciError `VPCI_BAR` for sizes, kinds and indices that no header can have.
 */
export function completeBars(
  options: readonly BarOptions[],
  rom: number | undefined,
  image: ConfigSpace,
): readonly Bar[] {
  const taken = new Set<number>();
  const bars = options.map((bar): Bar => {
    checkIndex(bar.index, 5, '');
    const register = image.read(reg.BASE_ADDRESS_0 + 4 * bar.index, 4);
    const kind = bar.kind ?? kindOf(register);
    const prefetchable =
      bar.prefetchable ?? (kind !== 'io' && (register & reg.BAR_MEMORY_PREFETCHABLE) !== 0);
    checkBar(bar.index, bar.size, kind);
    for (const index of kind === 'memory64' ? [bar.index, bar.index + 1] : [bar.index]) {
      if (taken.has(index)) throw refused(`BAR ${index} is described twice (a 64-bit BAR takes two)`);
      taken.add(index);
    }
    return { ...bar, kind, prefetchable };
  });
  if (rom === undefined) return bars;
  checkSize(rom, ROM_LIMITS, 'the expansion ROM');
  return [...bars, { index: ROM_BAR, size: rom, kind: 'memory32', prefetchable: false }];
}

function kindOf(register: number): BarKind {
  if ((register & reg.BAR_IO_SPACE) !== 0) return 'io';
  return (register & reg.BAR_MEMORY_TYPE_64) === 0 ? 'memory32' : 'memory64';
}

function checkBar(index: number, size: number, kind: BarKind): void {
  if (kind === 'memory64') checkIndex(index, 4, ' of a memory64 BAR');
  checkSize(size, LIMITS[kind], `BAR ${index} (${kind})`);
}

function checkIndex(index: number, last: number, which: string): void {
  if (Number.isInteger(index) && index >= 0 && index <= last) return;
  throw refused(`BAR index ${index}${which}: it is 0 to ${last}`);
}

function checkSize(size: number, [smallest, largest]: readonly [number, number], what: string): void {
  if (Number.isInteger(Math.log2(size)) && size >= smallest && size <= largest) return;
  throw refused(`${what} has ${size} bytes: give a power of two from ${smallest} to 2^${Math.log2(largest)}`);
}

function refused(why: string): VpciError {
  return new VpciError('VPCI_BAR', why);
}

/** Config-space offset of the register of BAR `index`. */
export function barOffset(index: number): number {
  return index === ROM_BAR ? reg.EXPANSION_ROM_BASE_ADDRESS : reg.BASE_ADDRESS_0 + 4 * index;
}

/**
 * The BAR registers: address bits above the size latch, the rest is fixed, and so the sizing protocol works. What is
 * not in `bars` is not there, unless `keepsOthers`: then it reads as it is.
 */
export function defineBars(
  { builder, image }: RulesContext,
  bars: readonly Bar[],
  keepsOthers: boolean,
): void {
  if (!keepsOthers) {
    for (let index = 0; index <= ROM_BAR; index++) builder.register(barOffset(index), 4, {});
  }
  for (const { index, size, kind, prefetchable } of bars) {
    const register = barOffset(index);
    const rw = addressMask(size);
    const type = typeBits(index, kind, prefetchable);
    const enable = index === ROM_BAR ? reg.EXPANSION_ROM_ENABLE : 0;
    const value = (image.read(register, 4) & (rw | enable)) | type;
    builder.register(register, 4, { value, rw: rw | enable, reset: type, onWrite: onBarWrite });
    if (kind !== 'memory64') continue;
    const high = addressMask(size / 2 ** 32);
    builder.register(register + 4, 4, {
      value: image.read(register + 4, 4) & high,
      rw: high,
      onWrite: onBarWrite,
    });
  }
}

/** Address bits of a 32-bit half whose part of the BAR's size is `size`. */
function addressMask(size: number): number {
  if (size <= 1) return 0xffffffff;
  return size >= 2 ** 32 ? 0 : (2 ** 32 - size) >>> 0;
}

function typeBits(index: number, kind: BarKind, prefetchable: boolean): number {
  if (index === ROM_BAR) return 0;
  if (kind === 'io') return reg.BAR_IO_SPACE;
  return (
    (kind === 'memory64' ? reg.BAR_MEMORY_TYPE_64 : 0) | (prefetchable ? reg.BAR_MEMORY_PREFETCHABLE : 0)
  );
}
