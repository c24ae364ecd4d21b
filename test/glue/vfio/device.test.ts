import { afterAll, describe, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import {
  deviceBytes,
  HIDDEN_PASID,
  hostTree,
  type Kernel,
  onHost,
  rawConfig,
  removeScratch,
  whyNoShim,
} from './shim.ts';

afterAll(removeScratch);

const TOKEN = '01234567-89ab-cdef-0123-456789abcdef';

function open(
  kernel: Kernel,
  options = '{ root }',
  root: string = hostTree(),
): { result: unknown; calls: readonly string[] } {
  return onHost(
    root,
    kernel,
    `const device = await vfio.openVfioDevice('1:0.0', ${options});
     const { openedBy, subject, deviceId } = device;
     device.close();
     device.close();
     return { openedBy, subject, deviceId };`,
  );
}

bed('vfio-shim', whyNoShim)('openVfioDevice', () => {
  it('opens by cdev, and closes the device before the iommufd', () => {
    const { result, calls } = open({});
    expect(result).toEqual({ openedBy: 'cdev', subject: 'vfio0 (0000:01:00.0)', deviceId: 7 });
    expect(calls.slice(0, 3)).toEqual(['open vfio0 ok', 'open iommu ok', 'VFIO_DEVICE_BIND_IOMMUFD ok']);
    expect(calls.slice(-2)).toEqual(['close device ok', 'close iommufd ok']);
  });

  it('opens by group, and closes the device, the group and the container', () => {
    const { result, calls } = open({}, "{ root, via: 'group' }");
    expect(result).toEqual({ openedBy: 'group', subject: '0000:01:00.0' });
    expect(calls.filter((call) => !/GET_INFO|GET_REGION/.test(call))).toEqual([
      'open vfio ok',
      'open 12 ok',
      'VFIO_GROUP_GET_STATUS ok',
      'VFIO_GET_API_VERSION ok',
      'VFIO_GROUP_SET_CONTAINER ok',
      'VFIO_CHECK_EXTENSION ok',
      'VFIO_SET_IOMMU ok',
      'open vfio0 ok',
      'VFIO_GROUP_GET_DEVICE_FD ok',
      'close device ok',
      'close group ok',
      'close container ok',
    ]);
  });

  it.each([
    [{ cdev: false }, 'group'],
    [{ iommufd: false }, 'group'],
    [{}, 'cdev'],
  ])('chooses: %o', (tree, openedBy) => {
    expect(open({}, '{ root }', hostTree(tree)).result).toMatchObject({ openedBy });
  });

  it('binds to the iommufd of the caller, and leaves it open', () => {
    const { result, calls } = onHost(
      hostTree(),
      {},
      `const fs = await import('node:fs');
       const iommufd = fs.openSync(root + '/dev/iommu', 'r+');
       const device = await vfio.openVfioDevice('1:0.0', { root, iommufd });
       device.close();
       return { same: device.iommufd === iommufd, open: fs.fstatSync(iommufd).isFile() };`,
    );
    expect(result).toEqual({ same: true, open: true });
    expect(calls).not.toContain('open iommu ok');
    expect(calls.at(-1)).toBe('close device ok');
  });

  it('closes when the signal is aborted, and when it is disposed of', () => {
    const { calls } = onHost(
      hostTree(),
      {},
      `const abort = new AbortController();
       await vfio.openVfioDevice('1:0.0', { root, signal: abort.signal });
       abort.abort();`,
    );
    expect(calls.slice(-2)).toEqual(['close device ok', 'close iommufd ok']);
    const disposed = onHost(
      hostTree(),
      {},
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       await device[Symbol.asyncDispose]();`,
    );
    expect(disposed.calls.slice(-2)).toEqual(['close device ok', 'close iommufd ok']);
  });

  it.each(['cdev', 'group'])('gives the VF token by %s', (via) => {
    const kernel = { TOKEN: TOKEN.replaceAll('-', '') };
    expect(open(kernel, `{ root, via: '${via}', vfToken: '${TOKEN}' }`).result).toMatchObject({
      openedBy: via,
    });
    const missing = open(kernel, `{ root, via: '${via}' }`);
    expect(missing.result).toMatchObject({ error: 'VPCI_HOST_CALL' });
    expect(JSON.stringify(missing.result)).toMatch(/EACCES .*give the same UUID as vfToken/);
    expect(JSON.stringify(open({}, `{ root, via: '${via}', vfToken: '${TOKEN}' }`).result)).toMatch(
      /EINVAL .*leave vfToken out/,
    );
  });

  it('refuses a token that is no UUID before it opens anything', () => {
    const { result, calls } = open({}, "{ root, vfToken: 'secret' }");
    expect(result).toMatchObject({ error: 'VPCI_BAD_ARGUMENT' });
    expect(calls).toEqual(['']);
  });

  it.each([
    ['cdev', 'open vfio0:2', /open on \S*vfio0 failed: ENOENT \(.*container/],
    ['cdev', 'open vfio0:13', /EACCES \(.*udev/],
    ['cdev', 'open vfio0:1', /EPERM \(.*no IOMMU/],
    ['cdev', 'open vfio0:19', /ENODEV/],
    ['cdev', 'open iommu:13', /open on \S*iommu failed: EACCES/],
    [
      'cdev',
      'VFIO_DEVICE_BIND_IOMMUFD:22',
      /VFIO_DEVICE_BIND_IOMMUFD on vfio0 \(0000:01:00.0\) failed: EINVAL \(/,
    ],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:7', /E2BIG \(/],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:9', /EBADF \(/],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:77', /EBADFD \(.*no iommufd/],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:16', /EBUSY \(the IOMMU group is open by another process/],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:1', /EPERM \(a driver of the host, .*allow_unsafe_interrupts/],
    ['cdev', 'VFIO_DEVICE_BIND_IOMMUFD:25', /ENOTTY \(.*CONFIG_VFIO_DEVICE_CDEV/],
    ['cdev', 'VFIO_DEVICE_GET_INFO:22', /VFIO_DEVICE_GET_INFO .*EINVAL/],
    ['cdev', 'VFIO_DEVICE_GET_REGION_INFO:22', /region 7 of vfio0/],
    ['group', 'open 12:16', /open on \S*12 failed: EBUSY \(the group is open in another process/],
    ['group', 'open vfio:2', /ENOENT \(.*modprobe vfio-pci/],
    ['group', 'VFIO_GROUP_SET_CONTAINER:16', /group 12 failed: EBUSY/],
    ['group', 'VFIO_SET_IOMMU:12', /ENOMEM \(the limit of locked memory/],
    ['group', 'VFIO_SET_IOMMU:1', /EPERM \(.*allow_unsafe_interrupts/],
    ['group', 'VFIO_GROUP_GET_DEVICE_FD:19', /ENODEV \(.*not bound to vfio-pci/],
    ['group', 'VFIO_GROUP_GET_DEVICE_FD:25', /ENOTTY \(/],
  ])('explains by %s: %s', (via, fail, message) => {
    const { result, calls } = open({ FAIL: fail }, `{ root, via: '${via}' }`);
    expect(result).toMatchObject({ error: 'VPCI_HOST_CALL' });
    expect((result as { message: string }).message).toMatch(message);
    // Whatever was opened is closed again.
    const opened = calls.filter((call) => /^open .* ok$/.test(call)).length;
    expect(calls.filter((call) => /^close .* ok$/.test(call))).toHaveLength(opened);
  });

  it('explains a group that is not viable', () => {
    const { result } = open({ NOT_VIABLE: '1' }, "{ root, via: 'group' }");
    expect(JSON.stringify(result)).toContain('IOMMU group 12 is not viable');
  });

  it.each([
    [{ driver: 'nvme', cdev: false }, '{ root }', 'is bound to nvme: run \\"driverctl set-override'],
    [
      { cdev: false },
      "{ root, via: 'cdev' }",
      'has no VFIO device file: this kernel has no CONFIG_VFIO_DEVICE_CDEV',
    ],
    [{ cdev: false, group: false }, '{ root }', 'is in no IOMMU group: switch the IOMMU on'],
    [{ iommufd: false }, "{ root, via: 'cdev' }", 'has no iommufd'],
  ])('explains what is missing: %o', (tree, options, words) => {
    const { result } = open({}, options, hostTree(tree));
    expect(result).toMatchObject({ error: 'VPCI_HOST_CALL' });
    expect(JSON.stringify(result)).toContain(words);
  });

  it('refuses what is no address, and a device that there is not', () => {
    const both = onHost(
      hostTree(),
      {},
      `const tried = async (bdf) => vfio.openVfioDevice(bdf, { root }).catch(({ code, message }) => [code, message]);
       return [await tried('gpu'), await tried('02:00.0')];`,
    );
    expect(both.result).toEqual([
      ['VPCI_BDF', expect.stringContaining('bb:dd.f')],
      ['VPCI_HOST_CALL', expect.stringContaining('has no PCI device 0000:02:00.0')],
    ]);
  });

  it.each(['0', '255', '8192'])('refuses a configuration space of %s bytes', (size) => {
    const { result, calls } = open({ CONFIG_SIZE: size });
    expect(result).toMatchObject({ error: 'VPCI_CONFIG_SIZE' });
    expect(calls.slice(-2)).toEqual(['close device ok', 'close iommufd ok']);
  });
});

bed('vfio-shim', whyNoShim)('VfioDevice', () => {
  it('reads and writes the configuration space at the offset that the kernel gives', () => {
    const root = hostTree();
    const { result } = onHost(
      root,
      {},
      `const { configSpace, ...device } = await vfio.openVfioDevice('1:0.0', { root });
       const read = (offset, size) => configSpace.read(offset, size);
       configSpace.write(0xf10, 4, 0x89abcdef);
       configSpace.write(0xf14, 2, 0x1234);
       configSpace.write(0xf16, 1, 0x56);
       configSpace.write(0xffe, 4, 0x11111111);
       return [configSpace.size, read(0, 4), read(2, 2), read(1, 1), read(0xf10, 4), read(0xf14, 4), read(0xffe, 4), read(0xffc, 4), read(0x1000, 1), read(-4, 4)];`,
    );
    expect(result).toEqual([
      0x1000, 0x10c98086, 0x10c9, 0x80, 0x89abcdef, 0x561234, 0xffffffff, 0, 0xff, 0xffffffff,
    ]);
    expect([...deviceBytes(root).subarray(0xf10, 0xf17)]).toEqual([0xef, 0xcd, 0xab, 0x89, 0x34, 0x12, 0x56]);
  });

  it('reads all-ones and drops writes when it is closed; its descriptor is refused', () => {
    const root = hostTree();
    const { result } = onHost(
      root,
      {},
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       const [bar] = device.bars();
       device.close();
       device.configSpace.write(0, 4, 0);
       bar.write(0, 4, 1);
       let code;
       try { device.reset(); } catch (error) { code = error.code; }
       return [device.configSpace.read(0, 4), device.configSpace.read(0, 2), bar.read(0, 1), code];`,
    );
    expect(result).toEqual([0xffffffff, 0xffff, 0xff, 'VPCI_BAD_ARGUMENT']);
    expect(deviceBytes(root)[0x10000]).toBe(0);
  });

  it('describes regions, interrupts and BARs', () => {
    const { result } = onHost(
      hostTree(),
      {},
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       return [device.region(7), device.region(0), device.irqs(), device.bars().map(({ index, size }) => [index, size]), device.canReset];`,
    );
    expect(result).toEqual([
      { index: 7, size: 4096, offset: 0x70000000000, readable: true, writable: true, mappable: false },
      { index: 0, size: 0x4000, offset: 0, readable: true, writable: true, mappable: true },
      [
        {
          index: 0,
          kind: 'intx',
          count: 1,
          eventfd: true,
          maskable: true,
          automasked: true,
          noResize: false,
        },
        {
          index: 1,
          kind: 'msi',
          count: 1,
          eventfd: true,
          maskable: false,
          automasked: false,
          noResize: true,
        },
        {
          index: 2,
          kind: 'msi-x',
          count: 33,
          eventfd: true,
          maskable: false,
          automasked: false,
          noResize: true,
        },
        {
          index: 4,
          kind: 'request',
          count: 1,
          eventfd: true,
          maskable: false,
          automasked: false,
          noResize: true,
        },
      ],
      [[0, 0x4000]],
      true,
    ]);
  });

  it('resets, or says why it cannot', () => {
    const script =
      "const device = await vfio.openVfioDevice('1:0.0', { root }); device.reset(); return device.canReset;";
    const good = onHost(hostTree(), {}, script);
    expect(good.result).toBe(true);
    expect(good.calls).toContain('VFIO_DEVICE_RESET ok');
    const bad = onHost(hostTree(), { NO_RESET: '1' }, script);
    expect(JSON.stringify(bad.result)).toMatch(
      /VFIO_DEVICE_RESET on vfio0 .*EINVAL \(the device has no reset of its own/,
    );
  });
});

bed('vfio-shim', whyNoShim)('passthroughFunction', () => {
  /** Script with `device`, `fn` and `query`. */
  const passed = (root: string, kernel: Kernel, script: string, options = '{}') =>
    onHost(
      root,
      kernel,
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       const { fn, query } = vfio.passthroughFunction(device, ${options});
       ${script}`,
    );

  it('shows the width and permissions that the host answered', () => {
    const { result } = passed(
      hostTree(),
      { WIDTH: '16', CAPS: '2' },
      'return [fn.pasid, fn.read(fn.pasid.offset + 4, 4), fn.size, fn.bars.map(({ index, size }) => [index, size]), query.source];',
    );
    expect(result).toEqual([
      { offset: 0xff8, width: 16, execute: true, privileged: false, control: 'latch' },
      0x1002,
      0x1000,
      [[0, 0x4000]],
      'iommufd',
    ]);
  });

  it.each([
    ['with the raw configuration space of sysfs', { raw: rawConfig(true) }],
    ['by a scan', {}],
  ])('keeps the hidden PASID registers from the guest, found %s', (_, tree) => {
    const root = hostTree(tree);
    const before = deviceBytes(root).slice(0, 0x1000);
    const { result } = passed(
      root,
      { WIDTH: '16', CAPS: '6' },
      `const hidden = ${HIDDEN_PASID};
       const read = fn.read(hidden, 4);
       for (let offset = 0; offset < 8; offset++) for (const value of [0, 0xff]) fn.write(hidden + offset, 1, value);
       fn.write(hidden + 4, 4, 0);
       fn.write(fn.pasid.offset + 6, 2, 7);
       return [read, fn.read(hidden + 4, 4), fn.read(fn.pasid.offset + 6, 2), device.configSpace.read(hidden + 6, 2)];`,
    );
    expect(result).toEqual([0, 0, 7, 3]);
    expect([...deviceBytes(root).subarray(HIDDEN_PASID, 0x1000)]).toEqual([...before.subarray(HIDDEN_PASID)]);
  });

  it('hands BAR accesses to the device', () => {
    const root = hostTree();
    const { result } = passed(
      root,
      { WIDTH: '16' },
      'fn.barWrite(0, 0x10, 4, 0x12345678); fn.barWrite(0, 0x3fff, 1, 0x9a); return [fn.barRead(0, 0x10, 2), fn.barRead(0, 0x3fff, 1), fn.barRead(0, 0x4000, 1)];',
    );
    expect(result).toEqual([0x5678, 0x9a, 0xff]);
    const bytes = deviceBytes(root);
    expect([bytes[0x10013], bytes[0x13fff]]).toEqual([0x12, 0x9a]);
  });

  it('resets the device when the function is reset, and tells when that fails', () => {
    const reset = "fn.reset('flr'); return 'done';";
    const good = passed(hostTree(), { WIDTH: '16' }, reset);
    expect(good.calls.filter((call) => call === 'VFIO_DEVICE_RESET ok')).toHaveLength(1);
    const bad = passed(
      hostTree(),
      { WIDTH: '16', NO_RESET: '1' },
      "fn.reset('flr'); return errors;",
      '{ onResetError: (error) => (globalThis.errors = [...(globalThis.errors ?? []), error.code]) }',
    );
    expect(bad.result).toEqual(['VPCI_HOST_CALL']);
  });

  it('lets the device master the bus when the guest does, and not after a reset', () => {
    const { result } = passed(
      hostTree(),
      { WIDTH: '16' },
      `const seen = [];
       for (const command of [0, 4, 6, 0x402]) {
         fn.write(4, 2, command);
         seen.push(device.configSpace.read(4, 2) & 4);
       }
       const others = device.configSpace.read(4, 2);
       fn.write(4, 2, 4);
       fn.reset('flr');
       seen.push(device.configSpace.read(4, 2) & 4);
       return [seen, others === device.configSpace.read(4, 2)];`,
    );
    expect(result).toEqual([[0, 4, 4, 0, 0], true]);
  });

  it('shows neither ATS nor PRI where the host has no ATS', () => {
    const ids =
      'return fn.extendedCapabilities.map(({ id }) => id).filter((id) => [0x0f, 0x13, 0x1b].includes(id)).toSorted((a, b) => a - b);';
    expect(passed(hostTree(), { WIDTH: '16', CAPS: '8' }, ids, '{ ats: true, pri: true }').result).toEqual([
      0x1b,
    ]);
    expect(passed(hostTree(), { WIDTH: '16', CAPS: '0' }, ids, '{ ats: true, pri: true }').result).toEqual([
      0x0f, 0x13, 0x1b,
    ]);
  });

  it('shows no PASID when the host has none, or when it is told so', () => {
    const answer = 'return [fn.pasid ?? null, query.steps.length > 0];';
    expect(passed(hostTree(), { WIDTH: '0' }, answer).result).toEqual([null, true]);
    expect(passed(hostTree(), { WIDTH: '16' }, answer, '{ showPasid: false }').result).toEqual([null, true]);
  });

  it('takes the IDs of a virtual function from sysfs', () => {
    const root = hostTree({ physicalFunction: '0000:00:1f.0' });
    expect(passed(root, { WIDTH: '16' }, 'return fn.read(0, 4);').result).toBe(0x10ca8086);
  });
});

describe('without a kernel to ask', () => {
  it('finds no devices, and refuses', async () => {
    const { vfioDevices, openVfioDevice } = await import('vpci/vfio');
    const nowhere = '/nonexistent';
    expect(vfioDevices(nowhere)).toEqual([]);
    await expect(openVfioDevice('01:00.0', { root: nowhere })).rejects.toMatchObject({
      code: 'VPCI_HOST_CALL',
    });
  });
});
