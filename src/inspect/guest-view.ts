import { createFunction, type PasidCapability, type PassthroughOptions } from '../function/index.ts';
import { EXTENDED_CONFIG_SPACE_SIZE } from '../pci/config-space.ts';
import type { Finding } from '../pci/finding.ts';
import { VpciError } from '../pci/vpci-error.ts';

/** Options of {@link guestView}: those of a passed-through function, without its registers. */
export type GuestViewOptions = Omit<PassthroughOptions, 'physical' | 'buffer'>;

/** What a guest would see of a dumped function, at power-on. */
export interface GuestView {
  /** As many bytes as the dump has. */
  readonly bytes: Uint8Array;
  /** The PASID capability shown, or undefined when there is none. */
  readonly pasid: PasidCapability | undefined;
  /** How `bytes` differ from the dump, and what was met on the way. */
  readonly findings: readonly Finding[];
}

/**
 * What a guest would see of the function whose registers are `bytes`. The options stand for the host's answer.
 *
 * @throws VpciError what `createFunction` throws, and `VPCI_VF_ID` for a virtual function without IDs.
 */
export function guestView(bytes: Uint8Array, options: GuestViewOptions = {}): GuestView {
  const fn = createFunction({ ...options, physical: bytes });
  if (fn.findings.some(({ code }) => code === 'vf-without-ids')) {
    throw new VpciError(
      'VPCI_VF_ID',
      'this is a virtual function, whose vendor and device IDs read ffff: give its IDs (--id VVVV:DDDD on the command line)',
    );
  }
  const view = new Uint8Array(Math.min(bytes.length, EXTENDED_CONFIG_SPACE_SIZE));
  fn.readInto(0, view);
  return { bytes: view, pasid: fn.pasid, findings: fn.findings };
}
