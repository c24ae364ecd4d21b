import {
  ATS_CAPABILITY,
  ATS_PAGE_ALIGNED_REQUEST,
  PRI_PRG_RESPONSE_PASID_REQUIRED,
  PRI_STATUS,
} from '../pci/ats.ts';
import { EXT_CAP_ATS, EXT_CAP_PAGE_REQUEST, EXT_CAP_PASID } from '../pci/capability-ids.ts';
import type { GuestSubject } from './guest-subject.ts';
import type { CheckedRegister } from './linux-check.ts';

/** Something that decides about PASID in a guest, but not in `pci_enable_pasid`. */
export interface Advice {
  readonly topic: 'viommu' | 'control' | 'ats' | 'pri';
  /** False: it will not work as it stands. True: it will. Null: the function does not decide it. */
  readonly ok: boolean | null;
  /** The register that decides; null when none of this function does. */
  readonly register: CheckedRegister | null;
  readonly message: string;
}

/** What else a Linux guest needs, for a function that shows PASID. */
export function viommuAdvice({ fn, guest }: GuestSubject): Advice[] {
  const find = (capability: number): number | undefined =>
    fn.extendedCapabilities.find(({ id }) => id === capability)?.offset;
  if (find(EXT_CAP_PASID) === undefined) return [];
  const advice: Advice[] = [
    {
      topic: 'viommu',
      ok: null,
      register: null,
      message:
        'only an IOMMU driver enables PASID: intel-iommu wants scalable mode with ECAP.PASID, arm-smmu-v3 an SSIDSIZE above 0 to use it; the RISC-V and virtio-iommu drivers of Linux 7.3 do not use PASID',
    },
  ];
  if (fn.pasid?.control === 'drop') {
    advice.push({
      topic: 'control',
      ok: false,
      register: null,
      message:
        'PASID Control drops writes: a guest that reads Enable back (iommufd in a nested guest, lspci) finds it off',
    });
  }
  const ats = find(EXT_CAP_ATS);
  if (ats !== undefined) {
    const offset = ats + ATS_CAPABILITY;
    const value = guest.read(offset, 2);
    const ok = (value & ATS_PAGE_ALIGNED_REQUEST) !== 0;
    advice.push({
      topic: 'ats',
      ok,
      register: { name: 'ATS Capability', offset, size: 2, mask: ATS_PAGE_ALIGNED_REQUEST, value },
      message: `Page Aligned Request is ${ok ? '1' : '0'}, and intel-iommu ${ok ? 'enables ATS only then' : 'leaves ATS off; --ats shows a virtual capability that has it'}`,
    });
  }
  const pri = find(EXT_CAP_PAGE_REQUEST);
  if (pri !== undefined) {
    const offset = pri + PRI_STATUS;
    const value = guest.read(offset, 2);
    const ok = (value & PRI_PRG_RESPONSE_PASID_REQUIRED) !== 0;
    advice.push({
      topic: 'pri',
      ok,
      register: {
        name: 'Page Request Status',
        offset,
        size: 2,
        mask: PRI_PRG_RESPONSE_PASID_REQUIRED,
        value,
      },
      message: `PRG Response PASID Required is ${ok ? '1' : '0'}, and intel-iommu ${ok ? 'enables PRI only then' : 'leaves PRI off when PASID is on; --pri shows a virtual capability that has it'}`,
    });
  }
  return advice;
}
