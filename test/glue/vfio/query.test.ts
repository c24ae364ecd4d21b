import { afterAll, describe, expect, it } from 'vitest';
import { bed } from '../../support/beds.ts';
import { hostTree, type Kernel, onHost, rawConfig, removeScratch, whyNoShim } from './shim.ts';

afterAll(removeScratch);

interface Step {
  readonly call: string;
  readonly outcome: string;
  readonly errno?: string;
  readonly text: string;
}

interface Query {
  readonly feature?: { width: number; execute: boolean; privileged: boolean };
  readonly source: string;
  readonly iommu?: string;
  readonly attach?: boolean;
  readonly ats?: boolean;
  readonly enabled?: boolean;
  readonly steps: readonly Step[];
}

function query(
  kernel: Kernel,
  options = '{}',
  root: string = hostTree(),
  open = '{ root }',
): { query: Query; calls: readonly string[] } {
  const { result, calls } = onHost(
    root,
    kernel,
    `const device = await vfio.openVfioDevice('1:0.0', ${open});
     const query = vfio.queryPasidFeature(device, ${options});
     device.close();
     return query;`,
  );
  const answer = result as Query;
  expect(answer.steps, JSON.stringify(result)).toBeDefined();
  return { query: answer, calls };
}

const texts = ({ steps }: Query): string =>
  steps.map(({ call, outcome, errno = '-', text }) => `${outcome} ${call} ${errno} ${text}`).join('\n');

bed('vfio-shim', whyNoShim)('the host feature query', () => {
  it('asks in the order: bind, hardware information, attach, and takes everything back', () => {
    const { query: answer, calls } = query({ WIDTH: '16', CAPS: '6' });
    expect(answer).toMatchObject({
      feature: { width: 16, execute: true, privileged: true },
      source: 'iommufd',
      iommu: 'intel-vtd',
      attach: true,
      ats: true,
    });
    expect(calls.filter((call) => !/GET_INFO|GET_REGION_INFO/.test(call))).toEqual([
      'open vfio0 ok',
      'open iommu ok',
      'VFIO_DEVICE_BIND_IOMMUFD ok',
      'IOMMU_GET_HW_INFO ok',
      'IOMMU_GET_HW_INFO ok',
      'IOMMU_IOAS_ALLOC ok',
      'IOMMU_HWPT_ALLOC ok',
      'VFIO_DEVICE_ATTACH_IOMMUFD_PT ok',
      'VFIO_DEVICE_ATTACH_IOMMUFD_PT ok',
      'VFIO_DEVICE_DETACH_IOMMUFD_PT ok',
      'VFIO_DEVICE_DETACH_IOMMUFD_PT ok',
      'IOMMU_DESTROY ok',
      'IOMMU_DESTROY ok',
      'close device ok',
      'close iommufd ok',
    ]);
  });

  // The table of a real kernel's answers, and what we make of them.
  it.each([
    { width: 16, caps: 6, feature: { width: 16, execute: true, privileged: true }, ats: true },
    { width: 20, caps: 6, feature: { width: 20, execute: true, privileged: true }, ats: true },
    { width: 8, caps: 6, feature: { width: 8, execute: true, privileged: true }, ats: true },
    { width: 0, caps: 6, feature: undefined, ats: true },
    { width: 16, caps: 0, feature: { width: 16, execute: false, privileged: false }, ats: true },
    { width: 0, caps: 8, feature: undefined, ats: false },
    { width: 0, caps: 0, feature: undefined, ats: true },
    { width: 1, caps: 2, feature: { width: 1, execute: true, privileged: false }, ats: true },
    { width: 5, caps: 0xc, feature: { width: 5, execute: false, privileged: true }, ats: false },
  ])('width $width with capabilities $caps', ({ width, caps, feature, ats }) => {
    const { query: answer } = query({ WIDTH: String(width), CAPS: String(caps) });
    expect(answer.feature).toEqual(feature);
    expect(answer.source).toBe(feature === undefined ? 'none' : 'iommufd');
    expect(answer.ats).toBe(ats);
    if (feature === undefined)
      expect(texts(answer)).toContain('no IOMMU_GET_HW_INFO - the kernel reported no PASID');
  });

  it.each([21, 31, 200, 255])('refuses a width of %i', (width) => {
    const { query: answer, calls } = query({ WIDTH: String(width), CAPS: '6' });
    expect(answer.feature).toBeUndefined();
    expect(texts(answer)).toContain(`the kernel reported ${width} bits, and a PASID has 20 at most: refused`);
    expect(calls).not.toContain('IOMMU_HWPT_ALLOC ok');
  });

  it('understands a kernel with 32 bytes, which cannot say the permissions', () => {
    const { query: answer } = query({ WIDTH: '16', CAPS: '6', HW_INFO_SIZE: '32' });
    expect(answer.feature).toEqual({ width: 16, execute: false, privileged: false });
  });

  it('asks again with 32 bytes, zeroed again, where 40 are too many', () => {
    const { query: answer } = query({ WIDTH: '16', CAPS: '6', HW_INFO_SIZE: '32', STRICT_SIZE: '1' });
    expect(answer.feature).toEqual({ width: 16, execute: false, privileged: false });
    expect(texts(answer)).toContain('no IOMMU_GET_HW_INFO with 40 bytes E2BIG');
    expect(texts(answer)).toContain('cannot say whether execute and privileged are enabled');
  });

  it.each([
    [25, 'ENOTTY', 'cannot be asked'],
    [95, 'EOPNOTSUPP', 'does not answer'],
    [2, 'ENOENT', 'does not know the device'],
    [22, 'EINVAL', 'no struct of this size'],
    [14, 'EFAULT', 'could not reach'],
    [5, 'EIO', 'the kernel answered EIO'],
  ])('explains errno %i of IOMMU_GET_HW_INFO', (errno, name, words) => {
    const { query: answer, calls } = query({ WIDTH: '16', FAIL: `IOMMU_GET_HW_INFO:${errno}` });
    expect(answer).toMatchObject({ source: 'none' });
    expect(answer.feature).toBeUndefined();
    const step = answer.steps.find(({ errno: given }) => given !== undefined);
    expect(step).toMatchObject({ outcome: 'no', errno: name });
    expect(step?.text).toContain(words);
    expect(calls.filter((call) => call.startsWith('IOMMU_GET_HW_INFO'))).toHaveLength(1);
  });

  it.each([
    ['IOMMU_IOAS_ALLOC:12', 'IOMMU_IOAS_ALLOC', 'ENOMEM', 'ulimit'],
    ['IOMMU_HWPT_ALLOC:95', 'IOMMU_HWPT_ALLOC', 'EOPNOTSUPP', 'no page tables for PASIDs'],
    ['VFIO_DEVICE_ATTACH_IOMMUFD_PT:16', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'EBUSY', 'being reset'],
    ['ATTACH_PASID:22', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'EINVAL', 'attaches no PASIDs (Linux before 6.15)'],
  ])('tells a reported width from an attach that fails: %s', (fail, call, errno, words) => {
    const { query: answer, calls } = query({ WIDTH: '16', CAPS: '6', FAIL: fail });
    expect(answer).toMatchObject({ feature: { width: 16 }, source: 'iommufd', attach: false });
    const step = answer.steps.find((one) => one.errno !== undefined);
    expect(step).toMatchObject({ outcome: 'no', errno });
    expect(step?.call).toContain(call);
    expect(step?.text).toContain(words);
    // Everything that was made is gone again.
    const count = (name: string): number => calls.filter((one) => one === `${name} ok`).length;
    expect(count('IOMMU_DESTROY')).toBe(count('IOMMU_IOAS_ALLOC') + count('IOMMU_HWPT_ALLOC'));
    expect(count('VFIO_DEVICE_DETACH_IOMMUFD_PT')).toBe(
      calls.includes('VFIO_DEVICE_DETACH_IOMMUFD_PT ok') ? 1 : 0,
    );
  });

  it('attaches nothing when it is told not to', () => {
    const { query: answer, calls } = query({ WIDTH: '16', CAPS: '6' }, '{ probeAttach: false }');
    expect(answer.feature).toEqual({ width: 16, execute: true, privileged: true });
    expect(answer.attach).toBeUndefined();
    expect(calls.join('\n')).not.toMatch(/ATTACH|HWPT|IOAS/);
  });

  it('says what an AMD IOMMU leaves out', () => {
    const { query: answer } = query({ WIDTH: '15', CAPS: '0', TYPE: '4' });
    expect(answer).toMatchObject({ feature: { width: 15, execute: false, privileged: false }, iommu: 'amd' });
    expect(texts(answer)).toContain('one of 16 bits is reported as 15');
    expect(texts(answer)).toContain('never reports execute and privileged');
  });

  it.each([
    ['0', 'none'],
    ['2', 'arm-smmuv3'],
    ['3', 'tegra241-cmdqv'],
    ['9', 'unknown'],
  ])('names the IOMMU of type %s', (type, name) => {
    expect(query({ WIDTH: '16', TYPE: type }).query.iommu).toBe(name);
  });

  it.each([
    [true, 'PASID Enable is set'],
    [false, 'PASID Enable is clear although a width is reported'],
  ])('reads in sysfs whether PASID is on: %s', (enable, words) => {
    const { query: answer } = query({ WIDTH: '16' }, '{}', hostTree({ raw: rawConfig(enable) }));
    expect(answer.enabled).toBe(enable);
    expect(texts(answer)).toContain(words);
  });

  it.each([
    ['the physical capability has 16 bits, and PASID Enable is clear', rawConfig(false), false],
    ['the physical capability has 16 bits, and PASID Enable is set', rawConfig(true), true],
    ['the physical capability has a width of 0 bits', rawConfig(true, 0), true],
    ['sysfs shows no PASID capability', new Uint8Array(0x1000), undefined],
  ])('looks in sysfs for the reason why there is none: %s', (words, raw, enabled) => {
    const { query: answer } = query({ WIDTH: '0' }, '{}', hostTree({ raw }));
    expect(answer.feature).toBeUndefined();
    expect(answer.enabled).toBe(enabled);
    expect(texts(answer)).toContain(words);
  });

  it('does not guess at PASID Enable without root', () => {
    const { query: answer } = query(
      { WIDTH: '16' },
      '{}',
      hostTree({ raw: rawConfig(true).subarray(0, 64) }),
    );
    expect(answer.enabled).toBeUndefined();
    expect(texts(answer)).toContain('only root reads the register');
  });

  it('says that the answer of a virtual function is that of its physical function', () => {
    const root = hostTree({ physicalFunction: '0000:00:1f.0' });
    expect(texts(query({ WIDTH: '16' }, '{}', root).query)).toContain('its physical function 0000:00:1f.0');
  });

  it('cannot ask a device that was opened by its group, and says so', () => {
    const { query: answer, calls } = query({ WIDTH: '16' }, '{}', hostTree({ cdev: false }));
    expect(answer).toMatchObject({ source: 'none' });
    expect(answer.feature).toBeUndefined();
    expect(texts(answer)).toContain('skipped open by cdev - the device has no cdev');
    expect(texts(answer)).toContain(
      'skipped IOMMU_GET_HW_INFO - a device that was opened by its group has no ID',
    );
    expect(calls.join('\n')).not.toMatch(/HW_INFO|ATTACH|FEATURE/);
  });

  describe('the feature that was never merged', () => {
    const ask = (kernel: Kernel): { query: Query; calls: readonly string[] } =>
      query(kernel, '{ unmergedFeature: true }');

    it('is not asked without the option', () => {
      const { query: answer, calls } = query({ WIDTH: '0', FEATURE: '16,3' });
      expect(answer.feature).toBeUndefined();
      expect(calls.join('\n')).not.toContain('VFIO_DEVICE_FEATURE');
    });

    it('is not asked when iommufd has answered', () => {
      expect(ask({ WIDTH: '16', FEATURE: '8,0' }).calls.join('\n')).not.toContain('VFIO_DEVICE_FEATURE');
    });

    it.each([
      ['16,1', { width: 16, execute: true, privileged: false }],
      ['20,2', { width: 20, execute: false, privileged: true }],
      ['1,0', { width: 1, execute: false, privileged: false }],
    ])('has the permissions one bit lower: %s', (feature, expected) => {
      const { query: answer } = ask({ FEATURE: feature });
      expect(answer).toMatchObject({ feature: expected, source: 'vfio-feature' });
    });

    it.each([
      ['21,0', 'refused'],
      ['0,3', 'the kernel reported no PASID'],
      ['dmabuf', 'DMA_BUF, not PASID'],
    ])('says no for %s', (feature, words) => {
      const { query: answer } = ask({ FEATURE: feature });
      expect(answer.feature).toBeUndefined();
      expect(answer.source).toBe('none');
      expect(texts(answer)).toContain(words);
    });

    it('closes a descriptor that comes back, and takes it as an error', () => {
      const { result } = onHost(
        hostTree(),
        { FEATURE: 'fd' },
        `const fs = await import('node:fs');
         const device = await vfio.openVfioDevice('1:0.0', { root });
         vfio.queryPasidFeature(device);
         const before = fs.readdirSync('/proc/self/fd').length;
         const query = vfio.queryPasidFeature(device, { unmergedFeature: true });
         return { leaked: fs.readdirSync('/proc/self/fd').length - before, query };`,
      );
      expect(result).toMatchObject({ leaked: 0, query: { source: 'none' } });
      expect(JSON.stringify(result)).toContain('returned a descriptor');
    });
  });
});

bed('vfio-shim', whyNoShim)('the capabilities of a VT-d host', () => {
  const ask = (kernel: Kernel): unknown =>
    onHost(
      hostTree(),
      { WIDTH: '16', ...kernel },
      `const device = await vfio.openVfioDevice('1:0.0', { root });
       const { vtd, steps } = vfio.queryPasidFeature(device, { probeAttach: false });
       return { vtd, step: steps.find(({ call }) => call === 'IOMMU_GET_HW_INFO with data') };`,
    ).result;

  it('are asked with a second call, once the type is known', () => {
    expect(ask({ CAP: '0x19ed008c40780c66' })).toMatchObject({
      vtd: {
        capability: '0x19ed008c40780c66',
        extendedCapability: '0x0000899804000000',
        nesting: true,
        scalableMode: true,
        firstStage: true,
        pasidBits: 20,
        erratum772415: false,
      },
      step: { outcome: 'done', text: expect.stringContaining('20 bits of PASID, nested translation') },
    });
    expect(ask({ ECAP: '0', ERRATUM: '1', HW_INFO_SIZE: '32' })).toMatchObject({
      vtd: { nesting: false, scalableMode: false, pasidBits: 0, erratum772415: true },
      step: { text: expect.stringMatching(/no nested translation$/) },
    });
    expect(ask({ ECAP: '0x4000000', ERRATUM: '1' })).toMatchObject({
      vtd: { nesting: true, erratum772415: true },
      step: { text: expect.stringMatching(/nested translation: .*, erratum 772415: read-only memory/) },
    });
  });

  it.each([
    [{ DATA_LEN: '16' }, 'other data than was expected'],
    [{ FAIL: 'IOMMU_GET_HW_INFO data:14' }, 'could not reach the struct'],
  ])('stay unknown, and the query goes on: %o', (kernel, words) => {
    expect(ask(kernel)).toMatchObject({ step: { outcome: 'no', text: expect.stringContaining(words) } });
    expect(ask(kernel)).not.toHaveProperty('vtd');
  });

  it('are not asked of another IOMMU', () => {
    const answer = ask({ TYPE: '4' });
    expect(answer).toEqual({});
  });
});
