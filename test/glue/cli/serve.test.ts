import { describe, expect, it } from 'vitest';
import { capture, vpci } from './support.ts';

const SOCKET = ['--socket', 'never-there.sock'];

describe('vpci serve refuses', () => {
  it.each<[string, string[], RegExp]>([
    ['how to open no device', ['--demo', '--via', 'cdev'], /--via is about a device of this host/],
    ['a root of no device', ['--demo', '--root', '/nope'], /--root is about a device of this host/],
    [
      'a VF token of a dump',
      ['--dump', capture('nvme'), '--vf-token', 'x'],
      /--vf-token is about a device of this host/,
    ],
    ['a function of the demonstration', ['--demo', '--function', '01:00.0'], /--function is about a dump/],
    ['IDs of the demonstration', ['--demo', '--id', '8086:10ca'], /--id is about a dump/],
    ['permissions of no width', ['--demo', '--exec'], /give --pasid-width too/],
    ['no socket', ['--demo', '--socket', ''], /--socket is empty/],
  ])('%s', (_, args, message) => {
    const { code, out, err } = vpci(['serve', ...args, ...(args.includes('--socket') ? [] : SOCKET)]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(message);
  });
});
