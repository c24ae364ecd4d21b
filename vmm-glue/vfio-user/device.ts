import { type IntxEvent, type MsiEvent, type PciFunction, TypedEmitter, VpciError } from '../../src/index.ts';
import { GuestMemory } from '../../src/memory/index.ts';
import { VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX } from './protocol.ts';

/** A client connected, and said who it is. */
export interface ConnectEvent {
  /** The protocol that both speak, such as `0.1`. */
  readonly version: string;
}

/** The client is gone. Its memory and interrupts are, too; the function's registers stay as they are. */
export interface DisconnectEvent {
  /** Why, in words. */
  readonly reason: string;
}

/** The client accessed a region. Configuration space is region 7, a BAR has its own number. */
export interface AccessEvent {
  readonly region: number;
  readonly write: boolean;
  /** Bytes from the region's start. */
  readonly offset: number;
  /** Bytes; `value` is only there for 1, 2 and 4. */
  readonly size: number;
  /** What was read or written. */
  readonly value: number | undefined;
}

/** The client opened guest memory to the device, or closed it: one event for each range. */
export interface DmaMapEvent {
  readonly mapped: boolean;
  /** First address. */
  readonly address: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** How the memory is reached: mapped here, through a file, or by messages. */
  readonly by: 'mapping' | 'file' | 'messages';
  /** With `mapped`, the parts that are mapped here, in order. */
  readonly parts: readonly DmaPart[];
}

/** Guest memory that is mapped here. */
export interface DmaPart {
  /** First address. */
  readonly address: bigint;
  /** The memory itself until the client closes it, or is gone; zeroes of its own afterwards. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly writable: boolean;
}

/** The client gave eventfds for interrupts, or took them back. */
export interface InterruptsEvent {
  /** 0 INTx, 1 MSI, 2 MSI-X, 3 error, 4 request. */
  readonly index: number;
  /** Vectors that have an eventfd now. */
  readonly enabled: number;
  /** Their numbers, ascending. */
  readonly vectors: readonly number[];
  /** The eventfd of each, which belongs to the session: it is closed before the event that no longer has it. */
  readonly eventfds: readonly number[];
}

/**
 * The client masked INTx, or unmasked it: its end of interrupt. Whoever answers with `setInterrupt(false)` and finds out
 * whether the device still wants to interrupt signals the client only if it does.
 */
export interface IntxMaskEvent {
  readonly masked: boolean;
}

/** The client sent what no client may send; it got an error, and only a `fatal` one ends its connection. */
export interface ProtocolErrorEvent {
  readonly message: string;
  readonly fatal: boolean;
}

/** Events of a {@link VfioUserDevice}. */
export interface DeviceEvents {
  connect: ConnectEvent;
  disconnect: DisconnectEvent;
  access: AccessEvent;
  'dma-map': DmaMapEvent;
  interrupts: InterruptsEvent;
  'intx-mask': IntxMaskEvent;
  'protocol-error': ProtocolErrorEvent;
  /** A BAR's `read` or `write` threw: the guest read all-ones, or its write did nothing. */
  'handler-error': unknown;
}

/** What a device asks of the client that is connected. */
export interface ClientLink {
  /** Signals an eventfd of the client; false when it gave none for that vector. */
  signal(index: number, vector: number): boolean;
  setIntx(asserted: boolean): void;
  /** Fills `bytes` from shared memory; false when some of it is elsewhere. */
  readShared(address: number, bytes: Uint8Array): boolean;
  writeShared(address: number, bytes: Uint8Array): boolean;
  /** Asks the client by messages; false when it refuses, goes away, or has too much to answer already. */
  readByMessage(address: bigint, bytes: Uint8Array): Promise<boolean>;
  writeByMessage(address: bigint, bytes: Uint8Array): Promise<boolean>;
}

/**
 * One function as a vfio-user device: what a server serves on a socket, and the device model's way to the client's
 * memory and interrupts. It outlives its clients, of which there is one at a time.
 */
export class VfioUserDevice extends TypedEmitter<DeviceEvents> {
  readonly function: PciFunction;
  /**
   * The client's memory, for the walkers of a vIOMMU: what is mapped here as regions, what is not as remote pages,
   * for which {@link VfioUserDevice.fetchPage} gets what a walk missed.
   */
  readonly memory: GuestMemory = new GuestMemory();
  #link: ClientLink | undefined;
  #intx = false;
  #served = false;
  readonly #onIntx = ({ asserted }: IntxEvent): void => {
    this.#intx = asserted;
    this.#link?.setIntx(asserted);
  };
  readonly #onMsi = (message: MsiEvent): void => this.#deliver(message);

  constructor(fn: PciFunction) {
    super();
    this.function = fn;
    fn.on('intx', this.#onIntx);
    fn.on('msi', this.#onMsi);
  }

  /** True while a client is connected. */
  get connected(): boolean {
    return this.#link !== undefined;
  }

  /**
   * The device asks for interrupt `vector` by MSI-X or MSI, whichever is enabled. The client's own table counts: a
   * client that took over the vector with an eventfd is signalled, whatever our registers say. False when nobody
   * enabled the vector.
   *
   * @throws VpciError `VPCI_BAD_ARGUMENT` when `vector` is no number of 16 bits.
   */
  interrupt(vector: number): boolean {
    if (!Number.isInteger(vector) || vector < 0 || vector > 0xffff) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        `no interrupt has vector ${vector}: MSI-X has 0 to 2047, MSI 0 to 31`,
      );
    }
    return (
      this.#link?.signal(VFIO_PCI_MSIX_IRQ_INDEX, vector) === true ||
      this.#link?.signal(VFIO_PCI_MSI_IRQ_INDEX, vector) === true ||
      this.function.triggerMessage(vector)
    );
  }

  /**
   * The device reads `length` (0 to 2^30) bytes at `address` (a bus address, or guest-physical without a vIOMMU of the client);
   * undefined when there is no memory, no client, or one that has too much DMA to answer already.
   */
  async read(address: number | bigint, length: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(checkLength(length));
    if (this.readNow(address, bytes)) return bytes;
    return (await this.#link?.readByMessage(BigInt(address), bytes)) === true ? bytes : undefined;
  }

  /** The device writes `bytes` at `address`; false where a read is undefined. */
  async write(address: number | bigint, bytes: Uint8Array): Promise<boolean> {
    if (this.writeNow(address, bytes)) return true;
    return (await this.#link?.writeByMessage(BigInt(address), bytes)) ?? false;
  }

  /** As {@link VfioUserDevice.read} at once; false also where the memory is reached by messages. */
  readNow(address: number | bigint, bytes: Uint8Array): boolean {
    const at = Number(address);
    return Number.isSafeInteger(at + bytes.length) && this.#link?.readShared(at, bytes) === true;
  }

  /** As {@link VfioUserDevice.write} at once; false also where the memory is reached by messages. */
  writeNow(address: number | bigint, bytes: Uint8Array): boolean {
    const at = Number(address);
    return Number.isSafeInteger(at + bytes.length) && this.#link?.writeShared(at, bytes) === true;
  }

  /**
   * Fetches the 4 KiB page around `gpa` into {@link VfioUserDevice.memory}, after a walk that missed it. False when
   * there is none.
   */
  async fetchPage(gpa: number): Promise<boolean> {
    const start = gpa - (gpa % 4096);
    const { generation } = this.memory;
    const page = await this.read(start, 4096);
    if (page === undefined) return false;
    // One that is too old is missed again, and fetched again.
    this.memory.provide(start, page, generation);
    return true;
  }

  /** A server serves it from now on. @throws VpciError `VPCI_BAD_ARGUMENT` when one does. @internal */
  beginService(): void {
    if (this.#served) {
      throw new VpciError(
        'VPCI_BAD_ARGUMENT',
        'a vfio-user device is served on one socket: give each socket a device of its own, or close the other server',
      );
    }
    this.#served = true;
  }

  /** The server ended. @internal */
  endService(): void {
    this.#served = false;
  }

  /** Takes its listeners off the function: nobody uses it any more. @internal */
  letGo(): void {
    this.function.off('intx', this.#onIntx).off('msi', this.#onMsi);
  }

  /** A client came. @internal */
  attachClient(link: ClientLink): void {
    if (this.#link !== undefined) {
      throw new VpciError('VPCI_SOCKET', 'a vfio-user device has one client at a time: this one has one');
    }
    this.#link = link;
    link.setIntx(this.#intx);
  }

  /** It went. @internal */
  detachClient(): void {
    this.#link = undefined;
  }

  /** Tells the listeners; for the session. @internal */
  announce<Name extends keyof DeviceEvents>(event: Name, payload: DeviceEvents[Name]): void {
    this.emit(event, payload);
  }

  /** True when somebody listens to `event`. @internal */
  isHeard(event: keyof DeviceEvents): boolean {
    return this.hears(event);
  }

  #deliver({ kind, vector, address, data }: MsiEvent): void {
    const index = kind === 'msi' ? VFIO_PCI_MSI_IRQ_INDEX : VFIO_PCI_MSIX_IRQ_INDEX;
    if (this.#link?.signal(index, vector) === true) return;
    // No eventfd: the message goes where the guest told it to, as on a bus.
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, data, true);
    void this.#link?.writeByMessage(BigInt(address), bytes);
  }
}

function checkLength(length: number): number {
  if (Number.isInteger(length) && length >= 0 && length <= 2 ** 30) return length;
  throw new VpciError(
    'VPCI_BAD_ARGUMENT',
    `a DMA of ${length} bytes: give 0 to 2^30, and split what is longer`,
  );
}
