import type { WriteHook } from '../../config/index.ts';
import * as pri from '../../pci/ats.ts';
import type { FunctionHooks } from '../function-hooks.ts';
import type { Place, RulesContext } from './capability-rules.ts';

/** Page requests that may be outstanding, the number that most devices show. */
const CAPACITY = 512;

/**
 * The virtual Page Request capability (PCIe 10.5.2). `pasid`: a PASID capability is shown too; PRG Response
 * PASID Required is then 1, without which Linux's intel-iommu leaves PRI off.
 */
export function definePri({ builder }: RulesContext, { offset }: Place, pasid: boolean): void {
  builder.register(offset + pri.PRI_CONTROL, 2, { rw: pri.PRI_ENABLE, onWrite: onControl });
  builder.register(offset + pri.PRI_STATUS, 2, {
    value: pri.PRI_STOPPED | (pasid ? pri.PRI_PRG_RESPONSE_PASID_REQUIRED : 0),
    rw1c: pri.PRI_RESPONSE_FAILURE | pri.PRI_UNEXPECTED_PAGE_REQUEST_GROUP_INDEX,
  });
  builder.register(offset + pri.PRI_CAPACITY, 4, { value: CAPACITY });
  builder.register(offset + pri.PRI_ALLOCATION, 4, { rw: 0xffffffff });
}

const onControl: WriteHook<FunctionHooks> = (target, _offset, before, after) => {
  if (((before ^ after) & 0xffff) !== 0) target.registersChanged();
};
