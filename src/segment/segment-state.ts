import type { FunctionState } from '../function/index.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** Version of {@link SegmentState}. */
export const SEGMENT_STATE_VERSION = 1;

/** What `PciSegment.saveState` gives: plain data, fit for JSON. */
export interface SegmentState {
  readonly version: number;
  /** CONFIG_ADDRESS, 32 bits. */
  readonly configAddress: number;
  /** In order of requester ID. */
  readonly functions: readonly { readonly bdf: string; readonly state: FunctionState }[];
}

interface CheckedState {
  readonly configAddress: number;
  readonly functions: readonly { readonly bdf: string; readonly state: unknown }[];
}

/** `state`, when it has the shape of one. @throws VpciError `VPCI_STATE`. */
export function checkSegmentState(state: unknown): CheckedState {
  if (isRecord(state) && state['version'] === SEGMENT_STATE_VERSION) {
    const { configAddress, functions } = state;
    if (typeof configAddress === 'number' && Array.isArray(functions)) {
      const entries = functions.flatMap((entry: unknown) => {
        const bdf = isRecord(entry) ? entry['bdf'] : undefined;
        return isRecord(entry) && typeof bdf === 'string' ? [{ bdf, state: entry['state'] }] : [];
      });
      if (entries.length === functions.length) return { configAddress, functions: entries };
    }
  }
  throw new VpciError(
    'VPCI_STATE',
    `the state cannot be restored: it is not a segment's state of version ${SEGMENT_STATE_VERSION}`,
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
