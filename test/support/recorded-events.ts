import type { FunctionEvents, PciFunction } from '../../src/index.ts';

/** Collects the named events of `fn` as `[name, payload]`; drain with `splice(0)`. */
export function recordEvents<Name extends keyof FunctionEvents>(
  fn: PciFunction,
  ...names: readonly Name[]
): [Name, FunctionEvents[Name]][] {
  const events: [Name, FunctionEvents[Name]][] = [];
  for (const name of names) fn.on(name, (payload) => events.push([name, payload]));
  return events;
}
