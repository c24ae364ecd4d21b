// VFIO_DEVICE_SET_IRQS of the made-up device: which eventfd each vector signals.
#pragma once
#include "shim-common.h"
#include <linux/vfio.h>

enum { VECTORS = 33, KINDS = 5 };
static int eventfds[KINDS][VECTORS];
static uint32_t vectors_set_up[KINDS];
static int intx_masked, intx_unmask_fd = -1;
// The device holds its line up.
static int intx_raised;

static uint32_t vectors_of(uint32_t index) { return index == VFIO_PCI_MSIX_IRQ_INDEX ? VECTORS : 1; }

static int resizes(uint32_t index) {
  return index == VFIO_PCI_INTX_IRQ_INDEX || (index == VFIO_PCI_MSIX_IRQ_INDEX && option("VPCI_SHIM_DYNAMIC") != NULL);
}

static void release(uint32_t index, uint32_t vector) {
  if (eventfds[index][vector] > 0) close(eventfds[index][vector]);
  eventfds[index][vector] = 0;
}

static int is_eventfd(int fd) {
  char link[64], target[64] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (readlink(link, target, sizeof target - 1) < 0) return 0;
  return strcmp(target, "anon_inode:[eventfd]") == 0;
}

// The device interrupts; 0, or -1 when nobody hears it.
int vpci_shim_interrupt(uint32_t index, uint32_t vector) {
  uint64_t one = 1;
  if (index >= KINDS || vector >= VECTORS || eventfds[index][vector] <= 0) return -1;
  if (index == VFIO_PCI_INTX_IRQ_INDEX) {
    if (intx_masked) return -1;
    intx_masked = 1;
  }
  return write(eventfds[index][vector], &one, sizeof one) == sizeof one ? 0 : -1;
}

// The line goes up, or down.
static void raise_intx(int up) {
  intx_raised = up;
  if (up) vpci_shim_interrupt(VFIO_PCI_INTX_IRQ_INDEX, 0);
}

static int set_irqs(struct vfio_irq_set *set) {
  uint32_t type = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK, action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
  NEVER((type | action) != set->flags || (type & (type - 1)) != 0 || (action & (action - 1)) != 0, "flags of an irq set");
  NEVER(type == 0 || action == 0, "an irq set without type or action");
  uint32_t data = type == VFIO_IRQ_SET_DATA_EVENTFD ? 4 * set->count : 0;
  NEVER(set->argsz != sizeof *set + data, "argsz of an irq set");
  if (set->index > VFIO_PCI_MSIX_IRQ_INDEX) return fail(ENOTTY);
  uint32_t total = vectors_of(set->index);
  if (set->start + set->count > total) return fail(EINVAL);
  if (set->count == 0) {
    NEVER(set->flags != (VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER) || set->start != 0, "an empty irq set");
    for (uint32_t i = 0; i < total; i++) release(set->index, i);
    vectors_set_up[set->index] = 0;
    return 0;
  }
  int32_t *fds = (int32_t *)set->data;
  if (action != VFIO_IRQ_SET_ACTION_TRIGGER) {
    NEVER(set->index != VFIO_PCI_INTX_IRQ_INDEX, "messages are masked in the host");
    if (vectors_set_up[0] == 0) return fail(EINVAL);
    if (type == VFIO_IRQ_SET_DATA_EVENTFD) intx_unmask_fd = fds[0];
    else intx_masked = action == VFIO_IRQ_SET_ACTION_MASK;
    if (intx_raised) raise_intx(1);
    return 0;
  }
  NEVER(type != VFIO_IRQ_SET_DATA_EVENTFD, "an interrupt is triggered by hand");
  for (uint32_t i = 0; i < 3; i++) NEVER(i != set->index && vectors_set_up[i] != 0, "two kinds of interrupts at once");
  uint32_t left = (uint32_t)number("VPCI_SHIM_VECTORS", VECTORS);
  if (set->start + set->count > left) return (int)left;
  NEVER(vectors_set_up[set->index] != 0 && set->start + set->count > vectors_set_up[set->index] && !resizes(set->index),
        "vectors are added that cannot be");
  for (uint32_t i = 0; i < set->count; i++) {
    release(set->index, set->start + i);
    if (fds[i] == -1) continue;
    if (!is_eventfd(fds[i])) return fail(EBADF);
    eventfds[set->index][set->start + i] = dup(fds[i]);
  }
  if (set->start + set->count > vectors_set_up[set->index]) vectors_set_up[set->index] = set->start + set->count;
  return 0;
}

// For tests: vectors that the host has set up for a kind.
int vpci_shim_vectors(uint32_t index) { return (int)vectors_set_up[index]; }
int vpci_shim_intx_masked(void) { return intx_masked; }
