import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBdf, parseBdf, requesterId, tryParseBdf } from '../../src/pci/bdf.ts';
import { refusal } from '../support/expect-code.ts';

describe('BDF', () => {
  it.each([
    ['00:00.0', 0],
    ['00:00.7', 7],
    ['00:01.0', 8],
    ['01:00.0', 0x100],
    ['1:0.0', 0x100],
    ['ff:1f.7', 0xffff],
    ['FF:1F.7', 0xffff],
    ['0000:3a:02.1', 0x3a11],
    ['00000000:3a:02.1', 0x3a11],
  ])('%s is requester ID %i', (text, rid) => {
    expect(parseBdf(text)).toBe(rid);
    expect(tryParseBdf(text)).toEqual({ domain: 0, rid });
  });

  it.each([
    '',
    '00:00',
    '00:00.8',
    '00:20.0',
    '100:00.0',
    '00:00.00',
    ' 00:00.0',
    '00:00.0 ',
    '00:00.0\n',
    'g0:00.0',
    '00-00.0',
    '0:0:0:0.0',
    '000000000:00:00.0',
    '00:0x1.0',
  ])('"%s" is none', (text) => {
    expect(tryParseBdf(text)).toBeUndefined();
    refusal('VPCI_BDF', () => parseBdf(text));
  });

  it.each([-1, 0x10000, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('%d is no requester ID', (rid) => {
    refusal('VPCI_BDF', () => parseBdf(rid));
  });

  it('of another domain is for another segment', () => {
    expect(tryParseBdf('0001:00:00.0')).toEqual({ domain: 1, rid: 0 });
    expect(tryParseBdf('10000:e1:00.0')).toEqual({ domain: 0x10000, rid: 0xe100 });
    expect(refusal('VPCI_BDF', () => parseBdf('0001:00:00.0'))).toContain('domain 1');
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(fc.nat({ max: 0xffff }), (rid) => {
        expect(parseBdf(formatBdf(rid))).toBe(rid);
        expect(parseBdf(rid)).toBe(rid);
        expect(requesterId(rid >> 8, (rid >> 3) & 31, rid & 7)).toBe(rid);
      }),
    );
  });

  it('shows what is above 16 bits as the domain', () => {
    expect(formatBdf(0x1_0008)).toBe('0001:00:01.0');
    expect(formatBdf(0x8)).toBe('00:01.0');
  });
});
