// Stands for a Linux host with VFIO and iommufd, preloaded into Node. Files of a made-up /dev tell what a descriptor
// is; ioctl, pread, pwrite, open and close of them are answered here, and every struct is checked as the kernel does,
// or harder: what no caller of ours may ever send ends the process with exit code 99.
//
// The environment says what kernel this is:
//   VPCI_SHIM_LOG           file that gets a line for each call
//   VPCI_SHIM_FAIL          NAME:ERRNO,... calls that fail; "open vfio0:16" for files; ATTACH_PASID and DETACH_PASID for those
//                           flags, ATTACH_RID without
//   VPCI_SHIM_WIDTH, _CAPS, _TYPE, _CAP, _ECAP   what IOMMU_GET_HW_INFO says
//   VPCI_SHIM_DATA_LEN      bytes of its data that this kernel knows
//   VPCI_SHIM_VECTORS       interrupt vectors that the host has left
//   VPCI_SHIM_DYNAMIC       set: MSI-X vectors can be added one by one
//   VPCI_SHIM_HW_INFO_SIZE  bytes of the struct that this kernel knows, 40 or 32
//   VPCI_SHIM_STRICT_SIZE   set: a longer struct is E2BIG even when its rest is zero, and gets dirt
//   VPCI_SHIM_FEATURE       "WIDTH,CAPS" of the unmerged feature; "fd": a descriptor; else ENOTTY
//   VPCI_SHIM_TOKEN         hexadecimal digits of the VF token that must be given
//   VPCI_SHIM_CONFIG_SIZE   bytes of the configuration space
//   VPCI_SHIM_NO_RESET, VPCI_SHIM_NOT_VIABLE   set: as they say
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#if __has_include(<linux/iommufd.h>)
#include <linux/iommufd.h>
#endif
#include "shim-common.h"
#include "shim-interrupts.h"
#include "shim-iommufd.h"

// What older headers lack, from those of Linux 7.3.
#ifndef VFIO_DEVICE_BIND_IOMMUFD
#define VFIO_DEVICE_BIND_IOMMUFD 0x3b76
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT 0x3b77
#define VFIO_DEVICE_DETACH_IOMMUFD_PT 0x3b78
#endif
#ifndef IOMMU_DESTROY
#define IOMMU_DESTROY 0x3b80
#define IOMMU_IOAS_ALLOC 0x3b81
#define IOMMU_IOAS_MAP 0x3b85
#define IOMMU_IOAS_UNMAP 0x3b86
#endif
#ifndef IOMMU_HWPT_ALLOC
#define IOMMU_HWPT_ALLOC 0x3b89
#endif
#ifndef IOMMU_GET_HW_INFO
#define IOMMU_GET_HW_INFO 0x3b8a
#endif
#ifndef IOMMU_HWPT_INVALIDATE
#define IOMMU_HWPT_INVALIDATE 0x3b8d
#endif
#ifndef IOMMU_FAULT_QUEUE_ALLOC
#define IOMMU_FAULT_QUEUE_ALLOC 0x3b8e
#endif

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t out_devid; uint64_t token; };
struct hw_info { uint32_t size, flags, dev_id, data_len; uint64_t data; uint32_t type; uint8_t width, rsvd[3]; uint64_t caps; };
struct hw_info_vtd { uint32_t flags, rsvd; uint64_t cap, ecap; };
_Static_assert(sizeof(struct hw_info) == 40 && sizeof(struct hw_info_vtd) == 24, "layouts");

enum kind { NONE, DEVICE, IOMMUFD, CONTAINER, GROUP };
enum { REGION_SHIFT = 40 };

static int bound, group_set, iommu_set;

static void say(const char *what, const char *outcome) {
  const char *path = option("VPCI_SHIM_LOG");
  FILE *log = path != NULL ? fopen(path, "a") : NULL;
  if (log == NULL) return;
  fprintf(log, "%s %s\n", what, outcome);
  fclose(log);
}

static enum kind kind_of_path(const char *path) {
  const char *dev = strstr(path, "/dev/vfio/");
  if (dev == NULL) {
    size_t length = strlen(path);
    return length > 10 && strcmp(path + length - 10, "/dev/iommu") == 0 ? IOMMUFD : NONE;
  }
  if (strncmp(dev, "/dev/vfio/devices/", 18) == 0) return DEVICE;
  return strcmp(dev, "/dev/vfio/vfio") == 0 ? CONTAINER : GROUP;
}

static enum kind kind_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, 4095);
  if (length < 0) return NONE;
  path[length] = 0;
  return kind_of_path(path);
}

int open(const char *path, int flags, ...) {
  static int (*real)(const char *, int, ...);
  if (real == NULL) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
  va_list arguments;
  va_start(arguments, flags);
  unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  if (kind_of_path(path) == NONE) return real(path, flags, mode);
  char name[128];
  snprintf(name, sizeof name, "open %s", strrchr(path, '/') + 1);
  NEVER((flags & O_ACCMODE) != O_RDWR, "a file of VFIO is opened for reading or writing only");
  NEVER((flags & O_CLOEXEC) == 0, "a file of VFIO is opened without O_CLOEXEC");
  int error = failing(name);
  say(name, error != 0 ? "failed" : "ok");
  return error != 0 ? fail(error) : real(path, flags, mode);
}

int close(int fd) {
  static int (*real)(int);
  static const char *const names[] = {"", "close device", "close iommufd", "close container", "close group"};
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "close");
  char path[4096];
  enum kind kind = kind_of(fd, path);
  if (kind != NONE) say(names[kind], "ok");
  return real(fd);
}

// Regions stand one after the other in the device's file: configuration space first, BAR n at 64 KiB times n + 1.
static off_t place(off_t offset, size_t size, size_t limit) {
  off_t region = offset >> REGION_SHIFT;
  off_t inside = offset & (((off_t)1 << REGION_SHIFT) - 1);
  if (region == VFIO_PCI_CONFIG_REGION_INDEX) return (size_t)inside + size > limit ? -1 : inside;
  if (region != 0) return -1;
  return (size_t)inside + size > 0x4000 ? -1 : 0x10000 + inside;
}

ssize_t pread(int fd, void *bytes, size_t size, off_t offset) {
  static ssize_t (*real)(int, void *, size_t, off_t);
  if (real == NULL) real = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
  char path[4096];
  if (kind_of(fd, path) != DEVICE) return real(fd, bytes, size, offset);
  off_t at = place(offset, size, number("VPCI_SHIM_CONFIG_SIZE", 4096));
  return at < 0 ? fail(EFAULT) : real(fd, bytes, size, at);
}

// Doorbells of the device, near the end of BAR 0: it stores its name at an IOVA of the low 32 bits, or interrupts, or
// drives its line.
enum { DOORBELL_DMA = 0x3ff0, DOORBELL_INTERRUPT = 0x3ff4, DOORBELL_LINE = 0x3ff8 };

static void doorbell(off_t inside, const void *bytes, size_t size) {
  uint32_t value;
  if (size != sizeof value || inside < DOORBELL_DMA || inside > DOORBELL_LINE) return;
  memcpy(&value, bytes, sizeof value);
  if (inside == DOORBELL_LINE) raise_intx(value != 0);
  else if (inside == DOORBELL_INTERRUPT) vpci_shim_interrupt(value >> 16, value & 0xffff);
  else if (inside == DOORBELL_DMA) store_by_rid(value, "igb!", 4);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
  static ssize_t (*real)(int, const void *, size_t, off_t);
  if (real == NULL) real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
  char path[4096];
  if (kind_of(fd, path) != DEVICE) return real(fd, bytes, size, offset);
  off_t at = place(offset, size, number("VPCI_SHIM_CONFIG_SIZE", 4096));
  if (offset >> REGION_SHIFT == 0) doorbell(offset, bytes, size);
  return at < 0 ? fail(EFAULT) : real(fd, bytes, size, at);
}

static int check_token(const uint8_t *token) {
  const char *wanted = option("VPCI_SHIM_TOKEN");
  if (wanted == NULL) return token == NULL ? 0 : EINVAL;
  if (token == NULL) return EACCES;
  char digits[33];
  for (int i = 0; i < 16; i++) snprintf(digits + 2 * i, 3, "%02x", token[i]);
  return strcmp(digits, wanted) == 0 ? 0 : EACCES;
}

static int bind_iommufd(struct bind *bind) {
  char path[4096];
  if (bind->argsz < 16 || bind->flags > 1 || bind->iommufd < 0 || bound) return fail(EINVAL);
  NEVER((bind->flags & 1) != 0 && bind->argsz < 24, "a token is announced in a struct without one");
  if (kind_of(bind->iommufd, path) != IOMMUFD) return fail(77);
  int error = check_token((bind->flags & 1) != 0 ? (const uint8_t *)(uintptr_t)bind->token : NULL);
  if (error != 0) return fail(error);
  bind->out_devid = DEVICE_ID;
  bound = 1;
  return 0;
}

static int feature(struct vfio_device_feature *feature) {
  uint32_t index = feature->flags & VFIO_DEVICE_FEATURE_MASK;
  NEVER((feature->flags & VFIO_DEVICE_FEATURE_PROBE) != 0, "VFIO_DEVICE_FEATURE index 11 is probed");
  NEVER(index != 11, "an unknown feature is asked for");
  NEVER((feature->flags & ~0xffffu) != VFIO_DEVICE_FEATURE_GET, "the feature is not got");
  NEVER(feature->argsz != 12, "index 11 is asked for with another argsz than 12");
  NEVER(feature->data[0] || feature->data[1] || feature->data[2] || feature->data[3], "index 11 gets data that is not zero");
  const char *answer = option("VPCI_SHIM_FEATURE");
  if (answer == NULL) return fail(ENOTTY);
  if (strcmp(answer, "dmabuf") == 0) return fail(EINVAL);
  if (strcmp(answer, "fd") == 0) return dup(2);
  char *end;
  feature->data[2] = (uint8_t)strtoul(answer, &end, 0);
  feature->data[0] = (uint8_t)strtoul(end + 1, NULL, 0);
  return 0;
}

static int hw_info(struct hw_info *info) {
  uint32_t kernel = (uint32_t)number("VPCI_SHIM_HW_INFO_SIZE", 40);
  if (info->size < 32) return fail(EINVAL);
  NEVER(info->size > 40, "IOMMU_GET_HW_INFO with more bytes than there are");
  const uint8_t *bytes = (const uint8_t *)info;
  for (uint32_t i = 24; i < info->size; i++) NEVER(bytes[i] != 0, "iommu_hw_info is not zeroed");
  NEVER((info->data_len == 0) != (info->data == 0), "iommu_hw_info with half of its data");
  NEVER(info->flags != 0, "IOMMU_GET_HW_INFO with flags");
  if (option("VPCI_SHIM_STRICT_SIZE") != NULL && info->size > kernel) {
    memset((uint8_t *)info + 4, 0xa5, info->size - 4);
    return fail(E2BIG);
  }
  if (info->dev_id != DEVICE_ID) return fail(ENOENT);
  uint32_t size = info->size < kernel ? info->size : kernel;
  info->type = (uint32_t)number("VPCI_SHIM_TYPE", 1);
  if (info->data != 0) {
    int error = failing("IOMMU_GET_HW_INFO data");
    if (error != 0) return fail(error);
    NEVER(info->type != 1 || info->data_len != sizeof(struct hw_info_vtd), "data of another type");
    struct hw_info_vtd vtd = {number("VPCI_SHIM_ERRATUM", 0) != 0, 0, number("VPCI_SHIM_CAP", 0), number("VPCI_SHIM_ECAP", 0x899804000000)};
    memcpy((void *)(uintptr_t)info->data, &vtd, sizeof vtd);
  }
  info->data_len = (uint32_t)number("VPCI_SHIM_DATA_LEN", sizeof(struct hw_info_vtd));
  info->width = (uint8_t)number("VPCI_SHIM_WIDTH", 0);
  if (size >= 40) info->caps = number("VPCI_SHIM_CAPS", 0);
  return 0;
}

static int region_info(struct vfio_region_info *info) {
  NEVER(info->argsz != sizeof *info, "vfio_region_info with another argsz");
  if (info->index >= VFIO_PCI_NUM_REGIONS) return fail(EINVAL);
  info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
  info->size = info->index == 7 ? number("VPCI_SHIM_CONFIG_SIZE", 4096) : info->index == 0 ? 0x4000 : 0;
  if (info->index == 0) info->flags |= VFIO_REGION_INFO_FLAG_MMAP;
  info->offset = (uint64_t)info->index << REGION_SHIFT;
  return 0;
}

static int irq_info(struct vfio_irq_info *info) {
  NEVER(info->argsz != sizeof *info, "vfio_irq_info with another argsz");
  if (info->index >= VFIO_PCI_NUM_IRQS || info->index == VFIO_PCI_ERR_IRQ_INDEX) return fail(EINVAL);
  info->flags = VFIO_IRQ_INFO_EVENTFD | (info->index == 0 ? VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED : 0);
  if (!resizes(info->index)) info->flags |= VFIO_IRQ_INFO_NORESIZE;
  info->count = vectors_of(info->index);
  return 0;
}

static int device_of_group(int group, const char *name) {
  if (!iommu_set) return fail(EINVAL);
  if (strncmp(name, "0000:01:00.0", 12) != 0) return fail(ENODEV);
  const char *wanted = option("VPCI_SHIM_TOKEN");
  if (name[12] == 0 && wanted != NULL) return fail(EACCES);
  if (name[12] != 0) {
    NEVER(strncmp(name + 12, " vf_token=", 10) != 0 || strlen(name) != 12 + 10 + 36, "a token of another form");
    if (wanted == NULL) return fail(EINVAL);
  }
  char path[4096];
  if (kind_of(group, path) != GROUP) return fail(ENOTTY);
  strcpy(strrchr(path, '/'), "/devices/vfio0");
  bound = 1;
  return open(path, O_RDWR | O_CLOEXEC);
}

static int of_device(unsigned long request, void *argument) {
  if (!bound && request != VFIO_DEVICE_BIND_IOMMUFD) return fail(EINVAL);
  switch (request) {
  case VFIO_DEVICE_BIND_IOMMUFD: return bind_iommufd(argument);
  case VFIO_DEVICE_GET_INFO: {
    struct vfio_device_info *info = argument;
    NEVER(info->argsz < 16, "vfio_device_info with a short argsz");
    info->flags = VFIO_DEVICE_FLAGS_PCI | (option("VPCI_SHIM_NO_RESET") == NULL ? VFIO_DEVICE_FLAGS_RESET : 0);
    info->num_regions = VFIO_PCI_NUM_REGIONS;
    info->num_irqs = VFIO_PCI_NUM_IRQS;
    return 0;
  }
  case VFIO_DEVICE_GET_REGION_INFO: return region_info(argument);
  case VFIO_DEVICE_GET_IRQ_INFO: return irq_info(argument);
  case VFIO_DEVICE_SET_IRQS: return set_irqs(argument);
  case VFIO_DEVICE_RESET: return option("VPCI_SHIM_NO_RESET") == NULL ? 0 : fail(EINVAL);
  case VFIO_DEVICE_FEATURE: return feature(argument);
  case VFIO_DEVICE_ATTACH_IOMMUFD_PT: return attach(argument);
  case VFIO_DEVICE_DETACH_IOMMUFD_PT: return detach(argument);
  default: return fail(ENOTTY);
  }
}

static int of_iommufd(unsigned long request, void *argument) {
  switch (request) {
  case IOMMU_GET_HW_INFO: return hw_info(argument);
  case IOMMU_IOAS_ALLOC: return ioas_alloc(argument);
  case IOMMU_IOAS_MAP: return ioas_map(argument);
  case IOMMU_IOAS_UNMAP: return ioas_unmap(argument);
  case IOMMU_HWPT_ALLOC: return hwpt_alloc(argument);
  case IOMMU_HWPT_INVALIDATE: return hwpt_invalidate(argument);
  case IOMMU_FAULT_QUEUE_ALLOC: return fault_queue_alloc(argument);
  case IOMMU_DESTROY: return destroy_object(argument);
  default: return fail(ENOTTY);
  }
}

static int of_container(unsigned long request, long argument) {
  switch (request) {
  case VFIO_GET_API_VERSION: return 0;
  case VFIO_CHECK_EXTENSION: return argument == VFIO_TYPE1v2_IOMMU || argument == VFIO_TYPE1_IOMMU;
  case VFIO_SET_IOMMU:
    NEVER(!group_set, "an IOMMU is set before a group");
    NEVER(argument != VFIO_TYPE1v2_IOMMU, "an old type is chosen although the new one is there");
    iommu_set = 1;
    return 0;
  default: return fail(ENOTTY);
  }
}

static int of_group(int fd, unsigned long request, void *argument) {
  char path[4096];
  switch (request) {
  case VFIO_GROUP_GET_STATUS: {
    struct vfio_group_status *status = argument;
    NEVER(status->argsz != sizeof *status, "vfio_group_status");
    status->flags = option("VPCI_SHIM_NOT_VIABLE") == NULL ? VFIO_GROUP_FLAGS_VIABLE : 0;
    return 0;
  }
  case VFIO_GROUP_SET_CONTAINER:
    NEVER(kind_of(*(int *)argument, path) != CONTAINER, "a group is put into no container");
    group_set = 1;
    return 0;
  case VFIO_GROUP_GET_DEVICE_FD: return device_of_group(fd, argument);
  default: return fail(ENOTTY);
  }
}

static const char *name_of(unsigned long request) {
  switch (request) {
  case VFIO_GET_API_VERSION: return "VFIO_GET_API_VERSION";
  case VFIO_CHECK_EXTENSION: return "VFIO_CHECK_EXTENSION";
  case VFIO_SET_IOMMU: return "VFIO_SET_IOMMU";
  case VFIO_GROUP_GET_STATUS: return "VFIO_GROUP_GET_STATUS";
  case VFIO_GROUP_SET_CONTAINER: return "VFIO_GROUP_SET_CONTAINER";
  case VFIO_GROUP_GET_DEVICE_FD: return "VFIO_GROUP_GET_DEVICE_FD";
  case VFIO_DEVICE_GET_INFO: return "VFIO_DEVICE_GET_INFO";
  case VFIO_DEVICE_GET_REGION_INFO: return "VFIO_DEVICE_GET_REGION_INFO";
  case VFIO_DEVICE_GET_IRQ_INFO: return "VFIO_DEVICE_GET_IRQ_INFO";
  case VFIO_DEVICE_SET_IRQS: return "VFIO_DEVICE_SET_IRQS";
  case VFIO_DEVICE_RESET: return "VFIO_DEVICE_RESET";
  case VFIO_DEVICE_FEATURE: return "VFIO_DEVICE_FEATURE";
  case VFIO_DEVICE_BIND_IOMMUFD: return "VFIO_DEVICE_BIND_IOMMUFD";
  case VFIO_DEVICE_ATTACH_IOMMUFD_PT: return "VFIO_DEVICE_ATTACH_IOMMUFD_PT";
  case VFIO_DEVICE_DETACH_IOMMUFD_PT: return "VFIO_DEVICE_DETACH_IOMMUFD_PT";
  case IOMMU_DESTROY: return "IOMMU_DESTROY";
  case IOMMU_IOAS_ALLOC: return "IOMMU_IOAS_ALLOC";
  case IOMMU_IOAS_MAP: return "IOMMU_IOAS_MAP";
  case IOMMU_IOAS_UNMAP: return "IOMMU_IOAS_UNMAP";
  case IOMMU_HWPT_ALLOC: return "IOMMU_HWPT_ALLOC";
  case IOMMU_HWPT_INVALIDATE: return "IOMMU_HWPT_INVALIDATE";
  case IOMMU_FAULT_QUEUE_ALLOC: return "IOMMU_FAULT_QUEUE_ALLOC";
  case IOMMU_GET_HW_INFO: return "IOMMU_GET_HW_INFO";
  default: return "?";
  }
}

int ioctl(int fd, unsigned long request, ...) {
  static int (*real)(int, unsigned long, ...);
  if (real == NULL) real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  char path[4096];
  enum kind kind = ((request >> 8) & 0xff) == ';' ? kind_of(fd, path) : NONE;
  if (kind == NONE) return real(fd, request, argument);
  const char *name = name_of(request);
  NEVER(*name == '?', "an ioctl that this kernel does not know");
  int error = failing(name);
  int result = error != 0            ? fail(error)
               : kind == DEVICE      ? of_device(request, argument)
               : kind == IOMMUFD     ? of_iommufd(request, argument)
               : kind == CONTAINER   ? of_container(request, (long)argument)
                                     : of_group(fd, request, argument);
  error = errno;
  say(name, result < 0 ? "failed" : "ok");
  errno = error;
  return result;
}
