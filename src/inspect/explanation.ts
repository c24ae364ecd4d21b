import { PciFunction } from '../function/index.ts';
import { hex, tryParseBdf } from '../pci/bdf.ts';
import type { Finding } from '../pci/finding.ts';
import { PASID_WIDTH_LIMIT } from '../pci/pasid.ts';
import {
  type ByteRangeOwner,
  byteOwners,
  type Gap,
  type HiddenCapability,
  hiddenCapabilities,
  type ShownCapability,
  shownCapabilities,
  synthesisGaps,
} from './byte-map.ts';
import type { DumpedFunction } from './dump.ts';
import { type FunctionIdentity, type GuestSubject, guestSubject, isPort } from './guest-subject.ts';
import type { GuestViewOptions } from './guest-view.ts';
import { type LinuxCheck, LINUX_CHECKS, type LinuxCheckId } from './linux-check.ts';
import { linuxChecks } from './linux-checks.ts';
import { type PathAbove, pathAbove, type PlacedSubject } from './path-above.ts';
import { type Advice, viommuAdvice } from './viommu-advice.ts';

/** Whether a Linux guest will enable PASID for a function. */
export interface PasidAnswer {
  /** `port`: it is a port, a bridge or an event collector, which has no PASID of its own. */
  readonly verdict: 'yes' | 'no' | 'port';
  /** The verdict in words. */
  readonly sentence: string;
  /** Checks that fail, in Linux's order; it stops at the first. */
  readonly failed: readonly LinuxCheckId[];
  /** Checks that the dump cannot decide. A `yes` holds only if they pass. */
  readonly unknown: readonly LinuxCheckId[];
}

/** What a guest sees of one function, why, and what Linux will make of it. */
export interface FunctionExplanation {
  readonly identity: FunctionIdentity;
  /** The PASID capability shown; null when there is none. */
  readonly pasid: PciFunction['pasid'] | null;
  /** The guest's standard chain, in its order. */
  readonly capabilities: readonly ShownCapability[];
  /** The guest's extended chain, in its order. */
  readonly extendedCapabilities: readonly ShownCapability[];
  /** Physical capabilities that the guest does not see. */
  readonly hidden: readonly HiddenCapability[];
  /** The owner of every byte, in order and without holes. */
  readonly owners: readonly ByteRangeOwner[];
  /** Where in extended space a synthesized capability could still go. */
  readonly gaps: readonly Gap[];
  readonly findings: readonly Finding[];
  /** Why virtual capabilities that were asked for are missing (PASID has a finding of its own); else null. */
  readonly refused: string | null;
  /** What Linux checks, in its order; empty for a port. */
  readonly checks: readonly LinuxCheck[];
  /** What else decides whether PASID works in the guest. */
  readonly advice: readonly Advice[];
  readonly answer: PasidAnswer;
}

/** A {@link FunctionExplanation} with the function's name in the dump. */
export interface DumpedFunctionExplanation extends FunctionExplanation {
  readonly bdf: string;
  readonly title: string;
  /** BDFs of the ports above it that the dump holds, from the function up. */
  readonly above: readonly string[];
}

/** The functions of a dump together. */
export interface TopologyExplanation {
  /** `yes` when functions show PASID and Linux will enable it on each of them. */
  readonly answer: 'yes' | 'no';
  readonly functions: readonly DumpedFunctionExplanation[];
}

/** Options of {@link explainTopology}. */
export interface TopologyOptions extends GuestViewOptions {
  /** Explains these functions of the dump only; the others count as what is above them. Default: all. */
  readonly only?: readonly DumpedFunction[] | undefined;
}

interface Surroundings {
  readonly above: PathAbove;
  readonly sharesDevice: boolean;
}

/**
 * Explains one function: the bytes of a physical one as a guest would get it with `options`, or a function that
 * exists, as it is now (of `options`, only the permissions in `pasid` count then: what the guest will ask for).
 * What is above it is unknown, unless it is an RC integrated endpoint. `onPasidRefused` is ignored: a refusal is
 * part of the explanation.
 *
 * @throws VpciError for options that no function can have (`VPCI_PASID_WIDTH`, `VPCI_BAD_ARGUMENT`) and for
 * bytes of a size that none has (`VPCI_CONFIG_SIZE`). What the bytes hold never makes it throw.
 */
export function explainFunction(
  source: Uint8Array | PciFunction,
  options: GuestViewOptions = {},
): FunctionExplanation {
  const subject = guestSubject(source, options);
  const around = { above: pathAbove(subject, []), sharesDevice: false };
  return explain(subject, around, options, () =>
    source instanceof PciFunction ? undefined : explainFunction(source, ifAsked(subject, options)),
  );
}

/**
 * Explains the functions of a dump, each with the ports that the dump holds above it (found by the bus numbers
 * of their type 1 headers). The options apply to each function that is no port.
 *
 * @throws VpciError as {@link explainFunction} does.
 */
export function explainTopology(
  dumped: readonly DumpedFunction[],
  { only = dumped, ...options }: TopologyOptions = {},
): TopologyExplanation {
  const subjects = dumped.map((one) => placed(one, options));
  const functions = dumped.flatMap((one, index): DumpedFunctionExplanation[] => {
    const subject = subjects[index];
    if (subject === undefined || !only.includes(one)) return [];
    const around = surroundings(subject, subjects);
    const explanation = explain(subject, around, options, () => {
      const asked = ifAsked(subject, options);
      return explain(guestSubject(one.bytes, asked), around, asked, () => undefined);
    });
    const above = around.above.ports.map(({ bdf }) => bdf);
    return [{ bdf: one.bdf, title: one.title, above, ...explanation }];
  });
  const shown = functions.filter(({ pasid }) => pasid !== null);
  const yes = shown.length > 0 && shown.every(({ answer }) => answer.verdict === 'yes');
  return { answer: yes ? 'yes' : 'no', functions };
}

function surroundings(subject: PlacedSubject, all: readonly PlacedSubject[]): Surroundings {
  const { domain, rid } = subject;
  return {
    above: pathAbove(subject, all),
    // Linux takes every function behind function 0 for a part of a multi-function device.
    sharesDevice: (rid & 7) !== 0 && all.some((other) => other.domain === domain && other.rid === (rid & ~7)),
  };
}

function placed({ bdf, rid, bytes }: DumpedFunction, options: GuestViewOptions): PlacedSubject {
  return { ...guestSubject(bytes, options), bdf, rid, domain: tryParseBdf(bdf)?.domain ?? 0 };
}

/** The same with PASID, as wide as the physical capability if there is one. */
function ifAsked(
  { physicalPasid }: Pick<GuestSubject, 'physicalPasid'>,
  options: GuestViewOptions,
): GuestViewOptions {
  const physical = physicalPasid?.width ?? 0;
  const width = physical === 0 || physical > PASID_WIDTH_LIMIT ? PASID_WIDTH_LIMIT : physical;
  return { ...options, pasid: { width } };
}

function explain(
  subject: GuestSubject,
  { above, sharesDevice }: Surroundings,
  options: GuestViewOptions,
  asked: () => FunctionExplanation | undefined,
): FunctionExplanation {
  const { fn, identity } = subject;
  const { execute = false, privileged = false } = options.pasid ?? {};
  const hidden = hiddenCapabilities(subject);
  const owners = byteOwners(subject, hidden);
  const checks = isPort(identity) ? [] : linuxChecks(subject, { above, sharesDevice, execute, privileged });
  return {
    identity,
    pasid: fn.pasid ?? null,
    capabilities: shownCapabilities(subject, fn.capabilities, options.pasidOffset),
    extendedCapabilities: shownCapabilities(subject, fn.extendedCapabilities, options.pasidOffset),
    hidden,
    owners,
    gaps: synthesisGaps(owners),
    findings: fn.findings,
    refused: subject.refused ?? null,
    checks,
    advice: viommuAdvice(subject),
    answer: answerFor(subject, checks, options, asked),
  };
}

function answerFor(
  subject: GuestSubject,
  checks: readonly LinuxCheck[],
  options: GuestViewOptions,
  asked: () => FunctionExplanation | undefined,
): PasidAnswer {
  const { identity, fn, refused } = subject;
  const failed = idsOf(checks, 'fail');
  const unknown = idsOf(checks, 'unknown');
  if (isPort(identity)) {
    return {
      verdict: 'port',
      sentence: `a ${identity.kind} has no PASID of its own; it counts for the functions below it`,
      failed,
      unknown,
    };
  }
  if (refused !== undefined) return { verdict: 'no', sentence: `no: ${refused}`, failed, unknown };
  const isAsked = fn.pasid !== undefined || (options.pasid?.width ?? 0) !== 0;
  if (!isAsked) return { verdict: 'no', sentence: notAsked(subject, options, asked()), failed, unknown };
  const stop = checks.find(({ status }) => status === 'fail');
  if (stop !== undefined) {
    const at = stop.port === null ? LINUX_CHECKS[stop.id] : `${LINUX_CHECKS[stop.id]}, ${stop.port}`;
    return { verdict: 'no', sentence: `no (${at}): ${stop.message}`, failed, unknown };
  }
  const shown = fn.pasid === undefined ? '' : ` of ${fn.pasid.width} bits at 0x${hex(fn.pasid.offset, 3)}`;
  const sentence = `a Linux guest with a PASID-capable vIOMMU will enable the PASID capability${shown}`;
  return {
    verdict: 'yes',
    sentence:
      unknown.length === 0
        ? `yes: ${sentence}`
        : `yes, if what is unknown passes (${unknown.map((id) => LINUX_CHECKS[id]).join(', ')}): ${sentence}`,
    failed,
    unknown,
  };
}

function idsOf(checks: readonly LinuxCheck[], status: LinuxCheck['status']): LinuxCheckId[] {
  return [...new Set(checks.filter((one) => one.status === status).map(({ id }) => id))];
}

function notAsked(
  { physicalPasid }: GuestSubject,
  options: GuestViewOptions,
  asked: FunctionExplanation | undefined,
): string {
  const why =
    physicalPasid === undefined
      ? 'no: no PASID capability is asked for (--pasid-width N)'
      : `no: the physical PASID capability at 0x${hex(physicalPasid.offset, 3)} (${physicalPasid.width} bits) is always hidden, and no virtual one is asked for (--pasid-width N)`;
  if (asked === undefined) return why;
  const width = ifAsked({ physicalPasid }, options).pasid?.width;
  return `${why}; if ${width} bits were asked for: ${asked.answer.sentence}`;
}
