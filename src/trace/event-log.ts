/** An event as a trace shows it. */
export type TraceEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** Most events between two `events` ops: one register write may cause thousands. */
export const EVENT_LIMIT = 0x10000;

/** Events since they were last asked for; of too many, the first ones. */
export class EventLog {
  #events: TraceEvent[] = [];
  #lost = 0;

  /** Adds an event. */
  note(event: TraceEvent): void {
    if (this.#events.length < EVENT_LIMIT) this.#events.push(event);
    else this.#lost++;
  }

  /** The events since the last call; where some were lost, a last one says how many. */
  take(): readonly TraceEvent[] {
    const events = this.#events;
    if (this.#lost > 0) events.push({ type: 'lost', count: this.#lost });
    this.clear();
    return events;
  }

  /** Forgets all. */
  clear(): void {
    this.#events = [];
    this.#lost = 0;
  }
}
