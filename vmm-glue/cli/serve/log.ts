import { hex } from '../../../src/pci/bdf.ts';
import type { AccessEvent, DmaMapEvent, VfioUserDevice, VfioUserServer } from '../../vfio-user/index.ts';
import type { Output } from '../io.ts';

/** Region of the configuration space in an {@link AccessEvent}; a BAR has its own number. */
const CONFIG_REGION = 7;
const INTERRUPT_NAMES = ['INTx', 'MSI', 'MSI-X', 'error interrupt', 'request interrupt'];

export interface ServeLogOptions {
  readonly device: VfioUserDevice;
  readonly json: boolean;
  readonly quiet: boolean;
  /** Log every read, which are most of what a guest does. */
  readonly reads: boolean;
}

/** What `vpci serve` tells while it serves: one line for each thing that happens, as text or JSON. */
export class ServeLog {
  readonly #output: Output;
  readonly #device: VfioUserDevice;
  readonly #json: boolean;
  #reads = 0;
  #opened = 0;
  #closed = 0;

  constructor(output: Output, { device, json, quiet, reads }: ServeLogOptions) {
    this.#output = output;
    this.#device = device;
    this.#json = json;
    if (!quiet) this.#listen(reads);
  }

  /** The service has begun. */
  serving({ transport, reason }: VfioUserServer, bdf: string, where: string): void {
    const { function: fn } = this.#device;
    const ids = `${hex(fn.read(0, 2), 4)}:${hex(fn.read(2, 2), 4)}`;
    const { pasid } = fn;
    const width =
      pasid === undefined ? 'no PASID' : `PASID of ${pasid.width} bits at 0x${hex(pasid.offset, 3)}`;
    this.#say(
      'serving',
      { function: ids, bdf, pasid: pasid ?? null, socket: where, transport, reason },
      () => {
        const why = reason === undefined ? '' : ` (${reason})`;
        return `serving ${bdf} ${ids}, ${width}, at ${where} by ${transport}${why}`;
      },
    );
    if (transport === 'koffi') return;
    const lost = 'no descriptors arrive: no INTx and no MSI-X, and guest memory is reached by messages';
    this.#say('limits', { message: lost }, () => lost);
  }

  /** Something went wrong in here; the client is disconnected. */
  error(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#say('error', { message: text }, () => `error: ${text}`);
  }

  #listen(reads: boolean): void {
    const device = this.#device;
    const { function: fn } = device;
    device.on('connect', (event) =>
      this.#say('connect', event, () => `client connected, protocol ${event.version}`),
    );
    device.on('disconnect', (event) =>
      this.#say('disconnect', event, () => `client disconnected: ${event.reason}`),
    );
    device.on('access', (event) => this.#access(event, reads));
    device.on('dma-map', (event) => this.#dmaMap(event));
    device.on('interrupts', ({ index, enabled, vectors }) =>
      this.#say('interrupts', { index, enabled, vectors }, () => {
        const name = INTERRUPT_NAMES[index] ?? `interrupt ${index}`;
        return `${name}: ${enabled} ${enabled === 1 ? 'vector' : 'vectors'} enabled`;
      }),
    );
    device.on('protocol-error', (event) =>
      this.#say('protocol-error', event, () => `wrong message: ${event.message}`),
    );
    device.on('handler-error', (error) => this.error(error));
    fn.on('reset', (event) => this.#say('reset', event, () => `function reset (${event.kind})`));
    fn.on('pasid-control', (event) =>
      this.#say('pasid-control', event, () => {
        const on = [event.execute ? 'execute' : '', event.privileged ? 'privileged' : ''].filter(Boolean);
        return `PASID ${event.enable ? 'enabled' : 'disabled'}${on.length > 0 ? ` with ${on.join(', ')}` : ''}`;
      }),
    );
    fn.on('bar', (event) =>
      this.#say('bar', event, () =>
        event.enabled ? `BAR ${event.index} at 0x${hex(event.address)}` : `BAR ${event.index} is off`,
      ),
    );
  }

  #access(event: AccessEvent, reads: boolean): void {
    if (!event.write && !reads) {
      this.#reads++;
      return;
    }
    this.#say('access', event, () => {
      const value = event.value === undefined ? '' : ` = 0x${hex(event.value, 2 * event.size)}`;
      const verb = event.write ? 'write' : 'read';
      return `${verb} ${this.#place(event)}, ${event.size} bytes${value}`;
    });
  }

  #dmaMap(event: DmaMapEvent): void {
    if (this.#json) {
      const { mapped, address, size, by } = event;
      this.#say('dma-map', { mapped, address: `0x${hex(address)}`, size: `0x${hex(size)}`, by }, () => '');
    } else if (event.mapped) {
      this.#opened++;
    } else {
      this.#closed++;
    }
  }

  /** The register by the name of its owner: `Process Address Space ID + 6 (0xffe)`. */
  #place({ region, offset }: AccessEvent): string {
    if (region !== CONFIG_REGION) return `BAR ${region} + 0x${hex(offset)}`;
    const owner = this.#device.function.owners.find(({ start, end }) => offset >= start && offset < end);
    const name = owner === undefined ? 'config' : `${owner.name} + 0x${hex(offset - owner.start)}`;
    return `${name} (0x${hex(offset, 3)})`;
  }

  #say(event: string, fields: object, text: () => string): void {
    const time = new Date();
    if (this.#json) {
      this.#output.out(`${JSON.stringify({ time: time.toISOString(), event, ...fields })}\n`);
      return;
    }
    const stamp = time.toISOString().slice(11, 23);
    const before = this.#summary();
    if (before !== '') this.#output.out(`${stamp}   ${before}\n`);
    this.#output.out(`${stamp} ${text()}\n`);
  }

  /** What came in between and has no lines of its own. */
  #summary(): string {
    const parts = [
      this.#reads > 0 ? `${this.#reads} reads` : '',
      this.#opened > 0 ? `${this.#opened} ranges of guest memory opened` : '',
      this.#closed > 0 ? `${this.#closed} closed` : '',
    ];
    this.#reads = 0;
    this.#opened = 0;
    this.#closed = 0;
    return parts.filter(Boolean).join(', ');
  }
}
