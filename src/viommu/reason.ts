/**
 * Why a request was refused, by number for the hot door. Index 0 means nothing; then come the checks that all
 * models share; a model appends its own and gives the whole list as `reasons`.
 *
 * @module
 */

/** No endpoint stands behind the requester ID. */
export const REASON_UNKNOWN_REQUESTER = 1;
/** A PASID, but the endpoint or the unit has none (PCIe 6.20.2). */
export const REASON_PASID_NOT_SUPPORTED = 2;
/** The PASID is 2^width or more, width being what the endpoint shows (PCIe 7.8.9.2). */
export const REASON_PASID_BEYOND_WIDTH = 3;
/** The embedder blocked it: the host does not serve it. */
export const REASON_BLOCKED = 4;

/** The names of the reasons above, in order: what every model's list begins with. */
export const SHARED_REASONS: readonly string[] = [
  '',
  'unknown-requester',
  'pasid-not-supported',
  'pasid-beyond-width',
  'blocked',
];
