import { VpciError } from './vpci-error.ts';

/**
 * Requester IDs and their text form. A requester ID (RID) is bus[15:8], device[7:3], function[2:0]
 * (PCIe 2.2.6.2); a BDF is the same in the notation of lspci: `bb:dd.f`, hexadecimal, optionally with a domain
 * in front: `dddd:bb:dd.f`.
 *
 * @module
 */

/** A parsed BDF. */
export interface Bdf {
  /** PCI segment group, 0..0xffffffff; 0 when the text names none. */
  readonly domain: number;
  /** Requester ID, 16 bits. */
  readonly rid: number;
}

const BDF = /^(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i;

/** Parses `bb:dd.f` or `dddd:bb:dd.f`; undefined when `text` is neither. */
export function tryParseBdf(text: string): Bdf | undefined {
  const match = BDF.exec(text);
  if (match === null) return undefined;
  const [, domain = '0', bus = '', device = '', fn = ''] = match;
  const deviceNumber = Number.parseInt(device, 16);
  if (deviceNumber > 0x1f) return undefined;
  return {
    domain: Number.parseInt(domain, 16),
    rid: requesterId(Number.parseInt(bus, 16), deviceNumber, Number(fn)),
  };
}

/**
 * The requester ID that `bdf` names; a number is taken as a requester ID already.
 *
 * @throws VpciError `VPCI_BDF` when the text is no BDF, names a domain other than 0, or the number is not 16 bits.
 */
export function parseBdf(bdf: string | number): number {
  if (typeof bdf === 'number') {
    if (Number.isInteger(bdf) && bdf >= 0 && bdf <= 0xffff) return bdf;
    throw new VpciError(
      'VPCI_BDF',
      `${bdf} is no requester ID: give a whole number from 0 to 0xffff, or "bb:dd.f"`,
    );
  }
  const parsed = tryParseBdf(bdf);
  if (parsed === undefined) {
    throw new VpciError(
      'VPCI_BDF',
      `"${bdf}" is no PCI address: write it as bb:dd.f in hexadecimal, such as 01:00.0`,
    );
  }
  if (parsed.domain !== 0) {
    throw new VpciError(
      'VPCI_BDF',
      `"${bdf}" names domain ${parsed.domain}: use one segment per domain, and bb:dd.f in it`,
    );
  }
  return parsed.rid;
}

/** `rid` (16 bits; higher bits are shown as the domain) as `bb:dd.f`. */
export function formatBdf(rid: number): string {
  const domain = rid > 0xffff ? `${hex(Math.floor(rid / 0x10000), 4)}:` : '';
  return `${domain}${hex((rid >>> 8) & 0xff, 2)}:${hex((rid >>> 3) & 0x1f, 2)}.${rid & 7}`;
}

/** The requester ID of bus 0..255, device 0..31, function 0..7. */
export function requesterId(bus: number, device: number, fn: number): number {
  return (bus << 8) | (device << 3) | fn;
}

/** `value` in lower-case hexadecimal, at least `digits` long, without `0x`. */
export function hex(value: number | bigint, digits = 1): string {
  return value.toString(16).padStart(digits, '0');
}
