// The archive that Linux takes as its initial file system: cpio, format "newc".
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const DIRECTORY = 0o40755;
const FILE = 0o100755;
const CHARACTER_DEVICE = 0o20600;
const LINK = 0o120777;

interface Entry {
  readonly name: string;
  readonly mode: number;
  readonly data?: Uint8Array;
  readonly device?: readonly [major: number, minor: number];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length & 3)) & 3);
}

function record(
  { name, mode, data = new Uint8Array(), device: [major, minor] = [0, 0] }: Entry,
  inode: number,
): Buffer {
  const path = Buffer.from(`${name}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, major, minor, path.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([header, path, padding(header.length + path.length), data, padding(data.length)]);
}

function* entriesOf(folder: string, prefix = ''): Generator<Entry> {
  for (const one of readdirSync(folder, { withFileTypes: true })) {
    const name = prefix + one.name;
    const path = join(folder, one.name);
    if (one.isDirectory()) {
      yield { name, mode: DIRECTORY };
      yield* entriesOf(path, `${name}/`);
    } else {
      yield { name, mode: FILE, data: readFileSync(path) };
    }
  }
}

/** The files under `root`, with `init`, symbolic links, and the device nodes that a console needs. */
export function initialFileSystem(
  root: string,
  init: string,
  links: Readonly<Record<string, string>>,
): Buffer {
  const entries: Entry[] = [
    ...entriesOf(root),
    ...Object.entries(links).map(([name, to]) => ({ name, mode: LINK, data: Buffer.from(to) })),
    { name: 'init', mode: FILE, data: Buffer.from(init) },
    { name: 'dev/console', mode: CHARACTER_DEVICE, device: [5, 1] },
    { name: 'dev/ttyS0', mode: CHARACTER_DEVICE, device: [4, 64] },
    { name: 'TRAILER!!!', mode: 0 },
  ];
  return Buffer.concat(entries.map((entry, i) => record(entry, i + 1)));
}
