// What mock-in-guest.mjs is to see: our code against the mock device of the kernel's own test of iommufd. That test looks
// into the kernel's page tables, counts pins, and refuses what no device at hand refuses.
import { beforeAll, expect, it } from 'vitest';
import { type CommandRun, jsonLines } from './guest.ts';

const IOVA = 0x4000_0000;
const PAGE = 0x1000;
const LAST = 0xf_ffff;
const FAILS_TO_REPLACE = 1024;
/** The mock says that it is this. */
const HW_INFO_TYPE_SELFTEST: number = 0xfeedbeef;
const READ = 0x1;
const WRITE = 0x2;
const EXECUTE = 0x4;
const PRIVILEGED = 0x8;

/** What the listeners of the vIOMMU hear. */
function heard(pasid: number | null, prgi: number, letters: string, address = IOVA): unknown {
  return {
    rid: 0x100,
    pasid,
    prgi,
    last: true,
    read: letters.includes('r'),
    write: letters.includes('w'),
    execute: letters.includes('x'),
    privileged: letters.includes('p'),
    address: `0x${address.toString(16)}`,
  };
}

/** A message of the fault queue. The kernel counts cookies from 1, and gives the lowest that is free. */
function read(
  cookie: number,
  pasid: number | null,
  group: number,
  permissions: number,
  address = IOVA,
): unknown {
  // A last page, and whether the PASID is valid.
  return ['read', cookie, { flags: pasid === null ? 2 : 3, pasid: pasid ?? 0, group, permissions, address }];
}

const SUCCESS = 0;
const INVALID = 1;
/** An answer of 8 bytes that the kernel took. */
const wrote = (cookie: number, code: number): unknown => ['wrote', cookie, code, 8];
const silence = { heard: [], wire: [] };
const answered = (cookie: number, code: number): unknown => ({ heard: [], wire: [wrote(cookie, code)] });

/** The tests, of what the command printed. */
export function testMockDevice(run: () => CommandRun): void {
  let checks: ReadonlyMap<string, unknown>;
  beforeAll(() => {
    checks = jsonLines(run().out, 'check');
  });

  const check = (name: string): unknown => {
    const line = checks.get(name);
    if (line === undefined) throw new Error(`the guest did not come to "${name}"`);
    return typeof line === 'object' && line !== null && 'result' in line ? line.result : undefined;
  };

  it('comes to its end, and leaves no objects', () => {
    expect(run().code).toBe(0);
    expect(check('end')).toBe(0);
  });

  it('asks it for its PASIDs', () => {
    expect(check('query')).toMatchObject({
      feature: { width: 20, execute: false, privileged: false },
      source: 'iommufd',
      iommu: 'unknown',
      attach: true,
      ats: false,
    });
    // Nothing that was tried failed, and there was no complaint when it was taken back.
    const failed = expect.arrayContaining([expect.objectContaining({ outcome: 'no' })]);
    expect(check('query')).not.toMatchObject({ steps: failed });
    expect(check('query')).toMatchObject({
      steps: expect.arrayContaining([
        {
          call: 'IOMMU_GET_HW_INFO',
          outcome: 'note',
          text: `the IOMMU is of type ${HW_INFO_TYPE_SELFTEST}, which is newer than this software`,
        },
        { call: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', outcome: 'done', text: 'attached to PASID 0xfffff' },
      ]),
    });
  });

  it('has none without PASID, and none when it is gone', () => {
    expect(check('query without PASID')).toMatchObject({ source: 'none', iommu: 'unknown', ats: false });
    expect(check('query without PASID')).not.toHaveProperty('feature');
    expect(check('query when it is gone')).toMatchObject({
      source: 'none',
      steps: expect.arrayContaining([
        expect.objectContaining({ errno: 'ENOENT', text: 'the iommufd does not know the device' }),
      ]),
    });
  });

  it.each([
    ['attached', { attached: [null, 5, LAST], kernel: ['ok', 'ok', 'ok', 'EINVAL'] }],
    [
      'mapped',
      {
        there: ['ok', 'ok', 'ok'],
        not: ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL'],
        pinned: ['ok', 'ok', 'ok', 'EIO'],
      },
    ],
    ['cut', { there: ['ok', 'ok', 'ok'], not: 'EINVAL', pinned: ['ok', 'ok', 'ok'], failures: [] }],
    ['detached', { attached: [null, 5], kernel: ['ok', 'ok'] }],
    [
      'closed',
      {
        kernel: ['ok', 'ok'],
        pinned: 'ok',
        left: 0,
        events: [
          ...[5, LAST, null].map((pasid) => ['attached', pasid]),
          ...[LAST, 5, null].map((pasid) => ['detached', pasid]),
        ],
      },
    ],
    [
      'guest DMA',
      {
        mapped: ['ok', 'ok'],
        refused: expect.stringContaining('EEXIST (the range is mapped already'),
        cleared: ['EINVAL', 'ok'],
        left: 0,
      },
    ],
  ])("the kernel's page tables are those of the model: %s", (name, expected) => {
    expect(check(name)).toEqual(expected);
  });

  it('gives a PASID up whose mappings the IOMMU has no addresses for', () => {
    const refused = expect.stringMatching(/^IOMMU_IOAS_MAP .* EINVAL \(.* reserved by the host/);
    const found = expect.stringMatching(
      /^IOMMU_HWPT_ALLOC .* EADDRINUSE \(something is mapped where the IOMMU/,
    );
    expect(check('beyond the aperture')).toEqual({
      events: [
        ['attached', 5],
        ['detached', 5],
        ['failure', 5, 'host', refused],
      ],
      blocked: true,
      kernel: 'ok',
      found: [[5, 'host', found]],
      left: 0,
    });
  });

  it('gives a PASID up whose page table the driver fails to replace, and no other', () => {
    expect(check('replacement refused')).toEqual({
      refused: { attached: [5], blocked: [false, true], kernel: ['ok', 'ok', 'ok'] },
      again: { attached: [5, FAILS_TO_REPLACE], blocked: false, kernel: 'ok' },
      events: [
        ['attached', 5],
        ['attached', FAILS_TO_REPLACE],
        ['replaced', 5],
        ['detached', FAILS_TO_REPLACE],
        [
          'failure',
          FAILS_TO_REPLACE,
          'host',
          expect.stringContaining('PASID 0x400 of the mock failed: ENOMEM'),
        ],
        ['attached', FAILS_TO_REPLACE],
        ['detached', 5],
        ['detached', FAILS_TO_REPLACE],
      ],
      left: 0,
    });
  });

  it.each([
    ['PRI off', silence],
    [
      'PRI on',
      {
        events: [
          ['attached', null],
          ['attached', 5],
          ['replaced', null],
          ['replaced', 5],
        ],
        mapped: 'ok',
      },
    ],
    [
      'success',
      {
        one: {
          heard: [heard(5, 3, 'rw', IOVA + PAGE)],
          wire: [read(1, 5, 3, READ | WRITE, IOVA + PAGE)],
        },
        answered: answered(1, SUCCESS),
        mapped: 'ok',
      },
    ],
    [
      'invalid',
      [
        { heard: [heard(5, 0x1ff, 'rxp')], wire: [read(1, 5, 0x1ff, READ | EXECUTE | PRIVILEGED)] },
        answered(1, INVALID),
      ],
    ],
    ['failure', [{ heard: [heard(5, 4, 'w')], wire: [read(1, 5, 4, WRITE)] }, answered(1, INVALID)]],
    [
      'without PASID',
      [
        { heard: [heard(null, 3, 'r')], wire: [read(1, null, 3, READ | EXECUTE | PRIVILEGED)] },
        answered(1, SUCCESS),
      ],
    ],
    // The kernel itself refuses these.
    ['not attached', silence],
    [
      'two at once',
      [
        {
          heard: [heard(5, 1, 'r'), heard(null, 1, 'r')],
          wire: [read(1, 5, 1, READ), read(2, null, 1, READ)],
        },
        answered(2, SUCCESS),
        answered(1, INVALID),
      ],
    ],
    [
      'answered once',
      [{ heard: [heard(5, 2, 'r')], wire: [read(1, 5, 2, READ)] }, answered(1, SUCCESS), silence, silence],
    ],
    [
      // The kernel waits for an answer, and for one only.
      'waiting',
      {
        unanswered: { heard: [heard(5, 2, 'r')], wire: [read(1, 5, 2, READ)] },
        taken: [8],
        late: { heard: [], wire: [['wrote', 1, SUCCESS, 'EINVAL']] },
      },
    ],
    [
      'same index',
      [
        {
          heard: [heard(5, 6, 'r'), heard(5, 6, 'r', IOVA + PAGE)],
          wire: [read(1, 5, 6, READ), read(2, 5, 6, READ, IOVA + PAGE), wrote(1, INVALID)],
        },
        answered(2, SUCCESS),
      ],
    ],
    ['nobody listens', [{ heard: [], wire: [read(1, 5, 2, READ), wrote(1, INVALID)] }, ['EINVAL']]],
    // The kernel answered it itself.
    ['detached meanwhile', [{ heard: [heard(5, 2, 'r')], wire: [read(1, 5, 2, READ)] }, ['EINVAL'], silence]],
    ['detached', silence],
    ['attached again', [{ heard: [heard(5, 2, 'r')], wire: [read(1, 5, 2, READ)] }, answered(1, SUCCESS)]],
    ['closed', { left: 0, failures: [] }],
  ])('page requests and their answers: %s', (name, expected) => {
    expect(check(`page requests: ${name}`)).toEqual(expected);
  });

  it.each([
    ['map twice', 'EEXIST (the range is mapped already'],
    ['map off a page', 'EINVAL (the range is not aligned'],
    ['map what is not there', 'EFAULT (the memory is not mapped in this process'],
    ['map past the end', 'EOVERFLOW (the range runs past the end'],
    ['map into nothing', 'ENOENT (the address space does not exist'],
    ['unmap half', 'ENOENT (nothing is mapped there, or the range ends inside a mapping'],
    ['unmap nothing', 'ENOENT (nothing is mapped there'],
    ['unmap past the end', 'EOVERFLOW (the range runs past the end'],
    [
      'a table of nothing',
      'EINVAL (the IOMMU takes no page table with these flags, or the address space does not',
    ],
    ['a table with no such queue', 'ENOENT (the iommufd does not know the device or the fault queue'],
    ['a parent with a queue', 'EOPNOTSUPP ('],
    ["VT-d's tables", 'EOPNOTSUPP (the IOMMU has no page tables for PASIDs, or takes no tables of this kind'],
    ['tables on no parent', 'EINVAL (the IOMMU takes no page table with these flags, or'],
    ['invalidate no tables', 'EINVAL (the host takes no invalidations of this page table'],
    ['invalidate nothing', 'ENOENT (the page table does not exist'],
    ['attach nothing', 'ENOENT (the page table does not exist'],
    ['attach beside a table without PASIDs', 'EINVAL ('],
    [
      'attach past the width',
      'EINVAL (this kernel attaches no PASIDs (Linux before 6.15), or the PASID is out of',
    ],
  ])('the kernel refuses, and the error says why: %s', (what, words) => {
    const [, why = ''] = String(check(`refused: ${what}`)).split(' the mock failed: ');
    expect(why.slice(0, words.length)).toBe(words);
  });

  it("does not take the mock's tables for those of VT-d", () => {
    expect(check('nested')).toEqual({
      before: ['ok', 'ok'],
      refused: expect.stringMatching(
        /^VPCI_HOST_CALL: IOMMU_HWPT_INVALIDATE .* EINVAL \(the host takes no inval/,
      ),
      after: ['ok', 'ok'],
      // What the mock takes is seen.
      own: 'ok',
      afterOwn: ['EINVAL', 'EINVAL'],
    });
    expect(check('mirror of VT-d')).toMatch(
      /^VPCI_UNSUPPORTED: .* it is of a type that is newer than this software;/,
    );
  });
}
