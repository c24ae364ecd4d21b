import { hex } from '../pci/bdf.ts';
import { capabilitiesPointerOffset } from '../pci/capability-chain.ts';
import type { Finding } from '../pci/finding.ts';
import * as reg from '../pci/header.ts';
import { type Bar, defineBars } from './bars.ts';
import { interruptState, type RulesContext, readAsIs } from './capabilities/index.ts';
import type { FunctionImage } from './function-image.ts';
import type { ByteRange } from './guest-plan.ts';
import { onCommandWrite } from './header-hooks.ts';
import { definePortHeader } from './port/port-header.ts';

/** What the embedder says about the header. */
export interface HeaderOptions {
  /** Vendor and Device ID for a VF, whose own read FFFFh. */
  readonly vendorId: number | undefined;
  readonly deviceId: number | undefined;
  /** Command bits that read 1 whatever is written. */
  readonly commandOnes: number;
}

/** What {@link defineHeader} goes by. */
export interface HeaderRequest {
  readonly image: FunctionImage;
  readonly header: HeaderOptions;
  readonly bars: readonly Bar[];
  /** BARs that are not in `bars` read as the image has them. */
  readonly keepsBars: boolean;
}

/** Command bits that a guest may set (PCIe 7.5.1.1.3); the others read as they are. */
const COMMAND_RW =
  reg.COMMAND_IO_SPACE_ENABLE |
  reg.COMMAND_MEMORY_SPACE_ENABLE |
  reg.COMMAND_BUS_MASTER_ENABLE |
  reg.COMMAND_PARITY_ERROR_RESPONSE |
  reg.COMMAND_SERR_ENABLE |
  reg.COMMAND_INTERRUPT_DISABLE;

/** First byte after the registers that a CardBus bridge has behind the header (PC Card Standard 4.5.2). */
const CARDBUS_HEADER_END = 0x48;

/** `[start, end)` of the bytes that a header of layout 0, 1 or 2 has registers in. */
export function headerRanges(headerLayout: number): readonly ByteRange[] {
  if (headerLayout === 0) {
    return [
      [0, reg.CAPABILITIES_POINTER + 1],
      [reg.INTERRUPT_LINE, reg.HEADER_END],
    ];
  }
  return [[0, headerLayout === 2 ? CARDBUS_HEADER_END : reg.HEADER_END]];
}

/** The header (PCIe 7.5.1): identification reads as it is, Command latches, the capability list is ours. */
export function defineHeader(
  context: RulesContext,
  { image, header, bars, keepsBars }: HeaderRequest,
  hasCapabilities: boolean,
): void {
  const { builder, findings } = context;
  const { space } = image;
  for (const [start, end] of headerRanges(image.headerLayout)) {
    readAsIs(context, start, Math.min(end, image.readSize));
    builder.own(start, end, 'header', context.physical ? 'mixed' : 'virtual');
  }
  builder.register(reg.COMMAND, 2, {
    value: space.read(reg.COMMAND, 2) | header.commandOnes,
    virtual: COMMAND_RW | header.commandOnes,
    rw: COMMAND_RW & ~header.commandOnes,
    onWrite: onCommandWrite,
  });
  builder.register(reg.STATUS, 2, {
    // Interrupt Status is the level of the guest's pin, not of the host's.
    virtual: reg.STATUS_CAPABILITIES_LIST | reg.STATUS_INTERRUPT,
    value: hasCapabilities ? reg.STATUS_CAPABILITIES_LIST : 0,
  });
  if ((space.read(reg.STATUS, 2) & reg.STATUS_INTERRUPT) !== 0)
    findings.push(interruptState(reg.STATUS, 1, 'Interrupt Status'));
  if (!context.physical) {
    builder.register(reg.STATUS, 2, {
      virtual: reg.STATUS_RW1C,
      value: space.read(reg.STATUS, 2),
      rw1c: reg.STATUS_RW1C,
    });
  }
  latch(context, reg.CACHE_LINE_SIZE);
  latch(context, reg.INTERRUPT_LINE);
  builder.register(capabilitiesPointerOffset(space), 1, {});
  if (image.hasVfHeader) defineVfHeader(context, header);
  if (image.headerLayout === 0) defineBars(context, bars, keepsBars);
  if (image.headerLayout === 1 && !context.physical) definePortHeader(context);
  builder.register(reg.HEADER_TYPE, 1, {
    virtual: reg.HEADER_TYPE_MULTI_FUNCTION,
    value: space.read(reg.HEADER_TYPE, 1),
  });
}

/** A VF has no IDs, BARs, memory decode or interrupt pin of its own (PCIe 9.3.4.1). */
function defineVfHeader({ builder, findings }: RulesContext, { vendorId, deviceId }: HeaderOptions): void {
  builder.register(reg.INTERRUPT_PIN, 1, {});
  for (let bar = 0; bar < 6; bar++) builder.register(reg.BASE_ADDRESS_0 + 4 * bar, 4, {});
  if (vendorId === undefined || deviceId === undefined) {
    findings.push(
      vfFinding(
        'vf-without-ids',
        'its IDs read ffff, so a guest sees no function here: give vendorId and deviceId',
      ),
    );
    return;
  }
  builder.register(reg.VENDOR_ID, 4, { value: vendorId | (deviceId << 16) });
  findings.push(
    vfFinding(
      'vf-header',
      `shown with the IDs ${hex(vendorId, 4)}:${hex(deviceId, 4)}, virtual BARs and no interrupt pin`,
    ),
  );
}

function vfFinding(code: Finding['code'], what: string): Finding {
  return { code, offset: reg.VENDOR_ID, length: reg.HEADER_END, message: `a virtual function: ${what}` };
}

function latch({ builder, image }: RulesContext, offset: number): void {
  builder.register(offset, 1, { value: image.read(offset, 1), rw: 0xff });
}
