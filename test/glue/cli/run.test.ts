import { describe, expect, it } from 'vitest';
import { vpci } from './support.ts';

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

  it.each(['demo', 'view', 'replay'])('%s has help', (name) => {
    for (const flag of ['--help', '-h']) {
      const { code, out } = vpci([name, flag]);
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`^Usage: vpci ${name} `));
      expect(out).toContain('Exit code: 0 ');
    }
  });

  it('refuses a command that there is not', () => {
    const { code, out, err } = vpci(['look']);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain('there is no command "look"');
  });
});
