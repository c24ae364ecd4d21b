// `vpci demo --linux` as a user runs it.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { kernelImage } from '../host-kernel/kernel.ts';
import { qemuProgram } from '../qemu/qemu.ts';
import { whyNotHere } from './machine.ts';

const command = fileURLToPath(new URL('../../../dist/vmm-glue/cli/main.js', import.meta.url));

bed('linux-iommu', whyNotHere)('vpci demo --linux', () => {
  it('shows what Linux does, what the guest sees, and why the unit decided so', async () => {
    const parts = ['--qemu', qemuProgram(), '--kernel', kernelImage()];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [
      command,
      'demo',
      '--linux',
      ...parts,
    ]);
    expect(stderr).toBe('');
    const lines = stdout.split('\n').map((line) => line.replace(/^ *\d+\.\d\d s {2}/, ''));
    const story = [
      /^Linux {2}sets the root table, at 0x[0-9a-f]+, scalable mode$/,
      /^Linux {2}sets PASID Enable of the device/,
      /^Linux {2}switches translation on$/,
      /^unit {3}read PASID 0x5 at 0x10000000: rejected, .*pasid-entry-not-present \(59h\)$/,
      /^guest {2}PASID 5, nothing attached: rejected 59h$/,
      /^guest {2}attach PASID 5 to the first: ok$/,
      /^unit {3}read PASID 0x5 at 0x10000000: accepted: guest memory at 0x/,
      /^guest {2}PASID 5: read "hello-from-guest"$/,
      /^guest {2}detach PASID 5: ok$/,
      /^unit {3}read PASID 0x5 at 0x10000000: rejected, .*\(59h\)$/,
      /^Linux {2}switches translation off$/,
      /^What Linux has in its log, in its order:$/,
      /^ +Linux {2}says DMAR: \[DMA Read PASID 0x5\] .*fault reason 0x59/,
    ];
    let at = -1;
    for (const pattern of story) {
      const next = lines.findIndex((line, index) => index > at && pattern.test(line));
      expect(next, `${String(pattern)} after line ${at} of\n${stdout}`).toBeGreaterThan(at);
      at = next;
    }
  }, 120_000);
});
