/**
 * What a unit says to a device: ATS invalidations and the answers to page requests. A device that has a
 * translation cache gives these calls to the unit with {@link Viommu.connectDevice}.
 */
export interface DevicePort {
  /**
   * An ATS Invalidate Request (PCIe 10.3): the device drops what it holds of the range, then answers
   * `complete`. `timeout`: no completion will come.
   */
  readonly onAtcInvalidate?: (invalidation: AtcInvalidation) => AtcAnswer;
  /** A PRG Response (PCIe 10.4.2). */
  readonly onPrgResponse?: (response: PrgResponse) => void;
}

/** How an ATS invalidation ended. */
export type AtcAnswer = 'complete' | 'timeout';

/** A range that a device's translation cache has to drop. */
export interface AtcInvalidation {
  /** PASID, or null: translations of requests without one. */
  readonly pasid: number | null;
  /** True: the range of every PASID, whatever `pasid` says (Global Invalidate, PCIe 10.3.1). */
  readonly global?: boolean;
  /** Start of the untranslated range, 64 bits. */
  readonly address: bigint;
  /** Bytes; 2^64 for everything. */
  readonly size: bigint;
}

/** Response codes of a PRG Response (PCIe 10.4.2.1): success, invalid request, response failure. */
export type PrgResponseCode = 0 | 1 | 15;
/** All pages of the group may be tried again. */
export const PRG_SUCCESS = 0;
/** A page does not exist, or the access will never be granted. */
export const PRG_INVALID_REQUEST = 1;
/** The page request service failed; the function's interface stops. */
export const PRG_RESPONSE_FAILURE = 15;

/** The answer to a group of page requests. */
export interface PrgResponse {
  /** PASID of the requests, or null. */
  readonly pasid: number | null;
  /** Page Request Group index, 0..511. */
  readonly prgi: number;
  readonly response: PrgResponseCode;
}
