// What docs/errors.md and docs/trace.md list is what the code has, no more and no less.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { FINDING_CODES, VPCI_ERROR_CODES } from '../../src/index.ts';
import { FAULT_CONDITIONS, VTD_REASONS } from '../../src/viommu/vtd/faults.ts';
import { TABLE_REASONS } from '../../src/viommu/table/reasons.ts';

const repo = fileURLToPath(new URL('../..', import.meta.url));

/** The first column of the tables under the heading `title` (all of the document without one), in order. */
function listed(document: string, title?: string): string[] {
  const text = readFileSync(join(repo, document), 'utf8');
  const section = title === undefined ? text : (text.split(`\n## ${title}\n`)[1]?.split('\n## ')[0] ?? '');
  return [...section.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name = '']) => name);
}

/** Sources under `folder`, as one text each. */
function sources(folder: string): string[] {
  return readdirSync(join(repo, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(repo, folder, name))
    .filter((path) => !path.endsWith('pci/vpci-error.ts'))
    .map((path) => readFileSync(path, 'utf8'));
}

describe('docs/errors.md', () => {
  it('has every code, sorted', () => {
    expect(listed('docs/errors.md')).toEqual([...VPCI_ERROR_CODES]);
  });

  it('has no code that nothing throws', () => {
    const code = [...sources('src'), ...sources('vmm-glue')].join('\n');
    expect(VPCI_ERROR_CODES.filter((one) => !code.includes(`'${one}'`))).toEqual([]);
  });

  it('says what to do about each', () => {
    const rows = readFileSync(join(repo, 'docs/errors.md'), 'utf8').matchAll(
      /^\| `VPCI_[^|]*\|([^|]*)\|([^|]*)\|$/gm,
    );
    expect(
      [...rows].filter(([, when = '', what = '']) => when.trim() !== '' && what.trim() !== ''),
    ).toHaveLength(VPCI_ERROR_CODES.length);
  });
});

describe('docs/vtd.md', () => {
  it('has every reason', () => {
    expect(listed('docs/vtd.md', 'Reasons')).toEqual(VTD_REASONS.filter((name) => name !== ''));
  });

  it('has the codes of each, and the sections that explain() names', () => {
    const steps = readFileSync(join(repo, 'src/viommu/vtd/steps.ts'), 'utf8');
    const sections = new Map(
      [...steps.matchAll(/^ {2}0x([0-9a-f]{2}): \[.*, '([\d., ]+)'\],$/gm)].map(
        ([, code = '', list = '']) => [Number.parseInt(code, 16), list.split(', ')],
      ),
    );
    const rows = readFileSync(join(repo, 'docs/vtd.md'), 'utf8').matchAll(
      /^\| `([a-z0-9-]+)` \| ((?:[0-9A-F]{2}h(?:, )?)+) \| .* \| ([\d., ]+) \|$/gm,
    );
    const expected = new Map<string, { codes: string[]; sections: Set<string> }>();
    for (const { code, reason } of FAULT_CONDITIONS) {
      const row = expected.get(reason) ?? { codes: [], sections: new Set() };
      row.codes.push(`${code.toString(16).toUpperCase().padStart(2, '0')}h`);
      for (const section of sections.get(code) ?? ['none']) row.sections.add(section);
      expected.set(reason, row);
    }
    expect([...rows].map(([, reason, codes, list]) => [reason, codes, list])).toEqual(
      [...expected].map(([reason, row]) => [reason, row.codes.join(', '), [...row.sections].join(', ')]),
    );
  });
});

describe('docs/trace.md', () => {
  it('has every op', async () => {
    const files = readdirSync(join(repo, 'src/trace')).filter((name) => name.endsWith('-ops.ts'));
    const tables = await Promise.all(
      files.map(async (name): Promise<object> => import(/* @vite-ignore */ join(repo, 'src/trace', name))),
    );
    const names = tables.flatMap((exported) =>
      Object.values(exported).flatMap((table) => (table as [string, unknown][]).map(([name]) => name)),
    );
    expect(files).toContain('iommu-ops.ts');
    expect(listed('docs/trace.md', 'Ops').toSorted()).toEqual(['trace', ...names].toSorted());
  });

  it('has every error code of the format', () => {
    const source = readFileSync(join(repo, 'src/trace/trace-error.ts'), 'utf8');
    const union = /type TraceErrorCode =([^;]*);/.exec(source)?.[1] ?? '';
    const codes = [...union.matchAll(/'([a-z-]+)'/g)].map(([, code = '']) => code);
    expect(codes).toContain('bad-line');
    expect(listed('docs/trace.md', 'Error codes')).toEqual(codes);
  });

  it('has every reason', () => {
    expect(listed('docs/trace.md', 'Reasons')).toEqual(TABLE_REASONS.filter((name) => name !== ''));
  });

  it('has every finding', () => {
    expect(listed('docs/trace.md', 'Findings')).toEqual([...FINDING_CODES]);
  });

  it('has every event', () => {
    const world = ['trace-world', 'event-log']
      .map((file) => readFileSync(join(repo, `src/trace/${file}.ts`), 'utf8'))
      .join('');
    const plain = /const PLAIN_EVENTS = \[([^\]]*)\]/.exec(world)?.[1] ?? '';
    const names = [...plain.matchAll(/'([a-z-]+)'/g), ...world.matchAll(/type: '([a-z-]+)'/g)].map(
      ([, name = '']) => name,
    );
    expect(names).toContain('fault');
    expect(listed('docs/trace.md', 'Events').toSorted()).toEqual(names.toSorted());
  });
});
