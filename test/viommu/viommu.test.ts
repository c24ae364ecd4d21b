import { describe, expect, it } from 'vitest';
import type { ViommuOptions } from '../../src/viommu/options.ts';
import {
  cacheable,
  refuse,
  STATUS_ATS,
  STATUS_BYPASS,
  STATUS_COMPLETER_ABORT,
  STATUS_DROPPED,
  STATUS_INTERRUPT,
  STATUS_PENDING,
  STATUS_TRANSLATED,
  STATUS_UNSUPPORTED_REQUEST,
} from '../../src/viommu/result.ts';
import { given, Puppet, puppet } from './puppet.ts';
import { translated, withCode } from './support.ts';

const read = { rid: 0x0100, address: 0x1234, access: 'read' } as const;

describe('the verdict', () => {
  it.each<[string, (out: Uint32Array) => number, unknown]>([
    [
      'translated',
      (out) => given(out, STATUS_TRANSLATED, 3),
      { address: 0x5_0000_0000n, pageSize: 4096n, permissions: 'rw' },
    ],
    ['bypass', (out) => given(out, STATUS_BYPASS, 0), { address: 0x5_0000_0000n }],
    ['interrupt', (out) => given(out, STATUS_INTERRUPT, 0), { address: 0x5_0000_0000n }],
    [
      'ats',
      (out) => given(out, STATUS_ATS, 0x7f),
      { address: 0x5_0000_0000n, pageSize: 4096n, permissions: 'rwxpgun' },
    ],
    [
      'ats',
      (out) => refuse(out, STATUS_ATS, 5, 0x80),
      { permissions: '', reason: 'puppet-says-no', code: 0x80 },
    ],
    [
      'unsupported-request',
      (out) => refuse(out, STATUS_UNSUPPORTED_REQUEST, 5),
      { reason: 'puppet-says-no' },
    ],
    [
      'completer-abort',
      (out) => refuse(out, STATUS_COMPLETER_ABORT, 5, 0),
      { reason: 'puppet-says-no', code: 0 },
    ],
    ['dropped', (out) => refuse(out, STATUS_DROPPED, 5, 259), { reason: 'puppet-says-no', code: 259 }],
    ['pending', (out) => given(out, STATUS_PENDING, 0), { address: 0x5_0000_0000n }],
  ])('%s', (status, verdict, fields) => {
    const unit = puppet();
    unit.verdict = verdict;
    const expected = { status, ...(fields as object) };
    expect(unit.request(read)).toEqual(expected);
    expect(translated(unit, read)).toEqual(expected);
    expect(unit.explain(read).verdict).toEqual(expected);
  });
});

describe('checks before any table', () => {
  const reasonOf = (unit: Puppet, pasid: number | null): unknown => unit.request({ ...read, pasid });

  it('hold in both policies', () => {
    for (const pasidWhenUnconfigured of ['reject', 'architectural'] as const) {
      const unit = puppet({ pasidWidth: 4 }, { pasidWhenUnconfigured });
      expect(reasonOf(unit, 0x10)).toMatchObject({ reason: 'pasid-beyond-width' });
      expect(reasonOf(unit, 0xf0000)).toMatchObject({ reason: 'pasid-beyond-width' });
      expect(unit.walks).toBe(0);
      expect(reasonOf(unit, 0xf)).toMatchObject({ reason: 'puppet-says-no' });
    }
  });

  it('know who has no PASID', () => {
    expect(reasonOf(puppet({ pasidWidth: 0 }), 0)).toMatchObject({ reason: 'pasid-not-supported' });
    expect(reasonOf(puppet({}, { pasidWidth: 0 }), 0)).toMatchObject({ reason: 'pasid-not-supported' });
    expect(reasonOf(puppet({ pasidWidth: 0 }), null)).toMatchObject({ reason: 'puppet-says-no' });
  });

  it('never look at the latches', () => {
    for (const latch of [false, true]) {
      const latches = { pasidEnable: latch, executeEnable: latch, privilegedEnable: latch };
      expect(reasonOf(puppet({ pasidWidth: 4, ...latches }), 3)).toMatchObject({ reason: 'puppet-says-no' });
    }
  });

  it('know the requester', () => {
    expect(puppet().request({ ...read, rid: 0xffffff })).toEqual({
      status: 'unsupported-request',
      reason: 'unknown-requester',
    });
  });
});

describe('the counters', () => {
  it('count what happened, and nothing that was only explained', () => {
    const unit = puppet();
    unit.explain(read);
    unit.request(read);
    unit.verdict = (out) => cacheable(given(out, STATUS_TRANSLATED, 1), 1);
    for (let times = 0; times < 3; times++) unit.request(read);
    unit.request({ ...read, rid: 3 });
    unit.verdict = (out) => given(out, STATUS_PENDING, 0);
    unit.request({ ...read, access: 'write' });
    expect(unit.counters()).toEqual({
      accepted: 3,
      rejected: 2,
      rejectedBy: { 'unknown-requester': 1, 'puppet-says-no': 1 },
      pending: 1,
      iotlbHits: 2,
      iotlbMisses: 4,
      pageRequests: 0,
      pageRequestsRefused: 0,
      atcInvalidations: 0,
      atcTimeouts: 0,
    });
    unit.reset();
    expect(unit.counters()).toMatchObject({ accepted: 0, rejected: 0, rejectedBy: {}, iotlbHits: 0 });
    expect(unit.request(read)).toMatchObject({ status: 'pending' });
  });
});

describe('a fault event', () => {
  it('has the whole request', () => {
    const unit = puppet();
    const heard: unknown[] = [];
    unit.on('fault', (event) => heard.push(event));
    unit.request(read);
    unit.verdict = (out) => refuse(out, STATUS_COMPLETER_ABORT, 5, 0x59);
    unit.request({
      rid: 0x0100,
      pasid: 7,
      address: 0xffff_ffff_8000_0000n,
      access: 'atomic',
      privileged: true,
    });
    unit.explain(read);
    expect(heard).toEqual([
      {
        rid: 0x0100,
        pasid: null,
        address: 0x1234n,
        access: 'read',
        privileged: false,
        reason: 'puppet-says-no',
      },
      {
        rid: 0x0100,
        pasid: 7,
        address: 0xffff_ffff_8000_0000n,
        access: 'atomic',
        privileged: true,
        reason: 'puppet-says-no',
        code: 0x59,
      },
    ]);
  });

  it('whose listener throws, or asks again, changes no verdict', () => {
    const unit = puppet();
    const errors: unknown[] = [];
    unit.onListenerError = (error) => errors.push(error);
    unit.once('fault', () => {
      unit.request({ ...read, rid: 9 });
      throw new Error('listener');
    });
    expect(unit.request(read)).toEqual({ status: 'unsupported-request', reason: 'puppet-says-no' });
    expect(errors).toEqual([new Error('listener')]);
  });
});

describe('a model without registers', () => {
  it('reads all-ones and drops writes', () => {
    const unit = new Puppet();
    unit.writeRegister(0, 4, 1);
    unit.writeRegister64(8, 1n);
    unit.tick(5);
    expect([1, 2, 4].map((size) => unit.readRegister(0, size as 1 | 2 | 4))).toEqual([
      0xff, 0xffff, 0xffffffff,
    ]);
    expect(unit.readRegister64(0)).toBe(0xffff_ffff_ffff_ffffn);
  });
});

describe('8-byte registers', () => {
  it('are two of 4 bytes, the lower first', () => {
    class Registers extends Puppet {
      override readRegister(offset: number): number {
        return offset === 8 ? 0x89abcdef : 0xfedcba98;
      }
      override writeRegister(offset: number, size: 1 | 2 | 4, value: number): void {
        this.written.push([offset, size, value]);
      }
    }
    const unit = new Registers();
    expect(unit.readRegister64(8)).toBe(0xfedc_ba98_89ab_cdefn);
    unit.writeRegister64(8, 0xfedc_ba98_89ab_cdefn);
    expect(unit.written).toEqual([
      [8, 4, 0x89abcdef],
      [12, 4, 0xfedcba98],
    ]);
  });
});

it.each<[unknown, string]>([
  [{ pasidWidth: 21 }, 'VPCI_PASID_WIDTH'],
  [{ pasidWidth: -1 }, 'VPCI_PASID_WIDTH'],
  [{ pasidWhenUnconfigured: 'allow' }, 'VPCI_BAD_ARGUMENT'],
  [{ iotlbEntries: 3 }, 'VPCI_BAD_ARGUMENT'],
])('options %o are refused', (options, code) => {
  expect(() => new Puppet(options as ViommuOptions)).toThrow(withCode(code));
});
