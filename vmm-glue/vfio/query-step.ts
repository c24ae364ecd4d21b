import { errnoName } from '../linux/index.ts';

/** A call that was tried, or left out, on the way to an answer. */
export interface QueryStep {
  /** The call or the check, such as `IOMMU_GET_HW_INFO`. */
  readonly call: string;
  /** `done`: it worked. `no`: the host said no. `skipped`: not tried. `note`: something to know about the answer. */
  readonly outcome: 'done' | 'no' | 'skipped' | 'note';
  /** Name of the error number, when the kernel gave one. */
  readonly errno?: string;
  /** What came out, in words. */
  readonly text: string;
}

/** A step that worked. */
export function done(call: string, text: string): QueryStep {
  return { call, outcome: 'done', text };
}

/** A step that the host answered with no, or with something that cannot be. */
export function no(call: string, text: string): QueryStep {
  return { call, outcome: 'no', text };
}

/** A step that failed with `errno`; `advice` says what that means. */
export function failed(call: string, errno: number, advice: string | undefined): QueryStep {
  const name = errnoName(errno);
  return { call, outcome: 'no', errno: name, text: advice ?? `the kernel answered ${name}` };
}

/** A step that was not tried. */
export function skipped(call: string, text: string): QueryStep {
  return { call, outcome: 'skipped', text };
}

/** Something to know about the answer. */
export function note(call: string, text: string): QueryStep {
  return { call, outcome: 'note', text };
}
