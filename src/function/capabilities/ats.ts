import type { WriteHook } from '../../config/index.ts';
import * as ats from '../../pci/ats.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import type { Place, RulesContext } from './capability-rules.ts';

/**
 * The virtual ATS capability (PCIe 10.5.1). Page Aligned Request is 1, without which Linux's intel-iommu leaves
 * ATS off. Invalidate Queue Depth 0 stands for 32.
 */
export function defineAts({ builder }: RulesContext, { offset }: Place): void {
  builder.register(offset + ats.ATS_CAPABILITY, 2, {
    value: ats.ATS_PAGE_ALIGNED_REQUEST | ats.ATS_GLOBAL_INVALIDATE_SUPPORTED,
  });
  builder.register(offset + ats.ATS_CONTROL, 2, {
    rw: ats.ATS_ENABLE | ats.ATS_SMALLEST_TRANSLATION_UNIT,
    onWrite: onControl,
  });
}

const onControl: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (before !== after) target.registersChanged();
};
