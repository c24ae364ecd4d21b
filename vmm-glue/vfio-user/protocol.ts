/**
 * The numbers of the vfio-user protocol, versions 0.0 and 0.1, with the names that its specification and
 * `linux/vfio.h` give them. All fields are little-endian.
 *
 * @module
 */

export const VFIO_USER_VERSION = 1;
export const VFIO_USER_DMA_MAP = 2;
export const VFIO_USER_DMA_UNMAP = 3;
export const VFIO_USER_DEVICE_GET_INFO = 4;
export const VFIO_USER_DEVICE_GET_REGION_INFO = 5;
export const VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6;
export const VFIO_USER_DEVICE_GET_IRQ_INFO = 7;
export const VFIO_USER_DEVICE_SET_IRQS = 8;
export const VFIO_USER_REGION_READ = 9;
export const VFIO_USER_REGION_WRITE = 10;
/** Server to client, as is the next one. */
export const VFIO_USER_DMA_READ = 11;
export const VFIO_USER_DMA_WRITE = 12;
export const VFIO_USER_DEVICE_RESET = 13;
export const VFIO_USER_REGION_WRITE_MULTI = 15;
export const VFIO_USER_DEVICE_FEATURE = 16;
export const VFIO_USER_MIG_DATA_READ = 17;
export const VFIO_USER_MIG_DATA_WRITE = 18;

const COMMAND_NAMES: ReadonlyMap<number, string> = new Map([
  [VFIO_USER_VERSION, 'VERSION'],
  [VFIO_USER_DMA_MAP, 'DMA_MAP'],
  [VFIO_USER_DMA_UNMAP, 'DMA_UNMAP'],
  [VFIO_USER_DEVICE_GET_INFO, 'DEVICE_GET_INFO'],
  [VFIO_USER_DEVICE_GET_REGION_INFO, 'DEVICE_GET_REGION_INFO'],
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS, 'DEVICE_GET_REGION_IO_FDS'],
  [VFIO_USER_DEVICE_GET_IRQ_INFO, 'DEVICE_GET_IRQ_INFO'],
  [VFIO_USER_DEVICE_SET_IRQS, 'DEVICE_SET_IRQS'],
  [VFIO_USER_REGION_READ, 'REGION_READ'],
  [VFIO_USER_REGION_WRITE, 'REGION_WRITE'],
  [VFIO_USER_DMA_READ, 'DMA_READ'],
  [VFIO_USER_DMA_WRITE, 'DMA_WRITE'],
  [VFIO_USER_DEVICE_RESET, 'DEVICE_RESET'],
  [VFIO_USER_REGION_WRITE_MULTI, 'REGION_WRITE_MULTI'],
  [VFIO_USER_DEVICE_FEATURE, 'DEVICE_FEATURE'],
  [VFIO_USER_MIG_DATA_READ, 'MIG_DATA_READ'],
  [VFIO_USER_MIG_DATA_WRITE, 'MIG_DATA_WRITE'],
]);

/** The name of a command, or its number. */
export function commandName(command: number): string {
  return COMMAND_NAMES.get(command) ?? `command ${command}`;
}

/** The header of every message: id (2), command (2), size of the whole message (4), flags (4), error (4). */
export const HEADER_SIZE = 16;
export const HEADER_COMMAND = 2;
export const HEADER_MESSAGE_SIZE = 4;
export const HEADER_FLAGS = 8;
export const HEADER_ERROR = 12;

export const FLAGS_TYPE = 0xf;
export const FLAGS_TYPE_COMMAND = 0;
export const FLAGS_TYPE_REPLY = 1;
export const FLAGS_NO_REPLY = 0x10;
export const FLAGS_ERROR = 0x20;

/** Bytes of the fixed parts of message bodies. */
export const VERSION_SIZE = 4;
export const DMA_MAP_SIZE = 32;
export const DMA_UNMAP_SIZE = 24;
export const DEVICE_INFO_SIZE = 16;
export const REGION_INFO_SIZE = 32;
export const REGION_IO_FDS_SIZE = 16;
export const IRQ_INFO_SIZE = 16;
export const IRQ_SET_SIZE = 20;
export const REGION_ACCESS_SIZE = 16;
export const DMA_ACCESS_SIZE = 16;
export const WRITE_MULTI_SIZE = 8;
export const WRITE_MULTI_ENTRY_SIZE = 24;
/** Most bytes that one entry of REGION_WRITE_MULTI writes. */
export const WRITE_MULTI_DATA = 8;

export const DMA_FLAG_READ = 0x1;
export const DMA_FLAG_WRITE = 0x2;

/** DMA_UNMAP of everything; address and size are 0. */
export const VFIO_DMA_UNMAP_FLAG_ALL = 0x2;

export const VFIO_DEVICE_FLAGS_RESET = 0x1;
export const VFIO_DEVICE_FLAGS_PCI = 0x2;

export const VFIO_REGION_INFO_FLAG_READ = 0x1;
export const VFIO_REGION_INFO_FLAG_WRITE = 0x2;

/** Region indices: BARs are 0..5, the expansion ROM is 6. */
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_NUM_REGIONS = 9;

/** Interrupt indices; 3 is for errors, 4 asks the client to give the device back. */
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_NUM_IRQS = 5;

export const VFIO_IRQ_INFO_EVENTFD = 0x1;
export const VFIO_IRQ_INFO_MASKABLE = 0x2;
export const VFIO_IRQ_INFO_AUTOMASKED = 0x4;
export const VFIO_IRQ_INFO_NORESIZE = 0x8;

export const VFIO_IRQ_SET_DATA_NONE = 0x1;
export const VFIO_IRQ_SET_DATA_BOOL = 0x2;
export const VFIO_IRQ_SET_DATA_EVENTFD = 0x4;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 0x7;
export const VFIO_IRQ_SET_ACTION_MASK = 0x8;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 0x20;
/** These two, and unmask (0x10). */
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;

/** Least `max_data_xfer_size` that a client may say: a page, so that DMA does not go byte by byte. */
export const MIN_DATA_TRANSFER = 0x1000;
/** What we offer in VERSION. The defaults of the specification where it has one. */
export const MAX_DATA_TRANSFER = 0x100000;
export const MAX_DMA_MAPS = 0xffff;
/** Descriptors that one message may carry; QEMU refuses a server that says more. */
export const MAX_DESCRIPTORS = 16;
/** A message is no longer than this, or the connection is closed: nothing that follows could be trusted. */
export const MAX_MESSAGE_SIZE: number = HEADER_SIZE + REGION_ACCESS_SIZE + MAX_DATA_TRANSFER;
