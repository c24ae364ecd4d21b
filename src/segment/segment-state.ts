import type { FunctionState, PciFunction } from '../function/index.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** Version of {@link SegmentState}. */
export const SEGMENT_STATE_VERSION = 2;

/** What `PciSegment.saveState` gives: plain data, fit for JSON. */
export interface SegmentState {
  readonly version: number;
  /** CONFIG_ADDRESS, 32 bits. */
  readonly configAddress: number;
  readonly functions: readonly {
    /**
     * Where the function was put, whatever the bus numbers say: its fixed address, or that of the port at the top and
     * device and function number on the way down from there (`00:01.0/00.0`).
     */
    readonly place: string;
    readonly state: FunctionState;
  }[];
}

/** A segment's state that fits. */
export interface LoadedState {
  readonly configAddress: number;
  /** Every function of the segment and a state that it takes. */
  readonly functions: readonly (readonly [fn: PciFunction, state: unknown])[];
}

/**
 * `state`, when it is one of the functions in `places`, and each of them takes its own. Nothing changes.
 *
 * @throws VpciError `VPCI_STATE`; the message names the function that is missing, or does not take its state.
 */
export function loadSegmentState(state: unknown, places: ReadonlyMap<string, PciFunction>): LoadedState {
  if (!isRecord(state) || state['version'] !== SEGMENT_STATE_VERSION)
    throw refused(`it is not a segment's state of version ${SEGMENT_STATE_VERSION}`);
  const { configAddress, functions } = state;
  if (!isWord(configAddress) || !Array.isArray(functions)) throw refused('it is damaged');
  const states = new Map<string, unknown>();
  for (const entry of functions as readonly unknown[]) {
    const place = isRecord(entry) ? entry['place'] : undefined;
    if (!isRecord(entry) || typeof place !== 'string') throw refused('it is damaged');
    if (states.has(place)) throw refused(`it has two functions at ${shown(place)}`);
    if (!places.has(place))
      throw refused(`it has a function at ${shown(place)}, and the segment has none there`);
    states.set(place, entry['state']);
  }
  return {
    configAddress,
    functions: [...places].map(([place, fn]) => {
      if (!states.has(place))
        throw refused(`the segment has a function at ${place}, and the state has none there`);
      const own = states.get(place);
      checkOwn(place, fn, own);
      return [fn, own];
    }),
  };
}

function checkOwn(place: string, fn: PciFunction, state: unknown): void {
  try {
    fn.checkState(state);
  } catch (cause) {
    if (!(cause instanceof VpciError)) throw cause;
    throw new VpciError(cause.code, `the function at ${place}: ${cause.message}`, { cause });
  }
}

function refused(why: string): VpciError {
  return new VpciError('VPCI_STATE', `the state cannot be restored: ${why}`);
}

/** A place of a state that may be anything. */
function shown(place: string): string {
  return place.length > 80 ? `${place.slice(0, 80)}...` : place;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isWord(value: unknown): value is number {
  return Number.isInteger(value) && typeof value === 'number' && value >= 0 && value <= 0xffffffff;
}
