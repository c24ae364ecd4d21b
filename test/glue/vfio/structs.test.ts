// The layouts against the headers of the kernel that this machine has: a C program prints what a compiler makes of
// them. What a header is too old to have is not compared, and a test's name says how much that is.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import * as iommufd from '../../../vmm-glue/vfio/structs/iommufd.ts';
import { type Ioctl, StructBuffer, type StructLayout } from '../../../vmm-glue/vfio/structs/layout.ts';
import * as vfio from '../../../vmm-glue/vfio/structs/vfio.ts';
import { bed } from '../../support/beds.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vpci-structs-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Flags of cc: the folder of other headers may be given, those of a newer kernel than the system's. */
function include(): string[] {
  const folder = process.env['VPCI_KERNEL_HEADERS'];
  return folder === undefined ? [] : ['-isystem', folder];
}

/** A definition on each line: what does not compile is told by its line. */
function definitions(header: string, expressions: readonly string[]): string {
  const includes = `#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <${header}>\n`;
  return includes + expressions.map((one, i) => `unsigned long long e${i} = (${one});\n`).join('');
}

/** The value of each expression, and undefined for what the header does not have; undefined without the header. */
function numbersOf(header: string, expressions: readonly string[]): (number | undefined)[] | undefined {
  const source = join(scratch, 'a.c');
  writeFileSync(source, definitions(header, expressions));
  const check = ['-fsyntax-only', '-fmax-errors=0', '-fno-diagnostics-show-caret', ...include(), source];
  const { stderr, error } = spawnSync('cc', check, { encoding: 'utf8' });
  if (error !== undefined || stderr.includes('fatal error')) return undefined;
  const unknown = new Set([...stderr.matchAll(/a\.c:(\d+):\d+: error/g)].map(([, line]) => Number(line) - 5));
  const known = expressions.filter((_, i) => !unknown.has(i));
  const prints = known.map((_, i) => `printf("%llu\\n", e${i});`).join('\n');
  writeFileSync(source, `${definitions(header, known)}int main(void) {\n${prints}\nreturn 0; }\n`);
  const program = join(scratch, 'a.out');
  const built = spawnSync('cc', [...include(), '-o', program, source], { encoding: 'utf8' });
  if (built.status !== 0) throw new Error(built.stderr);
  const values = spawnSync(program, { encoding: 'utf8' }).stdout.trim().split('\n').map(Number);
  let next = 0;
  return expressions.map((_, i) => (unknown.has(i) ? undefined : values[next++]));
}

function whyNoHeader(header: string): string | undefined {
  if (spawnSync('cc', ['--version']).error !== undefined) return 'there is no C compiler cc';
  return numbersOf(header, ['0']) === undefined ? `there is no header ${header}` : undefined;
}

const FLAGS: readonly (readonly [header: string, constants: object])[] = [
  ['linux/vfio.h', vfio],
  ['linux/iommufd.h', iommufd],
];

function numbersIn(constants: object): [string, number][] {
  return Object.entries(constants).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
}

for (const [header, ioctls, structs, constants] of [
  ['linux/vfio.h', vfio.VFIO_IOCTLS, vfio.VFIO_STRUCTS, vfio],
  ['linux/iommufd.h', iommufd.IOMMUFD_IOCTLS, iommufd.IOMMUFD_STRUCTS, iommufd],
] as const) {
  bed(`header ${header}`, () => whyNoHeader(header))(header, () => {
    const flags = numbersIn(constants);
    const rows: [expression: string, expected: number][] = [
      ...ioctls.map(({ name, request }): [string, number] => [name, request]),
      ...flags,
      ...structs.flatMap(({ name, fields }) =>
        Object.entries(fields).flatMap(([field, [offset, bytes]]): [string, number][] => [
          [`offsetof(struct ${name}, ${field})`, offset],
          [`sizeof(((struct ${name} *)0)->${field})`, bytes],
        ]),
      ),
    ];
    const values =
      numbersOf(
        header,
        rows.map(([expression]) => expression),
      ) ?? [];

    const compared = rows.flatMap(([expression, expected], i) => {
      const actual = values[i];
      return actual === undefined ? [] : [[expression, expected, actual] as const];
    });
    it.each(compared)('%s is %i', (_, expected, actual) => {
      expect(actual).toBe(expected);
    });

    it(`lacks ${rows.length - compared.length} of ${rows.length} in this header, which are not compared`, () => {
      expect(compared.length).toBeGreaterThan(rows.length / 3);
    });

    it('has structs of no fewer bytes than ours, where it has all of their fields', () => {
      const sizes = numbersOf(
        header,
        structs.map(({ name }) => `sizeof(struct ${name})`),
      );
      for (const [i, { name, size, fields }] of structs.entries()) {
        const actual = sizes?.[i];
        const old = rows.some(([row], at) => row.includes(`struct ${name},`) && values[at] === undefined);
        if (actual === undefined || old) continue;
        expect([name, Object.keys(fields).length > 0 && actual >= size]).toEqual([name, true]);
      }
    });
  });
}

describe('the layouts', () => {
  const all: readonly StructLayout[] = [...vfio.VFIO_STRUCTS, ...iommufd.IOMMUFD_STRUCTS];

  it.each(all.map((layout) => [layout.name, layout] as const))(
    '%s has fields that do not overlap',
    (_, layout) => {
      let end = 0;
      for (const [offset, size] of Object.values(layout.fields).toSorted(([a], [b]) => a - b)) {
        expect(offset).toBeGreaterThanOrEqual(end);
        expect(offset % size).toBe(0);
        end = offset + size;
      }
      expect(end).toBeLessThanOrEqual(layout.size);
    },
  );

  it('lists every ioctl and every struct that there is', () => {
    for (const [header, constants] of FLAGS) {
      const values: unknown[] = Object.values(constants).filter(
        (value) => typeof value === 'object' && !Array.isArray(value),
      );
      const listed: unknown[] = [
        ...vfio.VFIO_IOCTLS,
        ...vfio.VFIO_STRUCTS,
        ...iommufd.IOMMUFD_IOCTLS,
        ...iommufd.IOMMUFD_STRUCTS,
      ].filter((one: Ioctl | StructLayout) => one.header === header);
      expect(values.length).toBeGreaterThan(4);
      expect(new Set(listed)).toEqual(new Set(values));
    }
  });

  it('keep 64 bits apart from what is beside them', () => {
    const info = new StructBuffer(vfio.vfioRegionInfo);
    info.set('size', 0x1000).set('offset', 0x70000000000).set('index', 0xffffffff);
    expect([info.get('size'), info.get('offset'), info.get('index'), info.get('cap_offset')]).toEqual([
      0x1000, 0x70000000000, 0xffffffff, 0,
    ]);
    expect([...info.bytes.subarray(24)]).toEqual([0, 0, 0, 0, 0, 7, 0, 0]);
    expect(info.clear().bytes.every((byte) => byte === 0)).toBe(true);
  });
});
