import type { ConfigSpace } from '../pci/config-space.ts';
import type { Finding } from '../pci/finding.ts';
import { VpciError } from '../pci/vpci-error.ts';
import type { ShownPasid } from './capabilities/index.ts';
import type { FunctionImage } from './function-image.ts';
import type { CommonOptions } from './function-options.ts';
import type { Bar } from './bars.ts';
import type { WritableBytes } from './blocks/index.ts';
import { buildGuestView, type GuestView } from './guest-layout.ts';
import type { ByteRange } from './guest-plan.ts';
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
  if (recipe.onPasidRefused !== 'omit') return viewWith(recipe, pasidAnswer(recipe, viommuWidth));
  const findings: Finding[] = [];
  const attempts = [
    () => viewWith(recipe, pasidAnswer(recipe, viommuWidth)),
    () => viewWith(recipe, { shown: undefined, findings }),
  ];
  for (const attempt of attempts) {
    try {
      return attempt();
    } catch (error) {
      if (!(error instanceof VpciError)) throw error;
      findings.push(omitted(error.message));
    }
  }
  return viewWith({ ...recipe, ats: undefined, pri: undefined }, { shown: undefined, findings });
}

function viewWith(recipe: FunctionRecipe, { shown, findings }: PasidAnswer): GuestView {
  const view = buildGuestView({
    image: recipe.image,
    header: recipe.header,
    bars: recipe.bars,
    keepsBars: recipe.keepsBars,
    writable: recipe.writable,
    passthroughRanges: recipe.passthroughRanges,
    pasid: shown,
    pasidOffset: recipe.pasidOffset,
    ats: recipe.ats,
    pri: recipe.pri,
    present: recipe.present ?? 'as-is',
  });
  return findings.length === 0 ? view : { ...view, findings: [...findings, ...view.findings] };
}

function pasidAnswer(recipe: FunctionRecipe, viommuWidth: number | undefined): PasidAnswer {
  const { pasid, image, maxPasidWidth } = recipe;
  if (pasid === undefined || pasid.width === 0) return { shown: undefined, findings: [] };
  const reason = reasonAgainstPasid(image);
  if (reason !== undefined) {
    throw new VpciError('VPCI_PASID_REFUSED', `the function cannot show a PASID capability: ${reason}`);
  }
  const width = Math.min(pasid.width, viommuWidth ?? pasid.width, maxPasidWidth ?? pasid.width);
  if (width === 0) {
    return { shown: undefined, findings: [omitted('the vIOMMU has no PASID, so none is shown')] };
  }
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
  return { shown: { width, execute, privileged, control: recipe.control ?? 'latch' }, findings };
}

function omitted(message: string): Finding {
  return { code: 'pasid-omitted', offset: 0, length: 0, message };
}
