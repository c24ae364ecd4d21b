import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeOhcA1,
  decodePasidPrefix,
  encodeOhcA1,
  encodePasidPrefix,
  type TlpPasid,
} from '../../src/pci/tlp-pasid.ts';

const pasids: fc.Arbitrary<TlpPasid> = fc.record({
  pasid: fc.integer({ min: 0, max: 0xfffff }),
  execute: fc.boolean(),
  privileged: fc.boolean(),
});

describe('PASID prefix', () => {
  it('has the bits where PCIe puts them', () => {
    expect(encodePasidPrefix({ pasid: 0xabcde, execute: false, privileged: false })).toBe(0x910abcde);
    expect(encodePasidPrefix({ pasid: 0, execute: true, privileged: false })).toBe(0x91100000);
    expect(encodePasidPrefix({ pasid: 0, execute: false, privileged: true })).toBe(0x91200000);
  });

  it('comes back as it was', () => {
    fc.assert(
      fc.property(pasids, (pasid) => {
        expect(decodePasidPrefix(encodePasidPrefix(pasid))).toEqual(pasid);
      }),
    );
  });

  it.each([0x900abcde, 0x110abcde, 0, 0xffffffff])('is not 0x%s', (dw) => {
    expect(decodePasidPrefix(dw)).toBeUndefined();
  });

  it.each([0x91400000, 0x91800000, 0x91c00005])('has no reserved bit set (%s)', (dw) => {
    expect(decodePasidPrefix(dw)).toBeUndefined();
  });

  it.each([-1, 0x100000, 1.5, Number.NaN])('refuses to encode PASID %s', (pasid) => {
    const code = { code: 'VPCI_TLP' };
    const bad = { pasid, execute: false, privileged: false };
    expect(() => encodePasidPrefix(bad)).toThrow(expect.objectContaining(code));
    expect(() => encodeOhcA1({ noWrite: false, pasid: bad, lastBe: 0, firstBe: 0 })).toThrow(
      expect.objectContaining(code),
    );
  });
});

describe('OHC-A1', () => {
  it('has the bits where PCIe puts them', () => {
    const none = { noWrite: false, pasid: null, lastBe: 0, firstBe: 0 };
    expect(encodeOhcA1(none)).toBe(0);
    expect(encodeOhcA1({ ...none, noWrite: true })).toBe(0x80000000);
    expect(encodeOhcA1({ ...none, lastBe: 0xa, firstBe: 0x5 })).toBe(0xa5);
    const pasid = { pasid: 0xabcde, execute: false, privileged: false };
    expect(encodeOhcA1({ ...none, pasid })).toBe(0x4abcde00);
    expect(encodeOhcA1({ ...none, pasid: { pasid: 0, execute: true, privileged: false } })).toBe(0x50000000);
    expect(encodeOhcA1({ ...none, pasid: { pasid: 0, execute: false, privileged: true } })).toBe(0x60000000);
  });

  it('comes back as it was', () => {
    const be = fc.integer({ min: 0, max: 15 });
    const words = fc.record({
      noWrite: fc.boolean(),
      pasid: fc.option(pasids),
      lastBe: be,
      firstBe: be,
    });
    fc.assert(
      fc.property(words, (ohc) => {
        expect(decodeOhcA1(encodeOhcA1(ohc))).toEqual(ohc);
      }),
    );
  });

  it('without PV has no PASID, whatever the reserved bits say', () => {
    expect(decodeOhcA1(0x3fffff0f)).toEqual({ noWrite: false, pasid: null, lastBe: 0, firstBe: 0xf });
  });

  it.each([-1, 16, 0.5])('refuses to encode byte enables %s', (be) => {
    const code = { code: 'VPCI_TLP' };
    expect(() => encodeOhcA1({ noWrite: false, pasid: null, lastBe: be, firstBe: 0 })).toThrow(
      expect.objectContaining(code),
    );
    expect(() => encodeOhcA1({ noWrite: false, pasid: null, lastBe: 0, firstBe: be })).toThrow(
      expect.objectContaining(code),
    );
  });
});
