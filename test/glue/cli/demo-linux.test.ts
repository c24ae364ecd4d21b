import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { vpci } from './support.ts';

const empty = mkdtempSync(join(tmpdir(), 'vpci-'));
afterAll(() => rmSync(empty, { recursive: true }));

describe('vpci demo --linux on a machine without the parts', () => {
  it('says what is missing and how to get it', () => {
    const options = ['--qemu', join(empty, 'qemu'), '--kernel', join(empty, 'bzImage'), '--headers', empty];
    const { code, out, err } = vpci(['demo', '--linux', ...options], '', {
      XDG_CACHE_HOME: empty,
      PATH: empty,
    });
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/^QEMU {6}.*qemu does not run.*10\.1 or later/m);
    expect(err).toMatch(/^kernel {4}.*bzImage cannot be read.*\n.*CONFIG_IOMMUFD=y/m);
    expect(err).toMatch(/^headers {3}.*6\.15/m);
    expect(err).toMatch(/^compiler {2}cc/m);
    expect(err).toContain('test/beds/kernel/build.sh');
  });

  it('takes no dump', () => {
    const { code, err } = vpci(['demo', '--linux', 'dump.txt']);
    expect(code).toBe(2);
    expect(err).toContain('takes no dump');
  });

  it.each([
    ['--guest', 'v86'],
    ['--function', '01:00.0'],
  ])('takes no %s', (option, value) => {
    const { code, err } = vpci(['demo', '--linux', option, value]);
    expect(code).toBe(2);
    expect(err).toContain(`${option} is for the demo without --linux`);
  });
});
