// What the guest program prints in mode "base", row by row.
export const START: readonly string[] = [
  'PASID Control of the endpoint: 7',
  'bind to vfio-pci: ok',
  'bind to iommufd: ok',
];

export interface TableOptions {
  /** Bits of PASID of the endpoint. */
  readonly width: number;
  /** Code for an address that is not mapped: 71h in the first stage, 79h in the second. */
  readonly unmapped: string;
}

export function baseTable({ width, unmapped }: TableOptions): string[] {
  return [
    ...START,
    `IOMMU: type 1, PASIDs of ${width} bits`,
    'PASID 5, nothing attached: rejected 59h',
    'no PASID, nothing attached: rejected 59h',
    'tables of the first address space: ok',
    'tables of the second address space: ok',
    'attach the function to the first: ok',
    'no PASID, function attached: read "hello-from-guest"',
    'PASID 5, function attached: rejected 59h',
    'attach PASID 5 to the first: ok',
    'PASID 5: read "hello-from-guest"',
    'PASID 5, a write: written',
    'the guest finds there: "written-by-the-device"',
    'PASID 5, read-only page: read "read-only-page"',
    'PASID 5, read-only page, a write: rejected 85h',
    `PASID 5, unmapped: rejected ${unmapped}`,
    'PASID 5, privileged: rejected 5dh',
    'PASID 5, execute: rejected 5ch',
    'PASID 6, not attached: rejected 59h',
    'PASID 0x1234, not attached: rejected 51h',
    'attach PASID 6 to the second: ok',
    'PASID 6: read "other-address-space"',
    'PASID 5, still in the first: read "written-by-the-device"',
    'attach the largest PASID to the second: ok',
    'largest PASID: read "other-address-space"',
    ...(width === 20
      ? []
      : ['one more than the largest: not sent', 'one more than the largest, sent all the same: rejected']),
    'detach PASID 5: ok',
    'PASID 5, detached: rejected 59h',
    'PASID 6, still in the second: read "other-address-space"',
    `PASID 6, page unmapped: rejected ${unmapped}`,
    'PASID 6, another page mapped: read "another-page"',
    'detach the function: ok',
    'no PASID, function detached: rejected 59h',
    'PASID 6, function detached: read "another-page"',
  ];
}
