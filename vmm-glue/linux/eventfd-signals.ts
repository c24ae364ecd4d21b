import { closeSync, openSync, writeSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import { F_GETFL, O_NONBLOCK, POLLOUT } from './abi.ts';
import { ERRNO, type Native } from './native.ts';

/** io_setup, io_destroy, io_getevents and io_submit: x86-64 has numbers of its own, later architectures the same. */
const CALLS: ReadonlyMap<string, readonly [setup: number, destroy: number, events: number, submit: number]> =
  new Map([
    ['x64', [206, 207, 208, 209]],
    ['arm64', [0, 1, 4, 2]],
    ['riscv64', [0, 1, 4, 2]],
    ['loong64', [0, 1, 4, 2]],
  ]);

/** Requests between two collections of their results. */
const DEPTH = 64;

// struct iocb, struct io_event and the pointers to them, in one block.
const IOCB = 0;
const IOCB_LIO_OPCODE = IOCB + 16;
const IOCB_FILDES = IOCB + 20;
const IOCB_BUF = IOCB + 24;
const IOCB_FLAGS = IOCB + 56;
const IOCB_RESFD = IOCB + 60;
const IOCB_POINTER = 64;
const CONTEXT = 72;
const EVENTS = 128;
const EVENT_SIZE = 32;
const IOCB_CMD_PREAD = 0;
const IOCB_FLAG_RESFD = 1;

/** Adds 1 to an eventfd. */
const ONE: Uint8Array = new Uint8Array(new BigUint64Array([1n]).buffer);

const shared = new WeakMap<Native, EventfdSignals>();

/** Signals the eventfds of others, who may have filled them and made them block. */
export class EventfdSignals {
  readonly #native: Native;
  readonly #block = new Uint8Array(EVENTS + DEPTH * EVENT_SIZE);
  readonly #view = new DataView(this.#block.buffer);
  readonly #address: number;
  readonly #submit: number = 0;
  readonly #events: number = 0;
  /** 0: this host has no asynchronous I/O for us. */
  readonly #context: number = 0;

  private constructor(native: Native) {
    this.#native = native;
    this.#address = native.address(this.#block);
    const calls = CALLS.get(process.arch);
    const zeroes = openZeroes();
    if (calls === undefined || zeroes === undefined) return;
    const [setup, destroy, events, submit] = calls;
    if (native.syscall(setup, DEPTH, this.#address + CONTEXT, 0, 0, 0) < 0) {
      closeSync(zeroes);
      return;
    }
    this.#context = Number(this.#view.getBigUint64(CONTEXT, true));
    this.#events = events;
    this.#submit = submit;
    this.#view.setUint16(IOCB_LIO_OPCODE, IOCB_CMD_PREAD, true);
    this.#view.setInt32(IOCB_FILDES, zeroes, true);
    this.#view.setBigUint64(IOCB_BUF, BigInt(this.#address), true);
    this.#view.setUint32(IOCB_FLAGS, IOCB_FLAG_RESFD, true);
    this.#view.setBigUint64(IOCB_POINTER, BigInt(this.#address + IOCB), true);
    if (isMainThread) return;
    process.once('exit', () => {
      native.syscall(destroy, this.#context, 0, 0, 0, 0);
      closeSync(zeroes);
    });
  }

  /** The one of this thread. */
  static of(native: Native): EventfdSignals {
    const known = shared.get(native);
    if (known !== undefined) return known;
    const made = new EventfdSignals(native);
    shared.set(native, made);
    return made;
  }

  /**
   * Adds 1 to `eventfd`, unless it is full, and never blocks: a read of nothing ends at once, and the kernel says so by
   * the eventfd, whose flags do not count then. A write that looks at them first could be overtaken. Without asynchronous
   * I/O that is what is left.
   */
  signal(eventfd: number): void {
    if (this.#context === 0) return this.#write(eventfd);
    this.#view.setInt32(IOCB_RESFD, eventfd, true);
    if (this.#submitOne() === 1) return;
    if (this.#native.errno() !== ERRNO.EAGAIN) return;
    this.#native.syscall(this.#events, this.#context, 0, DEPTH, this.#address + EVENTS, 0);
    this.#submitOne();
  }

  #submitOne(): number {
    return this.#native.syscall(this.#submit, this.#context, 1, this.#address + IOCB_POINTER, 0, 0);
  }

  #write(eventfd: number): void {
    if ((this.#native.fcntl(eventfd, F_GETFL, 0) & O_NONBLOCK) === 0) {
      if (this.#native.poll(new Int32Array([eventfd, POLLOUT]), 1, 0) !== 1) return;
    }
    try {
      writeSync(eventfd, ONE);
    } catch {
      // Full: who waits for it has something to hear already.
    }
  }
}

function openZeroes(): number | undefined {
  try {
    return openSync('/dev/zero', 'r');
  } catch {
    return undefined;
  }
}
