import { checkAddress, checkInteger, TableBytes, type TableIdentity } from './table-bytes.ts';

/** One range of ECAM (PCI Firmware 4.1.2). */
export interface McfgRange {
  /** Guest-physical address of bus 0's configuration space, also when `startBus` is not 0; a multiple of 1 MiB. */
  readonly base: number | bigint;
  /** PCI segment group, 16 bits. Default 0. */
  readonly segment?: number;
  /** First and last bus number. Defaults 0 and 255. */
  readonly startBus?: number;
  readonly endBus?: number;
}

/**
 * The MCFG table (PCI Firmware 4.1.2): where ECAM is.
 *
 * @throws VpciError `VPCI_BAD_ARGUMENT` for a number out of range.
 */
export function mcfgTable(ranges: readonly McfgRange[], identity: TableIdentity = {}): Uint8Array {
  const body = new TableBytes().zeros(8);
  for (const { base, segment = 0, startBus = 0, endBus = 0xff } of ranges) {
    checkAddress(base, 0x10_0000n, 'base of an ECAM range');
    checkInteger(segment, 0, 0xffff, 'segment');
    checkInteger(startBus, 0, 0xff, 'startBus');
    checkInteger(endBus, startBus, 0xff, 'endBus');
    body.uint(base, 8).uint(segment, 2).uint(startBus, 1).uint(endBus, 1).zeros(4);
  }
  return body.table('MCFG', 1, identity);
}
