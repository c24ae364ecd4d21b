import { describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions, type PciFunction } from '../../src/index.ts';
import { AER_HEAD, type BuiltCapability, type BuiltConfig, buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

// Where synthesized capabilities go: design section 4 from "place" to "existing PASID capability", and section 3.

type Options = Omit<PassthroughOptions, 'physical'>;

function make(
  extended: readonly BuiltCapability[],
  options: Options = {},
  more: BuiltConfig = {},
): PciFunction {
  return createFunction({ physical: buildConfig({ ...more, extended }), pasid: { width: 16 }, ...options });
}

/** `offset:id` of the guest's extended chain, followed by reading it. */
function chain(fn: PciFunction): string[] {
  const links: string[] = [];
  for (let at = 0x100; at !== 0 && links.length < 1000; ) {
    const header = fn.read(at, 4);
    links.push(`${at.toString(16)}:${(header & 0xffff).toString(16)}`);
    at = header >>> 20;
  }
  return links;
}

const dvsec = (offset: number, length: number): BuiltCapability => ({
  offset,
  id: 0x23,
  body: [0, 0, (length & 0xf) << 4, length >> 4],
});

describe('explicit offset', () => {
  it.each([0x140, 0x200, 0xff4, 0xff8])('%i is taken', (pasidOffset) => {
    const fn = make([AER_HEAD], { pasidOffset });
    expect(fn.pasid?.offset).toBe(pasidOffset);
    expect(chain(fn)).toEqual(['100:1', `${pasidOffset.toString(16)}:1b`]);
  });

  it.each([
    0,
    4,
    0x40,
    0xf8,
    0xfc,
    0xffc,
    0x1000,
    0x2000,
    -8,
    0x102,
    0x141,
    (0x200).valueOf() + 0.5,
    Number.NaN,
  ])('%d is outside or misaligned', (pasidOffset) => {
    refusal('VPCI_PASID_OFFSET', () => make([AER_HEAD], { pasidOffset }));
    const fn = make([AER_HEAD], { pasidOffset, onPasidRefused: 'omit' });
    expect(fn.pasid).toBeUndefined();
  });

  it.each([
    ['a header', 0x100, [AER_HEAD], /0x100/],
    ['a body', 0x128, [AER_HEAD], /Advanced Error Reporting.*0x100/],
    ['the end of a body', 0x124, [AER_HEAD], /Advanced Error Reporting/],
    ['a header from below', 0x13c, [AER_HEAD, dvsec(0x140, 0x20)], /Designated Vendor-Specific.*0x140/],
    ['a body by its own size field', 0x1a0, [AER_HEAD, dvsec(0x140, 0x64)], /Designated Vendor-Specific/],
    [
      'a hidden capability',
      0x170,
      [AER_HEAD, { offset: 0x140, id: 0x10 }],
      /Single Root I\/O Virtualization/,
    ],
  ] satisfies [string, number, BuiltCapability[], RegExp][])(
    'collides with %s',
    (_name, at, extended, name) => {
      expect(refusal('VPCI_CAPABILITY_COLLISION', () => make(extended, { pasidOffset: at }))).toMatch(name);
      const fn = make(extended, { pasidOffset: at, onPasidRefused: 'omit' });
      expect(fn.pasid).toBeUndefined();
      expect(fn.findings.find(({ code }) => code === 'pasid-omitted')?.message).toMatch(name);
    },
  );

  it('collides with a passed-through range', () => {
    const options = { pasidOffset: 0x200, passthroughRanges: [[0x207, 0x208]] as const };
    expect(refusal('VPCI_CAPABILITY_COLLISION', () => make([AER_HEAD], options))).toContain('0x207');
    expect(make([AER_HEAD], { ...options, passthroughRanges: [[0x208, 0x209]] }).pasid?.offset).toBe(0x200);
  });

  it('collides with a physical PASID capability in a hole', () => {
    const more = { bytes: [[0x300, [0x1b, 0, 1, 0]]] as const };
    const message = refusal('VPCI_CAPABILITY_COLLISION', () =>
      make([AER_HEAD], { pasidOffset: 0x304 }, more),
    );
    expect(message).toMatch(/PASID|Process Address Space ID/);
    expect(message).toContain('0x300');
  });

  it('is refused as too early a place for the first capability', () => {
    const message = refusal('VPCI_PASID_OFFSET', () => make([], { pasidOffset: 0x200 }));
    expect(message).toContain('0x100');
  });

  it('that already has the physical capability keeps its whole body from the others', () => {
    // Two physical PASID capabilities: the first is replaced where it is, and the second is hidden.
    const fn = make(
      [
        { offset: 0x100, id: 0x1b },
        { offset: 0xff0, id: 0x1b },
      ],
      { pasidOffset: 0x100, pri: true },
    );
    expect(chain(fn)).toEqual(['100:1b', '108:13']);
  });

  it('next to a body is free', () => {
    expect(make([AER_HEAD], { pasidOffset: 0x12c }).pasid?.offset).toBe(0x12c);
    expect(make([AER_HEAD, dvsec(0x140, 0x64)], { pasidOffset: 0x1a4 }).pasid?.offset).toBe(0x1a4);
  });
});

describe('search', () => {
  it.each([
    ['the end of the space', [AER_HEAD], {}, 0xff8],
    ['behind the last body', [AER_HEAD, dvsec(0xff0, 0x10), dvsec(0x200, 0x11)], {}, 0x12c],
    ['the gap behind the last body', [AER_HEAD], { passthroughRanges: [[0xffc, 0xffd]] }, 0x12c],
    ['a gap of 8 bytes', [AER_HEAD, dvsec(0x130, 0x10), dvsec(0x148, 0xeb8)], {}, 0x140],
    ['dword aligned', [{ offset: 0x100, id: 0x16 }], { passthroughRanges: [[0xfff, 0x1000]] }, 0x114],
    ['an empty chain', [], {}, 0x100],
  ] satisfies [string, BuiltCapability[], Options, number][])('finds %s', (_name, extended, options, at) => {
    expect(make(extended, options).pasid?.offset).toBe(at);
    expect(make(extended, options).pasid?.offset, 'the same inputs, the same place').toBe(at);
  });

  it('refuses a full space', () => {
    const extended = [AER_HEAD, dvsec(0x130, 0xed0)];
    refusal('VPCI_NO_SPACE', () => make(extended));
    expect(make(extended, { onPasidRefused: 'omit' }).findings.map(({ code }) => code)).toContain(
      'pasid-omitted',
    );
  });

  it('steps around a physical PASID capability in a hole', () => {
    const fn = make([AER_HEAD], {}, { bytes: [[0xff8, [0x1b, 0, 1, 0, 6, 0x14, 7, 0]]] });
    expect(fn.pasid?.offset).toBe(0x12c);
    expect([fn.read(0xff8, 4), fn.read(0xffc, 4)]).toEqual([0, 0]);
    expect(fn.findings.map(({ code }) => code)).toContain('physical-pasid-hidden');
  });

  it('steps around each of several that look like one', () => {
    const lookalike = [0x1b, 0, 1, 0] as const;
    const fn = make(
      [AER_HEAD],
      {},
      {
        bytes: [
          [0xff8, lookalike],
          [0x200, lookalike],
        ],
      },
    );
    expect(fn.pasid?.offset).toBe(0x12c);
  });

  it('steps around hidden structures, ATS that is switched off among them', () => {
    const extended = [{ offset: 0x100, id: 0x0f }, dvsec(0xff0, 0x10)];
    expect(make(extended, { ats: false }).pasid?.offset).toBe(0x108);
    const pri = {
      passthroughRanges: [[0x110, 0x1000]] as const,
      pasid: undefined,
      ats: true,
      pasidOffset: 0x200,
    };
    refusal('VPCI_NO_SPACE', () => make([{ offset: 0x100, id: 0x10 }], { ...pri }));
  });
});

describe('links', () => {
  it('go in address order, before the first visible one that is higher', () => {
    const extended = [AER_HEAD, dvsec(0x300, 0x20), dvsec(0x200, 0x20)];
    expect(chain(make(extended, { pasidOffset: 0x280 }))).toEqual(['100:1', '280:1b', '300:23', '200:23']);
    expect(chain(make(extended, { pasidOffset: 0x400 }))).toEqual(['100:1', '300:23', '200:23', '400:1b']);
    expect(chain(make(extended, { pasidOffset: 0x180 }))).toEqual(['100:1', '180:1b', '300:23', '200:23']);
  });

  it('skip what is hidden and keep a hidden head as a null header', () => {
    const extended = [{ offset: 0x100, id: 0x10 }, dvsec(0x200, 0x20), { offset: 0x300, id: 0x15 }];
    const fn = make(extended);
    expect(fn.read(0x100, 4)).toBe(0x20000000);
    expect(chain(fn)).toEqual(['100:0', '200:23', 'ff8:1b']);
    expect(fn.read(0x104, 4)).toBe(0);
  });

  it('follow a null header of the host', () => {
    const fn = make([{ offset: 0x100, id: 0, version: 0 }, dvsec(0x200, 0x20)]);
    expect(chain(fn)).toEqual(['100:0', '200:23', 'ff8:1b']);
  });

  it.each([0x05, 0x06, 0x07, 0x0a, 0x0e, 0x10, 0x11, 0x14, 0x15, 0x1b, 0x24, 0x2e, 0x30, 0x37, 0xffff])(
    'hide ID %i, with a finding',
    (id) => {
      const fn = make([AER_HEAD, { offset: 0x200, id }], { pasid: undefined });
      expect(chain(fn)).toEqual(['100:1']);
      expect(fn.findings.find(({ code }) => code === 'capability-hidden')?.offset).toBe(0x200);
      expect(fn.read(0x200, 4)).toBe(0);
    },
  );

  it.each([0x18, 0x1e, 0x1f, 0x03, 0x0d, 0x0f, 0x13])('show ID %i', (id) => {
    expect(chain(make([AER_HEAD, { offset: 0x200, id }], { pasid: undefined }))).toHaveLength(2);
  });
});

describe('a physical PASID capability in the chain', () => {
  const extended = [AER_HEAD, { offset: 0x200, id: 0x1b, body: [6, 0x14, 7, 0] }, dvsec(0x300, 0x20)];

  it('is replaced in place', () => {
    const fn = make(extended);
    expect(fn.pasid?.offset).toBe(0x200);
    expect(chain(fn)).toEqual(['100:1', '200:1b', '300:23']);
    expect([fn.read(0x204, 2), fn.read(0x206, 2)]).toEqual([0x1000, 0]);
    expect(fn.findings.map(({ code }) => code)).toContain('capability-replaced');
  });

  it('is replaced in place when its own offset is asked for', () => {
    expect(make(extended, { pasidOffset: 0x200 }).pasid?.offset).toBe(0x200);
    expect(make([{ offset: 0x100, id: 0x1b }], { pasidOffset: 0x100 }).pasid?.offset).toBe(0x100);
  });

  it('leaves its place to nobody when another offset is given', () => {
    const fn = make(extended, { pasidOffset: 0x400 });
    expect(chain(fn)).toEqual(['100:1', '300:23', '400:1b']);
    expect([fn.read(0x200, 4), fn.read(0x204, 4)]).toEqual([0, 0]);
    expect(make(extended, { pasidOffset: 0x204 }).pasid?.offset).toBe(0x204);
  });

  it('is the first one that is whole; the bytes of another stay taken', () => {
    const second = [...extended, { offset: 0xffc, id: 0x1b }];
    const fn = make(second, { pasidOffset: 0x200, ats: true });
    expect(chain(fn)).toEqual(['100:1', '12c:f', '200:1b', '300:23']);
    refusal('VPCI_CAPABILITY_COLLISION', () => make(second, { pasidOffset: 0xff8 }));
    const third = [...extended, { offset: 0x600, id: 0x1b }];
    refusal('VPCI_CAPABILITY_COLLISION', () => make(third, { pasidOffset: 0x600 }));
    expect(make(third, { pasidOffset: 0x204 }).pasid?.offset).toBe(0x204);
  });

  it('is never reached by a passed-through range', () => {
    for (const range of [
      [0x200, 0x201],
      [0x207, 0x208],
      [0x1fc, 0x300],
    ] as const) {
      refusal('VPCI_PASSTHROUGH_RANGE', () => make(extended, { passthroughRanges: [range] }));
    }
    const hole = { bytes: [[0x500, [0x1b, 0, 1, 0]]] as const };
    refusal('VPCI_PASSTHROUGH_RANGE', () => make([AER_HEAD], { passthroughRanges: [[0x506, 0x507]] }, hole));
    const second = [...extended, { offset: 0x600, id: 0x1b }];
    refusal('VPCI_PASSTHROUGH_RANGE', () => make(second, { passthroughRanges: [[0x600, 0x608]] }));
    const two = {
      bytes: [
        [0x500, [0x1b, 0, 1, 0]],
        [0x700, [0x1b, 0, 1, 0]],
      ] as const,
    };
    refusal('VPCI_PASSTHROUGH_RANGE', () => make([AER_HEAD], { passthroughRanges: [[0x700, 0x708]] }, two));
  });

  it('is found in a hole though the raw configuration space shows none: it may have been read in part', () => {
    const hole = { bytes: [[0x200, [0x1b, 0, 1, 0, 0, 0x14, 1, 0]]] } as const;
    for (const rawConfig of [new Uint8Array(0x1000), buildConfig({ extended: [AER_HEAD] })]) {
      const fn = make([AER_HEAD], { rawConfig }, hole);
      expect(fn.findings.find(({ code }) => code === 'physical-pasid-hidden')?.offset).toBe(0x200);
      refusal('VPCI_PASSTHROUGH_RANGE', () =>
        make([AER_HEAD], { rawConfig, passthroughRanges: [[0x200, 0x208]] }, hole),
      );
    }
  });

  it('is found in a hole by the raw configuration space', () => {
    const rawConfig = buildConfig({ extended: [AER_HEAD, { offset: 0x480, id: 0x1b }] });
    const fn = make([AER_HEAD], { rawConfig });
    expect(fn.findings.find(({ code }) => code === 'physical-pasid-hidden')?.offset).toBe(0x480);
    refusal('VPCI_PASSTHROUGH_RANGE', () =>
      make([AER_HEAD], { rawConfig, passthroughRanges: [[0x480, 0x484]] }),
    );
  });
});
