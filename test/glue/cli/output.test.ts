// What becomes of a command whose output arrives nowhere, or that a signal ends.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { capture, repo } from './support.ts';

const MAIN = join(repo, 'dist/vmm-glue/cli/main.js');
const scratch = mkdtempSync(join(tmpdir(), 'vpci-'));
afterAll(() => rmSync(scratch, { recursive: true }));

function shell(command: string): { code: number | null; out: string; err: string } {
  const script = `vpci() { '${process.execPath}' '${MAIN}' "$@"; }\n${command}`;
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8', timeout: 50_000 });
  return { code: status, out: stdout, err: stderr };
}

describe('a reader that goes away', () => {
  it.each<[command: string, code: number]>([
    ['demo --guest scripted', 0],
    ['--help', 0],
    [`replay ${join(repo, 'docs/examples/pasid.jsonl')}`, 0],
    // The answer counts all the same.
    [`explain ${capture('root-port')}`, 1],
    [`serve --demo --socket ${join(scratch, 'unread.sock')}`, 0],
  ])('ends vpci %s quietly', (command, code) => {
    const { out, err } = shell(`exec 4> >(exec true); wait $!; vpci ${command} >&4; echo "exit $?"`);
    expect(out).toBe(`exit ${code}\n`);
    if (command.startsWith('serve')) expect(err).toMatch(/^Start QEMU /);
    else expect(err).toBe('');
  });

  it('may be that of the errors', () => {
    const { out } = shell('exec 4> >(exec true); wait $!; vpci view none 2>&4; echo "exit $?"');
    expect(out).toBe('exit 2\n');
  });
});

it.skipIf(!existsSync('/dev/full'))('a full disk is told in one line', () => {
  const { code, err } = shell('vpci demo --guest scripted > /dev/full');
  expect(err).toMatch(/^vpci: cannot write to standard output: ENOSPC[^\n]*\n$/);
  expect(code).toBe(1);
});

describe('vpci demo --linux', () => {
  const parts = join(scratch, 'parts');
  const temporary = join(scratch, 'tmp');
  mkdirSync(join(parts, 'linux'), { recursive: true });
  mkdirSync(temporary);
  const write = (name: string, text: string): string => {
    const path = join(parts, name);
    writeFileSync(path, text);
    chmodSync(path, 0o755);
    return path;
  };
  const kernel = write('bzImage', '');
  write('linux/iommufd.h', 'IOMMU_HWPT_ALLOC_PASID');
  write('linux/vfio.h', 'VFIO_DEVICE_ATTACH_PASID');
  write('cc', '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n');
  // A machine that says a line and goes on for a minute.
  const pidFile = join(parts, 'pid');
  const qemu = write(
    'qemu',
    `#!/bin/sh
case "$*" in
  --version) echo 'QEMU emulator version 11.1.3';;
  '-device help') echo 'name "vfio-user-pci"';;
  -help) ;;
  *) echo $$ > '${pidFile}'; echo 'guest: is up'; exec sleep 60;;
esac
`,
  );

  const isAlive = (pid: number): boolean => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  const pidOf = (): number => Number(readFileSync(pidFile, 'utf8'));
  afterEach(() => {
    if (isAlive(pidOf())) process.kill(pidOf(), 'SIGKILL');
  });

  it.each<[what: string, end: NodeJS.Signals | 'close', code: number, said: string]>([
    ['SIGTERM', 'SIGTERM', 1, 'vpci demo: interrupted\n'],
    ['SIGINT', 'SIGINT', 1, 'vpci demo: interrupted\n'],
    ['a reader that goes away', 'close', 0, ''],
  ])('ends QEMU and leaves no files at %s', async (_, end, code, said) => {
    const options = ['--qemu', qemu, '--kernel', kernel, '--headers', parts];
    const child = spawn(process.execPath, [MAIN, 'demo', '--linux', ...options], {
      env: { ...process.env, TMPDIR: temporary, PATH: `${parts}:${process.env['PATH']}` },
    });
    let [out, err] = ['', ''];
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      // The story's first line comes later than the introduction.
      if (end === 'close' && text.includes('Unit:')) child.stdout.destroy();
    });
    if (end !== 'close') {
      await expect.poll(() => out).toContain('guest: is up');
      expect(readdirSync(temporary)).toHaveLength(1);
      child.kill(end);
    }
    expect(await exited, out + err).toBe(code);
    expect(err).toBe(said);
    expect(isAlive(pidOf())).toBe(false);
    expect(readdirSync(temporary)).toEqual([]);
  });
});
