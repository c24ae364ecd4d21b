import { ByteConfigSpace, type PasidFeature } from '../../../src/index.ts';
import { EXT_CAP_PASID } from '../../../src/pci/capability-ids.ts';
import {
  PASID_CAPABILITY,
  PASID_EXECUTE_PERMISSION_SUPPORTED,
  PASID_MAX_WIDTH,
  PASID_MAX_WIDTH_SHIFT,
  PASID_PRIVILEGED_MODE_SUPPORTED,
  PASID_WIDTH_LIMIT,
} from '../../../src/pci/pasid.ts';
import { walkChains } from './scripted-guest.ts';

/** Width that is assumed for a device whose dump says nothing: a common one. */
const ASSUMED_WIDTH = 16;

/** An answer of the host, and what it rests on. */
export interface HostAnswer {
  readonly feature: Required<PasidFeature>;
  /** One sentence for people. */
  readonly source: string;
}

/**
 * Stands in for the host, which a dump cannot ask: the answer comes from the dump's own PASID capability when
 * there is one, and `width` (bits) overrides its width.
 */
export function askHost(bytes: Uint8Array, width: number | undefined): HostAnswer {
  const space = new ByteConfigSpace(bytes);
  const physical = walkChains(space).extended.find(({ id }) => id === EXT_CAP_PASID);
  const register = physical === undefined ? 0 : space.read(physical.offset + PASID_CAPABILITY, 2);
  const own = (register & PASID_MAX_WIDTH) >>> PASID_MAX_WIDTH_SHIFT;
  const known = own >= 1 && own <= PASID_WIDTH_LIMIT;
  return {
    feature: {
      width: width ?? (known ? own : ASSUMED_WIDTH),
      execute: known ? (register & PASID_EXECUTE_PERMISSION_SUPPORTED) !== 0 : true,
      privileged: known && (register & PASID_PRIVILEGED_MODE_SUPPORTED) !== 0,
    },
    source: sourceOf(known, width),
  };
}

function sourceOf(known: boolean, width: number | undefined): string {
  if (width !== undefined) return 'the width is that of --pasid-width';
  return known
    ? "that is what the dump's own PASID capability says"
    : 'the dump has no PASID capability to go by, so this is assumed; --pasid-width sets the width';
}
