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
  /**
   * Receives what a listener threw. Default: rethrown from a microtask, so that it is never lost; so is what this
   * function throws itself.
   */
  onListenerError: (error: unknown) => void = rethrowLater;

  // Made with the first listener: an idle function of a 65,536-function segment has none.
  #emitter: EventEmitter | undefined;
  #registrations: Map<string, Map<unknown, Registration>> | undefined;
  // Above 0, events wait in line.
  #held = 0;
  #waiting: [event: string, payload: unknown][] | undefined;

  /** Calls `listener` on every `event` from now on. Adding it twice calls it once. */
  on<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    return this.#add(event, listener, false);
  }

  /** Calls `listener` on the next `event` only; one that is there for every event stays so. */
  once<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    return this.#add(event, listener, true);
  }

  /** Takes `listener` off `event`. */
  off<Name extends keyof Events & string>(event: Name, listener: Listener<Events[Name]>): this {
    this.#registrations?.get(event)?.get(listener)?.remove();
    return this;
  }

  /** True when somebody would hear `event`: build the event object only then. */
  protected hears(event: keyof Events & string): boolean {
    return this.#emitter !== undefined && this.#emitter.listenerCount(event) > 0;
  }

  /** Delivers `payload` to the listeners there are now, or when events are released. Never throws. */
  protected emit<Name extends keyof Events & string>(event: Name, payload: Events[Name]): void {
    if (this.#held === 0) this.#emitter?.emit(event, payload);
    else (this.#waiting ??= []).push([event, payload]);
  }

  /**
   * From now on events wait, until each call has had its {@link TypedEmitter.release}: a change is settled as a whole
   * before anybody hears of it, and what a listener sets off is heard after what it is hearing, by everybody.
   */
  protected hold(): void {
    this.#held++;
  }

  /** The counterpart of {@link TypedEmitter.hold}: the last one delivers what waits, in order. */
  protected release(): void {
    if (this.#held === 1 && this.#waiting !== undefined) {
      // Listeners may add to it meanwhile.
      for (const [event, payload] of this.#waiting) this.#emitter?.emit(event, payload);
      this.#waiting = undefined;
    }
    this.#held--;
  }

  #add<Payload>(event: string, listener: Listener<Payload>, once: boolean): this {
    const emitter = (this.#emitter ??= new EventEmitter());
    const all = (this.#registrations ??= new Map<string, Map<unknown, Registration>>());
    const known = all.get(event) ?? new Map<unknown, Registration>();
    all.set(event, known);
    const before = known.get(listener);
    if (before !== undefined) {
      before.once &&= once;
      return this;
    }
    const guard = (payload: Payload): void => {
      if (registration.once) registration.remove();
      try {
        listener(payload);
      } catch (error) {
        this.#report(error);
      }
    };
    const remove = (): void => {
      known.delete(listener);
      emitter.off(event, guard);
    };
    const registration: Registration = { once, remove };
    known.set(listener, registration);
    emitter.on(event, guard);
    return this;
  }

  #report(error: unknown): void {
    try {
      this.onListenerError(error);
    } catch (another) {
      rethrowLater(another);
    }
  }
}

/** How a listener is registered, and how to take it off again. */
interface Registration {
  once: boolean;
  readonly remove: () => void;
}

function rethrowLater(error: unknown): void {
  void Promise.resolve().then(() => {
    throw error;
  });
}
