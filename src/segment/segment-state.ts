import type { FunctionState } from '../function/index.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** Version of {@link SegmentState}. */
export const SEGMENT_STATE_VERSION = 1;

/** What `PciSegment.saveState` gives: plain data, fit for JSON. */
export interface SegmentState {
  readonly version: number;
  /** CONFIG_ADDRESS, 32 bits. */
  readonly configAddress: number;
  /** In the order in which they were put in place; `bdf` is null for one out of reach. */
  readonly functions: readonly { readonly bdf: string | null; readonly state: FunctionState }[];
}

interface CheckedState {
  readonly configAddress: number;
  /** The functions' own states, unchecked. */
  readonly functions: readonly unknown[];
}

/** `state`, when it has the shape of one. @throws VpciError `VPCI_STATE`. */
export function checkSegmentState(state: unknown): CheckedState {
  if (isRecord(state) && state['version'] === SEGMENT_STATE_VERSION) {
    const { configAddress, functions } = state;
    if (typeof configAddress === 'number' && Array.isArray(functions)) {
      return {
        configAddress,
        functions: functions.map((entry: unknown) => (isRecord(entry) ? entry['state'] : undefined)),
      };
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
