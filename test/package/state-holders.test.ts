// Every class that holds state has reset(), saveState() and restoreState(), or stands here with the reason why not
// (design, "State").
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';

const src = fileURLToPath(new URL('../../src', import.meta.url));

/** Classes without the three methods. An entry that is not needed any more fails the test. */
const EXEMPT: Readonly<Record<string, string>> = {
  // Faces.
  VpciError: 'an error: made once, never changed',
  TypedEmitter: 'listeners belong to the embedder, not to the machine; what extends it has the methods',
  ByteConfigSpace: 'the physical registers: the device keeps them, a VMM migrates the device',
  LayoutBuilder: 'used up while a function is made',
  LayoutCache: 'a cache of constants: any content gives the same result',
  Viommu: 'abstract: each model has the methods',
  Explanation: 'a report: made once, never changed',
  GuestMemory:
    "regions are the embedder's configuration; the bytes are guest RAM, which the VMM migrates itself",
  // Inside src/config, src/function and src/segment.
  VirtualConfigSpace:
    'saveRegisters and restoreRegisters, called by PciFunction; install is for before the first access',
  BarDecoder: 'follows from the registers: PciFunction refreshes it after a reset and a restore',
  Followers: 'what was told last, not what is: after a reset and a restore it tells the difference',
  BridgePort: 'a view of the registers of its function, and whether the embedder put something behind it',
  Msi: 'a view of the registers; its pending bits are saved by FunctionInterrupts',
  Topology: "the embedder's configuration; requester IDs follow from registers",
  Hierarchy: 'brings requester IDs and what answers in line with the registers after a restore',
  Seats: 'a cache of requester IDs: Hierarchy fills it',
  DecodeMap: 'a cache: the segment makes it again when it is stale',
  SegmentWindows: 'keeps those caches',
};

/** Variables of modules, with the reason why no state needs them. */
const EXEMPT_VARIABLES: Readonly<Record<string, string>> = {
  'function/function-image.ts: nextId': 'numbers the images of a cache; no result depends on the number',
};

const METHODS = ['reset', 'saveState', 'restoreState'] as const;

type Class = abstract new (...args: never[]) => object;

function isClass(value: unknown): value is Class {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

function missing(one: Class): string[] {
  const prototype: unknown = one.prototype;
  if (typeof prototype !== 'object' || prototype === null) return [...METHODS];
  return METHODS.filter((method) => typeof Reflect.get(prototype, method) !== 'function');
}

function files(room: string): string[] {
  return readdirSync(join(src, room), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(room, file));
}

/** Classes by name that some modules export. */
async function classesOf(modules: readonly string[]): Promise<Map<string, Class>> {
  const classes = new Map<string, Class>();
  for (const file of modules) {
    const exported: unknown = await import(pathToFileURL(join(src, file)).href);
    if (typeof exported !== 'object' || exported === null) continue;
    for (const [name, value] of Object.entries(exported)) if (isClass(value)) classes.set(name, value);
  }
  return classes;
}

const faces = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) =>
  /(^|\/)index\.ts$/.test(file),
);
const inner = ['pci', 'config', 'function', 'segment'].flatMap(files);

describe('state', () => {
  it('of every class that a face of src exports, or a room of the trap layer has, is saved or exempt', async () => {
    const classes = new Map([...(await classesOf(faces)), ...(await classesOf(inner))]);
    // The scan finds what must be there: it would pass on nothing otherwise.
    expect([...classes.keys()]).toEqual(
      expect.arrayContaining([
        'PciFunction',
        'PciSegment',
        'TableIommu',
        'Viommu',
        'MsiX',
        'FunctionInterrupts',
      ]),
    );
    const without = [...classes].filter(([, one]) => missing(one).length > 0).map(([name]) => name);
    expect(
      without.filter((name) => EXEMPT[name] === undefined).toSorted(),
      'add the methods, or the reason',
    ).toEqual([]);
    const needless = Object.keys(EXEMPT).filter((name) => !without.includes(name));
    expect(needless, 'take the entry out').toEqual([]);
  });

  it('is in no class that is hidden in a module of the trap layer', () => {
    const hidden = inner.filter((file) =>
      /^class\b|^\s+class\b/m.test(readFileSync(join(src, file), 'utf8')),
    );
    expect(hidden).toEqual([]);
  });

  it('is in no variable of a module of the trap layer', () => {
    const variables = inner.flatMap((file) =>
      [...readFileSync(join(src, file), 'utf8').matchAll(/^(?:export )?(?:let|var) (\w+)/gm)].map(
        ([, name]) => `${file}: ${name}`,
      ),
    );
    expect(variables.toSorted()).toEqual(Object.keys(EXEMPT_VARIABLES).toSorted());
  });
});
