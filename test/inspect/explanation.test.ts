import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFunction, type PasidFeature, PciSegment } from '../../src/index.ts';
import {
  type DumpedFunctionExplanation,
  explainFunction,
  explainTopology,
  type FunctionExplanation,
  LINUX_CHECKS,
  parseDump,
  type TopologyOptions,
} from '../../src/inspect/index.ts';
import { TableIommu } from '../../src/viommu/table/index.ts';
import { arbitraryConfig, arbitraryOptions } from '../support/arbitrary-config.ts';
import { build, type FunctionPlan, rootPort } from './topology-builder.ts';

const captures = fileURLToPath(new URL('../../vmm-glue/captures/', import.meta.url));
const capture = (name: string): Uint8Array => {
  const [first] = parseDump(readFileSync(`${captures}${name}`));
  if (first === undefined) throw new Error(name);
  return first.bytes;
};

const pasid: PasidFeature = { width: 20, execute: true };

/** Explains the last of `plans`, with the others around it. */
function explainLast(
  plans: readonly FunctionPlan[],
  options: TopologyOptions = { pasid },
): DumpedFunctionExplanation {
  const { functions } = explainTopology(plans.map(build), options);
  const last = functions.at(-1);
  if (last === undefined) throw new Error('no function');
  return last;
}

const endpoint = (changes: Partial<FunctionPlan> = {}): FunctionPlan => ({ bdf: '01:00.0', ...changes });

/** `id` or `id@port` of the checks with `status`. */
function checksThat(one: FunctionExplanation, status: 'pass' | 'fail' | 'unknown'): string[] {
  return one.checks
    .filter((check) => check.status === status)
    .map(({ id, port }) => (port === null ? id : `${id}@${port}`));
}

describe('the checks of Linux', () => {
  it('are all made, in order, and pass below a good root port', () => {
    const one = explainLast([rootPort(), endpoint()]);
    expect(one.checks.map(({ id }) => id)).toEqual(Object.keys(LINUX_CHECKS));
    expect(checksThat(one, 'pass')).toHaveLength(10);
    expect(one.answer).toMatchObject({ verdict: 'yes', failed: [], unknown: [] });
    expect(one.above).toEqual(['00:01.0']);
  });

  const upstream: FunctionPlan = { bdf: '01:00.0', type: 5, secondary: 2 };
  const downstream: FunctionPlan = { bdf: '02:03.0', type: 6, secondary: 3, acs: [0x5f, 0x1d] };
  const below: FunctionPlan = { bdf: '03:00.0' };

  it.each<[what: string, plans: FunctionPlan[], options: TopologyOptions, fails: string[]]>([
    ['a switch that does all', [rootPort(), upstream, downstream, below], {}, []],
    [
      'a switch whose upstream port lacks the prefix',
      [rootPort(), { ...upstream, devCap2: 0 }, downstream, below],
      {},
      ['end-end-prefix-above@01:00.0'],
    ],
    [
      'a switch whose downstream port lacks ACS',
      [rootPort(), upstream, { ...downstream, acs: null }, below],
      {},
      ['acs-above@02:03.0'],
    ],
    [
      'a multi-function upstream port',
      [rootPort(), { ...upstream, multiFunction: true }, downstream, below],
      {},
      ['acs-above@01:00.0'],
    ],
    [
      'no prefix at the root port',
      [rootPort({ devCap2: 0 }), endpoint()],
      {},
      ['end-end-prefix-above@00:01.0'],
    ],
    ['no ACS at the root port', [rootPort({ acs: null }), endpoint()], {}, ['acs-above@00:01.0']],
    ['ACS that can select nothing', [rootPort({ acs: [0, 0] }), endpoint()], {}, []],
    ['ACS that the guest has yet to enable', [rootPort({ acs: [0x5f, 0] }), endpoint()], {}, []],
    [
      'a root port of version 1',
      [rootPort({ version: 1 }), endpoint()],
      {},
      ['end-end-prefix-above@00:01.0'],
    ],
    [
      'a PCIe to PCI bridge above',
      [rootPort(), { bdf: '01:00.0', type: 7, secondary: 2 }, { bdf: '02:00.0' }],
      {},
      ['acs-above@01:00.0'],
    ],
    [
      'a conventional bridge above',
      [{ bdf: '00:1e.0', type: null, secondary: 1 }, endpoint()],
      {},
      ['end-end-prefix-above@00:1e.0', 'acs-above@00:1e.0'],
    ],
    ['an endpoint on the root bus', [rootPort(), { bdf: '00:02.0' }], {}, ['end-end-prefix-above']],
    [
      'a port that nobody configured, whose secondary bus is 0',
      [rootPort({ bdf: '01:01.0', secondary: 0 }), { bdf: '00:03.0' }],
      {},
      ['end-end-prefix-above'],
    ],
    ['the same as an RC integrated endpoint', [rootPort(), { bdf: '00:02.0' }], { present: 'rciep' }, []],
    ['an RC integrated endpoint alone', [{ bdf: '00:02.0', type: 9 }], {}, []],
    ['bit 7 of Header Type', [rootPort(), endpoint({ multiFunction: true })], {}, ['acs']],
    ['bit 7, with ACS', [rootPort(), endpoint({ multiFunction: true, acs: [0, 0] })], {}, []],
    ['function 1 beside function 0', [rootPort(), endpoint(), endpoint({ bdf: '01:00.1' })], {}, ['acs']],
    [
      'function 1 of another device',
      [rootPort(), endpoint({ bdf: '01:01.0' }), endpoint({ bdf: '01:00.1' })],
      {},
      [],
    ],
    ['a VF without IDs', [rootPort(), endpoint({ ids: 0xffffffff })], {}, ['function-found']],
    ['a VF with IDs', [rootPort(), endpoint({ ids: 0xffffffff })], { vendorId: 1, deviceId: 2 }, []],
    [
      'an endpoint of version 1',
      [rootPort(), endpoint({ version: 1 })],
      {},
      ['pasid-capability', 'express-version', 'end-end-prefix'],
    ],
    [
      'no PCI Express Capability',
      [rootPort(), endpoint({ type: null })],
      {},
      ['extended-space', 'pasid-capability', 'end-end-prefix'],
    ],
    [
      '256 bytes',
      [rootPort(), endpoint({ size: 0x100 })],
      {},
      ['extended-space', 'pasid-capability', 'end-end-prefix'],
    ],
    [
      'a place that is taken',
      [rootPort(), endpoint({ acs: [0, 0] })],
      { pasidOffset: 0x104 },
      ['pasid-capability', 'end-end-prefix'],
    ],
    [
      'the same bus in another domain',
      [rootPort({ bdf: '0001:00:01.0', devCap2: 0 }), rootPort(), endpoint()],
      {},
      [],
    ],
  ])('%s', (_what, plans, options, fails) => {
    // The function's own bit 21 is shown with the capability only.
    const bare = plans.map((plan, index) =>
      index === plans.length - 1 && plan.devCap2 === undefined ? { ...plan, devCap2: 0 } : plan,
    );
    const one = explainLast(bare, { pasid, ...options });
    expect(checksThat(one, 'fail')).toEqual(fails);
    expect(checksThat(one, 'unknown')).toEqual([]);
    expect(one.answer.verdict).toBe(fails.length === 0 ? 'yes' : 'no');
    if (fails[0] !== undefined) {
      const [id = '', port = ''] = fails[0].split('@');
      expect(one.answer.failed[0]).toBe(id);
      expect(one.answer.sentence).toContain(port);
    }
  });

  it.each<[what: string, plans: FunctionPlan[], unknown: string[]]>([
    ['the function alone', [endpoint()], ['end-end-prefix-above', 'acs-above']],
    [
      'a function at 00:00.0, as of a binary dump',
      [endpoint({ bdf: '00:00.0' })],
      ['end-end-prefix-above', 'acs-above'],
    ],
    [
      'a port of another bus',
      [rootPort({ secondary: 7 }), endpoint()],
      ['end-end-prefix-above', 'acs-above'],
    ],
    [
      'a switch without its root port',
      [{ bdf: '02:03.0', type: 6, secondary: 3, acs: [0, 0] }, { bdf: '03:00.0' }],
      ['end-end-prefix-above', 'acs-above'],
    ],
    [
      '64 bytes of the port',
      [rootPort({ size: 64 }), endpoint()],
      ['end-end-prefix-above@00:01.0', 'acs-above@00:01.0'],
    ],
    ['256 bytes of the port', [rootPort({ size: 256 }), endpoint()], ['acs-above@00:01.0']],
    [
      'ports in a circle',
      [
        { bdf: '01:00.0', type: 6, secondary: 2, acs: [0, 0] },
        { bdf: '02:00.0', type: 5, secondary: 1 },
        { bdf: '02:01.0' },
      ],
      ['end-end-prefix-above', 'acs-above'],
    ],
  ])('cannot tell: %s', (_what, plans, unknown) => {
    const one = explainLast(plans);
    expect(checksThat(one, 'unknown')).toEqual(unknown);
    expect(checksThat(one, 'fail')).toEqual([]);
    expect(one.answer.verdict).toBe('yes');
    expect(one.answer.sentence).toMatch(/^yes, if what is unknown passes/);
  });

  it('give the register as the guest sees it', () => {
    const one = explainLast([rootPort(), endpoint({ devCap2: 0x12 })]);
    const registers = Object.fromEntries(one.checks.map(({ id, register }) => [id, register]));
    expect(registers['pasid-capability']).toEqual({
      name: 'PASID Capability',
      offset: 0x104,
      size: 2,
      mask: 0x1f00,
      value: 0x1402,
    });
    expect(registers['end-end-prefix']).toMatchObject({
      offset: 0x64,
      size: 4,
      mask: 0x200000,
      value: 0x00700012,
    });
    expect(registers['acs-above']).toMatchObject({ offset: 0x106, size: 2, mask: 0x14, value: 0x1d });
    expect(registers['extended-space']).toMatchObject({ offset: 0x100, value: 0x0001001b });
    expect(registers['features']).toMatchObject({ offset: 0x104, mask: 6, value: 0x1402 });
  });

  it('read no Device Capabilities 2 where there is none', () => {
    const one = explainLast([rootPort({ version: 1 }), endpoint({ version: 1 })]);
    const prefix = one.checks.filter(({ id }) => id.startsWith('end-end-prefix'));
    expect(prefix.map(({ status, register }) => [status, register])).toEqual([
      ['fail', null],
      ['fail', null],
    ]);
  });

  it('ask for the permissions that the guest will ask for', () => {
    const fn = createFunction({ physical: build(endpoint()).bytes, pasid: { width: 8 } });
    const refused = explainFunction(fn, { pasid: { width: 8, privileged: true } });
    expect(checksThat(refused, 'fail')).toEqual(['features']);
    expect(checksThat(explainFunction(fn), 'fail')).toEqual([]);
  });
});

describe('the answer', () => {
  it('says that none is asked for, and what would be if it were', () => {
    const { answer, pasid: shown } = explainFunction(capture('igb-82576.txt'));
    expect(shown).toBeNull();
    expect(answer.verdict).toBe('no');
    expect(answer.sentence).toMatch(
      /^no: no PASID capability is asked for .*; if 20 bits were asked for: yes, if/,
    );
  });

  it('tells a physical capability from the virtual one', () => {
    const bytes = build(endpoint({ type: 9 })).bytes;
    bytes.set([0x1b, 0, 1, 0, 0, 0x10, 0, 0], 0x100);
    expect(explainFunction(bytes).answer.sentence).toMatch(
      /^no: the physical PASID capability at 0x100 \(16 bits\) is always hidden, .*; if 16 bits were asked for: yes:/,
    );
    const asked = explainFunction(bytes, { pasid });
    expect(asked.extendedCapabilities).toMatchObject([
      { offset: 0x100, id: 0x1b, source: 'virtual', placement: 'in the place of the physical one' },
    ]);
  });

  it('leaves ports out, and wants every function that shows PASID', () => {
    const good = [rootPort(), endpoint()].map(build);
    const bad = [rootPort({ bdf: '00:02.0', secondary: 2, acs: null }), endpoint({ bdf: '02:00.0' })].map(
      build,
    );
    expect(explainTopology(good, { pasid }).answer).toBe('yes');
    expect(explainTopology([...good, ...bad], { pasid }).answer).toBe('no');
    expect(explainTopology([...good, ...bad], { pasid, only: good }).answer).toBe('yes');
    expect(explainTopology(good.slice(0, 1), { pasid }).functions[0]?.answer.verdict).toBe('port');
    expect(explainTopology(good.slice(0, 1), { pasid }).answer).toBe('no');
    // One that cannot show it does not spoil the others, as in a view.
    const conventional = build({ bdf: '00:1f.0', type: null, size: 0x100 });
    expect(explainTopology([...good, conventional], { pasid }).answer).toBe('yes');
    expect(explainTopology(good).answer).toBe('no');
  });

  it('refuses what has no place, and goes on', () => {
    const { answer, ...rest } = explainFunction(build(endpoint({ size: 0x100 })).bytes, { ats: true });
    const omitted = rest.findings.find(({ code }) => code === 'pasid-omitted');
    expect(omitted?.message).toContain('256 bytes');
    expect(answer.verdict).toBe('no');
    expect(rest.identity.size).toBe(0x100);
  });
});

describe('the bytes', () => {
  const one = explainFunction(capture('igb-82576.txt'), { pasid });

  it('list the chains with what is hidden', () => {
    expect(one.capabilities.map(({ offset, id, length }) => [offset, id, length])).toEqual([
      [0x40, 0x01, 8],
      [0x50, 0x05, 24],
      [0x70, 0x11, 12],
      [0xa0, 0x10, 60],
    ]);
    expect(one.extendedCapabilities.map(({ offset, id, source }) => [offset, id, source])).toEqual([
      [0x100, 0x01, 'mixed'],
      [0xff8, 0x1b, 'virtual'],
    ]);
    expect(one.hidden.map(({ offset, id, name }) => [offset, id, name])).toEqual([
      [0x150, 0x0e, 'Alternative Routing-ID Interpretation'],
      [0x160, 0x10, 'Single Root I/O Virtualization'],
    ]);
  });

  it('say where one more capability could go', () => {
    expect(one.gaps).toEqual([
      { start: 0x148, end: 0x150 },
      { start: 0x158, end: 0x160 },
      { start: 0x1a0, end: 0xff8 },
    ]);
    for (const { start } of one.gaps) {
      const moved = explainFunction(capture('igb-82576.txt'), { pasid, pasidOffset: start });
      expect(moved.pasid?.offset).toBe(start);
      expect(moved.extendedCapabilities.find(({ id }) => id === 0x1b)?.placement).toBe(
        'where it was asked for',
      );
    }
  });

  it('begin gaps where a header may stand', () => {
    const { bytes } = build(endpoint());
    bytes.set([0x23, 0, 1, 0, 0x34, 0x12, 0xa0, 0], 0x100);
    const dvsec = explainFunction(bytes, { pasid });
    expect(dvsec.owners.find(({ start }) => start === 0x10a)).toEqual({
      start: 0x10a,
      end: 0xff8,
      source: 'free',
      owner: '',
    });
    expect(dvsec.gaps).toEqual([{ start: 0x10c, end: 0xff8 }]);
  });

  it('say why a capability stands where it does', () => {
    const all = explainFunction(capture('igb-82576.txt'), { pasid, ats: true, pri: true });
    expect(all.extendedCapabilities.map(({ offset, placement }) => [offset, placement])).toEqual([
      [0x100, null],
      [0x1a0, expect.stringContaining('the lowest gap behind the last capability')],
      [0x1b0, expect.stringContaining('the lowest gap behind the last capability')],
      [0xff8, 'the last bytes of the space were free'],
    ]);
    const [head] = explainFunction(capture('nvme.txt'), { pasid }).extendedCapabilities;
    expect(head).toMatchObject({ offset: 0x100, placement: 'an empty chain begins at 0x100' });
  });
});

describe('the advice', () => {
  const advice = (options: TopologyOptions, bytes = capture('igb-82576.txt')): [string, boolean | null][] =>
    explainFunction(bytes, options).advice.map(({ topic, ok }) => [topic, ok]);

  it('is about the vIOMMU, and about ATS and PRI where they are shown', () => {
    expect(advice({})).toEqual([]);
    expect(advice({ pasid })).toEqual([['viommu', null]]);
    expect(advice({ pasid, ats: true, pri: true, control: 'drop' })).toEqual([
      ['viommu', null],
      ['control', false],
      ['ats', true],
      ['pri', true],
    ]);
  });

  it('finds a physical ATS and PRI that intel-iommu leaves off', () => {
    const { bytes } = build(endpoint());
    bytes.set([0x0f, 0, 1, 0x20, 0, 0, 0, 0], 0x100);
    bytes.set([0x13, 0, 1, 0, 0, 0, 0, 1], 0x200);
    expect(advice({ pasid }, bytes)).toEqual([
      ['viommu', null],
      ['ats', false],
      ['pri', false],
    ]);
  });
});

describe('a function that exists', () => {
  it('is not touched: its width can still follow the vIOMMU', () => {
    const fn = createFunction({ physical: capture('igb-82576.txt'), pasid });
    expect(explainFunction(fn).pasid?.width).toBe(20);
    new PciSegment({ iommu: new TableIommu({ pasidWidth: 9 }) }).add('00:01.0', fn);
    expect(explainFunction(fn).pasid?.width).toBe(9);
  });

  it('is explained as it is now', () => {
    const fn = createFunction({
      physical: build(endpoint({ acs: [0x1f, 0], multiFunction: true })).bytes,
      pasid,
    });
    fn.write(0x106, 2, 0x14);
    const acs = explainFunction(fn).checks.find(({ id }) => id === 'acs');
    expect(acs).toMatchObject({ status: 'pass', register: { offset: 0x106, value: 0x14 } });
  });
});

describe('for arbitrary bytes', () => {
  it('never throws, owns every byte once, and answers by its checks', () => {
    fc.assert(
      fc.property(
        arbitraryConfig,
        arbitraryConfig,
        arbitraryOptions,
        fc.integer({ min: 0, max: 0xffff }),
        (first, second, options, rid) => {
          const untouched = first.slice();
          const dump = [first, second].map((bytes, index) => ({
            bdf: index === 0 ? '00:01.0' : 'arbitrary',
            rid: index === 0 ? 8 : rid,
            title: '',
            bytes,
          }));
          const { functions } = explainTopology(dump, options);
          for (const one of [explainFunction(first, options), ...functions]) {
            const ends = [0, ...one.owners.map(({ end }) => end)];
            const torn = one.owners.filter(({ start, end }, i) => start !== ends[i] || end <= start);
            expect([torn, ends.at(-1)]).toEqual([[], one.identity.size]);
            const { verdict, failed } = one.answer;
            if (verdict === 'yes') expect([failed, one.pasid === null]).toEqual([[], false]);
            if (verdict === 'port') expect(one.checks).toEqual([]);
            expect(JSON.parse(JSON.stringify(one))).toEqual(one);
          }
          expect(first).toEqual(untouched);
        },
      ),
      { numRuns: 300 },
    );
  });
});
