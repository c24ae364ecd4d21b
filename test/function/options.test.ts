import { describe, expect, it } from 'vitest';
import {
  createDownstreamPort,
  createFunction,
  createRootPort,
  createUpstreamPort,
  type EmulatedOptions,
  type FunctionOptions,
  type PassthroughOptions,
} from '../../src/index.ts';
import { AER_HEAD, buildConfig } from '../support/config-builder.ts';
import { refusal } from '../support/expect-code.ts';

// Options that mean nothing for the kind of function that is made: the types do not take them, nor does the function.

const emulated: EmulatedOptions = { vendorId: 1, deviceId: 2, classCode: 3 };
const physical: PassthroughOptions = { physical: buildConfig({ extended: [AER_HEAD] }) };

/** What a program without types may give. */
function untyped(options: object): FunctionOptions {
  return options as FunctionOptions;
}

describe('createFunction', () => {
  it.each([
    ['classCode', 0x020000],
    ['revisionId', 3],
    ['subsystemVendorId', 7],
    ['subsystemId', 7],
    ['interruptPin', 1],
    ['capabilities', []],
  ])('of a physical function takes no %s', (name, value) => {
    const message = refusal('VPCI_BAD_ARGUMENT', () =>
      createFunction(untyped({ ...physical, [name]: value })),
    );
    expect(message).toContain(name);
    expect(() => createFunction(untyped({ ...physical, [name]: undefined }))).not.toThrow();
  });

  it.each([
    ['rawConfig', new Uint8Array(4096)],
    ['passthroughRanges', [[0x200, 0x210]]],
  ])('of an emulated function takes no %s', (name, value) => {
    const message = refusal('VPCI_BAD_ARGUMENT', () =>
      createFunction(untyped({ ...emulated, [name]: value })),
    );
    expect(message).toContain(name);
  });

  it('needs either a physical function or IDs', () => {
    expect(refusal('VPCI_BAD_ARGUMENT', () => createFunction(untyped({ physical: undefined })))).toContain(
      'physical',
    );
    expect(createFunction({ ...emulated, physical: undefined }).read(0, 4)).toBe(0x00020001);
  });

  it('has types that say so', () => {
    const calls = [
      // @ts-expect-error: a physical function has its own
      () => createFunction({ ...physical, revisionId: 3 }),
      // @ts-expect-error: an emulated function has no holes
      () => createFunction({ ...emulated, passthroughRanges: [[0x200, 0x210]] }),
    ];
    for (const call of calls) refusal('VPCI_BAD_ARGUMENT', call);
  });

  it('gives findings that nobody can change for others', () => {
    const [one, other] = [
      createFunction({ ...physical, pasid: { width: 8 } }),
      createFunction({ ...physical, pasid: { width: 8 } }),
    ];
    const before = other.findings.length;
    expect(() => (one.findings as unknown[]).push({})).toThrow(TypeError);
    expect(other.findings).toHaveLength(before);
  });
});

describe('a port', () => {
  it.each([createRootPort, createDownstreamPort])(
    'that takes functions while the guest runs needs a slot',
    (create) => {
      refusal('VPCI_BAD_ARGUMENT', () => create({ hotPlug: true }));
      expect(() => create({ hotPlug: true, slot: 1 })).not.toThrow();
    },
  );

  it('at the upper end of a switch has no slot', () => {
    refusal('VPCI_BAD_ARGUMENT', () => createUpstreamPort({ slot: 1 }));
    refusal('VPCI_BAD_ARGUMENT', () => createUpstreamPort({ hotPlug: true, slot: 1 }));
  });
});
