// The initial file system of a guest with busybox.
import {
  CONSOLE_DEVICES,
  entriesUnder,
  initramfs,
  MODE_CHARACTER_DEVICE,
  MODE_LINK,
  MODE_PROGRAM,
} from 'vpci/linux-guest';

/** The files under `root`, with `init`, symbolic links, and the device nodes that a console needs. */
export function initialFileSystem(
  root: string,
  init: string,
  links: Readonly<Record<string, string>>,
): Buffer<ArrayBuffer> {
  return Buffer.from(
    initramfs([
      ...entriesUnder(root),
      ...Object.entries(links).map(([name, to]) => ({ name, mode: MODE_LINK, data: Buffer.from(to) })),
      { name: 'init', mode: MODE_PROGRAM, data: Buffer.from(init) },
      ...CONSOLE_DEVICES,
      { name: 'dev/ttyS0', mode: MODE_CHARACTER_DEVICE, device: [4, 64] },
    ]),
  );
}
