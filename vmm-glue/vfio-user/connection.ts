/** A connection that a transport keeps. */
export interface Connection {
  /** Ends it, telling the device `reason`. */
  close(reason: string): void;
}

/** What happens around a connection, for the server. */
export interface ConnectionEvents {
  /** It is over, by whatever side. */
  closed(): void;
  /** Code of ours or of a device model threw; the connection was closed because of it. */
  failed(error: unknown): void;
}
