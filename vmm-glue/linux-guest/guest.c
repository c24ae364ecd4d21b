// The init of the guest: drives the request engine at 01:00.0 while Linux programs the remapping unit, and prints a
// line for each step, "step: what came of it". The kernel's command line says what to do: VPCI_MODE=base, ats,
// nested, legacy, faults or probe.
//
//   cc -static -I UAPI-HEADERS -o init guest.c
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <termios.h>
#include <unistd.h>

#define DEVICE "/sys/bus/pci/devices/0000:01:00.0"
#define PAGE 4096UL
#define COUNT(array) (sizeof(array) / sizeof(*(array)))

// Registers of the engine, as in engine-registers.ts.
enum {
	ADDRESS_LOW = 0x10,
	ADDRESS_HIGH = 0x14,
	PASID = 0x18,
	LENGTH = 0x1c,
	COMMAND = 0x20,
	STATUS = 0x24,
	CODE = 0x28,
	DATA = 0x40,
};
enum {
	READ = 1,
	WRITE = 2,
	EXECUTE = 3,
	TRANSLATE = 4,
	KIND = 7,
	PRIVILEGED = 0x10,
	ATS = 0x20,
	PRI = 0x40,
	FORCE = 0x80,
};
enum { IDLE, DONE, BUSY, REJECTED, NOT_SENT, NO_MEMORY };
#define PASID_PRESENT 0x80000000u
#define NO_PASID (-1L)
#define DATA_LENGTH 24

static int device = -1, iommufd = -1;
static uint64_t bar_offset, config_offset;
static volatile uint32_t *bar;
static uint32_t device_id;

static void finish(void)
{
	// What is printed goes out a character at a time.
	tcdrain(STDOUT_FILENO);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void say(const char *step, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	printf("%s: ", step);
	vprintf(format, list);
	putchar('\n');
	va_end(list);
}

static void give_up(const char *step)
{
	say(step, "failed, %s", strerror(errno));
	finish();
}

// Says how a step ended that may fail; returns 0 when it did not.
static int check(const char *step, int result)
{
	if (result < 0)
		say(step, "%s", strerror(errno));
	else
		say(step, "ok");
	return result < 0;
}

static void store(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);
	if (file < 0 || write(file, text, strlen(text)) < 0)
		give_up(path);
	close(file);
}

// --- The engine ------------------------------------------------------------------------------------------------

static uint32_t get(unsigned reg)
{
	uint32_t value = ~0u;
	if (bar)
		return bar[reg / 4];
	if (pread(device, &value, sizeof value, bar_offset + reg) != sizeof value)
		give_up("read of a register");
	return value;
}

static void set(unsigned reg, uint32_t value)
{
	if (bar)
		bar[reg / 4] = value;
	else if (pwrite(device, &value, sizeof value, bar_offset + reg) != sizeof value)
		give_up("write of a register");
}

static void begin(int command, long pasid, uint64_t address)
{
	char text[DATA_LENGTH] = "written-by-the-device";
	uint32_t word;
	set(ADDRESS_LOW, address);
	set(ADDRESS_HIGH, address >> 32);
	set(PASID, pasid == NO_PASID ? 0 : PASID_PRESENT | pasid);
	set(LENGTH, DATA_LENGTH);
	if ((command & KIND) != WRITE)
		memset(text, 0, sizeof text);
	for (unsigned i = 0; i < DATA_LENGTH; i += sizeof word) {
		memcpy(&word, text + i, sizeof word);
		set(DATA + i, word);
	}
	set(COMMAND, command);
}

static void end(const char *step, int command)
{
	char text[DATA_LENGTH + 1] = {0};
	uint32_t status = BUSY, word;
	for (int i = 0; i < 100000 && status == BUSY; i++)
		status = get(STATUS);
	switch (status) {
	case DONE:
		if ((command & KIND) == WRITE) {
			say(step, "written");
		} else if ((command & KIND) == TRANSLATE) {
			say(step, "translated");
		} else {
			for (unsigned i = 0; i < DATA_LENGTH; i += sizeof word) {
				word = get(DATA + i);
				memcpy(text + i, &word, sizeof word);
			}
			say(step, "read \"%s\"", text);
		}
		break;
	case REJECTED:
		word = get(CODE);
		if (word)
			say(step, "rejected %xh", word);
		else
			say(step, "rejected");
		break;
	case NOT_SENT:
		say(step, "not sent");
		break;
	case NO_MEMORY:
		say(step, "no memory");
		break;
	default:
		say(step, "status %u", status);
	}
}

// Orders a request and says what came of it.
static void ask(const char *step, int command, long pasid, uint64_t address)
{
	begin(command, pasid, address);
	end(step, command);
}

// --- PCI -------------------------------------------------------------------------------------------------------

static void show_pasid_control(void)
{
	uint32_t header = 0;
	uint16_t control = 0;
	int file = open(DEVICE "/config", O_RDONLY);
	if (file < 0)
		give_up("open of config");
	for (unsigned at = 0x100; at >= 0x100; at = header >> 20) {
		if (pread(file, &header, sizeof header, at) != sizeof header)
			break;
		if ((header & 0xffff) != 0x1b)
			continue;
		pread(file, &control, sizeof control, at + 6);
		say("PASID Control of the endpoint", "%x", control);
		close(file);
		return;
	}
	say("PASID Control of the endpoint", "no such capability");
	close(file);
}

// Memory and Bus Master on, and the BAR mapped: what a driver does, without one.
static void open_by_sysfs(void)
{
	uint16_t command = 0;
	int config = open(DEVICE "/config", O_RDWR), resource;
	store(DEVICE "/enable", "1");
	if (config < 0 || pread(config, &command, 2, 4) != 2)
		give_up("open of config");
	command |= 6;
	if (pwrite(config, &command, 2, 4) != 2)
		give_up("write of Command");
	close(config);
	resource = open(DEVICE "/resource0", O_RDWR | O_SYNC);
	bar = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, resource, 0);
	if (resource < 0 || bar == MAP_FAILED)
		give_up("mapping of the BAR");
}

static void open_by_vfio(void)
{
	char path[300] = "";
	uint16_t command = 0;
	store(DEVICE "/driver_override", "vfio-pci");
	store("/sys/bus/pci/drivers_probe", "0000:01:00.0");
	DIR *folder = opendir(DEVICE "/vfio-dev");
	for (struct dirent *one; folder && (one = readdir(folder));)
		if (strncmp(one->d_name, "vfio", 4) == 0)
			snprintf(path, sizeof path, "/dev/vfio/devices/%s", one->d_name);
	device = open(path, O_RDWR);
	if (device < 0)
		give_up("bind to vfio-pci");
	say("bind to vfio-pci", "ok");
	iommufd = open("/dev/iommu", O_RDWR);
	struct vfio_device_bind_iommufd bind = {.argsz = sizeof bind, .iommufd = iommufd};
	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0)
		give_up("bind to iommufd");
	say("bind to iommufd", "ok");
	device_id = bind.out_devid;
	struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_CONFIG_REGION_INDEX};
	ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	config_offset = info.offset;
	info.index = VFIO_PCI_BAR0_REGION_INDEX;
	ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	bar_offset = info.offset;
	pread(device, &command, 2, config_offset + 4);
	command |= 6;
	pwrite(device, &command, 2, config_offset + 4);
}

// --- iommufd ---------------------------------------------------------------------------------------------------

static uint32_t max_pasid_width(void)
{
	struct iommu_hw_info_vtd vtd = {0};
	struct iommu_hw_info info = {
		.size = sizeof info,
		.dev_id = device_id,
		.data_len = sizeof vtd,
		.data_uptr = (uintptr_t)&vtd,
	};
	if (ioctl(iommufd, IOMMU_GET_HW_INFO, &info) < 0)
		give_up("IOMMU_GET_HW_INFO");
	say("IOMMU", "type %u, PASIDs of %u bits", info.out_data_type, info.out_max_pasid_log2);
	return info.out_max_pasid_log2;
}

// Guest memory with a text at its start.
static char *memory(size_t size, const char *text)
{
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_SHARED, -1, 0);
	if (start == MAP_FAILED)
		give_up("memory");
	memset(start, 0, size);
	strcpy(start, text);
	return start;
}

static uint32_t address_space(void)
{
	struct iommu_ioas_alloc alloc = {.size = sizeof alloc};
	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc) < 0)
		give_up("IOMMU_IOAS_ALLOC");
	return alloc.out_ioas_id;
}

static void map(uint32_t space, uint64_t iova, void *start, size_t size, int writable)
{
	struct iommu_ioas_map map = {
		.size = sizeof map,
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 (writable ? IOMMU_IOAS_MAP_WRITEABLE : 0),
		.ioas_id = space,
		.user_va = (uintptr_t)start,
		.length = size,
		.iova = iova,
	};
	if (ioctl(iommufd, IOMMU_IOAS_MAP, &map) < 0)
		give_up("IOMMU_IOAS_MAP");
}

static void unmap(uint32_t space, uint64_t iova, size_t size)
{
	struct iommu_ioas_unmap unmap = {.size = sizeof unmap, .ioas_id = space, .iova = iova, .length = size};
	if (ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap) < 0)
		give_up("IOMMU_IOAS_UNMAP");
}

static uint32_t page_tables(const char *step, struct iommu_hwpt_alloc alloc)
{
	alloc.size = sizeof alloc;
	alloc.dev_id = device_id;
	return check(step, ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc)) ? 0 : alloc.out_hwpt_id;
}

static void attach(const char *step, long pasid, uint32_t tables)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof attach,
		.flags = pasid == NO_PASID ? 0 : VFIO_DEVICE_ATTACH_PASID,
		.pt_id = tables,
		.pasid = pasid == NO_PASID ? 0 : pasid,
	};
	check(step, ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach));
}

static void detach(const char *step, long pasid)
{
	struct vfio_device_detach_iommufd_pt detach = {
		.argsz = sizeof detach,
		.flags = pasid == NO_PASID ? 0 : VFIO_DEVICE_DETACH_PASID,
		.pasid = pasid == NO_PASID ? 0 : pasid,
	};
	check(step, ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, &detach));
}

// --- What is played --------------------------------------------------------------------------------------------

// PASIDs attached and detached, in two address spaces.
static void base(void)
{
	const uint64_t page = 0x10000000, read_only = page + PAGE, hole = 0x20000000;
	const uint32_t width = max_pasid_width();
	const long largest = (1L << width) - 1;
	ask("PASID 5, nothing attached", READ, 5, page);
	ask("no PASID, nothing attached", READ, NO_PASID, page);

	char *first = memory(2 * PAGE, "hello-from-guest"), *second = memory(PAGE, "other-address-space");
	strcpy(first + PAGE, "read-only-page");
	const uint32_t a = address_space(), b = address_space();
	map(a, page, first, PAGE, 1);
	map(a, read_only, first + PAGE, PAGE, 0);
	map(b, page, second, PAGE, 1);
	const uint32_t tables_a = page_tables("tables of the first address space",
					      (struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID, .pt_id = a});
	const uint32_t tables_b = page_tables("tables of the second address space",
					      (struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID, .pt_id = b});
	attach("attach the function to the first", NO_PASID, tables_a);
	ask("no PASID, function attached", READ, NO_PASID, page);
	ask("PASID 5, function attached", READ, 5, page);

	attach("attach PASID 5 to the first", 5, tables_a);
	ask("PASID 5", READ, 5, page);
	ask("PASID 5, a write", WRITE, 5, page);
	say("the guest finds there", "\"%s\"", first);
	ask("PASID 5, read-only page", READ, 5, read_only);
	ask("PASID 5, read-only page, a write", WRITE, 5, read_only);
	ask("PASID 5, unmapped", READ, 5, hole);
	ask("PASID 5, privileged", READ | PRIVILEGED, 5, page);
	ask("PASID 5, execute", EXECUTE, 5, page);
	ask("PASID 6, not attached", READ, 6, page);
	ask("PASID 0x1234, not attached", READ, 0x1234, page);

	attach("attach PASID 6 to the second", 6, tables_b);
	ask("PASID 6", READ, 6, page);
	ask("PASID 5, still in the first", READ, 5, page);
	attach("attach the largest PASID to the second", largest, tables_b);
	ask("largest PASID", READ, largest, page);
	if (width < 20) {
		ask("one more than the largest", READ, largest + 1, page);
		ask("one more than the largest, sent all the same", READ | FORCE, largest + 1, page);
	}

	detach("detach PASID 5", 5);
	ask("PASID 5, detached", READ, 5, page);
	ask("PASID 6, still in the second", READ, 6, page);
	unmap(b, page, PAGE);
	ask("PASID 6, page unmapped", READ, 6, page);
	map(b, page, memory(PAGE, "another-page"), PAGE, 1);
	ask("PASID 6, another page mapped", READ, 6, page);
	detach("detach the function", NO_PASID);
	ask("no PASID, function detached", READ, NO_PASID, page);
	ask("PASID 6, function detached", READ, 6, page);
}

// A device that holds translations, and asks for pages that are missing.
static void ats(void)
{
	const uint64_t page = 0x10000000, missing = 0x30000000;
	max_pasid_width();
	char *first = memory(PAGE, "hello-from-guest"), *second = memory(PAGE, "");
	const uint32_t a = address_space(), c = address_space();
	map(a, page, first, PAGE, 1);
	const uint32_t tables = page_tables("tables of the first address space",
					    (struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID, .pt_id = a});
	attach("attach the function to the first", NO_PASID, tables);
	attach("attach PASID 5 to the first", 5, tables);
	ask("no PASID, translation held", READ | ATS, NO_PASID, page);
	ask("PASID 5, translation asked for", TRANSLATE, 5, page);
	ask("PASID 5, translation held", READ | ATS, 5, page);
	ask("PASID 5, a write", WRITE | ATS, 5, page);
	say("the guest finds there", "\"%s\"", first);
	unmap(a, page, PAGE);
	ask("PASID 5, page unmapped", READ | ATS, 5, page);
	map(a, page, memory(PAGE, "another-page"), PAGE, 1);
	ask("PASID 5, another page mapped", READ | ATS, 5, page);
	detach("detach PASID 5", 5);
	ask("PASID 5, detached", READ | ATS, 5, page);

	struct iommu_fault_alloc queue = {.size = sizeof queue};
	if (ioctl(iommufd, IOMMU_FAULT_QUEUE_ALLOC, &queue) < 0)
		give_up("IOMMU_FAULT_QUEUE_ALLOC");
	attach("attach PASID 9 to the second, with a fault queue", 9,
	       page_tables("tables of the second address space, with a fault queue",
			   (struct iommu_hwpt_alloc){
				   .flags = IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID,
				   .pt_id = c,
				   .fault_id = queue.out_fault_id,
			   }));
	for (int i = 0; i < 2; i++) {
		struct iommu_hwpt_pgfault fault;
		const char *step = i == 0 ? "PASID 9, page given" : "PASID 9, page refused";
		int length = -1;
		begin(READ | ATS | PRI, 9, missing + i * PAGE);
		for (int tries = 0; tries < 400 && length <= 0; tries++) {
			length = read(queue.out_fault_fd, &fault, sizeof fault);
			if (length <= 0)
				usleep(5000);
		}
		if (length != sizeof fault)
			give_up("page request in the fault queue");
		say("page request", "PASID %u, address %llx, permissions %x, last %u", fault.pasid,
		    (unsigned long long)fault.addr, fault.perm, fault.flags >> 1 & 1);
		strcpy(second, "mapped-on-page-fault");
		if (i == 0)
			map(c, fault.addr, second, PAGE, 1);
		struct iommu_hwpt_page_response response = {
			.cookie = fault.cookie,
			.code = i == 0 ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID,
		};
		if (write(queue.out_fault_fd, &response, sizeof response) != sizeof response)
			give_up("answer to a page request");
		end(step, READ);
	}
	detach("detach PASID 9", 9);
	ask("PASID 9, detached", READ | ATS, 9, missing);
}

// Tables of a user's own, under a second stage.
static void nested(void)
{
	enum { LEVELS = 4, PAGES = 16 };
	const uint64_t base = 0x50000000, hole = 0x60000000;
	max_pasid_width();
	char *start = memory(PAGES * PAGE, "");
	uint64_t *entries = (uint64_t *)start;
	const uint32_t space = address_space();
	map(space, base, start, PAGES * PAGE, 1);
	// Present, writable, user, accessed; the leaves dirty, too.
	for (int level = 0; level < LEVELS - 1; level++)
		entries[level * 512] = (base + (level + 1) * PAGE) | 0x27;
	uint64_t *leaves = entries + (LEVELS - 1) * 512;
	leaves[0] = (base + 8 * PAGE) | 0x67;
	leaves[1] = (base + 9 * PAGE) | 0x25;
	leaves[2] = hole | 0x67;
	strcpy(start + 8 * PAGE, "hello-from-guest");
	strcpy(start + 9 * PAGE, "read-only-page");
	strcpy(start + 10 * PAGE, "mapped-later");

	const uint32_t parent = page_tables(
		"second stage",
		(struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_ALLOC_NEST_PARENT, .pt_id = space});
	struct iommu_hwpt_vtd_s1 tables = {.pgtbl_addr = base, .addr_width = 48};
	const uint32_t child = page_tables("first stage of the user", (struct iommu_hwpt_alloc){
									      .flags = IOMMU_HWPT_ALLOC_PASID,
									      .pt_id = parent,
									      .data_type = IOMMU_HWPT_DATA_VTD_S1,
									      .data_len = sizeof tables,
									      .data_uptr = (uintptr_t)&tables,
								      });
	attach("attach the function to the second stage", NO_PASID, parent);
	ask("no PASID", READ, NO_PASID, base + 8 * PAGE);
	attach("attach PASID 10 to the second stage", 10, parent);
	ask("PASID 10", READ, 10, base + 8 * PAGE);
	ask("PASID 10, unmapped", READ, 10, hole);
	attach("attach PASID 11 to the first stage of the user", 11, child);
	ask("PASID 11", READ, 11, 0);
	ask("PASID 11, a write", WRITE, 11, 0);
	say("the guest finds there", "\"%s\"", start + 8 * PAGE);
	ask("PASID 11, read-only page", READ, 11, PAGE);
	ask("PASID 11, read-only page, a write", WRITE, 11, PAGE);
	ask("PASID 11, hole in the second stage", READ, 11, 2 * PAGE);
	ask("PASID 11, hole in the first stage", READ, 11, 3 * PAGE);
	leaves[3] = (base + 10 * PAGE) | 0x67;
	struct iommu_hwpt_vtd_s1_invalidate range = {.addr = 3 * PAGE, .npages = 1};
	struct iommu_hwpt_invalidate invalidate = {
		.size = sizeof invalidate,
		.hwpt_id = child,
		.data_uptr = (uintptr_t)&range,
		.data_type = IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
		.entry_len = sizeof range,
		.entry_num = 1,
	};
	check("invalidate that page", ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &invalidate));
	ask("PASID 11, the hole filled", READ, 11, 3 * PAGE);
	leaves[0] = (base + 10 * PAGE) | 0x67;
	ask("PASID 11, an entry changed", READ, 11, 0);
	range.addr = 0;
	invalidate.entry_num = 1;
	check("invalidate that page", ioctl(iommufd, IOMMU_HWPT_INVALIDATE, &invalidate));
	ask("PASID 11, the change invalidated", READ, 11, 0);
	detach("detach PASID 11", 11);
	ask("PASID 11, detached", READ, 11, 0);
}

// Without scalable mode there are no PASIDs.
static void legacy(void)
{
	const uint64_t page = 0x10000000, read_only = page + PAGE, hole = 0x20000000;
	max_pasid_width();
	ask("no PASID, nothing attached", READ, NO_PASID, page);
	const uint32_t space = address_space();
	char *start = memory(2 * PAGE, "hello-from-guest");
	map(space, page, start, PAGE, 1);
	map(space, read_only, start + PAGE, PAGE, 0);
	page_tables("tables for PASIDs",
		    (struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID, .pt_id = space});
	attach("attach the function", NO_PASID, page_tables("tables", (struct iommu_hwpt_alloc){.pt_id = space}));
	ask("no PASID", READ, NO_PASID, page);
	ask("no PASID, a write", WRITE, NO_PASID, page);
	say("the guest finds there", "\"%s\"", start);
	ask("no PASID, read-only page, a write", WRITE, NO_PASID, read_only);
	ask("no PASID, unmapped", READ, NO_PASID, hole);
	ask("PASID 5", READ, 5, page);
	ask("PASID 5, sent all the same", READ | FORCE, 5, page);
	unmap(space, page, PAGE);
	ask("no PASID, page unmapped", READ, NO_PASID, page);
}

// The other side sends more requests while this one is on its way: Linux says what becomes of them.
static void faults(void)
{
	const uint64_t page = 0x10000000;
	const uint32_t space = address_space();
	char *start = memory(2 * PAGE, "hello-from-guest");
	map(space, page, start, PAGE, 1);
	map(space, page + PAGE, start + PAGE, PAGE, 0);
	const uint32_t tables =
		page_tables("tables", (struct iommu_hwpt_alloc){.flags = IOMMU_HWPT_ALLOC_PASID, .pt_id = space});
	attach("attach the function", NO_PASID, tables);
	attach("attach PASID 5", 5, tables);
	ask("PASID 5", READ, 5, page);
}

// A kernel without iommufd: what it does by itself.
static void probe(void)
{
	open_by_sysfs();
	ask("no PASID", READ, NO_PASID, 0x10000000);
	ask("PASID 5", READ, 5, 0x10000000);
	ask("PASID 0x1234", READ, 0x1234, 0x10000000);
}

// What the driver said of the unit, and of faults.
static void show_log(void)
{
	static char log[1 << 20];
	// The interrupt of the last fault may still be on its way: wait until nothing more comes.
	int length = -1, before = -2;
	for (int tries = 0; tries < 20 && length != before; tries++) {
		before = length;
		usleep(250000);
		length = klogctl(3, log, sizeof log - 1);
	}
	log[length < 0 ? 0 : length] = 0;
	for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
		char *text = strstr(line, "DMAR");
		if (text)
			say("kernel", "%s", text);
	}
}

int main(void)
{
	static const struct {
		const char *name;
		void (*play)(void);
		int vfio;
	} modes[] = {
		{"base", base, 1},     {"ats", ats, 1},	      {"nested", nested, 1},
		{"legacy", legacy, 1}, {"faults", faults, 1}, {"probe", probe, 0},
	};
	struct utsname system;
	const char *mode = getenv("VPCI_MODE");
	setvbuf(stdout, NULL, _IONBF, 0);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sys", "/sys", "sysfs", 0, NULL);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	uname(&system);
	say("Linux", "%s", system.release);
	show_pasid_control();
	for (unsigned i = 0; i < COUNT(modes); i++) {
		if (!mode || strcmp(modes[i].name, mode) != 0)
			continue;
		if (modes[i].vfio)
			open_by_vfio();
		modes[i].play();
		show_log();
		say("end", "of %s", mode);
	}
	finish();
}
