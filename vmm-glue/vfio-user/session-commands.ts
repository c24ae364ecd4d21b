import { ERRNO } from '../linux/index.ts';
import type { DmaMapEvent, VfioUserDevice } from './device.ts';
import type { DmaMappings } from './dma-mappings.ts';
import type { DmaRegion } from './dma-table.ts';
import type { Interrupts } from './interrupts.ts';
import * as vfio from './protocol.ts';
import type { Region } from './regions.ts';
import type { ReplyWriter } from './reply-writer.ts';

/** What the commands of a client work on. */
export interface CommandContext {
  readonly device: VfioUserDevice;
  readonly regions: readonly Region[];
  readonly interrupts: Interrupts;
  readonly mappings: DmaMappings;
  readonly output: ReplyWriter;
  /** Closes descriptors that nobody keeps. */
  readonly closeAll: (descriptors: readonly number[]) => void;
}

/** A complete message: `size` bytes at `at` of `view`, and what came with it. */
export interface Message {
  readonly view: DataView<ArrayBuffer>;
  readonly at: number;
  readonly size: number;
  readonly descriptors: readonly number[];
}

const EVENTFD_TRIGGER = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER;

type Handler = (context: CommandContext, message: Message) => number;

/** The commands that are rare enough to be looked up. Each writes its reply and returns 0, or returns an errno. */
const HANDLERS: ReadonlyMap<number, Handler> = new Map([
  [vfio.VFIO_USER_DMA_MAP, dmaMap],
  [vfio.VFIO_USER_DMA_UNMAP, dmaUnmap],
  [vfio.VFIO_USER_DEVICE_GET_INFO, deviceGetInfo],
  [vfio.VFIO_USER_DEVICE_GET_REGION_INFO, deviceGetRegionInfo],
  [vfio.VFIO_USER_DEVICE_GET_REGION_IO_FDS, deviceGetRegionIoFds],
  [vfio.VFIO_USER_DEVICE_GET_IRQ_INFO, deviceGetIrqInfo],
  [vfio.VFIO_USER_DEVICE_SET_IRQS, deviceSetIrqs],
  [vfio.VFIO_USER_DEVICE_RESET, deviceReset],
  [vfio.VFIO_USER_DEVICE_FEATURE, deviceFeature],
]);

/** Commands that descriptors may come with. */
const WITH_DESCRIPTORS: ReadonlySet<number> = new Set([
  vfio.VFIO_USER_DMA_MAP,
  vfio.VFIO_USER_DEVICE_SET_IRQS,
]);

/** Carries out `command`; takes the descriptors over. Returns 0 with the reply written, or an errno without. */
export function runCommand(context: CommandContext, command: number, message: Message): number {
  const handler = HANDLERS.get(command);
  if (handler !== undefined && (message.descriptors.length === 0 || WITH_DESCRIPTORS.has(command))) {
    return handler(context, message);
  }
  context.closeAll(message.descriptors);
  return handler === undefined ? ERRNO.ENOTSUP : ERRNO.EINVAL;
}

function dmaMap({ mappings, output, device, closeAll }: CommandContext, message: Message): number {
  const { view, at, size, descriptors } = message;
  const body = at + vfio.HEADER_SIZE;
  if (size !== vfio.HEADER_SIZE + vfio.DMA_MAP_SIZE || view.getUint32(body, true) < vfio.DMA_MAP_SIZE) {
    closeAll(descriptors);
    return ERRNO.EINVAL;
  }
  const request = {
    flags: view.getUint32(body + 4, true),
    offset: view.getBigUint64(body + 8, true),
    address: view.getBigUint64(body + 16, true),
    size: view.getBigUint64(body + 24, true),
  };
  const errno = mappings.map(request, descriptors);
  if (errno !== 0) return errno;
  output.begin(view, at, vfio.HEADER_SIZE);
  const region = device.isHeard('dma-map') ? mappings.find(request.address) : undefined;
  if (region !== undefined) {
    const [by, parts] = [mappings.reach(region), mappings.parts(region)];
    device.announce('dma-map', { mapped: true, address: request.address, size: request.size, by, parts });
  }
  return 0;
}

function dmaUnmap({ mappings, output, device }: CommandContext, { view, at, size }: Message): number {
  const body = at + vfio.HEADER_SIZE;
  if (size !== vfio.HEADER_SIZE + vfio.DMA_UNMAP_SIZE) return ERRNO.EINVAL;
  const flags = view.getUint32(body + 4, true);
  const address = view.getBigUint64(body + 8, true);
  const length = view.getBigUint64(body + 16, true);
  const all = flags === vfio.VFIO_DMA_UNMAP_FLAG_ALL;
  if (all ? address !== 0n || length !== 0n : flags !== 0) return ERRNO.EINVAL;
  const events: DmaMapEvent[] = [];
  const isHeard = device.isHeard('dma-map');
  const tell = (region: DmaRegion): void => {
    if (!isHeard) return;
    const range = { address: BigInt(region.address), size: BigInt(region.size) };
    events.push({ mapped: false, ...range, by: mappings.reach(region), parts: [] });
  };
  if (!mappings.unmap(address, all ? 2n ** 64n : length, tell)) return ERRNO.EINVAL;
  const reply = output.begin(view, at, vfio.HEADER_SIZE + vfio.DMA_UNMAP_SIZE);
  const { view: out } = output.buffer;
  out.setUint32(reply, vfio.DMA_UNMAP_SIZE, true);
  out.setUint32(reply + 4, flags, true);
  out.setBigUint64(reply + 8, address, true);
  out.setBigUint64(reply + 16, length, true);
  for (const event of events) device.announce('dma-map', event);
  return 0;
}

function deviceGetInfo({ output }: CommandContext, message: Message): number {
  if (!hasInfoBody(message, vfio.DEVICE_INFO_SIZE)) return ERRNO.EINVAL;
  return replyWords(output, message, [
    vfio.DEVICE_INFO_SIZE,
    vfio.VFIO_DEVICE_FLAGS_RESET | vfio.VFIO_DEVICE_FLAGS_PCI,
    vfio.VFIO_PCI_NUM_REGIONS,
    vfio.VFIO_PCI_NUM_IRQS,
  ]);
}

function deviceGetRegionInfo({ regions, output }: CommandContext, message: Message): number {
  if (!hasInfoBody(message, vfio.REGION_INFO_SIZE)) return ERRNO.EINVAL;
  const index = message.view.getUint32(message.at + vfio.HEADER_SIZE + 8, true);
  const region = regions[index];
  if (region === undefined) return ERRNO.EINVAL;
  const flags = region.size === 0 ? 0 : vfio.VFIO_REGION_INFO_FLAG_READ | vfio.VFIO_REGION_INFO_FLAG_WRITE;
  const high = Math.floor(region.size / 2 ** 32);
  // No capabilities, and no offset: nothing can be mapped.
  return replyWords(output, message, [vfio.REGION_INFO_SIZE, flags, index, 0, region.size, high, 0, 0]);
}

function deviceGetRegionIoFds({ regions, output }: CommandContext, message: Message): number {
  if (!hasInfoBody(message, vfio.REGION_IO_FDS_SIZE)) return ERRNO.EINVAL;
  const body = message.at + vfio.HEADER_SIZE;
  const index = message.view.getUint32(body + 8, true);
  if (regions[index] === undefined || message.view.getUint32(body + 4, true) !== 0) return ERRNO.EINVAL;
  return replyWords(output, message, [vfio.REGION_IO_FDS_SIZE, 0, index, 0]);
}

function deviceGetIrqInfo({ interrupts, output }: CommandContext, message: Message): number {
  if (!hasInfoBody(message, vfio.IRQ_INFO_SIZE)) return ERRNO.EINVAL;
  const index = message.view.getUint32(message.at + vfio.HEADER_SIZE + 8, true);
  const count = interrupts.counts[index];
  if (count === undefined) return ERRNO.EINVAL;
  return replyWords(output, message, [vfio.IRQ_INFO_SIZE, interrupts.flags(index), index, count]);
}

function deviceSetIrqs({ interrupts, output, device, closeAll }: CommandContext, message: Message): number {
  const { view, at, size, descriptors } = message;
  const body = at + vfio.HEADER_SIZE;
  const fixed = vfio.HEADER_SIZE + vfio.IRQ_SET_SIZE;
  const errno =
    size < fixed || view.getUint32(body, true) < vfio.IRQ_SET_SIZE
      ? ERRNO.EINVAL
      : interrupts.set({
          flags: view.getUint32(body + 4, true),
          index: view.getUint32(body + 8, true),
          start: view.getUint32(body + 12, true),
          count: view.getUint32(body + 16, true),
          bools: new Uint8Array(view.buffer, view.byteOffset + at + fixed, Math.max(0, size - fixed)),
          descriptors,
        });
  if (errno !== 0) {
    closeAll(descriptors);
    return errno;
  }
  output.begin(view, at, vfio.HEADER_SIZE);
  if (assigns(view, body) && device.isHeard('interrupts')) {
    const index = view.getUint32(body + 8, true);
    const { vectors, eventfds } = interrupts.enabled(index);
    device.announce('interrupts', { index, enabled: vectors.length, vectors, eventfds });
  }
  return 0;
}

/** True when a DEVICE_SET_IRQS that was carried out gave eventfds or took them: it neither masked nor signalled. */
function assigns(view: DataView, body: number): boolean {
  const flags = view.getUint32(body + 4, true);
  return flags === EVENTFD_TRIGGER || view.getUint32(body + 16, true) === 0;
}

function deviceReset({ device, output }: CommandContext, { view, at, size }: Message): number {
  if (size !== vfio.HEADER_SIZE) return ERRNO.EINVAL;
  device.function.reset('flr');
  output.begin(view, at, vfio.HEADER_SIZE);
  return 0;
}

/** Only migration has features in this protocol, and we do not migrate: none is known, as VFIO says it. */
function deviceFeature(_context: CommandContext, { size }: Message): number {
  return size < vfio.HEADER_SIZE + 8 ? ERRNO.EINVAL : ERRNO.ENOTTY;
}

/** True when the message has the fixed body of `size` bytes, and room for as much in its reply (argsz). */
function hasInfoBody({ view, at, size: whole }: Message, size: number): boolean {
  return whole >= vfio.HEADER_SIZE + size && view.getUint32(at + vfio.HEADER_SIZE, true) >= size;
}

function replyWords(output: ReplyWriter, { view, at }: Message, words: readonly number[]): number {
  const body = output.begin(view, at, vfio.HEADER_SIZE + 4 * words.length);
  for (const [i, word] of words.entries()) output.buffer.view.setUint32(body + 4 * i, word, true);
  return 0;
}
