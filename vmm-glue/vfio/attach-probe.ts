import type { Native } from '../linux/index.ts';
import { ioctlAdvice } from './errno-advice.ts';
import { ask } from './host-calls.ts';
import { done, failed, type QueryStep } from './query-step.ts';
import * as uapi from './structs/index.ts';

interface Target {
  readonly native: Native;
  readonly iommufd: number;
  readonly fd: number;
  readonly deviceId: number;
}

/**
 * Tries what a vIOMMU with host page tables needs: an empty page table for PASIDs, attached to the device and then
 * to `pasid` (not 0), and takes all of it away again. True when every call of the attach worked.
 */
export function probeAttach(target: Target, pasid: number, steps: QueryStep[]): boolean {
  const { native, iommufd, fd, deviceId } = target;
  const undo: (() => void)[] = [];
  const attempt = <F extends string>(
    descriptor: number,
    ioctl: uapi.Ioctl,
    argument: uapi.StructBuffer<F>,
    what: string,
  ): boolean => {
    const answer = ask(native, descriptor, ioctl, argument);
    steps.push(
      answer.ok
        ? done(ioctl.name, what)
        : failed(`${ioctl.name} (${what})`, answer.errno, ioctlAdvice(ioctl.name, answer.errno)),
    );
    return answer.ok;
  };
  const quietly = <F extends string>(
    descriptor: number,
    ioctl: uapi.Ioctl,
    argument: uapi.StructBuffer<F>,
    what: string,
  ): void => {
    const answer = ask(native, descriptor, ioctl, argument);
    if (answer.ok) return;
    steps.push(failed(`${ioctl.name} (${what})`, answer.errno, ioctlAdvice(ioctl.name, answer.errno)));
  };
  const destroyLater = (id: number, what: string): void => {
    undo.push(() => quietly(iommufd, uapi.IOMMU_DESTROY, sized(uapi.iommuDestroy).set('id', id), what));
  };

  const tryAll = (): boolean => {
    const ioas = sized(uapi.iommuIoasAlloc);
    if (!attempt(iommufd, uapi.IOMMU_IOAS_ALLOC, ioas, 'an empty address space')) return false;
    const ioasId = ioas.get('out_ioas_id');
    destroyLater(ioasId, 'the address space');

    const hwpt = sized(uapi.iommuHwptAlloc)
      .set('flags', uapi.IOMMU_HWPT_ALLOC_PASID)
      .set('dev_id', deviceId)
      .set('pt_id', ioasId);
    if (!attempt(iommufd, uapi.IOMMU_HWPT_ALLOC, hwpt, 'a page table that takes PASIDs')) return false;
    const hwptId = hwpt.get('out_hwpt_id');
    destroyLater(hwptId, 'the page table');

    // Requests without a PASID first: a page table without the flag there would rule PASIDs out.
    const rid = sized(uapi.vfioDeviceAttachIommufdPt).set('argsz', 12).set('pt_id', hwptId);
    if (!attempt(fd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, rid, 'attached without a PASID')) return false;
    const detach = sized(uapi.vfioDeviceDetachIommufdPt).set('argsz', 8);
    undo.push(() => quietly(fd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, detach, 'without a PASID'));

    const tagged = sized(uapi.vfioDeviceAttachIommufdPt)
      .set('flags', uapi.VFIO_DEVICE_ATTACH_PASID)
      .set('pt_id', hwptId)
      .set('pasid', pasid);
    const what = `attached to PASID 0x${pasid.toString(16)}`;
    if (!attempt(fd, uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, tagged, what)) return false;
    const untag = sized(uapi.vfioDeviceDetachIommufdPt)
      .set('flags', uapi.VFIO_DEVICE_DETACH_PASID)
      .set('pasid', pasid);
    undo.push(() => quietly(fd, uapi.VFIO_DEVICE_DETACH_IOMMUFD_PT, untag, 'with a PASID'));
    return true;
  };
  const works = tryAll();
  for (const step of undo.toReversed()) step();
  return works;
}

/** A struct whose first field says how long it is. */
function sized<F extends string>(layout: uapi.StructLayout<F>): uapi.StructBuffer<F> {
  const struct = new uapi.StructBuffer(layout);
  new DataView(struct.bytes.buffer).setUint32(0, layout.size, true);
  return struct;
}
