import { VpciError } from '../pci/vpci-error.ts';

/**
 * Reading plain data that may have been edited, cut or written by something else: each function returns the
 * value with its type, or throws VpciError `VPCI_STATE` that names the place.
 *
 * @module
 */

/** An object with named members, unchecked. */
export type PlainObject = Readonly<Record<string, unknown>>;

/** `value` as an object; `where` names it in the error. */
export function plainObject(value: unknown, where: string): PlainObject {
  if (isPlainObject(value)) return value;
  throw stateError(where, 'an object', value);
}

/** `value` as an array. */
export function plainArray(value: unknown, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw stateError(where, 'an array', value);
}

/** `value` as a whole number of `min`..`max`. */
export function plainInteger(value: unknown, min: number, max: number, where: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw stateError(where, `a whole number of ${min}..${max}`, value);
}

/** `value` as a string. */
export function plainString(value: unknown, where: string): string {
  if (typeof value === 'string') return value;
  throw stateError(where, 'a string', value);
}

/** Refuses a `value` other than `expected`. */
export function plainEqual(value: unknown, expected: string | number, where: string): void {
  if (value !== expected) throw stateError(where, JSON.stringify(expected), value);
}

/** The error for a saved state whose member `where` is not `expected`. */
export function stateError(where: string, expected: string, value: unknown): VpciError {
  const shown = typeof value === 'string' || typeof value === 'number' ? JSON.stringify(value) : typeof value;
  return new VpciError(
    'VPCI_STATE',
    `${where} of the saved state is ${shown}, not ${expected}: restore what saveState returned, into a unit with the same options`,
  );
}

function isPlainObject(value: unknown): value is PlainObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
