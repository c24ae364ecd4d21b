import { EXT_CAP_ATS, EXT_CAP_PAGE_REQUEST, EXT_CAP_PASID } from '../pci/capability-ids.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { Finding } from '../pci/finding.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { ShownPasid } from './capabilities/index.ts';
import type { FunctionImage } from './function-image.ts';
import type { CommonOptions } from './function-options.ts';
import type { Bar } from './bars.ts';
import type { WritableBytes } from './blocks/index.ts';
import { buildGuestView, type GuestView, type ViewRequest } from './guest-layout.ts';
import { type ByteRange, type GuestPlan, planGuestView } from './guest-plan.ts';
import type { HeaderOptions } from './header.ts';
import { reasonAgainstPasid } from './pasid-eligibility.ts';

/** All that a guest's view is made of; the view is made again when the function meets its vIOMMU. */
export interface FunctionRecipe extends Omit<CommonOptions, 'bars' | 'rom'> {
  readonly image: FunctionImage;
  /** The real registers, when there are any. */
  readonly physical: ConfigSpace | undefined;
  readonly header: HeaderOptions;
  readonly passthroughRanges: readonly ByteRange[];
  readonly bars: readonly Bar[];
  /** BARs that are not in `bars` read as the image has them. */
  readonly keepsBars: boolean;
  readonly writable: readonly WritableBytes[];
}

interface PasidAnswer {
  readonly shown: ShownPasid | undefined;
  /** Why the function can show none, though it was asked for. */
  readonly refused: VpciError | undefined;
  readonly findings: readonly Finding[];
}

/** Views in use lately, by image and by the options that decide them: functions made alike share theirs. */
const VIEWS_KEPT = 64;
const views = new Map<string, GuestView>();

/**
 * The guest's view, with `viommuWidth` the PASID width of the vIOMMU (undefined: there is none).
 *
 * @throws VpciError when PASID is asked for and cannot be shown, unless the recipe says to omit it.
 */
export function functionView(recipe: FunctionRecipe, viommuWidth: number | undefined): GuestView {
  const key = keyOf(recipe, viommuWidth);
  const view = views.get(key) ?? makeView(recipe, viommuWidth);
  // The map keeps its order: what is used goes to the end, what is oldest is dropped.
  views.delete(key);
  views.set(key, view);
  for (const oldest of views.keys()) {
    if (views.size <= VIEWS_KEPT) break;
    views.delete(oldest);
  }
  return view;
}

function keyOf(recipe: FunctionRecipe, viommuWidth: number | undefined): string {
  const { pasid, maxPasidWidth, pasidOffset, control, onPasidRefused, ats, pri, present } = recipe;
  const { header, passthroughRanges, writable, bars, keepsBars } = recipe;
  return JSON.stringify([
    recipe.image.id,
    [
      pasid?.width,
      pasid?.execute,
      pasid?.privileged,
      maxPasidWidth,
      viommuWidth,
      pasidOffset,
      control,
      onPasidRefused,
    ],
    [ats, pri, present, header, passthroughRanges, keepsBars],
    writable.map(({ offset, mask }) => [offset, ...mask]),
    bars.map(({ index, size, kind, prefetchable }) => [index, size, kind, prefetchable]),
  ]);
}

function makeView(recipe: FunctionRecipe, viommuWidth: number | undefined): GuestView {
  const { shown, refused, findings } = pasidAnswer(recipe, viommuWidth);
  const mayOmit = recipe.onPasidRefused === 'omit';
  if (refused !== undefined && !mayOmit) throw refused;
  const { pasidOffset, ats, pri, present = 'as-is' } = recipe;
  const asked = { ...recipe, pasid: shown, pasidOffset, ats, pri, present };
  const { request, plan, left } = fitting(asked, mayOmit);
  const view = buildGuestView(request, plan);
  const omissions = [...(refused === undefined ? [] : [refused]), ...left].map(({ message }) =>
    omitted(message),
  );
  // What is to be said about PASID is so only where it is shown.
  const about = request.pasid === undefined && shown !== undefined ? [] : findings;
  return { ...view, findings: Object.freeze([...omissions, ...about, ...view.findings]) };
}

interface Fitting {
  readonly request: ViewRequest;
  readonly plan: GuestPlan;
  /** Why something was left out, once for each capability. */
  readonly left: readonly VpciError[];
}

/**
 * What fits of what is asked for, and where. When not everything does, ATS is kept before Page Request, and that before
 * PASID; what is left out is not shown at all, the device's own neither.
 *
 * @throws VpciError the first refusal, unless something may be left out.
 */
function fitting(asked: ViewRequest, mayOmit: boolean): Fitting {
  const refusals = new Map<number, VpciError>();
  const all =
    (asked.ats === true ? ATS : 0) | (asked.pri === true ? PRI : 0) | (asked.pasid === undefined ? 0 : PASID);
  // Every choice, what is kept first in the highest bit. The last one asks for nothing, which always fits.
  for (let kept = all; ; kept--) {
    if ((kept & ~all) !== 0) continue;
    const left = all & ~kept;
    const request = {
      ...asked,
      ats: (left & ATS) === 0 ? asked.ats : false,
      pri: (left & PRI) === 0 ? asked.pri : false,
      pasid: (left & PASID) === 0 ? asked.pasid : undefined,
    };
    const plan = planGuestView(request);
    if ('refused' in plan) {
      if (!mayOmit) throw plan.refused;
      if (!refusals.has(plan.capability)) refusals.set(plan.capability, plan.refused);
      continue;
    }
    const [first] = refusals.values();
    const reasons = ORDER.filter(([bit]) => (left & bit) !== 0).map(
      ([, capability]) => refusals.get(capability) ?? first,
    );
    return { request, plan, left: reasons.filter((reason) => reason !== undefined) };
  }
}

const ATS = 4;
const PRI = 2;
const PASID = 1;
const ORDER = [
  [ATS, EXT_CAP_ATS],
  [PRI, EXT_CAP_PAGE_REQUEST],
  [PASID, EXT_CAP_PASID],
] as const;

function pasidAnswer(recipe: FunctionRecipe, viommuWidth: number | undefined): PasidAnswer {
  const nothing = { shown: undefined, refused: undefined, findings: [] };
  const { pasid, image, maxPasidWidth } = recipe;
  if (pasid === undefined || pasid.width === 0) return nothing;
  const reason = reasonAgainstPasid(image);
  if (reason !== undefined) {
    const message = `the function cannot show a PASID capability: ${reason}`;
    return { ...nothing, refused: new VpciError('VPCI_PASID_REFUSED', message) };
  }
  const width = Math.min(pasid.width, viommuWidth ?? pasid.width, maxPasidWidth ?? pasid.width);
  if (width === 0) return { ...nothing, findings: [omitted('the vIOMMU has no PASID, so none is shown')] };
  const { execute = false, privileged = false } = pasid;
  const [physical] = image.physicalPasids;
  const findings: Finding[] = [];
  const note = (code: Finding['code'], message: string): void => {
    findings.push({ code, offset: physical?.offset ?? 0, length: 0, message });
  };
  if (width < pasid.width) {
    note(
      'pasid-width-limited',
      `the host's PASID width of ${pasid.width} bits is shown as ${width}, the vIOMMU's or the embedder's`,
    );
  }
  if (physical !== undefined) {
    const more = [
      ...(width > physical.width ? [`${width} bits of PASID (it has ${physical.width})`] : []),
      ...(execute && !physical.execute ? ['execute permission'] : []),
      ...(privileged && !physical.privileged ? ['privileged mode'] : []),
    ];
    if (more.length > 0) {
      note('pasid-exceeds-physical', `more is shown than the physical capability has: ${more.join(', ')}`);
    }
  }
  const shown = { width, execute, privileged, control: recipe.control ?? 'latch' };
  return { shown, refused: undefined, findings };
}

function omitted(message: string): Finding {
  return { code: 'pasid-omitted', offset: 0, length: 0, message };
}
