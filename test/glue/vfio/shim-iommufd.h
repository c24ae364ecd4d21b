// The objects of the made-up iommufd: address spaces with their mappings, page tables, fault queues, and what the
// device is attached to. Checks as the kernel does; what a mirror must never do ends the process.
#pragma once
#include "shim-common.h"
#include <sys/mman.h>
#include <sys/socket.h>

struct attach { uint32_t argsz, flags, pt_id, pasid; };
struct detach { uint32_t argsz, flags, pasid; };
struct destroy { uint32_t size, id; };
struct ioas { uint32_t size, flags, id; };
struct ioas_map { uint32_t size, flags, ioas, rsvd; uint64_t va, length, iova; };
struct ioas_unmap { uint32_t size, ioas; uint64_t iova, length; };
struct hwpt { uint32_t size, flags, dev_id, pt_id, out_id, rsvd, type, len; uint64_t data; uint32_t fault, rsvd2; };
struct vtd_s1 { uint64_t flags, table; uint32_t width, rsvd; };
struct invalidate { uint32_t size, hwpt; uint64_t data; uint32_t type, entry_len, entries, rsvd; };
struct invalidate_s1 { uint64_t addr, npages; uint32_t flags, rsvd; };
struct fault_alloc { uint32_t size, flags, id; int32_t fd; };
struct pgfault { uint32_t flags, dev_id, pasid, grpid, perm, rsvd; uint64_t addr; uint32_t length, cookie; };
struct page_response { uint32_t cookie, code; };

#define SAME(ours, theirs) _Static_assert(sizeof(struct ours) == sizeof(struct theirs), #ours)
#ifdef IOMMU_FAULT_QUEUE_ALLOC
SAME(ioas_map, iommu_ioas_map);
SAME(ioas_unmap, iommu_ioas_unmap);
SAME(hwpt, iommu_hwpt_alloc);
SAME(vtd_s1, iommu_hwpt_vtd_s1);
SAME(invalidate, iommu_hwpt_invalidate);
SAME(invalidate_s1, iommu_hwpt_vtd_s1_invalidate);
SAME(fault_alloc, iommu_fault_alloc);
SAME(pgfault, iommu_hwpt_pgfault);
SAME(page_response, iommu_hwpt_page_response);
#endif
_Static_assert(sizeof(struct hwpt) == 48 && sizeof(struct pgfault) == 40, "layouts");

enum { DEVICE_ID = 7, FIRST_ID = 21, NEST_PARENT = 1, FAULT_ID_VALID = 4, ALLOC_PASID = 8 };
enum object_kind { FREE, IOAS, HWPT, FAULT };

struct area { uint64_t iova, length, va; uint32_t flags; struct area *next; };
struct object {
  enum object_kind kind;
  uint32_t parent, flags, fault;
  struct vtd_s1 s1;
  int nested;
  struct area *areas;
};
struct attachment { uint32_t pasid, hwpt; };

static struct object *objects;
static uint32_t object_count;
static struct attachment *attachments;
static uint32_t attachment_count;
static uint32_t rid_hwpt;
static int fault_socket = -1;
static char invalidations[1 << 16];

static uint32_t add_object(enum object_kind kind) {
  objects = realloc(objects, (object_count + 1) * sizeof *objects);
  memset(&objects[object_count], 0, sizeof *objects);
  objects[object_count].kind = kind;
  return FIRST_ID + object_count++;
}

static struct object *object_of(uint32_t id, enum object_kind kind) {
  if (id < FIRST_ID || id - FIRST_ID >= object_count) return NULL;
  struct object *object = &objects[id - FIRST_ID];
  return object->kind == kind ? object : NULL;
}

static int ioas_alloc(struct ioas *ioas) {
  NEVER(ioas->size != sizeof *ioas || ioas->flags != 0, "iommu_ioas_alloc");
  ioas->id = add_object(IOAS);
  return 0;
}

static int ioas_map(struct ioas_map *map) {
  NEVER(map->size != sizeof *map || map->rsvd != 0, "iommu_ioas_map");
  NEVER((map->flags & 1) == 0, "a mapping without IOMMU_IOAS_MAP_FIXED_IOVA");
  NEVER((map->flags & 6) == 0 || map->flags > 7, "a mapping without rights");
  NEVER(((map->va | map->length | map->iova) & 0xfff) != 0 || map->length == 0, "a mapping that is not of pages");
  NEVER(map->iova + map->length - 1 < map->iova, "a mapping past the end");
  struct object *ioas = object_of(map->ioas, IOAS);
  if (ioas == NULL) return fail(ENOENT);
  if (msync((void *)(uintptr_t)map->va, map->length, MS_ASYNC) != 0) return fail(EFAULT);
  struct area **at = &ioas->areas;
  for (; *at != NULL && (*at)->iova < map->iova; at = &(*at)->next)
    if ((*at)->iova + (*at)->length > map->iova) return fail(EEXIST);
  if (*at != NULL && (*at)->iova < map->iova + map->length) return fail(EEXIST);
  struct area *area = calloc(1, sizeof *area);
  *area = (struct area){map->iova, map->length, map->va, map->flags, *at};
  *at = area;
  return 0;
}

static int ioas_unmap(struct ioas_unmap *unmap) {
  NEVER(unmap->size != sizeof *unmap || unmap->length == 0, "iommu_ioas_unmap");
  struct object *ioas = object_of(unmap->ioas, IOAS);
  if (ioas == NULL) return fail(ENOENT);
  uint64_t last = unmap->iova + unmap->length - 1, done = 0;
  for (struct area **at = &ioas->areas; *at != NULL;) {
    struct area *area = *at;
    uint64_t area_last = area->iova + area->length - 1;
    if (area_last < unmap->iova || area->iova > last) {
      at = &area->next;
      continue;
    }
    NEVER(area->iova < unmap->iova || area_last > last, "an unmap cuts a mapping");
    done += area->length;
    *at = area->next;
    free(area);
  }
  NEVER(done == 0, "an unmap of nothing");
  unmap->length = done;
  return 0;
}

static int hwpt_alloc(struct hwpt *hwpt) {
  NEVER(hwpt->size != sizeof *hwpt, "iommu_hwpt_alloc with another size");
  NEVER(hwpt->rsvd != 0 || hwpt->rsvd2 != 0, "iommu_hwpt_alloc is not zeroed");
  NEVER((hwpt->flags & ~13u) != 0, "iommu_hwpt_alloc with unknown flags");
  NEVER((hwpt->flags & FAULT_ID_VALID) == 0 && hwpt->fault != 0, "a fault queue without its flag");
  if (hwpt->dev_id != DEVICE_ID) return fail(ENOENT);
  if ((hwpt->flags & ALLOC_PASID) != 0 && number("VPCI_SHIM_WIDTH", 0) == 0) return fail(EOPNOTSUPP);
  if ((hwpt->flags & FAULT_ID_VALID) != 0 && object_of(hwpt->fault, FAULT) == NULL) return fail(ENOENT);
  struct vtd_s1 s1 = {0};
  if (hwpt->type == 0) {
    NEVER(hwpt->len != 0 || hwpt->data != 0, "data without a type");
    NEVER((hwpt->flags & (NEST_PARENT | FAULT_ID_VALID)) == (NEST_PARENT | FAULT_ID_VALID), "a parent with faults");
    if (object_of(hwpt->pt_id, IOAS) == NULL) return fail(ENOENT);
  } else {
    NEVER(hwpt->type != 1 || hwpt->len != sizeof s1 || hwpt->data == 0, "first-stage data");
    struct object *parent = object_of(hwpt->pt_id, HWPT);
    if (parent == NULL) return fail(ENOENT);
    NEVER((parent->flags & NEST_PARENT) == 0, "a first stage on a page table that is no parent");
    NEVER((hwpt->flags & NEST_PARENT) != 0, "a first stage as a parent");
    memcpy(&s1, (const void *)(uintptr_t)hwpt->data, sizeof s1);
    NEVER(s1.rsvd != 0 || s1.flags > 7 || (s1.table & 0xfff) != 0, "iommu_hwpt_vtd_s1");
    NEVER(s1.width != 48 && s1.width != 57, "the width of a first stage");
  }
  hwpt->out_id = add_object(HWPT);
  struct object *made = object_of(hwpt->out_id, HWPT);
  made->parent = hwpt->pt_id;
  made->flags = hwpt->flags;
  made->fault = hwpt->fault;
  made->s1 = s1;
  made->nested = hwpt->type == 1;
  return 0;
}

static int hwpt_invalidate(struct invalidate *request) {
  NEVER(request->size != sizeof *request || request->rsvd != 0, "iommu_hwpt_invalidate");
  NEVER(request->type != 0 || request->entry_len != sizeof(struct invalidate_s1), "an invalidation of another type");
  NEVER(request->entries == 0 || request->data == 0, "an invalidation of nothing");
  struct object *hwpt = object_of(request->hwpt, HWPT);
  if (hwpt == NULL) return fail(ENOENT);
  NEVER(!hwpt->nested, "an invalidation of a page table of the host");
  const struct invalidate_s1 *entries = (const void *)(uintptr_t)request->data;
  for (uint32_t i = 0; i < request->entries; i++) {
    NEVER(entries[i].rsvd != 0 || entries[i].flags > 1 || (entries[i].addr & 0xfff) != 0, "an invalidation's entry");
    NEVER(entries[i].npages == UINT64_MAX && entries[i].addr != 0, "everything, but from an address on");
    size_t used = strlen(invalidations);
    snprintf(invalidations + used, sizeof invalidations - used, "%s[%u,\"0x%lx\",\"0x%lx\"]", used > 0 ? "," : "",
             request->hwpt, (unsigned long)entries[i].addr, (unsigned long)entries[i].npages);
  }
  return 0;
}

static int fault_queue_alloc(struct fault_alloc *request) {
  NEVER(request->size != sizeof *request || request->flags != 0, "iommu_fault_alloc");
  NEVER(fault_socket >= 0, "a second fault queue");
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) return -1;
  fault_socket = pair[1];
  request->fd = pair[0];
  request->id = add_object(FAULT);
  return 0;
}

static int destroy_object(struct destroy *destroy) {
  NEVER(destroy->size != sizeof *destroy, "iommu_destroy");
  uint32_t id = destroy->id;
  NEVER(id < FIRST_ID || id - FIRST_ID >= object_count, "an object is destroyed that there never was");
  struct object *object = &objects[id - FIRST_ID];
  NEVER(object->kind == FREE, "an object is destroyed twice");
  int used = object->kind == HWPT && rid_hwpt == id;
  for (uint32_t i = 0; i < attachment_count; i++) used |= object->kind == HWPT && attachments[i].hwpt == id;
  for (uint32_t i = 0; i < object_count; i++)
    used |= objects[i].kind == HWPT && (objects[i].parent == id || objects[i].fault == id);
  // The kernel says EBUSY. Only after a detach that failed may that be asked for.
  NEVER(used && !failing("VFIO_DEVICE_DETACH_IOMMUFD_PT") && !failing("DETACH_PASID"), "an object is destroyed while it is used");
  if (used) return fail(EBUSY);
  while (object->areas != NULL) {
    struct area *next = object->areas->next;
    free(object->areas);
    object->areas = next;
  }
  if (object->kind == FAULT) {
    close(fault_socket);
    fault_socket = -1;
  }
  object->kind = FREE;
  return 0;
}

static struct attachment *attachment_of(uint32_t pasid) {
  for (uint32_t i = 0; i < attachment_count; i++)
    if (attachments[i].pasid == pasid) return &attachments[i];
  return NULL;
}

static int attach(struct attach *attach) {
  NEVER(attach->argsz < ((attach->flags & 1) != 0 ? 16u : 12u), "attach with a short struct");
  if (attach->flags > 1) return fail(EINVAL);
  struct object *hwpt = object_of(attach->pt_id, HWPT);
  if (hwpt == NULL) return fail(ENOENT);
  if ((attach->flags & 1) == 0) {
    NEVER((hwpt->flags & ALLOC_PASID) == 0 && attachment_count > 0, "a page table without PASIDs beside PASIDs");
    int error = failing("ATTACH_RID");
    if (error != 0) return fail(error);
    rid_hwpt = attach->pt_id;
    return 0;
  }
  NEVER(attach->pasid == 0, "PASID 0 is sent as a PASID");
  NEVER(rid_hwpt == 0, "a PASID is attached before the requester ID");
  NEVER((hwpt->flags & ALLOC_PASID) == 0, "a PASID is attached to a page table without IOMMU_HWPT_ALLOC_PASID");
  int error = failing("ATTACH_PASID");
  if (error != 0) return fail(error);
  if (attach->pasid >= 1ul << number("VPCI_SHIM_WIDTH", 0)) return fail(EINVAL);
  struct attachment *old = attachment_of(attach->pasid);
  if (old == NULL) {
    attachments = realloc(attachments, (attachment_count + 1) * sizeof *attachments);
    old = &attachments[attachment_count++];
  }
  *old = (struct attachment){attach->pasid, attach->pt_id};
  return 0;
}

static int detach(struct detach *detach) {
  NEVER(detach->argsz < ((detach->flags & 1) != 0 ? 12u : 8u), "detach with a short struct");
  if (detach->flags > 1) return fail(EINVAL);
  if ((detach->flags & 1) != 0) {
    struct attachment *old = attachment_of(detach->pasid);
    NEVER(old == NULL, "a PASID is detached that is not attached");
    int error = failing("DETACH_PASID");
    if (error != 0) return fail(error);
    *old = attachments[--attachment_count];
    return 0;
  }
  NEVER(attachment_count > 0, "the requester ID is detached before the PASIDs");
  NEVER(rid_hwpt == 0, "the requester ID is detached without being attached");
  rid_hwpt = 0;
  return 0;
}

// The device writes without a PASID, through the page table that it is attached to.
static void store_by_rid(uint64_t iova, const char *bytes, size_t size) {
  struct object *hwpt = object_of(rid_hwpt, HWPT);
  struct object *ioas = hwpt != NULL ? object_of(hwpt->parent, IOAS) : NULL;
  for (struct area *area = ioas != NULL ? ioas->areas : NULL; area != NULL; area = area->next)
    if (iova >= area->iova && iova + size <= area->iova + area->length && (area->flags & 2) != 0)
      memcpy((void *)(uintptr_t)(area->va + (iova - area->iova)), bytes, size);
}

// For tests: what the host has now, as JSON.
int vpci_shim_state(char *out, int size) {
  int at = snprintf(out, size, "{\"rid\":%u,\"pasids\":[", rid_hwpt);
#define ADD(...) at += snprintf(out + at, at < size ? (size_t)(size - at) : 0, __VA_ARGS__)
  for (uint32_t i = 0; i < attachment_count; i++)
    ADD("%s[%u,%u]", i > 0 ? "," : "", attachments[i].pasid, attachments[i].hwpt);
  ADD("],\"objects\":[");
  const char *comma = "";
  for (uint32_t i = 0; i < object_count; i++) {
    struct object *object = &objects[i];
    if (object->kind == FREE) continue;
    ADD("%s{\"id\":%u,\"kind\":%d", comma, FIRST_ID + i, object->kind);
    comma = ",";
    if (object->kind == HWPT) ADD(",\"parent\":%u,\"flags\":%u", object->parent, object->flags);
    if (object->nested)
      ADD(",\"table\":\"0x%lx\",\"s1\":%lu,\"width\":%u", (unsigned long)object->s1.table, (unsigned long)object->s1.flags, object->s1.width);
    if (object->kind == IOAS) {
      ADD(",\"areas\":[");
      for (struct area *area = object->areas; area != NULL; area = area->next)
        ADD("[\"0x%lx\",\"0x%lx\",\"0x%lx\",%u]%s", (unsigned long)area->iova, (unsigned long)area->length,
            (unsigned long)area->va, area->flags, area->next != NULL ? "," : "");
      ADD("]");
    }
    ADD("}");
  }
  ADD("],\"invalidations\":[%s]}", invalidations);
  invalidations[0] = 0;
  return at < size ? at : -1;
}

// For tests: the device sends a page request.
int vpci_shim_fault(uint32_t flags, uint32_t pasid, uint32_t group, uint32_t perm, uint64_t addr, uint32_t cookie) {
  struct pgfault fault = {flags, DEVICE_ID, pasid, group, perm, 0, addr, 0, cookie};
  return write(fault_socket, &fault, sizeof fault) == sizeof fault ? 0 : -1;
}

// For tests: the next answer, as cookie * 256 + code; -1 when there is none.
int vpci_shim_response(void) {
  struct page_response response;
  if (read(fault_socket, &response, sizeof response) != sizeof response) return -1;
  NEVER(response.code > 1, "an answer that there is not");
  return (int)(response.cookie * 256 + response.code);
}
