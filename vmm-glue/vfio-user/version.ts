import { MAX_DATA_TRANSFER, MAX_DMA_MAPS, MIN_DATA_TRANSFER } from './protocol.ts';

/** What a client said in VERSION, or what the specification says for it. */
export interface ClientCapabilities {
  /** Most bytes of one DMA_READ or DMA_WRITE. */
  readonly maxDataTransfer: number;
}

/** What a client has that says nothing. */
export const DEFAULT_CAPABILITIES: ClientCapabilities = { maxDataTransfer: MAX_DATA_TRANSFER };

/** The JSON of a VERSION message (zero bytes at its end are left out); undefined when it is none. */
export function parseCapabilities(bytes: Uint8Array): ClientCapabilities | undefined {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  if (end === 0) return DEFAULT_CAPABILITIES;
  let parsed: unknown;
  try {
    // A copy: a shared buffer cannot be decoded, and ours may be reused.
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.slice(0, end)));
  } catch {
    return undefined;
  }
  if (!isRecord(parsed)) return undefined;
  const { capabilities = {} } = parsed;
  if (!isRecord(capabilities)) return undefined;
  const { max_data_xfer_size: most = MAX_DATA_TRANSFER } = capabilities;
  if (typeof most !== 'number' || !Number.isInteger(most) || most < MIN_DATA_TRANSFER) return undefined;
  return { maxDataTransfer: Math.min(most, MAX_DATA_TRANSFER) };
}

/** The JSON of our reply, with the zero byte that ends it. `descriptors`: how many a message may carry. */
export function serverCapabilities(descriptors: number): Uint8Array {
  const capabilities = {
    max_msg_fds: descriptors,
    max_data_xfer_size: MAX_DATA_TRANSFER,
    max_dma_maps: MAX_DMA_MAPS,
    pgsizes: 4096,
    write_multiple: true,
  };
  return new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
