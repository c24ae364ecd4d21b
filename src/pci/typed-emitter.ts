import { EventEmitter } from 'eventemitter3';

type Listener<Payload> = (event: Payload) => void;

/**
 * What every class of this library that has events is: eventemitter3 with one argument per event, and with
 * listeners that cannot hurt a guest access. State changes first, then events; what a listener throws goes
 * to {@link TypedEmitter.onListenerError}, and neither to the guest nor to the other listeners.
 *
 * `Events` maps an event's name to the type of its one argument.
 */
export class TypedEmitter<Events extends object> {
  /** Receives what a listener threw. Default: rethrown from a microtask, so that it is never lost. */
  onListenerError: (error: unknown) => void = rethrowLater;

  // Made with the first listener: an idle function of a 65,536-function segment has none.
  #emitter: EventEmitter | undefined;
  // How to take each listener off again, by event and listener.
  #removers: Map<string, Map<unknown, () => void>> | undefined;

  /** Calls `listener` on every `event` from now on. Adding the same listener again changes nothing. */
  on<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    return this.#add(event, listener, false);
  }

  /** Calls `listener` on the next `event` only. */
  once<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    return this.#add(event, listener, true);
  }

  /** Takes `listener` off `event`. */
  off<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    this.#removers?.get(event)?.get(listener)?.();
    return this;
  }

  /** True when somebody would hear `event`: build the event object only then. */
  protected hears(event: keyof Events & string): boolean {
    return this.#emitter !== undefined && this.#emitter.listenerCount(event) > 0;
  }

  /** Delivers `payload` to the listeners there are now. Never throws. */
  protected emit<Name extends keyof Events & string>(event: Name, payload: Events[Name]): void {
    this.#emitter?.emit(event, payload);
  }

  #add<Payload>(event: string, listener: Listener<Payload>, once: boolean): this {
    const emitter = (this.#emitter ??= new EventEmitter());
    const all = (this.#removers ??= new Map<string, Map<unknown, () => void>>());
    const removers = all.get(event) ?? new Map<unknown, () => void>();
    all.set(event, removers);
    if (removers.has(listener)) return this;
    const guard = (payload: Payload): void => {
      if (once) remove();
      try {
        listener(payload);
      } catch (error) {
        this.onListenerError(error);
      }
    };
    const remove = (): void => {
      removers.delete(listener);
      emitter.off(event, guard);
    };
    removers.set(listener, remove);
    emitter.on(event, guard);
    return this;
  }
}

function rethrowLater(error: unknown): void {
  void Promise.resolve().then(() => {
    throw error;
  });
}
