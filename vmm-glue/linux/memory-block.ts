import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from './abi.ts';
import { hostError, type Native } from './native.ts';

/** Memory at a fixed address, for what the kernel reads and writes by address. */
export interface MemoryBlock {
  /** Address of the first byte, page-aligned. */
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Maps `length` bytes of zeroes. They take memory when touched, and are never unmapped: keep the block for reuse.
 *
 * @throws VpciError `VPCI_HOST_CALL` when the kernel refuses.
 */
export function allocateBlock(native: Native, length: number): MemoryBlock {
  const address = native.mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address === undefined) throw hostError(native, 'mmap', `${length} bytes of memory`);
  return { address, bytes: native.view(address, length) };
}
