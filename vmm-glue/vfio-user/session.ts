import { ERRNO, errnoName, type Native } from '../linux/index.ts';
import { ArrivedDescriptors, type MessageDescriptors } from './arrived-descriptors.ts';
import { ConfigRegion, DescriptorlessConfigRegion } from './config-region.ts';
import type { ClientLink, VfioUserDevice } from './device.ts';
import { DmaMappings } from './dma-mappings.ts';
import { DmaRequests } from './dma-requests.ts';
import type { GuestFile } from './guest-file.ts';
import { interruptCounts, Interrupts } from './interrupts.ts';
import * as vfio from './protocol.ts';
import { type Region, regionsOf } from './regions.ts';
import { ReplyWriter } from './reply-writer.ts';
import { type CommandContext, runCommand } from './session-commands.ts';
import { DEFAULT_CAPABILITIES, parseCapabilities, serverCapabilities } from './version.ts';
import type { WireBuffer } from './wire-buffer.ts';

/** What a session needs of its transport. */
export interface SessionHost {
  /** The native layer where descriptors travel; undefined: this transport loses them. */
  readonly native: Native | undefined;
  /** The file of the guest's memory that the user named. */
  readonly memoryFile: GuestFile | undefined;
  /** There is output that no {@link Session.process} is about to return from: send it. */
  wake(): void;
}

/** Bytes that the reply of any message but a read has at most. */
const SMALL_REPLY = 512;
/** The protocol that we speak: minor versions up to this one. */
const MINOR_VERSION = 1;
const REPLY_BODY = vfio.HEADER_SIZE + vfio.REGION_ACCESS_SIZE;

/** Messages that came at once are left for later after this many milliseconds. */
const BUDGET_MS = 20;
/** How many messages are answered between two looks at the clock. */
const CLOCK_INTERVAL = 16;

/**
 * One client's connection to a device: takes messages apart, answers them, and says when the connection must end. It
 * does no input or output: a transport fills {@link Session.input}, calls {@link Session.process}, and sends what is
 * in {@link Session.output}.
 *
 * Every byte of a client is hostile: whatever comes is answered or ends the connection, in bounded time and memory.
 */
export class Session implements ClientLink {
  readonly input: WireBuffer;
  readonly output: ReplyWriter;
  /** Why the connection ends once the output is sent; undefined while it goes on. */
  ending: string | undefined;
  /** True when a DMA request was settled: who waits for it hears of it only when the event loop turns. */
  settled = false;
  /** True when {@link Session.process} left messages for later, so that others have their turn. */
  overdue = false;
  readonly #device: VfioUserDevice;
  readonly #host: SessionHost;
  readonly #regions: readonly Region[];
  readonly #interrupts: Interrupts;
  readonly #mappings: DmaMappings;
  readonly #requests: DmaRequests;
  readonly #context: CommandContext;
  readonly #closeAll: (descriptors: readonly number[]) => void;
  readonly #arrived: ArrivedDescriptors;
  /** Stream position of the first byte of the input. */
  #position = 0;
  #processing = false;
  #negotiated = false;
  #maxDataTransfer = DEFAULT_CAPABILITIES.maxDataTransfer;

  /** @throws VpciError `VPCI_SOCKET` when the device has a client. */
  constructor(device: VfioUserDevice, input: WireBuffer, output: WireBuffer, host: SessionHost) {
    this.input = input;
    this.output = new ReplyWriter(output);
    this.#device = device;
    this.#host = host;
    const { function: fn, memory } = device;
    this.#closeAll = (list) => {
      for (const descriptor of list) host.native?.close(descriptor);
    };
    this.#arrived = new ArrivedDescriptors(this.#closeAll);
    const descriptors = host.native !== undefined;
    const config = descriptors ? new ConfigRegion(fn) : new DescriptorlessConfigRegion(fn);
    this.#regions = regionsOf(fn, config, (error) => device.announce('handler-error', error));
    this.#interrupts = new Interrupts(interruptCounts(fn, descriptors), host.native, (masked) => {
      if (device.isHeard('intx-mask')) device.announce('intx-mask', { masked });
    });
    this.#mappings = new DmaMappings(memory, host.native, host.memoryFile, (address, bytes) => {
      void this.writeByMessage(BigInt(address), bytes);
    });
    this.#requests = new DmaRequests(this.output, (why) => this.#report(why, false));
    this.#context = {
      device,
      regions: this.#regions,
      interrupts: this.#interrupts,
      mappings: this.#mappings,
      output: this.output,
      closeAll: this.#closeAll,
    };
    device.attachClient(this);
  }

  /** Takes over descriptors that came with the read that ended at byte `end` of the input. */
  receiveDescriptors(end: number, list: readonly number[], truncated: boolean): void {
    this.#arrived.add(this.#position + end, list, truncated);
  }

  /**
   * Works through the messages in the first `end` bytes of the input; returns the bytes it is done with, and the
   * transport moves the rest to the front. It stops early when the output is full: send, and call it again; and when
   * it took its time: then it is {@link Session.overdue}.
   */
  process(end: number): number {
    const { view } = this.input;
    let at = 0;
    let until = 0;
    this.#processing = true;
    this.overdue = false;
    for (let turns = 1; end - at >= vfio.HEADER_SIZE && this.ending === undefined; turns++) {
      const size = view.getUint32(at + vfio.HEADER_MESSAGE_SIZE, true);
      if (size < vfio.HEADER_SIZE || size > vfio.MAX_MESSAGE_SIZE) {
        this.#refuse(view, at, ERRNO.EINVAL, `a message of ${size} bytes`, true);
        break;
      }
      if (size > end - at) break;
      const command = view.getUint16(at + vfio.HEADER_COMMAND, true);
      if (
        command === vfio.VFIO_USER_REGION_READ &&
        size === REPLY_BODY &&
        !this.#arrived.has(this.#position + at + size)
      ) {
        if (!this.#regionRead(view, at)) break;
      } else {
        if (this.output.room < SMALL_REPLY) break;
        this.#message(view, at, size, command);
      }
      at += size;
      if (turns % CLOCK_INTERVAL !== 0) continue;
      const now = performance.now();
      if (until === 0) until = now + BUDGET_MS;
      this.overdue = now > until;
      if (this.overdue) break;
    }
    this.#position += at;
    this.#processing = false;
    this.#requests.pump();
    return at;
  }

  /** Puts waiting requests of the device into the output, now that there may be room. */
  pump(): void {
    this.#requests.pump();
  }

  /** The connection is over. Memory and interrupts of the client go; the device stays as it is. */
  close(reason: string): void {
    // Whoever closes it from a listener stands in the middle of a message: none comes after it.
    this.ending = reason;
    this.#device.detachClient();
    this.#arrived.clear();
    this.#interrupts.clear();
    this.#mappings.clear();
    this.#requests.abandon();
    if (this.#negotiated) this.#device.announce('disconnect', { reason });
  }

  signal(index: number, vector: number): boolean {
    return this.#interrupts.trigger(index, vector);
  }

  setIntx(asserted: boolean): void {
    this.#interrupts.setIntx(asserted);
  }

  readShared(address: number, bytes: Uint8Array): boolean {
    return this.#mappings.read(address, bytes);
  }

  writeShared(address: number, bytes: Uint8Array): boolean {
    return this.#mappings.write(address, bytes);
  }

  readByMessage(address: bigint, bytes: Uint8Array): Promise<boolean> {
    const answer = this.#requests.read(address, bytes, this.#maxDataTransfer);
    this.#sendRequests();
    return answer;
  }

  writeByMessage(address: bigint, bytes: Uint8Array): Promise<boolean> {
    const answer = this.#requests.write(address, bytes, this.#maxDataTransfer);
    this.#sendRequests();
    return answer;
  }

  #sendRequests(): void {
    // While messages are processed it waits: what a posted write set off must not go away with its reply.
    if (!this.#processing && this.#requests.pump()) this.#host.wake();
  }

  /** The message that a guest's access becomes: nothing here allocates. False when the reply does not fit now. */
  #regionRead(view: DataView<ArrayBuffer>, at: number): boolean {
    const flags = view.getUint32(at + vfio.HEADER_FLAGS, true);
    const index = view.getUint32(at + 24, true);
    const count = view.getUint32(at + 28, true);
    const low = view.getUint32(at + 16, true);
    const high = view.getUint32(at + 20, true);
    const region = this.#regions[index];
    const offset = high === 0 ? low : high * 2 ** 32 + low;
    if (
      flags !== vfio.FLAGS_TYPE_COMMAND ||
      !this.#negotiated ||
      region === undefined ||
      count > vfio.MAX_DATA_TRANSFER ||
      offset + count > region.size
    ) {
      if (this.output.room < SMALL_REPLY) return false;
      this.#message(view, at, REPLY_BODY, vfio.VFIO_USER_REGION_READ);
      return true;
    }
    const size = REPLY_BODY + count;
    const { output } = this;
    if (output.room < size) return false;
    const body = output.begin(view, at, size);
    const { view: out } = output.buffer;
    out.setUint32(body, low, true);
    out.setUint32(body + 4, high, true);
    out.setUint32(body + 8, index, true);
    out.setUint32(body + 12, count, true);
    const data = body + vfio.REGION_ACCESS_SIZE;
    let value = 0;
    if (count === 4) {
      value = region.read(offset, 4);
      out.setUint32(data, value, true);
    } else if (count === 2) {
      value = region.read(offset, 2);
      out.setUint16(data, value, true);
    } else if (count === 1) {
      value = region.read(offset, 1);
      out.setUint8(data, value);
    } else {
      region.readInto(offset, output.buffer.bytes.subarray(data, data + count));
    }
    if (this.#device.isHeard('access')) this.#announceAccess(index, false, offset, count, value);
    return true;
  }

  #message(view: DataView<ArrayBuffer>, at: number, size: number, command: number): void {
    const { list: descriptors, tooMany } = this.#descriptorsOf(at + size);
    const flags = view.getUint32(at + vfio.HEADER_FLAGS, true);
    const type = flags & vfio.FLAGS_TYPE;
    if (type === vfio.FLAGS_TYPE_REPLY) {
      this.#closeAll(descriptors);
      if (!this.#requests.settle(view, at, size)) {
        this.#report(`a reply to ${vfio.commandName(command)} that nobody asked for`, false);
      }
      this.settled = true;
      this.#requests.pump();
      return;
    }
    const { output } = this;
    const before = output.length;
    const message = { view, at, size, descriptors };
    let errno: number;
    if (type !== vfio.FLAGS_TYPE_COMMAND || tooMany) {
      this.#closeAll(descriptors);
      errno = ERRNO.EINVAL;
    } else if (command === vfio.VFIO_USER_VERSION) {
      this.#closeAll(descriptors);
      errno = descriptors.length > 0 ? ERRNO.EINVAL : this.#version(view, at, size);
    } else if (!this.#negotiated) {
      this.#closeAll(descriptors);
      errno = ERRNO.EINVAL;
    } else if (command === vfio.VFIO_USER_REGION_WRITE && descriptors.length === 0) {
      errno = this.#regionWrite(view, at, size);
    } else if (command === vfio.VFIO_USER_REGION_WRITE_MULTI && descriptors.length === 0) {
      errno = this.#regionWriteMulti(view, at, size);
    } else if (command === vfio.VFIO_USER_REGION_READ && descriptors.length === 0) {
      // Whatever is right was answered without coming here.
      errno = ERRNO.EINVAL;
    } else {
      errno = runCommand(this.#context, command, message);
    }
    if (errno !== 0) {
      const what = `${vfio.commandName(command)} of ${size} bytes`;
      // A client that does not begin with VERSION speaks something else.
      this.#refuse(view, at, errno, this.#negotiated ? what : `${what} before VERSION`, !this.#negotiated);
    }
    // What the client wants no answer to it gets none; not even that it was wrong.
    if ((flags & vfio.FLAGS_NO_REPLY) !== 0) output.length = before;
  }

  #descriptorsOf(end: number): MessageDescriptors {
    return this.#arrived.take(this.#position + end);
  }

  #version(view: DataView<ArrayBuffer>, at: number, size: number): number {
    const body = at + vfio.HEADER_SIZE;
    if (this.#negotiated || size < vfio.HEADER_SIZE + vfio.VERSION_SIZE) return ERRNO.EINVAL;
    const major = view.getUint16(body, true);
    const minor = Math.min(view.getUint16(body + 2, true), MINOR_VERSION);
    const json = new Uint8Array(
      view.buffer,
      view.byteOffset + body + vfio.VERSION_SIZE,
      size - vfio.HEADER_SIZE - vfio.VERSION_SIZE,
    );
    const capabilities = parseCapabilities(json);
    if (major !== 0 || capabilities === undefined) return ERRNO.EINVAL;
    const own = serverCapabilities(this.#host.native === undefined ? 0 : vfio.MAX_DESCRIPTORS);
    const reply = this.output.begin(view, at, vfio.HEADER_SIZE + vfio.VERSION_SIZE + own.length);
    const { view: out, bytes } = this.output.buffer;
    out.setUint16(reply, major, true);
    out.setUint16(reply + 2, minor, true);
    bytes.set(own, reply + vfio.VERSION_SIZE);
    this.#negotiated = true;
    this.#maxDataTransfer = capabilities.maxDataTransfer;
    if (this.#device.isHeard('connect')) this.#device.announce('connect', { version: `${major}.${minor}` });
    return 0;
  }

  #regionWrite(view: DataView<ArrayBuffer>, at: number, size: number): number {
    if (size < REPLY_BODY) return ERRNO.EINVAL;
    const count = view.getUint32(at + 28, true);
    if (count !== size - REPLY_BODY) return ERRNO.EINVAL;
    if (!this.#write(view, at + vfio.HEADER_SIZE, at + REPLY_BODY, count)) return ERRNO.EINVAL;
    const body = this.output.begin(view, at, REPLY_BODY);
    const { view: out } = this.output.buffer;
    for (let i = 0; i < vfio.REGION_ACCESS_SIZE; i += 4) {
      out.setUint32(body + i, view.getUint32(at + vfio.HEADER_SIZE + i, true), true);
    }
    return 0;
  }

  #regionWriteMulti(view: DataView<ArrayBuffer>, at: number, size: number): number {
    const fixed = vfio.HEADER_SIZE + vfio.WRITE_MULTI_SIZE;
    if (size < fixed || view.getUint32(at + vfio.HEADER_SIZE + 4, true) !== 0) return ERRNO.EINVAL;
    const writes = view.getUint32(at + vfio.HEADER_SIZE, true);
    if (size !== fixed + writes * vfio.WRITE_MULTI_ENTRY_SIZE) return ERRNO.EINVAL;
    let done = 0;
    for (; done < writes; done++) {
      const entry = at + fixed + done * vfio.WRITE_MULTI_ENTRY_SIZE;
      const count = view.getUint32(entry + 12, true);
      const fits = count <= vfio.WRITE_MULTI_DATA;
      if (!fits || !this.#write(view, entry, entry + vfio.REGION_ACCESS_SIZE, count)) break;
    }
    if (done < writes) return ERRNO.EINVAL;
    const body = this.output.begin(view, at, fixed);
    this.output.buffer.view.setUint32(body, done, true);
    this.output.buffer.view.setUint32(body + 4, 0, true);
    return 0;
  }

  /** Writes `count` bytes at `data` to where the 16 bytes at `target` say; false when there is no such place. */
  #write(view: DataView<ArrayBuffer>, target: number, data: number, count: number): boolean {
    const offset = view.getUint32(target + 4, true) * 2 ** 32 + view.getUint32(target, true);
    const index = view.getUint32(target + 8, true);
    const region = this.#regions[index];
    if (region === undefined || count > vfio.MAX_DATA_TRANSFER || offset + count > region.size) return false;
    let value = 0;
    if (count === 4) value = view.getUint32(data, true);
    else if (count === 2) value = view.getUint16(data, true);
    else if (count === 1) value = view.getUint8(data);
    // Told before it happens: what the write sets off comes after it in a log.
    if (this.#device.isHeard('access')) this.#announceAccess(index, true, offset, count, value);
    if (count === 4 || count === 2 || count === 1) region.write(offset, count, value);
    else region.writeFrom(offset, new Uint8Array(view.buffer, view.byteOffset + data, count));
    return true;
  }

  #announceAccess(region: number, write: boolean, offset: number, size: number, value: number): void {
    const known = size === 1 || size === 2 || size === 4;
    this.#device.announce('access', { region, write, offset, size, value: known ? value : undefined });
  }

  #refuse(view: DataView, at: number, errno: number, what: string, fatal: boolean): void {
    this.output.fail(view, at, errno);
    this.#report(`${what}: ${errnoName(errno)}`, fatal);
  }

  #report(message: string, fatal: boolean): void {
    if (fatal) this.ending = message;
    if (this.#device.isHeard('protocol-error')) this.#device.announce('protocol-error', { message, fatal });
  }
}
