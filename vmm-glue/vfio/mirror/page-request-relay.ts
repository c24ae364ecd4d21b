import { readSync, writeSync } from 'node:fs';
import type { PageRequest, PageRequestAnswer, PrgResponse } from '../../../src/viommu/index.ts';
import type { Native, Watch } from '../../linux/index.ts';
import type { IommufdObjects } from '../iommufd-objects.ts';
import * as uapi from '../structs/index.ts';

/** Requests of the largest group (a PRG has one page for each of its requests) and more. */
const REQUESTS = 1024;
const PRG_INDEX = 0x1ff;

/** What the relay asks of the unit. */
export type DeliverPageRequest = (request: PageRequest) => PageRequestAnswer;

/** A fault queue of the host: its page requests go to the unit, and the guest's answers back. */
export class PageRequestRelay {
  readonly #objects: IommufdObjects;
  readonly #native: Native;
  readonly #deliver: DeliverPageRequest;
  readonly #cookies = new Map<number, number>();
  readonly #buffer = new Uint8Array(REQUESTS * uapi.iommuHwptPgfault.size);
  #queue: { readonly id: number; readonly fd: number; readonly watch: Watch } | undefined;

  constructor(objects: IommufdObjects, native: Native, deliver: DeliverPageRequest) {
    this.#objects = objects;
    this.#native = native;
    this.#deliver = deliver;
  }

  /** ID of the queue, which is made with the first question. @throws VpciError `VPCI_HOST_CALL`. */
  get id(): number {
    if (this.#queue === undefined) {
      const { id, fd } = this.#objects.allocFaultQueue();
      this.#queue = { id, fd, watch: this.#native.watch(fd, false, () => this.#read(fd)) };
    }
    return this.#queue.id;
  }

  /** The guest answered a group. */
  respond({ pasid, prgi, response }: PrgResponse): void {
    const key = keyOf(pasid, prgi);
    const cookie = this.#cookies.get(key);
    if (cookie === undefined) return;
    this.#cookies.delete(key);
    this.#answer(cookie, response === 0);
  }

  /** The page table of `pasid` is gone: the kernel answered its groups, and gives their cookies to others. */
  forget(pasid: number | null): void {
    const first = keyOf(pasid, 0);
    for (const key of this.#cookies.keys()) {
      if (key >= first && key <= first + PRG_INDEX) this.#cookies.delete(key);
    }
  }

  /** Ends it; whatever has no answer yet, the kernel answers when its page table goes. */
  close(): void {
    if (this.#queue === undefined) return;
    const { id, fd, watch } = this.#queue;
    this.#queue = undefined;
    this.#cookies.clear();
    watch.close();
    this.#native.close(fd);
    this.#objects.destroy(id);
  }

  #read(fd: number): void {
    let length = 0;
    let code: unknown = 'end of file';
    try {
      length = readSync(fd, this.#buffer);
    } catch (error) {
      code = error instanceof Error && 'code' in error ? error.code : error;
      // Nothing there after all.
      if (code === 'EAGAIN' || code === 'EINTR') return;
    }
    // It would be readable for ever.
    if (length === 0) return this.#breakOff(String(code));
    const { size } = uapi.iommuHwptPgfault;
    for (let at = 0; at + size <= length && this.#queue !== undefined; at += size) {
      this.#forward(this.#buffer.subarray(at, at + size));
    }
  }

  #breakOff(why: string): void {
    this.#queue?.watch.close();
    process.emitWarning(
      `the host's fault queue cannot be read (${why}): page requests of the device do not reach the guest any more; open the device again`,
    );
  }

  #forward(bytes: Uint8Array): void {
    const fault = new uapi.StructBuffer(uapi.iommuHwptPgfault);
    fault.bytes.set(bytes);
    const flags = fault.get('flags');
    const perm = fault.get('perm');
    const tagged = (flags & uapi.IOMMU_PGFAULT_FLAGS_PASID_VALID) !== 0;
    const pasid = tagged ? fault.get('pasid') : null;
    const prgi = fault.get('grpid') & PRG_INDEX;
    const last = (flags & uapi.IOMMU_PGFAULT_FLAGS_LAST_PAGE) !== 0;
    const key = keyOf(pasid, prgi);
    const cookie = fault.get('cookie');
    // A device that uses an index again before its answer: nobody could answer the older group any more.
    const older = this.#cookies.get(key);
    if (older !== undefined && older !== cookie) this.#answer(older, false);
    // Before it is delivered: a guest that runs meanwhile may answer at once.
    this.#cookies.set(key, cookie);
    const { queued, response } = this.#deliver({
      pasid,
      prgi,
      last,
      read: (perm & uapi.IOMMU_PGFAULT_PERM_READ) !== 0,
      write: (perm & uapi.IOMMU_PGFAULT_PERM_WRITE) !== 0,
      execute: tagged && (perm & uapi.IOMMU_PGFAULT_PERM_EXEC) !== 0,
      privileged: tagged && (perm & uapi.IOMMU_PGFAULT_PERM_PRIV) !== 0,
      address: fault.getBig('addr'),
    });
    if (queued || !last) return;
    this.#cookies.delete(key);
    this.#answer(cookie, response === 0);
  }

  #answer(cookie: number, success: boolean): void {
    if (this.#queue === undefined) return;
    const answer = new uapi.StructBuffer(uapi.iommuHwptPageResponse)
      .set('cookie', cookie)
      .set('code', success ? uapi.IOMMUFD_PAGE_RESP_SUCCESS : uapi.IOMMUFD_PAGE_RESP_INVALID);
    try {
      writeSync(this.#queue.fd, answer.bytes);
    } catch {
      // The kernel answered it when its page table went.
    }
  }
}

function keyOf(pasid: number | null, prgi: number): number {
  return ((pasid ?? -1) + 1) * (PRG_INDEX + 1) + prgi;
}
