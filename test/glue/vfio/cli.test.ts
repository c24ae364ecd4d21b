import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { vpci } from '../cli/support.ts';
import {
  hostTree,
  type Kernel,
  type Ran,
  rawConfig,
  removeScratch,
  repo,
  runOnHost,
  whyNoShim,
} from './shim.ts';

afterAll(removeScratch);

const NOWHERE = ['--root', join(repo, 'docs')];

describe('vpci host without VFIO', () => {
  it('explains itself in one paragraph', () => {
    const { code, out, err } = vpci(['host', ...NOWHERE]);
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain('No PCI device of this machine is bound to VFIO');
    expect(err).toContain('modprobe vfio-pci');
    expect(err.trimEnd()).not.toContain('\n\n');
  });

  it('says the same in JSON', () => {
    const { code, out, err } = vpci(['host', '--json', ...NOWHERE]);
    expect([code, err]).toEqual([1, '']);
    const answer = JSON.parse(out) as { devices: unknown[]; problem: string };
    expect(answer.devices).toEqual([]);
    expect(answer.problem).toMatch(/^No PCI device .* dumped device\.$/);
  });

  it('says that there is no such device', () => {
    const { code, out, err } = vpci(['host', '01:00.0', ...NOWHERE]);
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain('the host has no PCI device 0000:01:00.0');
  });

  it.each([
    [['gpu'], 'is no PCI address'],
    [['01:00.0', '02:00.0'], 'takes one PCI address'],
    [['--via', 'sea'], '--via is "sea"'],
    [['--vf-token', 'x'], '--vf-token is "x"'],
    [['01:00.0', '--vf-token', 'x'], '--vf-token is "x"'],
    [['--nothing'], 'lists the options'],
  ])('is a usage error: %s', (args, words) => {
    const { code, out, err } = vpci(['host', ...args, ...NOWHERE]);
    expect([code, out]).toEqual([2, '']);
    expect(err).toContain(words);
  });

  it('has help', () => {
    expect(vpci(['host', '--help']).out).toMatch(/^Usage: vpci host [^]*Exit code: 0 /);
    expect(vpci(['--help']).out).toMatch(/^ {2}host +\w/m);
  });
});

bed('vfio-shim', whyNoShim)('vpci host', () => {
  const host = (args: readonly string[], kernel: Kernel): Ran =>
    runOnHost(['dist/vmm-glue/cli/main.js', 'host', ...args], kernel);

  it('prints what every bound device answered', () => {
    const root = hostTree({ raw: rawConfig(true) });
    const { code, out, err } = host(['--root', root], { WIDTH: '16', CAPS: '6' });
    expect([code, err]).toEqual([0, '']);
    expect(out.split('\n').slice(0, 4)).toEqual([
      '0000:01:00.0  PASID of 16 bits, execute and privileged enabled (source: iommufd), IOMMU intel-vtd, PASIDs can be attached',
      '  opened by cdev, driver vfio-pci, 4096 bytes of configuration space, can be reset',
      '  BAR 0: 16 KiB, mappable',
      '  interrupts: intx 1, msi 1, msi-x 33, request 1',
    ]);
    expect(out).toContain('  yes  VFIO_DEVICE_BIND_IOMMUFD: bound; the device is 7 in the iommufd\n');
    expect(out).toContain('  note PASID Control of the hardware: PASID Enable is set\n');
  });

  it('prints the same as JSON', () => {
    const { code, out } = host(['1:0.0', '--json', '--no-attach', '--root', hostTree()], {
      WIDTH: '20',
      CAPS: '2',
    });
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({
      devices: [
        {
          bdf: '0000:01:00.0',
          feature: { width: 20, execute: true, privileged: false },
          source: 'iommufd',
          openedBy: 'cdev',
          configSize: 4096,
          bars: [{ index: 0, size: 0x4000 }],
          steps: expect.arrayContaining([
            expect.objectContaining({ call: 'IOMMU_GET_HW_INFO', outcome: 'done' }),
          ]),
        },
      ],
    });
  });

  it('explains a device without PASID, which is an answer', () => {
    const { code, out } = host(['--root', hostTree()], { WIDTH: '0', CAPS: '8', NO_RESET: '1' });
    expect(code).toBe(0);
    expect(out).toContain('0000:01:00.0  no PASID, IOMMU intel-vtd, no ATS\n');
    expect(out).toContain('has no reset of its own');
    expect(out).toContain('  no   IOMMU_GET_HW_INFO: the kernel reported no PASID: ');
    expect(out).toContain('  skip VFIO_DEVICE_FEATURE index 11: not asked for');
  });

  it('exits with 1 when no device could be opened', () => {
    const kernel = { FAIL: 'VFIO_DEVICE_BIND_IOMMUFD:16' };
    const { code, out, err } = host(['--root', hostTree()], kernel);
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain('0000:01:00.0: VFIO_DEVICE_BIND_IOMMUFD on vfio0 (0000:01:00.0) failed: EBUSY (');
    const json = host(['--json', '--root', hostTree()], kernel);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out)).toMatchObject({
      devices: [{ bdf: '0000:01:00.0', error: { code: 'VPCI_HOST_CALL' } }],
    });
  });

  it('asks the unmerged feature, with its option, of a device that was opened by its group', () => {
    const args = ['--via', 'group', '--unmerged-feature', '--root', hostTree()];
    const { code, out } = host(args, { FEATURE: '16,1' });
    expect(code).toBe(0);
    expect(out).toContain('PASID of 16 bits, execute enabled (source: vfio-feature)');
  });
});
