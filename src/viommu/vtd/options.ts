import { VpciError } from '../../pci/vpci-error.ts';
import type { GuestMemory } from '../../memory/index.ts';
import type { ViommuOptions } from '../options.ts';
import * as registers from './registers.ts';

/**
 * What a unit can do, one switch each. All are on by default, but for {@link VtdFeatures.writeBufferFlush};
 * one that needs another is off when that one is, and cannot be switched on then.
 */
export interface VtdFeatures {
  /** CAP.RWBF: software has to flush the write buffer. Default off. */
  readonly writeBufferFlush: boolean;
  /** CAP.CM: caching mode, software invalidates after not-present to present too. */
  readonly cachingMode: boolean;
  /** CAP.SSLPS bit 0: 2 MiB pages in the second stage. */
  readonly secondStage2MiB: boolean;
  /** CAP.SSLPS bit 1: 1 GiB pages in the second stage. */
  readonly secondStage1GiB: boolean;
  /** CAP.PSI: invalidation by page in a domain. */
  readonly pageSelectiveInvalidation: boolean;
  /** CAP.FS1GP: 1 GiB pages in the first stage. */
  readonly firstStage1GiB: boolean;
  /** CAP.FS5LP: first-stage tables of 5 levels. */
  readonly firstStage5Level: boolean;
  /** CAP.ESRTPS: setting the root table pointer invalidates all caches. */
  readonly setRootInvalidates: boolean;
  /** ECAP.C: the unit snoops the processor's caches. */
  readonly coherent: boolean;
  /** ECAP.QI: the invalidation queue. Can be off below major version 6 only. */
  readonly queuedInvalidation: boolean;
  /** ECAP.DT: device TLBs (ATS). */
  readonly deviceTlb: boolean;
  /** ECAP.PT: pass-through. */
  readonly passThrough: boolean;
  /** ECAP.SC: snoop control. */
  readonly snoopControl: boolean;
  /** ECAP.MTS: memory types; the fields are checked, and have no effect. */
  readonly memoryTypes: boolean;
  /** ECAP.NEST: nested translation. */
  readonly nesting: boolean;
  /** ECAP.PRS and ECAP.PDS: page requests, and draining them. */
  readonly pageRequests: boolean;
  /** ECAP.SRS: privileged requests. */
  readonly supervisorRequests: boolean;
  /** ECAP.NWFS: the No Write flag of translation requests. */
  readonly noWriteFlag: boolean;
  /** ECAP.EAFS: extended accessed flag. */
  readonly extendedAccessed: boolean;
  /** ECAP.SMTS: scalable mode. */
  readonly scalableMode: boolean;
  /** ECAP.SSADS: accessed and dirty flags in the second stage. */
  readonly secondStageAccessedDirty: boolean;
  /** ECAP.SSTS: second-stage translation in scalable mode. */
  readonly secondStage: boolean;
  /** ECAP.FSTS: first-stage translation. */
  readonly firstStage: boolean;
  /** ECAP.SMPWCS: coherent page walks; accessed and dirty flags need it. */
  readonly coherentWalks: boolean;
  /** ECAP.RPS: RID_PASID of the context entry. */
  readonly ridPasid: boolean;
  /** ECAP.ADMS: abort-DMA mode. */
  readonly abortDma: boolean;
  /** ECAP.RPRIVS: RID_PRIV of the context entry. */
  readonly ridPrivilege: boolean;
  /** ECAP.PTRS: translated requests with PASID. */
  readonly translatedWithPasid: boolean;
  /** ECAP.SSIRWS: IR and IW in place of R and W in the second stage. */
  readonly secondStageIrIw: boolean;
  /** ECAP.SMS: stop markers are dropped when they cannot be queued. */
  readonly stopMarkers: boolean;
}

/** Options of a `VtdIommu`. */
export interface VtdOptions extends ViommuOptions, Partial<VtdFeatures> {
  /** Guest memory, where the guest's tables and queues are. Default: none, so that every table is missing. */
  readonly memory?: GuestMemory;
  /** VER: major version 7:4, minor 3:0; major 1..15. Default 0x60. */
  readonly version?: number;
  /** CAP.MGAW, bits of a second-stage address: 39, 48 or 57. Tables up to this width are supported. Default 48. */
  readonly addressWidth?: 39 | 48 | 57;
  /** HAW, bits of a guest-physical address, 36..52. Default 48. */
  readonly hostAddressWidth?: number;
  /** CAP.ND, bits of a domain ID: 4, 6, ... 16. Default 16. */
  readonly domainIdWidth?: number;
  /** CAP.MAMV, largest address mask of an invalidation, 0..52. Default 18. */
  readonly maxAddressMask?: number;
  /** CAP.NFR, fault recording registers, 1..222. Default 8. */
  readonly faultRecords?: number;
  /** Faults of a source that has one pending are not recorded again. Default false. */
  readonly collapseFaults?: boolean;
  /** Set accessed and dirty flags in guest memory; false: as if they were set already. Default true. */
  readonly updateAccessedDirty?: boolean;
  /** Holds the registers, at least 4096 bytes; give a `SharedArrayBuffer` to let other threads look. */
  readonly registerBuffer?: ArrayBuffer | SharedArrayBuffer;
}

/** All of {@link VtdOptions} that the model looks at, decided. */
export interface VtdConfiguration {
  readonly features: VtdFeatures;
  readonly version: number;
  readonly pasidWidth: number;
  readonly addressWidth: number;
  readonly hostAddressWidth: number;
  readonly domainIdWidth: number;
  readonly maxAddressMask: number;
  readonly faultRecords: number;
  readonly collapseFaults: boolean;
  readonly updateAccessedDirty: boolean;
}

/** A switch: its bit (word 0 and 1: CAP, 2 and 3: ECAP), and the switches it needs. */
interface FeatureRule {
  readonly name: keyof VtdFeatures;
  readonly word: 0 | 1 | 2 | 3;
  readonly bits: number;
  readonly needs: readonly (keyof VtdFeatures)[];
}

function rule(
  name: keyof VtdFeatures,
  word: FeatureRule['word'],
  bits: number,
  ...needs: (keyof VtdFeatures)[]
): FeatureRule {
  return { name, word, bits, needs };
}

/** All switches; each stands after those it needs (11.4.2, 11.4.3). */
export const FEATURE_RULES: readonly FeatureRule[] = [
  rule('writeBufferFlush', 0, registers.CAP_RWBF),
  rule('cachingMode', 0, registers.CAP_CM),
  rule('secondStage2MiB', 1, registers.CAP_SSLPS_2M_HIGH),
  rule('secondStage1GiB', 1, registers.CAP_SSLPS_1G_HIGH),
  rule('pageSelectiveInvalidation', 1, registers.CAP_PSI_HIGH),
  rule('setRootInvalidates', 1, registers.CAP_ESRTPS_HIGH),
  rule('coherent', 2, registers.ECAP_C),
  rule('queuedInvalidation', 2, registers.ECAP_QI),
  rule('deviceTlb', 2, registers.ECAP_DT, 'queuedInvalidation'),
  rule('passThrough', 2, registers.ECAP_PT),
  rule('snoopControl', 2, registers.ECAP_SC),
  rule('scalableMode', 3, registers.ECAP_SMTS_HIGH, 'queuedInvalidation'),
  rule('memoryTypes', 2, registers.ECAP_MTS, 'scalableMode'),
  rule('firstStage', 3, registers.ECAP_FSTS_HIGH, 'scalableMode'),
  rule('secondStage', 3, registers.ECAP_SSTS_HIGH, 'scalableMode'),
  rule('nesting', 2, registers.ECAP_NEST, 'firstStage', 'secondStage'),
  rule('firstStage1GiB', 1, registers.CAP_FS1GP_HIGH, 'firstStage'),
  rule('firstStage5Level', 1, registers.CAP_FS5LP_HIGH, 'firstStage'),
  rule('supervisorRequests', 2, registers.ECAP_SRS, 'scalableMode'),
  rule('noWriteFlag', 3, registers.ECAP_NWFS_HIGH, 'deviceTlb'),
  rule('extendedAccessed', 3, registers.ECAP_EAFS_HIGH, 'firstStage'),
  rule('secondStageAccessedDirty', 3, registers.ECAP_SSADS_HIGH, 'secondStage'),
  rule('coherentWalks', 3, registers.ECAP_SMPWCS_HIGH, 'scalableMode'),
  rule('ridPasid', 3, registers.ECAP_RPS_HIGH, 'scalableMode'),
  rule('ridPrivilege', 3, registers.ECAP_RPRIVS_HIGH, 'supervisorRequests'),
  rule('abortDma', 3, registers.ECAP_ADMS_HIGH),
  rule('translatedWithPasid', 3, registers.ECAP_PTRS_HIGH, 'deviceTlb', 'scalableMode'),
  rule('secondStageIrIw', 3, registers.ECAP_SSIRWS_HIGH, 'secondStage'),
  rule('pageRequests', 2, registers.ECAP_PRS, 'deviceTlb', 'scalableMode'),
  rule('stopMarkers', 3, registers.ECAP_SMS_HIGH, 'pageRequests'),
];

/** Names of all switches. */
export const VTD_FEATURES: readonly (keyof VtdFeatures)[] = FEATURE_RULES.map(({ name }) => name);

/**
 * Completes the options of a unit.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` for a number out of range, or for a feature without what it needs.
 */
export function completeVtdOptions(options: VtdOptions): VtdConfiguration {
  const { version = 0x60, addressWidth = 48, hostAddressWidth = 48, domainIdWidth = 16 } = options;
  const { maxAddressMask = 18, faultRecords = 8, collapseFaults = false } = options;
  check('version', version, version >= 0x10 && version <= 0xff, '0x10 to 0xff');
  const width: number = addressWidth;
  check('addressWidth', width, width === 39 || width === 48 || width === 57, '39, 48 or 57 bits');
  check(
    'hostAddressWidth',
    hostAddressWidth,
    hostAddressWidth >= 36 && hostAddressWidth <= 52,
    '36 to 52 bits',
  );
  const ids = domainIdWidth >= 4 && domainIdWidth <= 16 && domainIdWidth % 2 === 0;
  check('domainIdWidth', domainIdWidth, ids, 'an even number of 4 to 16 bits');
  check('maxAddressMask', maxAddressMask, maxAddressMask >= 0 && maxAddressMask <= 52, '0 to 52');
  const records = faultRecords >= 1 && faultRecords <= registers.FRCD_LIMIT;
  check('faultRecords', faultRecords, records, `1 to ${registers.FRCD_LIMIT}`);
  const features = completeFeatures(options);
  if (version >= 0x60 && !features.queuedInvalidation) {
    throw refused(
      'queuedInvalidation is off: version 6 has no other way to invalidate, so give a version below 0x60',
    );
  }
  return {
    features,
    version,
    pasidWidth: completePasidWidth(options, features),
    addressWidth,
    hostAddressWidth,
    domainIdWidth,
    maxAddressMask,
    faultRecords,
    collapseFaults,
    updateAccessedDirty: options.updateAccessedDirty ?? true,
  };
}

const DEFAULTS: VtdFeatures = {
  writeBufferFlush: false,
  cachingMode: true,
  secondStage2MiB: true,
  secondStage1GiB: true,
  pageSelectiveInvalidation: true,
  firstStage1GiB: true,
  firstStage5Level: true,
  setRootInvalidates: true,
  coherent: true,
  queuedInvalidation: true,
  deviceTlb: true,
  passThrough: true,
  snoopControl: true,
  memoryTypes: true,
  nesting: true,
  pageRequests: true,
  supervisorRequests: true,
  noWriteFlag: true,
  extendedAccessed: true,
  scalableMode: true,
  secondStageAccessedDirty: true,
  secondStage: true,
  firstStage: true,
  coherentWalks: true,
  ridPasid: true,
  abortDma: true,
  ridPrivilege: true,
  translatedWithPasid: true,
  secondStageIrIw: true,
  stopMarkers: true,
};

function completeFeatures(options: VtdOptions): VtdFeatures {
  const features: { -readonly [Name in keyof VtdFeatures]: boolean } = { ...DEFAULTS };
  for (const { name, needs } of FEATURE_RULES) {
    const wanted: unknown = options[name];
    if (wanted !== undefined && typeof wanted !== 'boolean')
      throw refused(`${name} is neither true nor false`);
    let missing: string | undefined = needs.find((need) => !features[need]);
    if (name === 'translatedWithPasid' && options.pasidWidth === 0) missing = 'pasidWidth';
    if (wanted === true && missing !== undefined) {
      throw refused(`${name} is on but ${missing} is off: switch that on too, or leave ${name} out`);
    }
    features[name] = missing === undefined && (wanted ?? DEFAULTS[name]);
  }
  return features;
}

function completePasidWidth({ pasidWidth }: VtdOptions, { scalableMode }: VtdFeatures): number {
  if (scalableMode) return pasidWidth ?? 20;
  if (pasidWidth === undefined || pasidWidth === 0) return 0;
  throw refused(`pasidWidth is ${pasidWidth} but scalableMode is off: PASIDs need it, so give a width of 0`);
}

function check(name: string, value: number, inRange: boolean, range: string): void {
  if (Number.isInteger(value) && inRange) return;
  throw refused(`${name} is ${value}: give ${range}`);
}

function refused(message: string): VpciError {
  return new VpciError('VPCI_BAD_ARGUMENT', `a VT-d unit cannot be so: ${message}`);
}
