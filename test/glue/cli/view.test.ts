import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { formatDump, parseDump } from 'vpci/inspect';
import { capture, captureText, type Ran, vpci } from './support.ts';

const scratch = mkdtempSync(join(tmpdir(), 'vpci-view-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const igb = capture('igb-82576');

/** The 32 bits at `offset` of the only function in a view. */
function dword({ out }: Ran, offset: number): number {
  const [{ bytes } = { bytes: new Uint8Array() }] = parseDump(out);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
}

/** The first `size` bytes of the 82576, as a dump. */
function cut(size: number): string {
  const [dumped] = parseDump(captureText('igb-82576'));
  return dumped === undefined ? '' : formatDump([{ ...dumped, bytes: dumped.bytes.slice(0, size) }]);
}

describe('vpci view', () => {
  it('prints a dump with the capability that was asked for, and the findings beside it', () => {
    const ran = vpci(['view', igb, '--pasid-width', '16', '--exec']);
    expect(ran.code).toBe(0);
    expect(ran.out.split('\n')[0]).toBe(captureText('igb-82576').split('\n')[0]);
    expect(dword(ran, 0xff8)).toBe(0x0001_001b);
    expect(dword(ran, 0xffc)).toBe(0x1002);
    expect(ran.err.match(/^01:00\.0: capability-hidden: /gm)).toHaveLength(2);
  });

  it('hides what a guest must not have, and synthesizes nothing unasked', () => {
    const ran = vpci(['view', igb]);
    expect(ran.code).toBe(0);
    // AER is the last of the chain: ARI and SR-IOV are gone.
    expect(dword(ran, 0x100) >>> 20).toBe(0);
    expect(dword(ran, 0xff8)).toBe(0);
  });

  it('takes every option', () => {
    const options = [
      '--priv',
      '--pasid-offset',
      '0x400',
      '--control',
      'drop',
      '--ats',
      '--pri',
      '--as-rciep',
    ];
    const ran = vpci(['view', igb, '--pasid-width', '0x14', ...options, '--function', '01:00.0']);
    expect(ran.code).toBe(0);
    expect(dword(ran, 0x404)).toBe(0x1404);
    expect(dword(ran, 0xa0) >>> 20).toBe(9);
  });

  it('reads standard input for -, and a binary config file', () => {
    const expected = vpci(['view', igb, '--pasid-width', '8']).out;
    expect(vpci(['view', '-', '--pasid-width', '8'], captureText('igb-82576')).out).toBe(expected);
    const [{ bytes } = { bytes: new Uint8Array() }] = parseDump(captureText('igb-82576'));
    const binary = vpci(['view', '-', '--pasid-width', '8'], bytes);
    expect(binary.code).toBe(0);
    expect(binary.out.split('\n').slice(1)).toEqual(expected.split('\n').slice(1));
    const marked = vpci(['view', '-', '--pasid-width', '8'], `\uFEFF${captureText('igb-82576')}`);
    expect(marked).toMatchObject({ code: 0, out: expected });
  });

  it('gives one object with --json', () => {
    const { code, out, err } = vpci(['view', igb, '--pasid-width', '16', '--json']);
    expect([code, err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({
      functions: [
        {
          bdf: '01:00.0',
          pasid: { offset: 0xff8, width: 16, execute: false, privileged: false, control: 'latch' },
          findings: [{ code: 'capability-hidden' }, { code: 'capability-hidden' }],
          config: expect.stringMatching(/^8680c910[0-9a-f]{8184}$/) as string,
        },
      ],
    });
  });

  it('shows a virtual function with the IDs that are given', () => {
    const ran = vpci(['view', capture('igb-82576-vf'), '--pasid-width', '16', '--id', '8086:10ca']);
    expect(ran.code).toBe(0);
    expect(dword(ran, 0)).toBe(0x10ca_8086);
  });

  it('shows the functions of a dump that can, and says why the others cannot', () => {
    const both = `${captureText('root-port')}\n${captureText('igb-82576')}`;
    const ran = vpci(['view', '-', '--pasid-width', '16'], both);
    expect(ran.code).toBe(0);
    expect(parseDump(ran.out).map(({ bdf }) => bdf)).toEqual(['00:01.0', '01:00.0']);
    expect(ran.err).toContain('00:01.0: pasid-omitted: ');
  });
});

describe('vpci view refuses', () => {
  it.each<[string, string[], RegExp]>([
    ['a bridge', [capture('root-port')], /00:01\.0: .*bridge.*VPCI_PASID_REFUSED/],
    ['a PCI Express Capability of version 1', [capture('e1000e')], /version 1.*VPCI_PASID_REFUSED/],
    [
      'an offset out of range',
      [igb, '--pasid-offset', '0xffc'],
      /0xffc is out of range: .*0x100 to 0xff8.*VPCI_PASID_OFFSET/,
    ],
    ['a misaligned offset', [igb, '--pasid-offset', '0x202'], /0x202 is misaligned: .*VPCI_PASID_OFFSET/],
    ['a taken offset', [igb, '--pasid-offset', '0x140'], /0x140 collides with .*VPCI_CAPABILITY_COLLISION/],
    ['a virtual function without IDs', [capture('igb-82576-vf')], /--id VVVV:DDDD.*VPCI_VF_ID/],
  ])('%s', (_, args, message) => {
    const { code, out, err } = vpci(['view', ...args, '--pasid-width', '16']);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(message);
  });

  it.each([64, 256])('%i bytes, when PASID is asked for', (size) => {
    const { code, err } = vpci(['view', '-', '--pasid-width', '16'], cut(size));
    expect(code).toBe(1);
    expect(err).toMatch(
      /256 bytes of configuration space, and the PASID capability needs the extended space/,
    );
    expect(vpci(['view', '-'], cut(size)).code).toBe(0);
  });

  it('a dump none of whose functions can', () => {
    const both = `${captureText('root-port')}\n${captureText('e1000e')}`;
    const { code, out, err } = vpci(['view', '-', '--pasid-width', '16'], both);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/no function of the dump can show a PASID capability\n00:01\.0: .*\n03:00\.0: /);
  });
});

describe('vpci view does not read', () => {
  it.each<[string, string | Uint8Array, RegExp]>([
    ['what is no dump', 'Dear all,\n', /this is not a dump/],
    ['nothing', '', /dump/],
    ['a dump that ends early', captureText('igb-82576').slice(0, 5000), /VPCI_DUMP_TRUNCATED/],
    [
      'a dump with a gap',
      captureText('igb-82576').replace(/^20: .*\n/m, ''),
      /lines are missing.*VPCI_DUMP_TRUNCATED/,
    ],
    ['binary data of a wrong length', new Uint8Array(1000), /1000 bytes/],
  ])('%s', (_, input, message) => {
    const { code, out, err } = vpci(['view', '-'], input);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
  });

  it('a file that is not there, or a folder', () => {
    for (const path of [join(scratch, 'missing'), scratch]) {
      const { code, err } = vpci(['view', path]);
      expect(code).toBe(2);
      expect(err).toContain(`cannot read ${path}`);
    }
  });

  it('a file whose name is given twice', () => {
    const path = join(scratch, 'dump.txt');
    writeFileSync(path, captureText('igb-82576'));
    expect(vpci(['view', path, path]).code).toBe(2);
    expect(vpci(['view'])).toEqual({
      code: 2,
      out: '',
      err: 'vpci view: takes one dump (- for standard input), not 0; "vpci view --help" lists the options\n',
    });
  });
});

describe('vpci view does not take', () => {
  it.each<[string, string[], RegExp]>([
    ['a width of 0', ['--pasid-width', '0'], /--pasid-width is 0: a PASID has 1 to 20 bits/],
    ['a width of 21', ['--pasid-width', '21'], /--pasid-width is 21: a PASID has 1 to 20 bits/],
    ['a width that is no number', ['--pasid-width', 'wide'], /--pasid-width takes a number/],
    ['a negative width', ['--pasid-width=-1'], /--pasid-width takes a number/],
    [
      'a negative width, apart',
      ['--pasid-width', '-1'],
      /^vpci view: --pasid-width takes a value, [^\n]*--pasid-width=VALUE; [^\n]*\n$/,
    ],
    ['a width without a number', ['--pasid-width'], /pasid-width/],
    ['details of no PASID', ['--exec'], /--exec is about a PASID capability: give --pasid-width too/],
    ['an offset of no PASID', ['--pasid-offset', '0x400'], /give --pasid-width too/],
    ['another control', ['--pasid-width', '1', '--control', 'keep'], /it is latch or drop/],
    [
      'a function that is not in the dump',
      ['--function', '09:00.0'],
      /no function 09:00\.0: it has 01:00\.0/,
    ],
    ['IDs that are none', ['--id', '8086'], /VVVV:DDDD/],
    ['how to open a device', ['--via', 'bogus'], /--via is about a device of this host: give --host BDF/],
    ['a VF token of no device', ['--vf-token', 'x'], /--vf-token is about a device of this host/],
    ['a root of no device', ['--root', '/'], /--root is about a device of this host/],
    ['an unknown option', ['--pasid'], /--pasid.*vpci view --help/],
  ])('%s', (_, args, message) => {
    const { code, out, err } = vpci(['view', igb, ...args]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
  });
});
