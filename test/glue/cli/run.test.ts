import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repo, vpci } from './support.ts';

describe('vpci', () => {
  it('lists its commands', () => {
    const help = vpci(['--help']);
    expect(help).toMatchObject({ code: 0, err: '' });
    for (const name of ['demo', 'view', 'replay'])
      expect(help.out).toMatch(new RegExp(`^  ${name} +\\w`, 'm'));
    expect(vpci(['-h'])).toEqual(help);
    expect(vpci(['help'])).toEqual(help);
    expect(vpci([])).toEqual({ ...help, code: 2 });
  });

  it('says its version', () => {
    const { version } = JSON.parse(readFileSync(join(repo, 'package.json'), 'utf8')) as { version: string };
    expect(vpci(['--version'])).toEqual({ code: 0, out: `${version}\n`, err: '' });
  });

  it.each(['demo', 'view', 'replay'])('%s has help', (name) => {
    for (const args of [
      [name, '--help'],
      [name, '-h'],
      ['help', name],
    ]) {
      const { code, out } = vpci(args);
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`^Usage: vpci ${name} `));
      expect(out).toContain('Exit code: 0 ');
    }
  });

  it('refuses a command that there is not', () => {
    const { code, out, err } = vpci(['look']);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain('there is no command "look"');
    expect(vpci(['help', 'look'])).toEqual({ code, out, err });
  });
});
