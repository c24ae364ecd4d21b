import { FEATURE_RULES, type VtdConfiguration } from './options.ts';
import {
  CAP_DRD_HIGH,
  CAP_DWD_HIGH,
  CAP_FRO_SHIFT,
  CAP_MAMV_SHIFT_HIGH,
  CAP_MGAW_SHIFT,
  CAP_NFR_SHIFT_HIGH,
  CAP_SAGAW_SHIFT,
  ECAP_IRO_SHIFT,
  ECAP_PASID_HIGH,
  ECAP_PDS_HIGH,
  ECAP_PSS_SHIFT_HIGH,
  FRCD,
  IVA,
} from './registers.ts';

/** CAP and ECAP as four words, the lower halves first. */
export type CapabilityWords = readonly [capLow: number, capHigh: number, ecapLow: number, ecapHigh: number];

/** The capability registers of a unit (11.4.2, 11.4.3). */
export function capabilityWords(configuration: VtdConfiguration): CapabilityWords {
  const { features, pasidWidth, addressWidth } = configuration;
  const words: [number, number, number, number] = [0, 0, 0, 0];
  for (const { name, word, bits } of FEATURE_RULES) if (features[name]) words[word] |= bits;
  words[0] |= (configuration.domainIdWidth - 4) >> 1;
  words[0] |= sagaw(addressWidth) << CAP_SAGAW_SHIFT;
  words[0] |= (addressWidth - 1) << CAP_MGAW_SHIFT;
  words[0] |= (FRCD >> 4) << CAP_FRO_SHIFT;
  words[1] |= (configuration.faultRecords - 1) << CAP_NFR_SHIFT_HIGH;
  words[1] |= configuration.maxAddressMask << CAP_MAMV_SHIFT_HIGH;
  words[1] |= CAP_DWD_HIGH | CAP_DRD_HIGH;
  words[2] |= (IVA >> 4) << ECAP_IRO_SHIFT;
  if (features.pageRequests) words[3] |= ECAP_PDS_HIGH;
  if (pasidWidth > 0) words[3] |= ECAP_PASID_HIGH | ((pasidWidth - 1) << ECAP_PSS_SHIFT_HIGH);
  return words;
}

/** The adjusted widths that a unit of this width supports, as the SAGAW field: all up to it. */
export function sagaw(addressWidth: number): number {
  return addressWidth >= 57 ? 0b1110 : addressWidth >= 48 ? 0b110 : 0b10;
}
