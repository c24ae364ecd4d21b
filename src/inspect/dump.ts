import { formatBdf, hex, tryParseBdf } from '../pci/bdf.ts';
import { CONFIG_SPACE_SIZE, EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import { CLASS_CODE, DEVICE_ID, VENDOR_ID } from '../pci/header.ts';
import { VpciError } from '../pci/vpci-error.ts';

/**
 * Dumps of configuration spaces: the text of `lspci -x`, `-xxx` or `-xxxx`, and the binary `config` files of sysfs.
 *
 * @module
 */

/** One function of a dump. */
export interface DumpedFunction {
  /** `bb:dd.f`, with a domain in front when the dump has one. */
  readonly bdf: string;
  /** Requester ID, 16 bits. */
  readonly rid: number;
  /** What the dump says after the BDF, in one line. */
  readonly title: string;
  /** 64, 128, 256 or 4096 bytes. */
  readonly bytes: Uint8Array;
}

const SIZES: ReadonlySet<number> = new Set([64, 128, CONFIG_SPACE_SIZE, EXTENDED_CONFIG_SPACE_SIZE]);
const FUNCTION_LINE = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?:\s+(.*))?$/i;
const HEX_LINE = /^([0-9a-f]{2,3}):((?: [0-9a-f]{2}){1,16})\s*$/i;

/**
 * The functions of a dump, in its order.
 *
 * @throws VpciError `VPCI_DUMP` when there is no function with hex lines in it, `VPCI_DUMP_TRUNCATED` when one
 * ends early or has a gap.
 */
export function parseDump(dump: string | Uint8Array): DumpedFunction[] {
  if (typeof dump === 'string') return parseText(dump);
  return isText(dump) ? parseText(toText(dump)) : [parseBinary(dump)];
}

/** The functions as `lspci -xxxx` text, which `lspci -F` reads. */
export function formatDump(functions: readonly DumpedFunction[]): string {
  return functions.map(formatFunction).join('\n');
}

function parseText(text: string): DumpedFunction[] {
  const functions: DumpedFunction[] = [];
  let heading: { bdf: string; rid: number; title: string; line: number } | undefined;
  let bytes: number[] = [];
  const finish = (): void => {
    if (heading !== undefined && bytes.length > 0) functions.push(complete(heading, bytes));
    bytes = [];
  };
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const [, bdf, title = ''] = FUNCTION_LINE.exec(line) ?? [];
    const parsed = bdf === undefined ? undefined : tryParseBdf(bdf);
    if (bdf !== undefined && parsed !== undefined) {
      finish();
      heading = { bdf: bdf.toLowerCase(), rid: parsed.rid, title: title.trim(), line: index + 1 };
      continue;
    }
    const [, offset, data = ''] = HEX_LINE.exec(line) ?? [];
    if (offset === undefined || heading === undefined) continue;
    if (Number.parseInt(offset, 16) !== bytes.length) {
      throw new VpciError(
        'VPCI_DUMP_TRUNCATED',
        `line ${index + 1} continues ${heading.bdf} at 0x${offset}, where 0x${hex(bytes.length, 2)} was due: lines are missing from the dump`,
      );
    }
    for (const byte of data.trim().split(' ')) bytes.push(Number.parseInt(byte, 16));
    if (bytes.length > EXTENDED_CONFIG_SPACE_SIZE) throw truncated(heading.bdf, bytes.length);
  }
  finish();
  if (functions.length > 0) return functions;
  throw new VpciError(
    'VPCI_DUMP',
    'this is not a dump: give the output of "lspci -xxxx" (as root, for all 4096 bytes) or a binary config file of sysfs',
  );
}

function complete(
  heading: { bdf: string; rid: number; title: string },
  bytes: readonly number[],
): DumpedFunction {
  const { bdf, rid, title } = heading;
  if (!SIZES.has(bytes.length)) throw truncated(bdf, bytes.length);
  return { bdf, rid, title, bytes: Uint8Array.from(bytes) };
}

function truncated(bdf: string, length: number): VpciError {
  return new VpciError(
    'VPCI_DUMP_TRUNCATED',
    `${bdf} has ${length} bytes: a dump of a function has 64, 128, 256 or 4096; it is cut short, or damaged`,
  );
}

function parseBinary(bytes: Uint8Array): DumpedFunction {
  if (!SIZES.has(bytes.length)) {
    throw new VpciError(
      SIZES.has(bytes.length + 1) || bytes.length < EXTENDED_CONFIG_SPACE_SIZE
        ? 'VPCI_DUMP_TRUNCATED'
        : 'VPCI_DUMP',
      `a binary dump of ${bytes.length} bytes: a config file of sysfs has 64, 256 or 4096`,
    );
  }
  const word = (offset: number): number => (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
  const title = `Class ${hex(word(CLASS_CODE + 1), 4)}: Device ${hex(word(VENDOR_ID), 4)}:${hex(word(DEVICE_ID), 4)}`;
  return { bdf: formatBdf(0), rid: 0, title, bytes };
}

function formatFunction({ bdf, title, bytes }: DumpedFunction): string {
  const lines = [`${bdf} ${title}`];
  for (let offset = 0; offset < bytes.length; offset += 16) {
    const data = [...bytes.subarray(offset, offset + 16)].map((byte) => hex(byte, 2));
    lines.push(`${hex(offset, 2)}: ${data.join(' ')}`);
  }
  return `${lines.join('\n')}\n`;
}

/**
 * Text has printable characters, tabs and line ends only; a configuration space does not get far with that. FFh, of
 * which one of a device that is gone consists, is in no text (UTF-8).
 */
function isText(bytes: Uint8Array): boolean {
  return bytes.every(
    (byte) => (byte >= 0x20 && byte < 0xff) || (byte >= 0x09 && byte <= 0x0d) || byte === 0x1b,
  );
}

function toText(bytes: Uint8Array): string {
  let text = '';
  // In pieces: a function takes a limited number of arguments.
  for (let i = 0; i < bytes.length; i += 0x1000)
    text += String.fromCharCode(...bytes.subarray(i, i + 0x1000));
  return text;
}
