import { VpciError } from '../../src/index.ts';
import { errnoName, type Native, O_CLOEXEC, O_RDWR } from '../linux/index.ts';
import { ioctlAdvice, openAdvice } from './errno-advice.ts';
import type { Ioctl, StructBuffer } from './structs/index.ts';

/** What an ioctl gave: a result of 0 or more, or an errno. */
export type Answer =
  | { readonly ok: true; readonly result: number }
  | { readonly ok: false; readonly errno: number };

/** Calls `ioctl` with a struct, or with a number. Never throws. */
export function ask<F extends string>(
  native: Native,
  fd: number,
  ioctl: Ioctl,
  argument: StructBuffer<F> | Uint8Array | number = 0,
): Answer {
  const result =
    typeof argument === 'number'
      ? native.ioctl(fd, ioctl.request, argument)
      : native.ioctlStruct(fd, ioctl.request, argument instanceof Uint8Array ? argument : argument.bytes);
  return result < 0 ? { ok: false, errno: native.errno() } : { ok: true, result };
}

/**
 * The same for a call that must not fail: its result.
 *
 * @throws VpciError `VPCI_HOST_CALL` that names the call, `subject`, errno, the cause and what to do.
 */
export function demand<F extends string>(
  native: Native,
  fd: number,
  ioctl: Ioctl,
  argument: StructBuffer<F> | Uint8Array | number,
  subject: string,
): number {
  const answer = ask(native, fd, ioctl, argument);
  if (answer.ok) return answer.result;
  throw hostFailure(ioctl.name, subject, answer.errno, ioctlAdvice(ioctl.name, answer.errno));
}

/** Opens a file of VFIO or iommufd for reading and writing. @throws VpciError `VPCI_HOST_CALL`. */
export function openHost(native: Native, path: string, kind: Parameters<typeof openAdvice>[0]): number {
  const fd = native.open(path, O_RDWR | O_CLOEXEC);
  if (fd >= 0) return fd;
  const errno = native.errno();
  throw hostFailure('open', path, errno, openAdvice(kind, errno));
}

/** A failed call as an error: `VFIO_DEVICE_RESET on 0000:01:00.0 failed: EINVAL (why; what to do)`. */
export function hostFailure(
  call: string,
  subject: string,
  errno: number,
  advice: string | undefined,
): VpciError {
  const why = advice === undefined ? '' : ` (${advice})`;
  return new VpciError('VPCI_HOST_CALL', `${call} on ${subject} failed: ${errnoName(errno)}${why}`);
}
