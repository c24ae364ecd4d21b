import { type PciFunction, VpciError } from '../../../src/index.ts';
import { GuestDma, type VfioDevice, type VfioInterruptKind, VfioInterrupts } from '../../vfio/index.ts';
import type { DmaMapEvent, InterruptsEvent, VfioUserDevice } from '../../vfio-user/index.ts';
import type { Arguments } from '../arguments.ts';
import { hostFunction, openHostDevice } from '../host-device.ts';

const KINDS: readonly VfioInterruptKind[] = ['intx', 'msi', 'msi-x'];

/** Opens the device of this host that `--host` names, as a guest gets it. */
export async function serveHost(bdf: string, given: Arguments): Promise<ServedHost> {
  const device = await openHostDevice(bdf, given);
  try {
    return new ServedHost(device, hostFunction(device, given).fn);
  } catch (error) {
    device.close();
    throw error;
  }
}

/**
 * A device of the host behind a function that is served: the client's memory is the device's, and the device's
 * interrupts go to the client.
 */
export class ServedHost {
  readonly fn: PciFunction;
  /** Without its domain, which says nothing in a guest. */
  readonly bdf: string;
  readonly #device: VfioDevice;
  #dma: GuestDma | undefined;
  #interrupts: VfioInterrupts | undefined;

  constructor(device: VfioDevice, fn: PciFunction) {
    this.#device = device;
    this.fn = fn;
    this.bdf = device.host.bdf.slice(5);
  }

  /** From now on. What the host refuses goes to `onError`, and the device does without. */
  follow(served: VfioUserDevice, onError: (error: unknown) => void): void {
    const attempt = (call: () => void): void => {
      try {
        call();
      } catch (error) {
        if (!(error instanceof VpciError)) throw error;
        onError(error);
      }
    };
    attempt(() => {
      this.#dma = new GuestDma(this.#device);
    });
    // The client has a table of its own, and says by eventfds which vectors it wants: the function's may be empty.
    const interrupts = new VfioInterrupts(this.#device, this.fn, { follow: false, read: true });
    interrupts.on('failure', onError);
    this.#interrupts = interrupts;
    served.on('dma-map', (event) => attempt(() => this.#mapped(event)));
    served.on('interrupts', (event) => this.#interruptsChanged(event));
    served.on('intx-mask', ({ masked }) => {
      if (masked) interrupts.maskIntx();
      else interrupts.unmaskIntx();
    });
    served.on('disconnect', () => {
      interrupts.use(undefined);
      attempt(() => this.#dma?.clear());
    });
  }

  close(): void {
    this.#interrupts?.close();
    try {
      this.#dma?.close();
    } finally {
      this.#device.close();
    }
  }

  #mapped({ mapped, address, size, parts }: DmaMapEvent): void {
    if (!mapped) this.#dma?.unmap(address, size);
    for (const part of parts) this.#dma?.map(part.address, part.bytes, { readOnly: !part.writable });
  }

  #interruptsChanged({ index, vectors, eventfds }: InterruptsEvent): void {
    const kind = KINDS[index];
    const interrupts = this.#interrupts;
    if (kind === undefined || interrupts === undefined) return;
    if (vectors.length === 0) {
      if (interrupts.kind === kind) interrupts.use(undefined);
    } else if (kind === 'intx') {
      // By way of the function: the line is in its Status, and it has Interrupt Disable.
      interrupts.use(kind, vectors);
    } else {
      // The kernel signals the client itself.
      interrupts.use(kind, vectors, eventfds);
    }
  }
}
