import { readSync } from 'node:fs';
import { type MsiRouteEvent, type PciFunction, TypedEmitter, VpciError } from '../../src/index.ts';
import { CAP_MSI, CAP_MSI_X } from '../../src/pci/capability-ids.ts';
import { EFD_CLOEXEC, EFD_NONBLOCK, hostError, type Watch } from '../linux/index.ts';
import { demand } from './host-calls.ts';
import * as uapi from './structs/index.ts';
import type { VfioDevice, VfioIrq } from './vfio-device.ts';

/** How a device interrupts. */
export type VfioInterruptKind = 'intx' | 'msi' | 'msi-x';

/** A vector and the eventfd that the kernel signals for it, or its end. */
export interface VfioVectorEvent {
  readonly kind: VfioInterruptKind;
  readonly vector: number;
  /** Descriptor; it is closed after the event that says `enabled: false` with `last`, or by closing. */
  readonly eventfd: number;
  /** The guest wants it now: an irqfd belongs there. A vector that is masked keeps what is signalled meanwhile. */
  readonly enabled: boolean;
  /** The eventfd goes. */
  readonly last: boolean;
  /** Guest-physical address and data of the message; both 0 for INTx. */
  readonly address: number;
  readonly data: number;
}

/** Events of {@link VfioInterrupts}. */
export interface VfioInterruptsEvents {
  vector: VfioVectorEvent;
  /** The host refused to set an interrupt up; the guest gets none of that vector. */
  failure: VpciError;
}

/** How the interrupts of a device reach its function. */
export interface VfioInterruptsOptions {
  /**
   * True: the eventfds are read here, and the function interrupts (`msi`, `intx`). Default false: somebody else reads
   * them, such as an irqfd of KVM, who hears of them by `vector`.
   */
  readonly read?: boolean | undefined;
  /** False: the guest's registers are not followed, and `use` says what to set up. Default true. */
  readonly follow?: boolean | undefined;
}

interface Vector {
  readonly eventfd: number;
  /** The eventfd is closed with the vector. */
  readonly ours: boolean;
  readonly watch: Watch | undefined;
}

const INDEX: Readonly<Record<VfioInterruptKind, number>> = {
  intx: uapi.VFIO_PCI_INTX_IRQ_INDEX,
  msi: uapi.VFIO_PCI_MSI_IRQ_INDEX,
  'msi-x': uapi.VFIO_PCI_MSIX_IRQ_INDEX,
};

/** Message Control of MSI and MSI-X: its offset, and its bits that enable (PCIe 7.7.1.2, 7.7.2.2). */
const MESSAGE_CONTROL = 2;
const MSI_ENABLE = 0x0001;
const MSI_X_ENABLE = 0x8000;

/**
 * The interrupts of a device by eventfds (`VFIO_DEVICE_SET_IRQS`), set up as the guest sets up those of the function:
 * INTx until it enables MSI or MSI-X, then each vector from when the guest first unmasks it.
 */
export class VfioInterrupts extends TypedEmitter<VfioInterruptsEvents> implements Disposable {
  readonly #device: VfioDevice;
  readonly #fn: PciFunction;
  readonly #read: boolean;
  readonly #follow: boolean;
  readonly #irqs: readonly VfioIrq[];
  readonly #vectors = new Map<number, Vector>();
  readonly #onRoute = (route: MsiRouteEvent): void => this.#routed(route);
  readonly #onReset = (): void => {
    // The device is silent now. Without this an interrupt that nobody saw would leave it masked.
    if (this.#kind === 'intx') this.unmaskIntx();
    else if (this.#follow) this.#switchedOff();
  };
  #kind: VfioInterruptKind | undefined;
  /** Vectors that the host has set up, as far as it counts them. */
  #count = 0;

  /** Follows `fn`, the function of `device`. Listen before the guest runs. */
  constructor(device: VfioDevice, fn: PciFunction, options: VfioInterruptsOptions = {}) {
    super();
    this.#device = device;
    this.#fn = fn;
    this.#read = options.read ?? false;
    this.#follow = options.follow ?? true;
    this.#irqs = device.irqs();
    fn.on('reset', this.#onReset);
    if (!this.#follow) return;
    fn.on('msi-route', this.#onRoute);
    this.#useIntx();
  }

  /** The kind that is set up. */
  get kind(): VfioInterruptKind | undefined {
    return this.#kind;
  }

  /**
   * Sets up `vectors` of `kind` and no others; undefined: none of any kind. The device signals `eventfds`, one for each
   * vector, which stay the caller's and open until they are used no more; without them, eventfds of ours.
   */
  use(
    kind: VfioInterruptKind | undefined,
    vectors: readonly number[] = [],
    eventfds: readonly number[] = [],
  ): void {
    if (kind === undefined) return this.#end();
    const wanted = new Map(vectors.map((vector, i) => [vector, eventfds[i]]));
    this.#quietly(() => {
      const gone =
        this.#kind === kind ? [...this.#vectors.keys()].filter((vector) => !wanted.has(vector)) : [];
      for (const vector of gone) this.#drop(kind, vector);
      this.#enable(kind, wanted);
    });
  }

  /** The eventfd of INTx, which masks itself when it is signalled; undefined while it is not in use. */
  get intx(): number | undefined {
    return this.#kind === 'intx' ? this.#vectors.get(0)?.eventfd : undefined;
  }

  /** The guest is done with INTx: the device may raise it again, and does so at once if it still wants to. */
  unmaskIntx(): void {
    if (this.#kind !== 'intx') return;
    if (this.#read) this.#fn.setInterrupt(false);
    this.#quietly(() =>
      this.#setIrqs('intx', uapi.VFIO_IRQ_SET_DATA_NONE | uapi.VFIO_IRQ_SET_ACTION_UNMASK, 0, 1),
    );
  }

  /** The device does not raise INTx until it is unmasked. */
  maskIntx(): void {
    if (this.#kind !== 'intx') return;
    this.#quietly(() =>
      this.#setIrqs('intx', uapi.VFIO_IRQ_SET_DATA_NONE | uapi.VFIO_IRQ_SET_ACTION_MASK, 0, 1),
    );
  }

  /** Lets an eventfd unmask INTx, as the resample eventfd of an irqfd; -1: not any more. */
  unmaskIntxBy(eventfd: number): void {
    if (this.#kind !== 'intx') return;
    const flags = uapi.VFIO_IRQ_SET_DATA_EVENTFD | uapi.VFIO_IRQ_SET_ACTION_UNMASK;
    this.#quietly(() => this.#setIrqs('intx', flags, 0, 1, [eventfd]));
  }

  /** Switches the interrupts of the device off and closes the eventfds. Close it before the device. */
  close(): void {
    this.#fn.off('msi-route', this.#onRoute);
    this.#fn.off('reset', this.#onReset);
    this.#end();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #useIntx(): void {
    if (this.#fn.interruptPin === 0 || (this.#irqOf('intx')?.count ?? 0) === 0) return;
    this.#quietly(() => this.#enable('intx', new Map([[0, undefined]])));
    const vector = this.#vectors.get(0);
    if (vector !== undefined) this.#announce(0, vector, true, false, 0, 0);
  }

  #routed({ kind, vector, address, data, enabled }: MsiRouteEvent): void {
    if (enabled) this.#quietly(() => this.#enable(kind, new Map([[vector, undefined]])));
    const found = this.#kind === kind ? this.#vectors.get(vector) : undefined;
    if (found !== undefined) this.#announce(vector, found, enabled, false, address, data);
    if (!enabled) this.#switchedOff();
  }

  /** INTx again, when the guest or a reset switched off what was in use. */
  #switchedOff(): void {
    const kind = this.#kind;
    if (kind === undefined || kind === 'intx' || this.#mechanismIsOn(kind)) return;
    this.#end();
    this.#useIntx();
  }

  #mechanismIsOn(kind: 'msi' | 'msi-x'): boolean {
    const [id, bit] = kind === 'msi' ? [CAP_MSI, MSI_ENABLE] : [CAP_MSI_X, MSI_X_ENABLE];
    const capability = this.#fn.capabilities.find((one) => one.id === id);
    if (capability === undefined) return false;
    const control = new Uint8Array(2);
    this.#fn.inspectInto(capability.offset + MESSAGE_CONTROL, control);
    return (new DataView(control.buffer).getUint16(0, true) & bit) !== 0;
  }

  /** Adds vectors, each with the caller's eventfd or one of ours. @throws VpciError `VPCI_HOST_CALL`. */
  #enable(kind: VfioInterruptKind, wanted: ReadonlyMap<number, number | undefined>): void {
    // The kernel has one kind at a time.
    if (this.#kind !== kind) this.#end();
    this.#kind = kind;
    const made = new Map<number, Vector>();
    try {
      for (const [vector, eventfd] of wanted) {
        const known = this.#vectors.get(vector);
        if (known === undefined || (eventfd !== undefined && known.eventfd !== eventfd)) {
          made.set(vector, this.#make(kind, vector, eventfd));
        }
      }
      if (made.size > 0) this.#setVectors(kind, made);
    } catch (error) {
      for (const one of made.values()) this.#let(one);
      throw error;
    }
    for (const [vector, one] of made) {
      const before = this.#vectors.get(vector);
      if (before !== undefined) this.#let(before);
      this.#vectors.set(vector, one);
    }
  }

  /** The device signals `changed` from now on, and whatever else it signals already. */
  #setVectors(kind: VfioInterruptKind, changed: ReadonlyMap<number, Vector>): void {
    const before = this.#count;
    const needed = Math.max(...changed.keys()) + 1;
    const grows = this.#irqOf(kind)?.noResize !== true && before > 0;
    if (needed <= before || grows) {
      for (const [vector, { eventfd }] of changed) this.#signalTo(kind, vector, [eventfd]);
      this.#count = Math.max(before, needed);
      return;
    }
    const eventfds = Array.from(
      { length: needed },
      (_, i) => (changed.get(i) ?? this.#vectors.get(i))?.eventfd ?? -1,
    );
    if (before > 0) this.#disable(kind);
    try {
      this.#signalTo(kind, 0, eventfds);
    } catch (error) {
      // The vectors that there were go on.
      if (before > 0) {
        this.#signalTo(kind, 0, eventfds.slice(0, before));
        this.#count = before;
      }
      throw error;
    }
    this.#count = needed;
  }

  /** The device signals nobody for `vector`. */
  #drop(kind: VfioInterruptKind, vector: number): void {
    const found = this.#vectors.get(vector);
    if (found === undefined) return;
    this.#signalTo(kind, vector, [-1]);
    this.#vectors.delete(vector);
    this.#let(found);
  }

  #make(kind: VfioInterruptKind, vector: number, given: number | undefined): Vector {
    if (given !== undefined) return { eventfd: given, ours: false, watch: undefined };
    const { native, subject } = this.#device;
    const eventfd = native.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (eventfd < 0) throw hostError(native, 'eventfd', subject);
    const watch = this.#read ? native.watch(eventfd, false, () => this.#signalled(kind, vector)) : undefined;
    return { eventfd, ours: true, watch };
  }

  #let({ eventfd, ours, watch }: Vector): void {
    watch?.close();
    if (ours) this.#device.native.close(eventfd);
  }

  #signalled(kind: VfioInterruptKind, vector: number): void {
    const found = this.#vectors.get(vector);
    if (found === undefined || this.#kind !== kind) return;
    try {
      readSync(found.eventfd, new Uint8Array(8));
    } catch {
      // Somebody else took it.
      return;
    }
    if (kind === 'intx') this.#fn.setInterrupt(true);
    else this.#fn.triggerMessage(vector);
  }

  /** Everything off. */
  #end(): void {
    const kind = this.#kind;
    if (kind === undefined) return;
    if (this.#device.isOpen && this.#count > 0) this.#quietly(() => this.#disable(kind));
    for (const [number, vector] of this.#vectors) {
      this.#announce(number, vector, false, true, 0, 0);
      this.#let(vector);
    }
    this.#vectors.clear();
    this.#kind = undefined;
    this.#count = 0;
    if (kind === 'intx' && this.#read) this.#fn.setInterrupt(false);
  }

  /** From vector `start` on; -1: nobody. */
  #signalTo(kind: VfioInterruptKind, start: number, eventfds: readonly number[]): void {
    const flags = uapi.VFIO_IRQ_SET_DATA_EVENTFD | uapi.VFIO_IRQ_SET_ACTION_TRIGGER;
    this.#setIrqs(kind, flags, start, eventfds.length, eventfds);
  }

  #disable(kind: VfioInterruptKind): void {
    this.#count = 0;
    this.#setIrqs(kind, uapi.VFIO_IRQ_SET_DATA_NONE | uapi.VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0);
  }

  #setIrqs(
    kind: VfioInterruptKind,
    flags: number,
    start: number,
    count: number,
    eventfds: readonly number[] = [],
  ): void {
    const request = new uapi.StructBuffer(uapi.vfioIrqSet, 4 * eventfds.length);
    request
      .set('argsz', request.bytes.length)
      .set('flags', flags)
      .set('index', INDEX[kind])
      .set('start', start)
      .set('count', count);
    const data = new DataView(request.bytes.buffer, uapi.vfioIrqSet.size);
    for (const [i, eventfd] of eventfds.entries()) data.setInt32(4 * i, eventfd, true);
    const { native, fd, subject } = this.#device;
    const left = demand(native, fd, uapi.VFIO_DEVICE_SET_IRQS, request, `${kind} ${start} of ${subject}`);
    if (left === 0) return;
    throw new VpciError(
      'VPCI_HOST_CALL',
      `VFIO_DEVICE_SET_IRQS on ${subject} failed: the host has ${left} vectors left for it, not ${count}`,
    );
  }

  #irqOf(kind: VfioInterruptKind): VfioIrq | undefined {
    return this.#irqs.find((irq) => irq.kind === kind);
  }

  #announce(
    vector: number,
    { eventfd }: Vector,
    enabled: boolean,
    last: boolean,
    address: number,
    data: number,
  ): void {
    const kind = this.#kind;
    if (kind === undefined || !this.hears('vector')) return;
    this.emit('vector', { kind, vector, eventfd, enabled, last, address, data });
  }

  #quietly(call: () => void): void {
    try {
      call();
    } catch (error) {
      if (!(error instanceof VpciError)) throw error;
      if (this.hears('failure')) this.emit('failure', error);
      else process.emitWarning(error);
    }
  }
}
