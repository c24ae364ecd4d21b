import { MAX_DESCRIPTORS } from './protocol.ts';

/** Descriptors of one message. */
export interface MessageDescriptors {
  readonly list: readonly number[];
  /** More came than a message may have, and some are closed already: the message is refused. */
  readonly tooMany: boolean;
}

const NONE: MessageDescriptors = { list: [], tooMany: false };

/**
 * Descriptors that came in, until the message they belong to is complete. The kernel ends a read behind the message
 * that descriptors came with, so they belong to the message that has the last byte of that read.
 */
export class ArrivedDescriptors {
  readonly #closeAll: (descriptors: readonly number[]) => void;
  readonly #batches: { end: number; list: readonly number[]; tooMany: boolean }[] = [];

  constructor(closeAll: (descriptors: readonly number[]) => void) {
    this.#closeAll = closeAll;
  }

  /** True when some belong to the message that ends at `end` of the stream. */
  has(end: number): boolean {
    return this.#batches.length > 0 && (this.#batches[0]?.end ?? Infinity) <= end;
  }

  /** Takes over what came with a read that ended at `end` of the stream. */
  add(end: number, list: readonly number[], tooMany: boolean): void {
    const last = this.#batches.at(-1);
    // A message in a million parts, each with descriptors, must not use up ours.
    if (last !== undefined && this.#batches.length >= MAX_DESCRIPTORS) {
      this.#closeAll(list);
      last.end = end;
      last.tooMany = true;
      return;
    }
    this.#batches.push({ end, list, tooMany });
  }

  /** The descriptors of the message that ends at `end` of the stream; they are the caller's. */
  take(end: number): MessageDescriptors {
    let count = 0;
    while ((this.#batches[count]?.end ?? Infinity) <= end) count++;
    if (count === 0) return NONE;
    const own = this.#batches.splice(0, count);
    const list = own.flatMap((batch) => batch.list);
    return { list, tooMany: list.length > MAX_DESCRIPTORS || own.some((batch) => batch.tooMany) };
  }

  /** Closes all. */
  clear(): void {
    for (const { list } of this.#batches.splice(0)) this.#closeAll(list);
  }
}
