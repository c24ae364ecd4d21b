import type { FunctionEmitter } from './followers.ts';
import { MESSAGE_ADDRESS_LIMIT, type MessageSink } from './interrupts/interrupt-types.ts';

/** Turns messages and routes into events of a function, which sends none while it cannot issue requests. */
export function messageEvents(events: FunctionEmitter, canIssue: () => boolean): MessageSink {
  return {
    // A message is a memory write of the function (PCIe 7.5.1.1.3).
    canSend: canIssue,
    send: (kind, vector, low, high, data) => {
      const address = high * 2 ** 32 + low;
      if (address < MESSAGE_ADDRESS_LIMIT && canIssue() && events.hears('msi'))
        events.emit('msi', { kind, vector, address, data });
    },
    route: (kind, vector, low, high, data, enabled) => {
      if (!events.hears('msi-route')) return;
      events.emit('msi-route', { kind, vector, address: high * 2 ** 32 + low, data, enabled });
    },
  };
}
