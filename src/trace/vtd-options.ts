import type { GuestMemory } from '../memory/index.ts';
import { VTD_FEATURES, type VtdFeatures, type VtdOptions } from '../viommu/vtd/index.ts';
import { TraceError } from './trace-error.ts';
import type { TraceLine } from './trace-line.ts';

const OTHERS: readonly string[] = [
  'pasidWidth',
  'pasidWhenUnconfigured',
  'iotlbEntries',
  'version',
  'addressWidth',
  'hostAddressWidth',
  'domainIdWidth',
  'maxAddressMask',
  'faultRecords',
  'collapseFaults',
  'updateAccessedDirty',
];

/** The `options` of an `iommu` line for the VT-d model; what is left out has its default. */
export function vtdOptions(options: TraceLine | undefined, memory: GuestMemory): VtdOptions {
  if (options === undefined) return { memory };
  options.refuseUnknown([...OTHERS, ...VTD_FEATURES]);
  const features: { -readonly [Name in keyof VtdFeatures]?: boolean } = {};
  for (const name of VTD_FEATURES) if (options.has(name)) features[name] = options.flag(name, true);
  const pasidWidth = options.optionalNumber('pasidWidth', 0, 0xff);
  const iotlbEntries = options.optionalNumber('iotlbEntries', 0, 0x10000);
  const maxAddressMask = options.optionalNumber('maxAddressMask', 0, 0xff);
  return {
    ...features,
    memory,
    pasidWhenUnconfigured: options.choice('pasidWhenUnconfigured', ['reject', 'architectural'], 'reject'),
    version: options.number('version', 0, 0xff, 0x60),
    addressWidth: addressWidth(options.number('addressWidth', 0, 0xff, 48)),
    hostAddressWidth: options.number('hostAddressWidth', 0, 0xff, 48),
    domainIdWidth: options.number('domainIdWidth', 0, 0xff, 16),
    faultRecords: options.number('faultRecords', 0, 0xff, 8),
    collapseFaults: options.flag('collapseFaults', false),
    updateAccessedDirty: options.flag('updateAccessedDirty', true),
    ...(pasidWidth === undefined ? {} : { pasidWidth }),
    ...(iotlbEntries === undefined ? {} : { iotlbEntries }),
    ...(maxAddressMask === undefined ? {} : { maxAddressMask }),
  };
}

function addressWidth(bits: number): 39 | 48 | 57 {
  if (bits === 39 || bits === 48 || bits === 57) return bits;
  throw new TraceError('bad-field', `"addressWidth" is ${bits}: the VT-d model takes 39, 48 or 57`);
}
