import { describe, expect, it } from 'vitest';
import { createFunction, type PassthroughOptions, type PciFunction } from '../../src/index.ts';
import { AER_HEAD, type BuiltCapability, type BuiltConfig, buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

// The virtual ATS and Page Request capabilities: design section 4, last row, and section 3.

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

const vsec = (offset: number, length: number): BuiltCapability => ({
  offset,
  id: 0x0b,
  body: [0, 0, (length & 0xf) << 4, length >> 4],
});

const dvsec = (offset: number, length: number): BuiltCapability => ({
  offset,
  id: 0x23,
  body: [0, 0, (length & 0xf) << 4, length >> 4],
});

describe('ATS and PRI', () => {
  const all = { ats: true, pri: true } as const;

  it('are placed first: ATS, PRI, PASID', () => {
    const fn = make([AER_HEAD], all);
    expect(chain(fn)).toEqual(['100:1', '12c:13', '13c:1b', 'ff8:f']);
    const later = make([AER_HEAD], { ...all, pasidOffset: 0xff8 });
    expect(chain(later)).toEqual(['100:1', '12c:f', '134:13', 'ff8:1b']);
  });

  it('have the fields that Linux wants', () => {
    const fn = make([AER_HEAD], all);
    expect(fn.read(0xff8 + 4, 2) & 0x20, 'Page Aligned Request').toBe(0x20);
    expect(fn.read(0xff8 + 6, 2)).toBe(0);
    expect(fn.read(0x12c + 6, 2), 'PRG Response PASID Required, Stopped').toBe(0x8100);
    fn.write(0xff8 + 6, 2, 0xffff);
    expect(fn.read(0xff8 + 6, 2)).toBe(0x801f);
    expect(fn.endpointState.atsEnable).toBe(true);
  });

  it('PRI needs no PASID in its responses where none is shown', () => {
    const fn = make([AER_HEAD], { pri: true, pasid: undefined });
    expect(fn.read(0x12c + 6, 2)).toBe(0x0100);
  });

  it('PRI is Stopped again after a reset', () => {
    const fn = make([AER_HEAD], { pri: true, pasid: undefined });
    fn.write(0x130, 2, 1);
    expect(fn.read(0x132, 2) & 0x100).toBe(0);
    expect(fn.endpointState.priEnable).toBe(true);
    fn.reset('flr');
    expect(fn.read(0x130, 2)).toBe(0);
    expect(fn.read(0x132, 2) & 0x100, 'PCIe 10.5.2.3: the default of Stopped is 1').toBe(0x100);
  });

  it('take the places of the physical ones, and nothing overlaps them', () => {
    const extended = [AER_HEAD, { offset: 0xff0, id: 0x0f }];
    expect(chain(make(extended, { ...all, pasid: undefined }))).toEqual(['100:1', '12c:13', 'ff0:f']);
    const head = [{ offset: 0x100, id: 0x13 }, dvsec(0x110, 0x20), dvsec(0xff0, 0x10)];
    const options = { ...all, pasid: undefined, passthroughRanges: [[0x130, 0xff0]] as const };
    refusal('VPCI_NO_SPACE', () => make(head, options));
  });

  it('ats: false stays, when Page Request does not fit', () => {
    const extended = [{ offset: 0x100, id: 0x0f, body: [0, 0, 0, 0x80] }, vsec(0x108, 0xef8)];
    const fn = make(extended, { pasid: undefined, ats: false, pri: true, onPasidRefused: 'omit' });
    expect(chain(fn)).toEqual(['100:0', '108:b']);
    expect(fn.read(0x106, 2), 'the host’s ATS Enable').toBe(0);
  });

  it('are decided one by one: what does not fit takes nothing else away', () => {
    const omit = { ats: true, pri: true, onPasidRefused: 'omit' } as const;
    const messages = (fn: PciFunction): string[] =>
      fn.findings.filter(({ code }) => code === 'pasid-omitted').map(({ message }) => message);
    const eight = make([vsec(0x100, 0xef8)], { pri: true, onPasidRefused: 'omit' });
    expect([eight.pasid?.offset, chain(eight)]).toEqual([0xff8, ['100:b', 'ff8:1b']]);
    expect(messages(eight)).toEqual([expect.stringContaining('16 free bytes for Page Request')]);
    const first = make([vsec(0x100, 0xef8)], omit);
    expect([first.pasid, chain(first)], 'ATS comes first').toEqual([undefined, ['100:b', 'ff8:f']]);
    expect(messages(first)).toHaveLength(2);
    const sixteen = make([vsec(0x100, 0xef0)], omit);
    expect(chain(sixteen), 'ATS and PASID fit, and Page Request not').toEqual(['100:b', 'ff0:1b', 'ff8:f']);
    const full = make([vsec(0x100, 0xf00)], omit);
    expect([full.pasid, chain(full), messages(full).length]).toEqual([undefined, ['100:b'], 3]);
  });

  it('and the first that does not fit refuses the function, unless it is told to leave it out', () => {
    const message = refusal('VPCI_NO_SPACE', () => make([vsec(0x100, 0xef8)], { pri: true }));
    expect(message).toContain('Page Request');
  });

  it.each([
    ['ats', 0x0f],
    ['pri', 0x13],
  ] as const)('%s: false hides the physical one', (option, id) => {
    const extended = [AER_HEAD, { offset: 0x200, id }];
    expect(chain(make(extended, { pasid: undefined }))).toHaveLength(2);
    expect(chain(make(extended, { pasid: undefined, [option]: false }))).toHaveLength(1);
  });
});
