import { describe, expect, it } from 'vitest';
import {
  createFunction,
  type EndpointChange,
  type EndpointSink,
  type EndpointState,
  type PassthroughOptions,
  type PciFunction,
  PciSegment,
} from '../../src/index.ts';
import { AER_HEAD, buildConfig, EXPRESS } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

// The width of the vIOMMU: computed on attach, frozen at the first guest access. And what the unit hears.

class RecordingSink implements EndpointSink {
  readonly calls: string[] = [];
  readonly pasidWidth: number;
  state: EndpointState | undefined;

  constructor(pasidWidth: number) {
    this.pasidWidth = pasidWidth;
  }

  attachEndpoint(state: EndpointState): void {
    this.state = state;
    this.calls.push(`attach ${state.rid} width ${state.pasidWidth}`);
  }
  endpointChanged(state: EndpointState, change: EndpointChange): void {
    const { pasidEnable, executeEnable, privilegedEnable } = state;
    this.calls.push(`${change} ${Number(pasidEnable)}${Number(executeEnable)}${Number(privilegedEnable)}`);
  }
  endpointReset(state: EndpointState, kind: string): void {
    this.calls.push(`reset ${kind} ${Number(state.pasidEnable)}`);
  }
  endpointMoved(): void {
    this.calls.push('moved');
  }
  detachEndpoint(state: EndpointState): void {
    this.calls.push(`detach ${state.rid}`);
  }
}

function make(options: Partial<PassthroughOptions> = {}): PciFunction {
  return createFunction({
    physical: buildConfig({ extended: [AER_HEAD] }),
    pasid: { width: 16, execute: true },
    ...options,
  });
}

describe('the width shown', () => {
  it.each([
    [20, undefined, 16],
    [16, undefined, 16],
    [10, undefined, 10],
    [10, 8, 8],
    [8, 12, 8],
    [1, undefined, 1],
  ])('behind a unit of %i bits, cap %s, is %i', (unit, maxPasidWidth, width) => {
    const fn = make({ maxPasidWidth });
    const sink = new RecordingSink(unit);
    fn.attach({ rid: 0x100, sink, host: undefined });
    expect(fn.pasid?.width).toBe(width);
    expect(fn.read((fn.pasid?.offset ?? 0) + 4, 2)).toBe((width << 8) | 2);
    expect(sink.calls).toEqual([`attach 256 width ${width}`]);
    expect(fn.endpointState).toMatchObject({
      rid: 0x100,
      pasidWidth: width,
      execute: true,
      privileged: false,
    });
    const limited = fn.findings.some(({ code }) => code === 'pasid-width-limited');
    if (width < (maxPasidWidth ?? 16)) expect(limited).toBe(true);
    if (width === 16) expect(limited).toBe(false);
  });

  it('is the host’s without a unit', () => {
    const fn = make();
    fn.attach({ rid: 0x100, sink: undefined, host: undefined });
    expect(fn.pasid?.width).toBe(16);
  });

  it('behind a unit without PASID: no capability, and Device Capabilities 2 as the host has it', () => {
    const fn = make();
    fn.attach({ rid: 0x100, sink: new RecordingSink(0), host: undefined });
    expect(fn.pasid).toBeUndefined();
    expect(fn.read(0x100, 4)).toBe(0x00020001);
    expect(fn.read(EXPRESS + 0x24, 4)).toBe(0);
    expect(fn.endpointState.pasidWidth).toBe(0);
  });

  it('is frozen at the first guest access', () => {
    for (const touch of [
      (fn: PciFunction): unknown => fn.read(0, 4),
      (fn: PciFunction): unknown => fn.read(3, 1),
      (fn: PciFunction): unknown => fn.write(0, 1, 0),
      (fn: PciFunction): unknown => fn.readInto(0, new Uint8Array(2)),
      (fn: PciFunction): unknown => fn.writeFrom(0, new Uint8Array(2)),
    ]) {
      const fn = make();
      touch(fn);
      refusal('VPCI_VIOMMU_TOO_NARROW', () =>
        fn.attach({ rid: 0x100, sink: new RecordingSink(15), host: undefined }),
      );
      refusal('VPCI_VIOMMU_TOO_NARROW', () =>
        fn.attach({ rid: 0x100, sink: new RecordingSink(0), host: undefined }),
      );
      expect(fn.endpointState.rid).toBe(-1);
      const wide = new RecordingSink(16);
      fn.attach({ rid: 0x100, sink: wide, host: undefined });
      expect(fn.pasid?.width).toBe(16);
      expect(wide.calls).toEqual(['attach 256 width 16']);
    }
  });

  it('does not come back with a wider unit', () => {
    const fn = make();
    fn.attach({ rid: 1, sink: new RecordingSink(10), host: undefined });
    fn.read(0, 4);
    fn.detach();
    fn.attach({ rid: 1, sink: new RecordingSink(20), host: undefined });
    expect(fn.pasid?.width).toBe(10);
  });

  it('is computed anew on each attach until the guest looks', () => {
    const fn = make();
    fn.attach({ rid: 1, sink: new RecordingSink(10), host: undefined });
    fn.detach();
    fn.attach({ rid: 1, sink: new RecordingSink(20), host: undefined });
    expect(fn.pasid?.width).toBe(16);
  });
});

describe('the unit', () => {
  it('hears latches, resets and the end, after the state has changed', () => {
    const sink = new RecordingSink(20);
    const fn = make();
    fn.attach({ rid: 8, sink, host: undefined });
    const control = (fn.pasid?.offset ?? 0) + 6;
    fn.write(control, 2, 0);
    fn.write(control, 2, 0xffff);
    fn.write(control, 2, 0x3);
    fn.write(control, 1, 0x2);
    fn.reset('bus');
    fn.detach();
    expect(sink.calls).toEqual([
      'attach 8 width 16',
      'pasid-control 110',
      'pasid-control 010',
      'reset bus 0',
      'detach 8',
    ]);
  });

  it('is attached once', () => {
    const fn = make();
    fn.attach({ rid: 8, sink: undefined, host: undefined });
    refusal('VPCI_FUNCTION_ATTACHED', () => fn.attach({ rid: 9, sink: undefined, host: undefined }));
  });

  it('of a segment is the default, null is none', () => {
    const iommu = new RecordingSink(9);
    const segment = new PciSegment({ iommu });
    expect(segment.add('00:01.0', make()).pasid?.width).toBe(9);
    expect(segment.add('00:02.0', make(), null).pasid?.width).toBe(16);
    expect(segment.add('00:03.0', make(), new RecordingSink(0)).pasid).toBeUndefined();
    segment.remove('00:01.0');
    expect(iommu.calls).toEqual(['attach 8 width 9', 'detach 8']);
  });
});

describe('canIssue', () => {
  it('asks for Bus Master Enable, PASID Enable and the width', () => {
    const fn = make();
    expect([fn.canIssue(), fn.canIssue(null), fn.canIssue(1)]).toEqual([false, false, false]);
    fn.write(4, 2, 4);
    expect([fn.canIssue(), fn.canIssue(null), fn.canIssue(1)]).toEqual([true, true, false]);
    fn.write((fn.pasid?.offset ?? 0) + 6, 2, 1);
    expect([0, 1, 0xffff, 0x10000, 0xfffff, -1].map((pasid) => fn.canIssue(pasid))).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    fn.write(4, 2, 0);
    expect([fn.canIssue(), fn.canIssue(1)]).toEqual([false, false]);
  });
});
