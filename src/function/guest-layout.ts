import { type ConfigLayout, LayoutBuilder, LayoutCache } from '../config/index.ts';
import { hex } from '../pci/bdf.ts';
import {
  capabilitiesPointerOffset,
  EXTENDED_CHAIN_HEAD,
  hasCapabilitiesList,
} from '../pci/capability-chain.ts';
import * as id from '../pci/capability-ids.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import * as exp from '../pci/express.ts';
import type { Finding } from '../pci/finding.ts';
import { PASID_LENGTH } from '../pci/pasid.ts';
import type { Bar } from './bars.ts';
import type { WritableBytes } from './blocks/index.ts';
import {
  defineAts,
  definePasid,
  definePri,
  EXTENDED_RULES,
  lacksEndEndPrefix,
  presentAs,
  type RulesContext,
  readAsIs,
  type ShownPasid,
  STANDARD_RULES,
  showEndEndPrefix,
} from './capabilities/index.ts';
import type { FunctionHooks } from './function-hooks.ts';
import type { FunctionImage } from './function-image.ts';
import { type ByteRange, type GuestPlan, type PlannedCapability, type PlanRequest } from './guest-plan.ts';
import { ENDPOINT_TYPES } from './pasid-eligibility.ts';
import { defineHeader, headerRanges, type HeaderOptions } from './header.ts';

/** How a passed-through endpoint shows itself: Device/Port Type as it is, or another. */
export type Present = 'as-is' | 'endpoint' | 'rciep';

/** Everything that decides what the guest sees. */
export interface ViewRequest extends PlanRequest {
  readonly present: Present;
  readonly header: HeaderOptions;
  readonly bars: readonly Bar[];
  /** BARs that are not in `bars` read as the image has them. */
  readonly keepsBars: boolean;
  /** Bits that a guest may write in an emulated function's own structures. */
  readonly writable: readonly WritableBytes[];
}

/** The guest's view: the layout, the values at power-on, and what was found on the way. */
export interface GuestView {
  readonly plan: GuestPlan;
  readonly layout: ConfigLayout<FunctionHooks>;
  readonly shadow: Int32Array;
  readonly findings: readonly Finding[];
  /** PASID as the guest sees it. */
  readonly pasid: ShownPasid | undefined;
}

const layouts = new LayoutCache<FunctionHooks>();

/** Works out what the guest sees of a function, as it was planned. */
export function buildGuestView(request: ViewRequest, plan: GuestPlan): GuestView {
  const { image } = request;
  const findings = [...plan.findings];
  const builder = new LayoutBuilder<FunctionHooks>(image.space.size);
  const context: RulesContext = { builder, image: image.space, physical: image.isPhysical, findings };
  defineHeader(context, request, plan.standard.length > 0);
  defineStandardChain(context, plan.standard);
  defineExtendedChain(context, plan.extended, request);
  adaptExpress(context, plan.standard, request);
  for (const { offset, mask } of request.writable) openBits(context, offset, mask);
  allowPassthrough(context, request.passthroughRanges);
  findings.push(...unclaimedData(image, plan, request.passthroughRanges));
  return {
    plan,
    layout: layouts.share(builder.build()),
    shadow: builder.shadow,
    findings,
    pasid: request.pasid,
  };
}

function defineStandardChain(context: RulesContext, chain: readonly PlannedCapability[]): void {
  const { builder, physical } = context;
  const pointer = capabilitiesPointerOffset(context.image);
  builder.register(pointer, 1, { value: chain[0]?.offset ?? 0 });
  if (!hasCapabilitiesList(context.image) && context.image.read(pointer, 1) !== 0) {
    const message = `the Capabilities Pointer at 0x${hex(pointer, 2)} reads 0, since Status says that there is no list`;
    context.findings.push({ code: 'unclaimed-bytes', offset: pointer, length: 1, message });
  }
  for (const [i, capability] of chain.entries()) {
    const { offset, length, name } = capability;
    readAsIs(context, offset + 2, offset + length);
    builder.register(offset, 2, { value: capability.id | ((chain[i + 1]?.offset ?? 0) << 8) });
    const rules = STANDARD_RULES.get(capability.id);
    rules?.(context, capability);
    builder.own(offset, offset + length, name, sourceOf(physical, rules !== undefined));
  }
}

function defineExtendedChain(
  context: RulesContext,
  chain: readonly PlannedCapability[],
  request: ViewRequest,
): void {
  const { builder, physical } = context;
  const [first] = chain;
  if (context.image.size === EXTENDED_CONFIG_SPACE_SIZE && first?.offset !== EXTENDED_CHAIN_HEAD) {
    // The chain begins at 100h whatever stands there: a null header carries the link of a hidden head, or ends it.
    builder.register(EXTENDED_CHAIN_HEAD, 4, { value: (first?.offset ?? 0) << 20 });
    builder.own(EXTENDED_CHAIN_HEAD, EXTENDED_CHAIN_HEAD + 4, 'Null (head of the chain)', 'virtual');
  }
  for (const [i, capability] of chain.entries()) {
    const { offset, length, name } = capability;
    const next = chain[i + 1]?.offset ?? 0;
    const header = { value: capability.id | (capability.version << 16) | (next << 20) };
    if (capability.synthesized) {
      builder.register(offset, 4, header);
      defineSynthesized(context, capability, request);
      builder.own(offset, offset + length, name, 'virtual');
      continue;
    }
    readAsIs(context, offset + 4, offset + length);
    builder.register(offset, 4, header);
    const rules = EXTENDED_RULES.get(capability.id);
    rules?.(context, capability);
    builder.own(offset, offset + length, name, sourceOf(physical, rules !== undefined));
  }
}

function defineSynthesized(
  context: RulesContext,
  capability: PlannedCapability,
  { pasid }: ViewRequest,
): void {
  if (capability.id === id.EXT_CAP_ATS) defineAts(context, capability);
  else if (capability.id === id.EXT_CAP_PAGE_REQUEST) definePri(context, capability, pasid !== undefined);
  else if (pasid !== undefined) definePasid(context, capability, pasid);
}

function sourceOf(physical: boolean, hasRules: boolean): 'virtual' | 'physical' | 'mixed' {
  if (!physical) return 'virtual';
  return hasRules ? 'mixed' : 'physical';
}

function adaptExpress(
  context: RulesContext,
  chain: readonly PlannedCapability[],
  { image, pasid, present }: ViewRequest,
): void {
  const { findings } = context;
  const capability = chain.find((one) => one.id === id.CAP_PCI_EXPRESS);
  if (capability === undefined || image.express === undefined) return;
  if (pasid !== undefined) {
    const { offset } = capability;
    const register = offset + exp.EXP_DEVICE_CAPABILITIES_2;
    if (lacksEndEndPrefix(image.space, offset)) {
      findings.push({
        code: 'device-capabilities-2',
        offset: register,
        length: 4,
        message: `Device Capabilities 2 at 0x${hex(register, 3)} shows End-End TLP Prefix and Extended Fmt support, which PASID needs and the device does not report`,
      });
    }
    showEndEndPrefix(context, capability);
  }
  const { deviceType } = image.express;
  if (present === 'as-is' || !ENDPOINT_TYPES.has(deviceType)) return;
  const isRciep = present === 'rciep';
  const type = isRciep ? exp.DEVICE_TYPE_RC_INTEGRATED_ENDPOINT : exp.DEVICE_TYPE_ENDPOINT;
  // Even where it is the device's own: what is asked for stays, whatever is passed through.
  presentAs(context, capability, type);
  if (type !== deviceType || isRciep) {
    const { offset, length } = capability;
    const link = isRciep ? ', whose link registers read 0' : '';
    findings.push({
      code: 'device-type',
      offset,
      length,
      message: `Device/Port Type ${deviceType} is shown as ${type} (${present})${link}`,
    });
  }
}

function openBits({ builder, image }: RulesContext, offset: number, mask: Uint8Array): void {
  for (const [i, rw] of mask.entries()) {
    const value = image.read(offset + i, 1);
    if (rw !== 0) builder.register(offset + i, 1, { value, rw, reset: value });
  }
}

/** Opens the bytes that the embedder named: what no capability owns, and the bodies that read as they are. */
function allowPassthrough({ builder, physical }: RulesContext, ranges: readonly ByteRange[]): void {
  if (!physical) return;
  for (const [start, end] of ranges) builder.passThrough(start, end, 'passed-through range');
}

/** Runs of bytes that hold something and read 0 because nothing that the guest sees owns them. */
function unclaimedData(image: FunctionImage, plan: GuestPlan, ranges: readonly ByteRange[]): Finding[] {
  if (!image.isPhysical) return [];
  const claimed = claimedBytes(image, plan, ranges);
  const findings: Finding[] = [];
  let start = -1;
  let end = -1;
  const finish = (): void => {
    if (start === -1) return;
    findings.push({
      code: 'unclaimed-bytes',
      offset: start,
      length: end - start,
      message: `0x${hex(start, 3)}..0x${hex(end - 1, 3)} belongs to no capability and reads 0; name it in passthroughRanges if the device's driver needs it`,
    });
    start = -1;
  };
  for (const [offset, owned] of claimed.entries()) {
    if (owned !== 0) finish();
    else if (image.space.read(offset, 1) !== 0) {
      // A few zeros do not end a run: they are the upper bytes of small registers.
      if (start === -1 || offset - end >= 4) {
        finish();
        start = offset;
      }
      end = offset + 1;
    }
  }
  finish();
  return findings;
}

/** A 1 for each byte that the guest sees, or that has a finding of its own. */
function claimedBytes(image: FunctionImage, plan: GuestPlan, ranges: readonly ByteRange[]): Uint8Array {
  const claimed = new Uint8Array(image.space.size);
  for (const { offset, length } of [
    ...plan.standard,
    ...plan.extended,
    ...image.standard.capabilities,
    ...image.extended.capabilities,
  ]) {
    claimed.fill(1, offset, offset + length);
  }
  for (const { offset } of image.physicalPasids) claimed.fill(1, offset, offset + PASID_LENGTH);
  for (const [start, end] of [...headerRanges(image.headerLayout), ...ranges]) claimed.fill(1, start, end);
  if (plan.extended.length > 0) claimed.fill(1, EXTENDED_CHAIN_HEAD, EXTENDED_CHAIN_HEAD + 4);
  return claimed;
}
