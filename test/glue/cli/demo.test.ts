import { describe, expect, it } from 'vitest';
import { capture, captureText, vpci } from './support.ts';

interface Story {
  readonly function: { readonly bdf: string };
  readonly host: { readonly feature: object };
  readonly steps: readonly {
    readonly who: string;
    readonly did: string;
    readonly result: string;
    readonly physicalWrites: number;
  }[];
  readonly requests: readonly {
    readonly pasid: number;
    readonly access: string;
    readonly verdict: { readonly status: string; readonly reason?: string; readonly address?: string };
  }[];
  readonly physicalWrites: number;
}

function story(...args: string[]): Story {
  const { code, out, err } = vpci(['demo', '--json', ...args]);
  expect([code, err]).toEqual([0, '']);
  return JSON.parse(out) as Story;
}

const outcomes = ({ requests }: Story): (readonly [number, string, string | undefined])[] =>
  requests.map(({ pasid, access, verdict }) => [pasid, access, verdict.reason ?? verdict.address]);

describe('vpci demo', () => {
  it('tells who did what, and that the device saw nothing of it', () => {
    const { steps, physicalWrites } = story();
    expect(steps.map(({ who }) => who)).toEqual([
      'host',
      'VMM',
      'guest',
      'guest',
      'guest',
      'guest',
      'device',
      'VMM',
      'device',
      'device',
      'device',
      'device',
      'device',
      'VMM',
      'device',
      'VMM',
    ]);
    expect(
      steps.filter((step) => step.physicalWrites !== 0 || step.did === '' || step.result === ''),
    ).toEqual([]);
    expect(physicalWrites).toBe(0);
  });

  it('has the guest find what the host said, and enable it', () => {
    const { host, steps } = story('--pasid-width', '12');
    expect(host.feature).toEqual({ width: 12, execute: true, privileged: false });
    const all = steps.map(({ result }) => result).join('\n');
    expect(all).toContain('Process Address Space ID (0xff8)');
    expect(all).toContain('Max PASID Width 12, Exec+ Priv-');
    expect(all).toContain('PASID Control reads back 0x0003');
    expect(steps.at(-1)?.result).toContain('PASID Control reads 0x0000');
  });

  it('has the device rejected, accepted, and rejected', () => {
    expect(outcomes(story())).toEqual([
      [5, 'read', 'pasid-not-attached'],
      [5, 'read', '0x70000000'],
      [5, 'write', '0x70000040'],
      [4, 'read', 'pasid-not-attached'],
      [0x10000, 'read', 'pasid-beyond-width'],
      [5, 'write', 'no-write-permission'],
      [5, 'read', 'pasid-not-attached'],
    ]);
  });

  it('goes by the width', () => {
    expect(outcomes(story('--pasid-width', '1')).map(([pasid]) => pasid)).toEqual([1, 1, 1, 0, 2, 1, 1]);
    // No request can be beyond 20 bits.
    expect(outcomes(story('--pasid-width', '20')).map(([pasid]) => pasid)).toEqual([5, 5, 5, 4, 5, 5]);
  });

  it('takes the first function of a dump that can, or the one that is named', () => {
    const dump = `${captureText('root-port')}\n${captureText('nvme')}\n${captureText('igb-82576')}`;
    const run = (...args: string[]): unknown =>
      (JSON.parse(vpci(['demo', '-', '--json', ...args], dump).out) as Story).function.bdf;
    expect(run()).toBe('02:00.0');
    expect(run('--function', '01:00.0')).toBe('01:00.0');
  });

  it('says the same to people, without colours where none are wanted', () => {
    const { code, out, err } = vpci(['demo'], '', { FORCE_COLOR: undefined });
    expect([code, err]).toEqual([0, '']);
    expect(out).not.toContain('\u001B');
    expect(out.match(/^ ?\d+ {2}(host|VMM|guest|device) /gm)).toHaveLength(story().steps.length);
    expect(out.match(/^\d {2}(read|write) .*(accepted|rejected)/gm)).toHaveLength(story().requests.length);
  });

  it.each(['root-port', 'e1000e', 'igb-82576-vf'])(
    'exits with 1 for %s, which has no PASID to show',
    (name) => {
      const { code, out, err } = vpci(['demo', capture(name)]);
      expect([code, out]).toEqual([1, '']);
      expect(err).toMatch(/^vpci demo: \d\d:\d\d\.\d: /);
    },
  );

  it.each<[string, string[]]>([
    ['a file that is not there', ['missing.txt']],
    ['a file that is no dump', ['package.json']],
    ['two dumps', [capture('nvme'), capture('nvme')]],
    ['a width of 0', ['--pasid-width', '0']],
    ['a width of 21', ['--pasid-width', '21']],
    ['a function that is not there', ['--function', '00:00.0']],
    ['QEMU without Linux', ['--qemu', 'x']],
    ['a kernel without Linux', ['--kernel', 'x']],
    ['headers without Linux', ['--headers', 'x']],
    ['an unknown option', ['--slowly']],
  ])('exits with 2 for %s', (_, args) => {
    const { code, out, err } = vpci(['demo', ...args]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(/^vpci demo: /);
  });
});
