import { completeBars } from './bars.ts';
import { emulatedImage } from './blocks/index.ts';
import { readFunctionImage } from './function-image.ts';
import {
  checkCommonOptions,
  checkId,
  checkPassthroughRanges,
  type EmulatedOptions,
  type FunctionOptions,
  isPassthrough,
  type PassthroughOptions,
  toConfigSpace,
} from './function-options.ts';
import { checkMsiX } from './interrupts/msi-x.ts';
import { PciFunction } from './pci-function.ts';

/**
 * Makes a guest-visible function: of a real one (`{ physical, pasid, ... }`) or of nothing
 * (`{ vendorId, deviceId, classCode, ... }`).
 *
 * @throws VpciError when the options contradict each other, or PASID is asked for and cannot be shown
 * (`VPCI_PASID_REFUSED`, `VPCI_PASID_OFFSET`, `VPCI_CAPABILITY_COLLISION`, `VPCI_NO_SPACE`, `VPCI_PASID_WIDTH`).
 * Register values of the physical function, however broken, never make it throw.
 */
export function createFunction(options: FunctionOptions): PciFunction {
  checkCommonOptions(options);
  return isPassthrough(options) ? passThrough(options) : emulate(options);
}

function passThrough(options: PassthroughOptions): PciFunction {
  const { passthroughRanges = [], vendorId, deviceId } = options;
  if (vendorId !== undefined) checkId(vendorId, 16, 'vendorId');
  if (deviceId !== undefined) checkId(deviceId, 16, 'deviceId');
  const physical = toConfigSpace(options.physical);
  const image = readFunctionImage(physical, true, options.rawConfig);
  checkPassthroughRanges(passthroughRanges, physical.size, image.physicalPasids);
  const { bars, rom, commandOnes = 0 } = options;
  return new PciFunction({
    ...options,
    physical,
    image,
    passthroughRanges,
    header: { vendorId, deviceId, commandOnes },
    bars: completeBars(bars ?? [], rom, image.space),
    keepsBars: bars === undefined,
    writable: [],
  });
}

function emulate(options: EmulatedOptions): PciFunction {
  const { space, writable } = emulatedImage(options);
  const image = readFunctionImage(space, false, undefined);
  const bars = completeBars(options.bars ?? [], options.rom, image.space);
  checkMsiX(image, bars);
  return new PciFunction({
    ...options,
    physical: undefined,
    image,
    passthroughRanges: [],
    header: { vendorId: undefined, deviceId: undefined, commandOnes: options.commandOnes ?? 0 },
    bars,
    keepsBars: false,
    writable,
  });
}
