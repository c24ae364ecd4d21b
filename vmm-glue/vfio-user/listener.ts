/** A socket that is served, by whatever transport. */
export interface Listener {
  /** Ends the service: the client is disconnected, and the socket's file removed. */
  close(): Promise<void>;
}
