import { sagaw } from './capabilities.ts';
import type { VtdConfiguration } from './options.ts';
import * as structures from './structures.ts';

/** What the walk asks of the unit's capabilities, ready for use. */
export interface VtdRules {
  readonly major: number;
  readonly architectural: boolean;
  readonly scalableMode: boolean;
  readonly abortDma: boolean;
  readonly deviceTlb: boolean;
  readonly passThrough: boolean;
  readonly firstStage: boolean;
  readonly secondStage: boolean;
  readonly nesting: boolean;
  readonly firstStage5Level: boolean;
  readonly firstStage1GiB: boolean;
  readonly secondStage2MiB: boolean;
  readonly secondStage1GiB: boolean;
  readonly snoopControl: boolean;
  readonly noWriteFlag: boolean;
  readonly ridPasid: boolean;
  readonly translatedWithPasid: boolean;
  readonly updateAccessedDirty: boolean;
  /** First PASID above ECAP.PSS. */
  readonly pasidLimit: number;
  /** SAGAW. */
  readonly sagaw: number;
  /** MGAW in bits. */
  readonly addressWidth: number;
  /** Bits of the high word of an address that are at HAW or above. */
  readonly beyondHaw: number;
  /** Reserved bits by word, with those of features that the unit lacks. */
  readonly contextRsvd: number;
  readonly context2Rsvd: number;
  readonly legacy2Rsvd: number;
  readonly pasidRsvd: number;
  readonly pasid1Rsvd: number;
  readonly pasid2Rsvd: number;
  readonly pasid3Rsvd: number;
  readonly pasid4Rsvd: number;
  readonly pasid5Rsvd: number;
}

export function rulesOf(configuration: VtdConfiguration, architectural: boolean): VtdRules {
  const { features, pasidWidth, addressWidth, hostAddressWidth, domainIdWidth } = configuration;
  const domainRsvd = structures.PASID2_DID & (-1 << domainIdWidth);
  return {
    ...features,
    major: configuration.version >> 4,
    architectural,
    updateAccessedDirty: configuration.updateAccessedDirty,
    // Not 2 ** width, which is a boxed number.
    pasidLimit: pasidWidth === 0 ? 0 : 1 << pasidWidth,
    sagaw: sagaw(addressWidth),
    addressWidth,
    beyondHaw: -1 << (hostAddressWidth - 32),
    contextRsvd:
      structures.CONTEXT_RSVD |
      structures.CONTEXT_HPTE |
      without(features.deviceTlb, structures.CONTEXT_DTE) |
      without(features.pageRequests, structures.CONTEXT_PRE) |
      without(pasidWidth > 0, structures.CONTEXT_PASIDE) |
      without(features.translatedWithPasid, structures.CONTEXT_EPTR),
    context2Rsvd:
      structures.CONTEXT2_RSVD |
      without(features.ridPasid, structures.CONTEXT2_RID_PASID) |
      without(features.ridPrivilege, structures.CONTEXT2_RID_PRIV),
    legacy2Rsvd: structures.LEGACY2_RSVD | (domainRsvd << structures.LEGACY2_DID_SHIFT),
    pasidRsvd:
      structures.PASID_RSVD |
      without(features.secondStageAccessedDirty, structures.PASID_SSADE) |
      without(features.secondStage, structures.POINTER),
    pasid1Rsvd: without(features.secondStage, -1),
    pasid2Rsvd:
      structures.PASID2_RSVD |
      domainRsvd |
      without(features.coherentWalks, structures.PASID2_PWSNP) |
      without(features.snoopControl, structures.PASID2_PGSNP) |
      without(features.memoryTypes, structures.PASID2_CD | structures.PASID2_EMTE),
    pasid3Rsvd: without(features.memoryTypes, -1),
    pasid4Rsvd:
      structures.PASID4_RSVD |
      without(features.supervisorRequests, structures.PASID4_SRE) |
      without(features.extendedAccessed, structures.PASID4_EAFE) |
      without(features.firstStage, structures.POINTER),
    pasid5Rsvd: without(features.firstStage, -1),
  };
}

/** The bits that are reserved without a feature. */
function without(feature: boolean, bits: number): number {
  return feature ? 0 : bits;
}

/** True when an address has no bit at `width` (32..63) or above. */
export function fitsWidth(high: number, width: number): boolean {
  return high >>> (width - 32) === 0;
}
