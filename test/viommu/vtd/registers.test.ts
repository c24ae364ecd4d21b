import { describe, expect, it } from 'vitest';
import { GuestMemory } from '../../../src/memory/index.ts';
import { VTD_FEATURES, type VtdFeatures, VtdIommu } from '../../../src/viommu/vtd/index.ts';
import { withCode } from '../support.ts';
import * as g from './guest.ts';

describe('capabilities', () => {
  it('by default: version 6.0, everything that there is, 48 bits, PASIDs of 20 bits', () => {
    const unit = new VtdIommu();
    expect(unit.readRegister(0x00, 4)).toBe(0x60);
    const cap = unit.readRegister64(0x08);
    expect(cap & 7n).toBe(6n); // ND: 16 bits
    expect((cap >> 7n) & 1n).toBe(1n); // CM
    expect((cap >> 8n) & 0x1fn).toBe(0b110n); // SAGAW: 39 and 48
    expect((cap >> 16n) & 0x3fn).toBe(47n); // MGAW
    expect((cap >> 22n) & 1n).toBe(0n); // ZLR
    expect(((cap >> 24n) & 0x3ffn) * 16n).toBe(0x220n); // FRO
    expect((cap >> 34n) & 0xfn).toBe(3n); // SSLPS
    expect((cap >> 39n) & 1n).toBe(1n); // PSI
    expect((cap >> 40n) & 0xffn).toBe(7n); // NFR
    expect((cap >> 48n) & 0x3fn).toBe(18n); // MAMV
    expect((cap >> 54n) & 3n).toBe(3n); // DWD, DRD
    expect((cap >> 56n) & 1n).toBe(1n); // FS1GP
    expect((cap >> 60n) & 1n).toBe(1n); // FS5LP
    expect(cap >> 63n).toBe(1n); // ESRTPS
    const ecap = unit.readRegister64(0x10);
    const set = [0, 1, 2, 6, 7, 25, 26, 29, 31, 33, 34, 40, 42, 43, 45, 46, 47, 48, 49, 52, 53, 56, 57, 58];
    let expected = 0n;
    for (const bit of set) expected |= 1n << BigInt(bit);
    expected |= 0xfn << 8n; // IRO
    expected |= 19n << 35n; // PSS
    expect(ecap).toBe(expected);
  });

  // Where the specification puts each switch.
  const bits: Record<keyof VtdFeatures, readonly [register: number, bit: number]> = {
    writeBufferFlush: [0x08, 4],
    cachingMode: [0x08, 7],
    secondStage2MiB: [0x08, 34],
    secondStage1GiB: [0x08, 35],
    pageSelectiveInvalidation: [0x08, 39],
    firstStage1GiB: [0x08, 56],
    firstStage5Level: [0x08, 60],
    setRootInvalidates: [0x08, 63],
    coherent: [0x10, 0],
    queuedInvalidation: [0x10, 1],
    deviceTlb: [0x10, 2],
    passThrough: [0x10, 6],
    snoopControl: [0x10, 7],
    memoryTypes: [0x10, 25],
    nesting: [0x10, 26],
    pageRequests: [0x10, 29],
    supervisorRequests: [0x10, 31],
    noWriteFlag: [0x10, 33],
    extendedAccessed: [0x10, 34],
    scalableMode: [0x10, 43],
    secondStageAccessedDirty: [0x10, 45],
    secondStage: [0x10, 46],
    firstStage: [0x10, 47],
    coherentWalks: [0x10, 48],
    ridPasid: [0x10, 49],
    abortDma: [0x10, 52],
    ridPrivilege: [0x10, 53],
    translatedWithPasid: [0x10, 56],
    secondStageIrIw: [0x10, 57],
    stopMarkers: [0x10, 58],
  };

  it.each(VTD_FEATURES)('%s is one bit', (name) => {
    const [register, bit] = bits[name];
    const value = (unit: VtdIommu): bigint => (unit.readRegister64(register) >> BigInt(bit)) & 1n;
    // Register-based invalidation is all there is without a queue.
    const version = name === 'queuedInvalidation' ? 0x40 : 0x60;
    expect(value(new VtdIommu({ [name]: false, version }))).toBe(0n);
    expect(value(new VtdIommu({ [name]: true }))).toBe(1n);
  });

  it.each([
    [{ firstStage: false, nesting: true }],
    [{ secondStage: false, secondStageAccessedDirty: true }],
    [{ scalableMode: false, firstStage: true }],
    [{ scalableMode: false, pasidWidth: 16 }],
    [{ deviceTlb: false, pageRequests: true }],
    [{ deviceTlb: false, translatedWithPasid: true }],
    [{ pasidWidth: 0, translatedWithPasid: true }],
    [{ supervisorRequests: false, ridPrivilege: true }],
    [{ pageRequests: false, stopMarkers: true }],
    [{ queuedInvalidation: false }],
    [{ queuedInvalidation: false, scalableMode: true, version: 0x40 }],
    [{ version: 0x0f }],
    [{ addressWidth: 40 }],
    [{ hostAddressWidth: 53 }],
    [{ domainIdWidth: 5 }],
    [{ maxAddressMask: 53 }],
    [{ faultRecords: 0 }],
    [{ faultRecords: 223 }],
    [{ registerBuffer: new ArrayBuffer(64) }],
    [{ nesting: 1 }],
  ])('refuses %j', (options) => {
    expect(() => new VtdIommu(options as object)).toThrow(withCode('VPCI_BAD_ARGUMENT'));
  });

  it('switches off what needs a feature that is off', () => {
    const unit = new VtdIommu({ scalableMode: false });
    expect(unit.pasidWidth).toBe(0);
    const ecap = unit.readRegister64(0x10);
    for (const bit of [25, 26, 29, 31, 40, 42, 43, 45, 46, 47, 48, 49, 53, 56, 57, 58]) {
      expect((ecap >> BigInt(bit)) & 1n).toBe(0n);
    }
    expect((ecap >> 35n) & 0x1fn).toBe(0n);
  });
});

describe('register accesses', () => {
  it('reads any size at any offset, and 0 where there is nothing', () => {
    const unit = new VtdIommu();
    const whole = unit.readRegister(0x08, 4);
    expect(unit.readRegister(0x08, 1)).toBe(whole & 0xff);
    expect(unit.readRegister(0x09, 2)).toBe((whole >>> 8) & 0xffff);
    expect(unit.readRegister(0x06, 4)).toBe(((whole & 0xffff) << 16) >>> 0);
    for (const offset of [0x0f00, 0xfff, 0x1000, -4, 2 ** 40, Number.NaN, 1.5]) {
      expect(unit.readRegister(offset, 4)).toBe(offset === 1.5 ? unit.readRegister(offset, 4) : 0);
      unit.writeRegister(offset, 4, 0xffff_ffff);
    }
    expect(unit.readRegister64(0x08)).toBe(new VtdIommu().readRegister64(0x08));
  });

  it('drops writes that are no aligned words, and writes to read-only registers', () => {
    const guest = new g.Guest();
    const before = Array.from({ length: 1024 }, (_, i) => guest.reg(i * 4));
    guest.unit.writeRegister(0x24, 2, 0xffff);
    guest.unit.writeRegister(0x26, 4, 0xffff_ffff);
    guest.unit.writeRegister(0x20, 1, 0xff);
    for (const offset of [0x00, 0x08, 0x0c, 0x10, 0x14, 0x1c, 0x80, 0x84, 0xb0, 0x64, 0x220, 0x224, 0x228]) {
      guest.setReg(offset, 0xffff_ffff);
    }
    expect(Array.from({ length: 1024 }, (_, i) => guest.reg(i * 4))).toEqual(before);
  });

  it('keeps no bit that a register does not have', () => {
    const guest = new g.Guest();
    const masks: readonly (readonly [number, number])[] = [
      [0x20, 0xffff_fc80],
      [0x24, 0xffff_ffff],
      [0x38, 0x8000_0000],
      [0x3c, 0xffff_ffff],
      [0x40, 0xffff_fffc],
      [0x44, 0xffff_ffff],
      [0x90, 0xffff_f807],
      [0x94, 0xffff_ffff],
      [0xa0, 0x8000_0000],
      [0xc0, 0x0007_ffe0],
      [0xc8, 0x0007_ffe0],
      [0xd0, 0xffff_f007],
      [0xe0, 0x8000_0000],
      [0xe8, 0xffff_fffc],
      [0x28, 0],
      [0xf0, 0],
    ];
    for (const [offset, mask] of masks) {
      guest.setReg(offset, 0xffff_ffff);
      expect(guest.reg(offset), offset.toString(16)).toBe(mask);
    }
  });

  it('lives in a buffer of the embedder', () => {
    const registerBuffer = new SharedArrayBuffer(4096);
    const unit = new VtdIommu({ registerBuffer });
    unit.writeRegister(0x3c, 4, 0x1234);
    expect(new Uint32Array(registerBuffer)[0x3c / 4]).toBe(0x1234);
  });
});

describe('latching', () => {
  it('takes a root pointer with SRTP only, and TE with its own bit only', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.DTE);
    guest.pasid(0, { pgtt: g.PASS_THROUGH });
    guest.enable(3);
    const abort = { status: 'unsupported-request', code: 0x33 };
    expect(guest.request({ address: 0x1234n })).toMatchObject(abort);
    guest.setReg64(0x20, g.ROOT | 0x400n);
    expect(guest.request({ address: 0x1234n })).toMatchObject(abort);
    guest.command(0x4000_0000);
    expect(guest.request({ address: 0x1234n })).toEqual({ status: 'bypass', address: 0x1234n });
    expect(guest.reg(0x1c)).toBe(0xc000_0000);
    expect(guest.reg(0x18)).toBe(0);
    guest.disable();
    expect(guest.reg(0x1c)).toBe(0x4000_0000);
  });

  it('has no interrupt remapping to switch on', () => {
    const guest = new g.Guest();
    guest.setReg(0x18, 0x0380_0000 | 0x0800_0000);
    expect(guest.reg(0x1c)).toBe(0);
  });
});

describe('before translation is enabled', () => {
  it.each([
    ['untranslated', null, { status: 'bypass', address: 0x1234n }],
    ['untranslated', 5, { status: 'unsupported-request', reason: 'translation-disabled' }],
    ['translation', null, { status: 'unsupported-request', reason: 'translation-disabled' }],
    ['translated', null, { status: 'unsupported-request', reason: 'translation-disabled' }],
  ] as const)('%s, PASID %s', (at, pasid, verdict) => {
    const guest = new g.Guest();
    expect(guest.request({ address: 0x1234n, at, pasid })).toEqual(verdict);
    expect(guest.faults()).toEqual([]);
    expect(guest.unit.counters().rejected).toBe(verdict.status === 'bypass' ? 0 : 1);
  });

  it('lets a PASID pass when the embedder wants the architecture’s rule', () => {
    const guest = new g.Guest({ pasidWhenUnconfigured: 'architectural' });
    expect(guest.request({ address: 0x1234n, pasid: 5 })).toEqual({ status: 'bypass', address: 0x1234n });
  });

  it('answers page requests with Invalid Request', () => {
    const guest = new g.Guest();
    const page = { endpoint: guest.endpoint, read: true, prgi: 1, address: 0x1000n };
    expect(guest.unit.pageRequest({ ...page, last: true })).toEqual({ queued: false, response: 1 });
    expect(guest.unit.pageRequest(page)).toEqual({ queued: false });
    expect(guest.faults()).toEqual([]);
  });

  it('is so again after reset', () => {
    const guest = new g.Guest();
    guest.enable();
    guest.unit.reset();
    expect(guest.request({ address: 0x1234n })).toEqual({ status: 'bypass', address: 0x1234n });
    expect(guest.reg(0x38)).toBe(0x8000_0000);
  });
});

describe('requests that no table is asked about', () => {
  it.each([
    [{ access: 'execute' }, 'execute-without-pasid'],
    [{ privileged: true }, 'privileged-without-pasid'],
    [{ access: 'write', at: 'translation' }, 'write-with-translation-request'],
    [{ access: 'atomic', at: 'translation' }, 'write-with-translation-request'],
  ] as const)('%j: %s', (request, reason) => {
    const guest = new g.Guest();
    guest.enable();
    expect(guest.request(request)).toEqual({ status: 'unsupported-request', reason });
    expect(guest.faults()).toEqual([]);
  });

  it('translated with PASID without PTRS', () => {
    const guest = new g.Guest({ translatedWithPasid: false });
    guest.enable();
    expect(guest.request({ at: 'translated', pasid: 1 })).toMatchObject({ reason: 'translated-with-pasid' });
    expect(guest.faults()).toEqual([]);
  });

  it('a requester ID of more than 16 bits', () => {
    const guest = new g.Guest();
    guest.addEndpoint(0x1_0100);
    guest.enable();
    expect(guest.unit.request({ rid: 0x1_0100, access: 'read', address: 0n })).toMatchObject({
      reason: 'requester-id-beyond-16-bits',
    });
  });

  it('a PASID beyond the endpoint’s width, in every mode', () => {
    for (const ttm of [0, 1, 2, 3]) {
      const guest = new g.Guest({ pasidWhenUnconfigured: 'architectural' }, { pasidWidth: 4 });
      guest.memory.poison(0, g.MEMORY_BYTES, 'access');
      expect(guest.request({ pasid: 16 })).toMatchObject({ reason: 'pasid-beyond-width' });
      guest.enable(ttm);
      expect(guest.request({ pasid: 16 })).toMatchObject({ reason: 'pasid-beyond-width' });
      expect(guest.faults()).toEqual([]);
    }
  });
});

describe('the interrupt range', () => {
  it('takes untranslated writes without PASID out of every mode', () => {
    for (const ttm of [undefined, 0, 1, 3]) {
      const guest = new g.Guest();
      if (ttm !== undefined) guest.enable(ttm);
      const verdict = guest.request({ address: 0xfeef_fffcn, access: 'write', size: 4 });
      expect(verdict).toEqual({ status: 'interrupt', address: 0xfeef_fffcn });
      expect(guest.request({ address: 0xfef0_0000n, access: 'write' }).status).not.toBe('interrupt');
    }
  });

  it.each(['read', 'atomic'] as const)('takes no other request without PASID: %s', (access) => {
    for (const ttm of [undefined, 0, 1]) {
      const guest = new g.Guest();
      // A translation for it makes no difference.
      const table = guest.page();
      guest.map(table, 0xfee0_0000n, 0x50_0000n, 7n, 7n);
      guest.context(g.P);
      guest.pasid(0, { first: table });
      if (ttm !== undefined) guest.enable(ttm);
      expect(guest.request({ address: 0xfee0_0004n, access })).toEqual({
        status: 'unsupported-request',
        reason: 'no-interrupt',
      });
      expect(guest.faults()).toEqual([]);
      expect(guest.request({ address: 0xfef0_0000n, access })).not.toMatchObject({ reason: 'no-interrupt' });
    }
  });

  it('is an address like any other with a PASID', () => {
    const guest = new g.Guest();
    guest.context(g.P | g.PASIDE);
    const first = guest.page();
    guest.map(first, 0xfee0_0000n, 0x50_0000n, 7n, 7n);
    guest.pasid(5, { first });
    guest.enable();
    expect(guest.request({ address: 0xfee0_0000n, pasid: 5, access: 'write' })).toMatchObject({
      status: 'translated',
      address: 0x50_0000n,
    });
  });

  it.each([1, 0])('answers translation requests without PASID by the NW flag (TTM %i)', (ttm) => {
    const guest = new g.Guest();
    if (ttm === 1) guest.context(g.P | g.DTE);
    else guest.write64(guest.contextAddress(), 5n);
    guest.write64(guest.contextAddress() + 8n, ttm === 1 ? 0n : 2n);
    guest.enable(ttm);
    expect(guest.request({ address: 0xfee0_0000n, at: 'translation' })).toEqual({
      status: 'ats',
      address: 0xfee0_0000n,
      pageSize: 4096n,
      permissions: 'wu',
    });
    expect(guest.request({ address: 0xfee0_0000n, at: 'translation', noWrite: true })).toEqual({
      status: 'ats',
      permissions: '',
      reason: 'interrupt-range',
    });
    expect(guest.faults()).toEqual([]);
  });
});

describe('without memory', () => {
  it('finds no table, and does not mind', () => {
    const unit = new VtdIommu({ memory: new GuestMemory() });
    const guest = new g.Guest({ memory: new GuestMemory() });
    expect(unit.missingMemory).toBeNull();
    guest.enable();
    guest.enableQueue();
    guest.setReg(0x88, 0x20);
    expect(guest.reg(0x34) & 0x10).toBe(0x10);
    expect(guest.request({})).toMatchObject({ code: 0x38 });
  });
});
