import { hex } from '../../../src/pci/bdf.ts';
import { VtdIommu, type VtdOptions } from '../../../src/viommu/vtd/index.ts';
import * as registers from '../../../src/viommu/vtd/registers.ts';

const MODES: Readonly<Record<number, string>> = {
  [registers.TTM_LEGACY]: 'legacy mode',
  [registers.TTM_SCALABLE]: 'scalable mode',
  [registers.TTM_ABORT_DMA]: 'abort-DMA mode',
};

/** A VT-d unit that tells in words what its driver does with the registers, as far as it matters for translation. */
export class WatchedUnit extends VtdIommu {
  readonly #tell: (what: string) => void;

  constructor(options: VtdOptions, tell: (what: string) => void) {
    super(options);
    this.#tell = tell;
  }

  override writeRegister(offset: number, size: 1 | 2 | 4, value: number): void {
    const before = this.readRegister(registers.GSTS, 4);
    super.writeRegister(offset, size, value);
    if (offset === registers.GCMD) this.#command(value, before);
  }

  #command(value: number, before: number): void {
    const changed = before ^ this.readRegister(registers.GSTS, 4);
    if ((value & registers.GCMD_SRTP) !== 0) {
      const low = this.readRegister(registers.RTADDR, 4);
      const root = this.readRegister(registers.RTADDR + 4, 4) * 0x1_0000_0000 + ((low & ~0xfff) >>> 0);
      const mode = MODES[(low & registers.RTADDR_TTM) >>> registers.RTADDR_TTM_SHIFT] ?? 'a reserved mode';
      this.#tell(`sets the root table, at 0x${hex(root)}, ${mode}`);
    }
    if ((changed & registers.GCMD_QIE) !== 0) {
      this.#tell(`${(value & registers.GCMD_QIE) === 0 ? 'stops' : 'starts'} the invalidation queue`);
    }
    if ((changed & registers.GCMD_TE) !== 0) {
      this.#tell(`switches translation ${(value & registers.GCMD_TE) === 0 ? 'off' : 'on'}`);
    }
  }
}
