import { formatBdf, hex } from '../pci/bdf.ts';
import { accessKind, ACCESS_NO_WRITE, ACCESS_PRIVILEGED, addressType, NO_PASID } from './access.ts';
import type { HotRequest } from './request.ts';
import type { Verdict } from './verdict.ts';

/** A decoded field of a structure. */
export type StepField = number | bigint | string | boolean | null;

/** One structure that a walk touched, or one check that it made. */
export interface ExplanationStep {
  /** What was looked at, such as `endpoint` or `context entry`. */
  readonly structure: string;
  /** Guest-physical address of the structure; null when it is not in guest memory. */
  readonly address: bigint | null;
  /** Its 32-bit words as read, in ascending order of address; empty when it is not in guest memory. */
  readonly raw: readonly number[];
  /** Its fields by name. */
  readonly fields: Readonly<Record<string, StepField>>;
  /** The check that was made on it, written so that it is true when the request may go on. */
  readonly check?: string;
  /** False: the check failed, and the verdict is due to it. */
  readonly ok: boolean;
  /** Section of the specification that asks for the check. */
  readonly spec: string;
}

/** Where a walk leaves its steps; undefined on the fast path. */
export type Probe = ExplanationStep[] | undefined;

/** How a request was decided: every step of the walk, and the verdict. */
export class Explanation {
  readonly steps: readonly ExplanationStep[];
  readonly verdict: Verdict;
  readonly #request: HotRequest;

  constructor(request: HotRequest, steps: readonly ExplanationStep[], verdict: Verdict) {
    this.#request = request;
    this.steps = steps;
    this.verdict = verdict;
  }

  /** The request, one line per step, and the verdict, for people. */
  toString(): string {
    return [
      describeRequest(this.#request),
      ...this.steps.map(describeStep),
      describeVerdict(this.verdict),
    ].join('\n');
  }
}

function describeRequest({ rid, pasid, iovaHigh, iovaLow, access }: HotRequest): string {
  const address = hex((BigInt(iovaHigh >>> 0) << 32n) | BigInt(iovaLow >>> 0));
  const parts = [`${accessKind(access)} at 0x${address} by ${formatBdf(rid)}`];
  parts.push(pasid === NO_PASID ? 'no PASID' : `PASID 0x${hex(pasid)}`);
  if ((access & ACCESS_PRIVILEGED) !== 0) parts.push('privileged');
  if (addressType(access) !== 'untranslated') parts.push(`AT ${addressType(access)}`);
  if ((access & ACCESS_NO_WRITE) !== 0) parts.push('no write');
  return parts.join(', ');
}

function describeStep(step: ExplanationStep): string {
  const fields = Object.entries(step.fields).map(([name, value]) => `${name}=${describeField(value)}`);
  const parts = [`  ${step.ok ? 'ok  ' : 'FAIL'} ${step.structure}`];
  if (step.address !== null) parts.push(`at 0x${hex(step.address)}:`);
  if (step.raw.length > 0) parts.push(`[${step.raw.map((raw) => hex(raw >>> 0, 8)).join(' ')}]`);
  parts.push(...fields);
  if (step.check !== undefined) parts.push(`${step.ok ? '-' : '- expected'} ${step.check}`);
  parts.push(`(${step.spec})`);
  return parts.join(' ');
}

function describeField(value: StepField): string {
  if (typeof value === 'bigint') return `0x${hex(value)}`;
  return typeof value === 'number' && value > 9 ? `0x${hex(value)}` : String(value);
}

function describeVerdict(verdict: Verdict): string {
  const parts: string[] = [verdict.status];
  if ('address' in verdict) parts.push(`0x${hex(verdict.address)}`);
  if ('pageSize' in verdict) parts.push(`page 0x${hex(verdict.pageSize)}`);
  if ('permissions' in verdict) parts.push(verdict.permissions === '' ? 'no rights' : verdict.permissions);
  if ('reason' in verdict) parts.push(verdict.reason);
  if ('code' in verdict) parts.push(`code 0x${hex(verdict.code)}`);
  return `=> ${parts.join(' ')}`;
}
