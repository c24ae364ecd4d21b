import { describe, expect, it } from 'vitest';
import { errnoName, ERRNO } from '../../../vmm-glue/linux/index.ts';
import { allAdvice, ioctlAdvice, openAdvice } from '../../../vmm-glue/vfio/errno-advice.ts';
import * as uapi from '../../../vmm-glue/vfio/structs/index.ts';

describe('advice', () => {
  it.each(allAdvice())('%s %s says why, in a clause that fits a sentence', (_, errno, sentence) => {
    expect(errno).toMatch(/^E[A-Z0-9]+$/);
    expect(sentence).toMatch(/^[^A-Z].*[^.]$/);
    expect(sentence.length).toBeGreaterThan(20);
  });

  it('is about calls that there are', () => {
    const names = new Set([...uapi.VFIO_IOCTLS, ...uapi.IOMMUFD_IOCTLS].map(({ name }) => name));
    const calls = allAdvice().map(([call]) => call);
    expect(calls.filter((call) => !call.startsWith('open ') && !names.has(call))).toEqual([]);
  });

  // What the kernel's sources return, by call.
  it.each([
    ['VFIO_GROUP_GET_DEVICE_FD', ['ENODEV', 'EINVAL', 'EACCES', 'ENOTTY']],
    [
      'VFIO_DEVICE_BIND_IOMMUFD',
      ['EINVAL', 'E2BIG', 'EBADF', 'EBADFD', 'EACCES', 'EBUSY', 'EPERM', 'ENOTTY'],
    ],
    ['VFIO_DEVICE_FEATURE', ['EINVAL', 'ENOTTY', 'EOPNOTSUPP']],
    ['VFIO_DEVICE_GET_REGION_INFO', ['EINVAL']],
    ['IOMMU_GET_HW_INFO', ['EINVAL', 'E2BIG', 'EOPNOTSUPP', 'ENOENT', 'EFAULT', 'ENOTTY']],
    [
      'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
      ['EINVAL', 'EOPNOTSUPP', 'ENOENT', 'EBUSY', 'ENODEV', 'ENOTTY', 'EADDRINUSE'],
    ],
    ['IOMMU_HWPT_ALLOC', ['EOPNOTSUPP', 'EINVAL', 'ENOENT', 'EADDRINUSE']],
    ['IOMMU_IOAS_MAP', ['EFAULT', 'ENOMEM', 'EEXIST', 'EADDRINUSE', 'EINVAL', 'ENOENT', 'EOVERFLOW']],
    ['IOMMU_IOAS_UNMAP', ['ENOENT', 'EBUSY']],
    ['IOMMU_HWPT_INVALIDATE', ['EINVAL', 'EOPNOTSUPP', 'ENOENT']],
    ['IOMMU_FAULT_QUEUE_ALLOC', ['EOPNOTSUPP', 'ENOMEM']],
    ['VFIO_DEVICE_SET_IRQS', ['EINVAL', 'ENOTTY', 'EBADF']],
  ])('covers %s', (call, names) => {
    const covered = allAdvice()
      .filter(([name]) => name === call)
      .map(([, errno]) => errno);
    expect(covered).toEqual(expect.arrayContaining(names));
  });

  it('is found by number, under the names that Linux has', () => {
    expect(errnoName(95)).toBe('EOPNOTSUPP');
    expect(errnoName(77)).toBe('EBADFD');
    expect(errnoName(1234)).toBe('errno 1234');
    expect(ioctlAdvice('VFIO_DEVICE_BIND_IOMMUFD', 77)).toContain('no iommufd');
    expect(openAdvice('group', ERRNO.EBUSY)).toContain('open in another process');
    expect(openAdvice('cdev', ERRNO.EIO)).toBeUndefined();
    expect(ioctlAdvice('VFIO_DEVICE_RESET', ERRNO.EIO)).toBeUndefined();
  });
});
