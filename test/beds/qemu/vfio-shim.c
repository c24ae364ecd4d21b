// Stands for a host's VFIO and iommufd, preloaded into QEMU: descriptor 10 is the iommufd, descriptor 11 a plain file
// that holds a device's configuration space in its first 4 KiB. Only ioctl is taken over; reads and writes of the
// region go to the file as they are. VPCI_SHIM_WIDTH and VPCI_SHIM_CAPS are what IOMMU_GET_HW_INFO says about PASID.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { IOMMUFD = 10, DEVICE = 11 };

// Numbers of linux/vfio.h and linux/iommufd.h; a Debian 12 has no header with the second.
enum {
  DEVICE_GET_INFO = 107, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS, DEVICE_RESET,
  DEVICE_BIND_IOMMUFD = 118, DEVICE_ATTACH_IOMMUFD_PT, DEVICE_DETACH_IOMMUFD_PT,
  IOMMU_DESTROY = 0x80, IOMMU_IOAS_ALLOC, IOMMU_IOAS_COPY = 0x83, IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP, IOMMU_OPTION, IOMMU_HWPT_ALLOC = 0x89, IOMMU_GET_HW_INFO, IOMMU_HWPT_SET_DIRTY_TRACKING,
  IOMMU_HWPT_GET_DIRTY_BITMAP, IOMMU_HWPT_INVALIDATE, IOMMU_IOAS_MAP_FILE = 0x8f
};

static uint64_t option(const char *name, uint64_t otherwise) {
  const char *text = getenv(name);
  return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

static void set64(uint32_t *words, uint64_t value) { memcpy(words, &value, sizeof value); }

static void *pointer(const uint32_t *words) {
  uint64_t value;
  memcpy(&value, words, sizeof value);
  return (void *)(uintptr_t)value;
}

static int fail(int error) {
  errno = error;
  return -1;
}

// A VT-d unit with nested translation, scalable mode and 20 bits of PASID.
static void describe_vtd(uint32_t *info) {
  uint64_t registers[3] = {0, 0x81d2008c222f0686, 0x8d9a24f00f4e};
  uint32_t room = info[3] < sizeof registers ? info[3] : sizeof registers;
  if (pointer(info + 4) != NULL) memcpy(pointer(info + 4), registers, room);
  info[3] = sizeof registers;
  info[6] = 1;
  info[7] = (uint32_t)option("VPCI_SHIM_WIDTH", 16);
  set64(info + 8, option("VPCI_SHIM_CAPS", 6));
}

static int answer(unsigned number, uint32_t *words) {
  static uint32_t next_id = 100;
  switch (number) {
  case DEVICE_GET_INFO:
    words[1] = 3, words[2] = 9, words[3] = 5;
    return 0;
  case DEVICE_GET_REGION_INFO: {
    uint32_t index = words[2];
    if (index > 8) return fail(EINVAL);
    words[1] = index == 7 ? 3 : 0, words[3] = 0;
    set64(words + 4, index == 7 ? 4096 : 0);
    set64(words + 6, index == 7 ? 0 : 0x100000ull * (index + 1));
    return 0;
  }
  case DEVICE_GET_IRQ_INFO:
    words[1] = words[3] = 0;
    return 0;
  case DEVICE_BIND_IOMMUFD:
    words[3] = 1;
    return 0;
  case IOMMU_IOAS_ALLOC:
    words[2] = next_id++;
    return 0;
  case IOMMU_HWPT_ALLOC:
    words[4] = next_id++;
    return 0;
  case IOMMU_IOAS_IOVA_RANGES: {
    uint64_t all[2] = {0, (1ull << 48) - 1};
    uint32_t room = words[2];
    words[2] = 1;
    set64(words + 6, 4096);
    if (room < 1) return fail(EMSGSIZE);
    memcpy(pointer(words + 4), all, sizeof all);
    return 0;
  }
  case IOMMU_GET_HW_INFO:
    describe_vtd(words);
    return 0;
  case DEVICE_SET_IRQS: case DEVICE_RESET: case DEVICE_ATTACH_IOMMUFD_PT: case DEVICE_DETACH_IOMMUFD_PT:
  case IOMMU_DESTROY: case IOMMU_IOAS_COPY: case IOMMU_IOAS_MAP: case IOMMU_IOAS_UNMAP: case IOMMU_OPTION:
  case IOMMU_HWPT_SET_DIRTY_TRACKING: case IOMMU_HWPT_GET_DIRTY_BITMAP: case IOMMU_HWPT_INVALIDATE:
  case IOMMU_IOAS_MAP_FILE:
    return 0;
  default:
    return fail(ENOTTY);
  }
}

int ioctl(int fd, unsigned long request, ...) {
  static int (*real)(int, unsigned long, ...);
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (((request >> 8) & 0xff) == ';' && (fd == IOMMUFD || fd == DEVICE)) return answer(request & 0xff, argument);
  if (real == NULL) real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
  return real(fd, request, argument);
}
