import type { PasidFeature } from '../../src/index.ts';
import { PASID_WIDTH_LIMIT } from '../../src/pci/pasid.ts';
import type { Native } from '../linux/index.ts';
import { ioctlAdvice } from './errno-advice.ts';
import { ask } from './host-calls.ts';
import { done, failed, no, type QueryStep } from './query-step.ts';
import * as uapi from './structs/index.ts';

/** VFIO_DEVICE_FEATURE_PASID of the patches of 2023 and 2024. Linux gave the index to DMA_BUF. */
const INDEX = 11;
/** `u16 capabilities; u8 width; u8 reserved`. */
const DATA_SIZE = 4;
// One bit lower than in the register.
const EXECUTE = 0x1;
const PRIVILEGED = 0x2;

/**
 * Asks the feature that was never merged. Only a GET of exactly 12 zeroed bytes tells a patched kernel from one where
 * the index is DMA_BUF: that one refuses so few bytes, and with a probe it would say yes.
 */
export function askUnmergedFeature(native: Native, fd: number, steps: QueryStep[]): PasidFeature | undefined {
  const call = `${uapi.VFIO_DEVICE_FEATURE.name} index ${INDEX}`;
  const request = new uapi.StructBuffer(uapi.vfioDeviceFeature, DATA_SIZE);
  request
    .set('argsz', uapi.vfioDeviceFeature.size + DATA_SIZE)
    .set('flags', uapi.VFIO_DEVICE_FEATURE_GET | INDEX);
  const answer = ask(native, fd, uapi.VFIO_DEVICE_FEATURE, request);
  if (!answer.ok) {
    steps.push(failed(call, answer.errno, ioctlAdvice(uapi.VFIO_DEVICE_FEATURE.name, answer.errno)));
    return undefined;
  }
  if (answer.result > 0) {
    native.close(answer.result);
    steps.push(
      no(
        call,
        'the kernel returned a descriptor, which no PASID feature does: it was closed, and this is an error',
      ),
    );
    return undefined;
  }
  const data = new DataView(request.bytes.buffer, uapi.vfioDeviceFeature.size, DATA_SIZE);
  const capabilities = data.getUint16(0, true);
  const width = data.getUint8(2);
  if (width > PASID_WIDTH_LIMIT) {
    steps.push(
      no(call, `the kernel reported ${width} bits, and a PASID has ${PASID_WIDTH_LIMIT} at most: refused`),
    );
    return undefined;
  }
  if (width === 0) {
    steps.push(no(call, 'the kernel reported no PASID'));
    return undefined;
  }
  steps.push(
    done(call, `${width} bits of PASID, by the device alone: the IOMMU's limit is not in this answer`),
  );
  return { width, execute: (capabilities & EXECUTE) !== 0, privileged: (capabilities & PRIVILEGED) !== 0 };
}
