import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** An entry of an archive. */
export interface ArchiveEntry {
  /** Path from the root, without a leading slash. */
  readonly name: string;
  /** Type and permission bits, as `st_mode`. */
  readonly mode: number;
  /** Contents of a file, target of a symbolic link. */
  readonly data?: Uint8Array;
  readonly device?: readonly [major: number, minor: number];
}

/** Type and permission bits of the entries that an initial file system needs. */
export const MODE_DIRECTORY = 0o40755;
export const MODE_PROGRAM = 0o100755;
export const MODE_CHARACTER_DEVICE = 0o20600;
export const MODE_LINK = 0o120777;

/** What Linux needs before it has mounted anything: its console. */
export const CONSOLE_DEVICES: readonly ArchiveEntry[] = [
  { name: 'dev', mode: MODE_DIRECTORY },
  { name: 'dev/console', mode: MODE_CHARACTER_DEVICE, device: [5, 1] },
];

/** An archive that Linux takes as its initial file system (cpio, format "newc"). */
export function initramfs(entries: readonly ArchiveEntry[]): Uint8Array {
  const all = [...entries, { name: 'TRAILER!!!', mode: 0 }];
  return Buffer.concat(all.map((entry, i) => record(entry, i + 1)));
}

/** Entries for everything under `folder`; files are programs. */
export function entriesUnder(folder: string, prefix = ''): ArchiveEntry[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((one) => {
    const name = prefix + one.name;
    const path = join(folder, one.name);
    return one.isDirectory()
      ? [{ name, mode: MODE_DIRECTORY }, ...entriesUnder(path, `${name}/`)]
      : [{ name, mode: MODE_PROGRAM, data: readFileSync(path) }];
  });
}

function record(
  { name, mode, data = new Uint8Array(), device: [major, minor] = [0, 0] }: ArchiveEntry,
  inode: number,
): Buffer {
  const path = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, path.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([header, path, padding(header.length + path.length), data, padding(data.length)]);
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length & 3)) & 3);
}
