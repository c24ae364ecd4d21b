import { describe, expect, it } from 'vitest';
import { walkCapabilities, walkExtendedCapabilities } from '../../src/pci/capability-chain.ts';
import { ByteConfigSpace } from '../../src/pci/config-space.ts';
import { buildConfig } from '../support/config-builder.ts';

function standard(
  links: readonly (readonly [at: number, id: number, next: number])[],
  pointer = links[0]?.[0] ?? 0,
) {
  const bytes = new Uint8Array(256);
  bytes[6] = 0x10;
  bytes[0x34] = pointer;
  for (const [at, id, next] of links) bytes.set([id, next], at);
  const { capabilities, findings } = walkCapabilities(new ByteConfigSpace(bytes));
  return {
    at: capabilities.map(({ offset }) => offset),
    findings: findings.map(({ code, offset }) => [code, offset]),
  };
}

function extended(links: readonly (readonly [at: number, header: number])[]) {
  const bytes = buildConfig();
  const view = new DataView(bytes.buffer);
  for (const [at, header] of links) view.setUint32(at, header, true);
  const space = new ByteConfigSpace(bytes);
  const { capabilities, findings } = walkExtendedCapabilities(space, walkCapabilities(space));
  return {
    at: capabilities.map(({ offset }) => offset),
    findings: findings.map(({ code, offset }) => [code, offset]),
    capabilities,
  };
}

describe('the standard chain', () => {
  it('is empty without Status bit 4, or with a null pointer', () => {
    const bytes = new Uint8Array(256);
    bytes[0x34] = 0x40;
    bytes[0x40] = 0x01;
    expect(walkCapabilities(new ByteConfigSpace(bytes))).toEqual({ capabilities: [], findings: [] });
    expect(standard([], 0)).toEqual({ at: [], findings: [] });
  });

  it.each([
    ['a cycle of one', [[0x40, 1, 0x40]], [0x40], ['chain-cycle', 0x40]],
    [
      'a cycle',
      [
        [0x40, 1, 0x50],
        [0x50, 5, 0x40],
      ],
      [0x40, 0x50],
      ['chain-cycle', 0x50],
    ],
    ['a misaligned pointer', [[0x40, 1, 0x51]], [0x40], ['chain-misaligned', 0x40]],
    ['a pointer into the header', [[0x40, 1, 0x3c]], [0x40], ['chain-out-of-range', 0x40]],
    ['a pointer of all-ones', [[0x40, 1, 0xff]], [0x40], ['chain-all-ones', 0x40]],
    [
      'a header of all-ones',
      [
        [0x40, 1, 0x50],
        [0x50, 0xff, 0xff],
      ],
      [0x40],
      ['chain-all-ones', 0x50],
    ],
  ] as const)('stops at %s', (_name, links, at, finding) => {
    expect(standard(links)).toEqual({ at, findings: [finding] });
  });

  it('names the Capabilities Pointer when that is what is wrong', () => {
    expect(standard([], 0x20).findings).toEqual([['chain-out-of-range', 0x34]]);
    expect(standard([], 0x41).findings).toEqual([['chain-misaligned', 0x34]]);
  });

  it('may have 48 headers', () => {
    const links = Array.from(
      { length: 48 },
      (_, i) => [0x40 + 4 * i, 0, i === 47 ? 0 : 0x44 + 4 * i] as const,
    );
    expect(standard(links).at).toHaveLength(48);
    expect(standard(links).findings).toEqual([]);
  });

  it('of a CardBus bridge begins at 14h', () => {
    const bytes = buildConfig({ size: 256, headerType: 0x82 });
    expect(walkCapabilities(new ByteConfigSpace(bytes)).capabilities.map(({ offset }) => offset)).toEqual([
      0x40,
    ]);
  });
});

describe('the extended chain', () => {
  it('is empty where 0x100 reads 0, and in 256 bytes', () => {
    expect(extended([])).toMatchObject({ at: [], findings: [] });
    const space = new ByteConfigSpace(buildConfig({ size: 256 }));
    expect(walkExtendedCapabilities(space, walkCapabilities(space)).capabilities).toEqual([]);
  });

  it.each([
    [
      'a cycle',
      [
        [0x100, 0x20010001],
        [0x200, 0x1001000d],
      ],
      [0x100, 0x200],
      ['chain-cycle', 0x200],
    ],
    ['a misaligned pointer', [[0x100, 0x20200001]], [0x100], ['chain-misaligned', 0x100]],
    ['a pointer below 0x100', [[0x100, 0x0fc10001]], [0x100], ['chain-out-of-range', 0x100]],
    ['a pointer of all-ones', [[0x100, 0xfff10001]], [0x100], ['chain-all-ones', 0x100]],
    [
      'a header of all-ones',
      [
        [0x100, 0x20010001],
        [0x200, 0xffffffff],
      ],
      [0x100],
      ['chain-all-ones', 0x200],
    ],
    ['all-ones at its head', [[0x100, 0xffffffff]], [], ['chain-all-ones', 0x100]],
  ] as const)('stops at %s', (_name, links, at, finding) => {
    expect(extended(links)).toMatchObject({ at, findings: [finding] });
  });

  it('follows a null header, and goes backwards', () => {
    const links = [
      [0x100, 0x30000000],
      [0x300, 0x20010001],
      [0x200, 0x0001000d],
    ] as const;
    expect(extended(links)).toMatchObject({ at: [0x100, 0x300, 0x200], findings: [] });
  });

  it('may have 960 headers', () => {
    const links = Array.from({ length: 960 }, (_, i) => {
      const at = 0x100 + 4 * i;
      return [at, i === 959 ? 0x00010000 : ((at + 4) << 20) >>> 0] as const;
    });
    expect(extended(links).at).toHaveLength(960);
    expect(extended(links).findings).toEqual([]);
  });

  it('cuts a capability where the next begins and where the space ends', () => {
    const { capabilities, findings } = extended([
      [0x100, 0x11020001],
      [0x110, 0xff010003],
      [0xff0, 0x00010001],
    ]);
    expect(capabilities.map(({ length }) => length)).toEqual([0x10, 12, 0x10]);
    expect(findings).toEqual([
      ['capability-clipped', 0x100],
      ['capability-clipped', 0xff0],
    ]);
  });

  it('tells unknown IDs', () => {
    const { capabilities } = extended([[0x100, 0x00010037]]);
    expect(capabilities).toMatchObject([{ id: 0x37, version: 1, length: 4, unknown: true }]);
  });
});
