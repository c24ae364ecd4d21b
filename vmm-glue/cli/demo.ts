import { fileURLToPath } from 'node:url';
import { type PciSegment, VpciError } from '../../src/index.ts';
import type { DumpedFunction } from '../../src/inspect/index.ts';
import { hex } from '../../src/pci/bdf.ts';
import { type Arguments, parseArguments, pasidWidth, refuseOptions } from './arguments.ts';
import type { Guest } from './demo/guest.ts';
import { loadV86 } from './demo/load-v86.ts';
import { printStory } from './demo/print.ts';
import { ScriptedGuest } from './demo/scripted-guest.ts';
import { type Story, tellStory } from './demo/story.ts';
import { V86Guest } from './demo/v86-guest.ts';
import { loadDump, selectFunctions } from './dump-input.ts';
import { CliError, EXIT_NO, EXIT_OK, EXIT_USAGE } from './exit-code.ts';
import type { Output } from './io.ts';

export const DEMO_HELP = `Usage: vpci demo [DUMP] [options]
       vpci demo --linux [--qemu PATH] [--kernel PATH] [--headers DIR] [--pasid-width N] [--json]

Plays how a guest gets a PASID capability: a function is made from the physical config space in DUMP, a small
guest finds its PASID capability and enables it, and the device sends requests that a vIOMMU accepts or rejects.
DUMP is what "vpci view" takes; without it, a config space that comes with vpci is used.

The guest is x86 machine code in the emulator v86, where the npm package v86 is installed beside vpci, and else a
script that makes the same accesses. The output says which.

  --function BDF         the function of the dump; default: the first that can show PASID
  --pasid-width N        what the host is taken to say, in bits (1..20); default: what the dump says, else 16
  --guest v86|scripted   insist on one of the two
  --json                 one JSON object instead of text

With --linux, an unmodified Linux in QEMU drives a VT-d remapping unit of vpci: it enables PASID in a device of vpci,
attaches PASIDs and detaches them, and the device sends a request after every step. It looks for QEMU 10.1 or later,
a kernel with iommufd, its headers and a C compiler, and says how to get what it does not find.

  --qemu PATH            qemu-system-x86_64
  --kernel PATH          a bzImage
  --headers DIR          UAPI headers of Linux 6.15 or later
  --json                 one JSON object a line

Exit code: 0 the story was told, 1 the dump cannot show PASID or the guest cannot run, 2 usage or unreadable input.
`;

/** Beside the sources, in a checkout and in an installed package; this file runs from dist/vmm-glue/cli. */
const OWN_DUMP = new URL('../../../vmm-glue/captures/igb-82576.txt', import.meta.url);

/** `vpci demo`. */
export async function demo(args: readonly string[], output: Output): Promise<number> {
  const given = parseArguments('demo', args, {
    function: { type: 'string' },
    'pasid-width': { type: 'string' },
    guest: { type: 'string' },
    json: { type: 'boolean' },
    linux: { type: 'boolean' },
    qemu: { type: 'string' },
    kernel: { type: 'string' },
    headers: { type: 'string' },
  });
  if (given.flag('linux')) {
    const { demoLinux } = await import('./demo-linux.ts');
    refuseOptions(given, ['function', 'guest'], 'is for the demo without --linux');
    return await demoLinux(withoutDump(given), output);
  }
  refuseOptions(given, ['qemu', 'kernel', 'headers'], 'is about a Linux guest: give --linux too');
  const width = pasidWidth(given);
  const wanted = guestKind(given);
  const path = dumpPath(given);
  const functions = selectFunctions(loadDump(path ?? fileURLToPath(OWN_DUMP)), given.text('function'));
  const story = await tellFirst(functions, width, wanted);
  const dump = path ?? 'a QEMU guest, captured for vpci (vmm-glue/captures/README.md)';
  output.out(given.flag('json') ? toJson(story, dump) : printStory(story, dump, output.colour));
  return EXIT_OK;
}

function dumpPath({ positionals }: Arguments): string | undefined {
  if (positionals.length <= 1) return positionals[0];
  throw new CliError(EXIT_USAGE, `takes at most one dump, not ${positionals.length}`);
}

function withoutDump(given: Arguments): Arguments {
  if (given.positionals.length === 0) return given;
  throw new CliError(EXIT_USAGE, '--linux takes no dump: its device is one of its own');
}

function guestKind(given: Arguments): 'v86' | 'scripted' | undefined {
  const kind = given.text('guest');
  if (kind === undefined || kind === 'v86' || kind === 'scripted') return kind;
  throw new CliError(EXIT_USAGE, `--guest is v86 or scripted, not "${kind}"`);
}

/** The story of the first function that can show PASID. */
async function tellFirst(
  functions: readonly DumpedFunction[],
  width: number | undefined,
  wanted: 'v86' | 'scripted' | undefined,
): Promise<Story> {
  const boot = (segment: PciSegment, bdf: string): Promise<Guest> => bootGuest(segment, bdf, wanted);
  const refusals: string[] = [];
  for (const dumped of functions) {
    try {
      return await tellStory(dumped, { width, boot });
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      refusals.push(error.message);
    }
  }
  throw new CliError(EXIT_NO, refusals.join('\n'));
}

/** The guest that is wanted; when it is all the same, the one in v86 where there is one. */
async function bootGuest(
  segment: PciSegment,
  bdf: string,
  wanted: 'v86' | 'scripted' | undefined,
): Promise<Guest> {
  if (wanted === 'scripted') return new ScriptedGuest(segment, bdf, 'as --guest says');
  const why = 'with "npm install v86", x86 code plays this part';
  try {
    const v86 = await loadV86();
    if (v86 !== undefined) return await V86Guest.load(v86, segment, bdf);
  } catch (error) {
    if (!(error instanceof VpciError)) throw error;
    if (wanted === undefined) return new ScriptedGuest(segment, bdf, error.message);
    throw new CliError(EXIT_NO, error.message);
  }
  if (wanted === undefined) return new ScriptedGuest(segment, bdf, why);
  throw new CliError(EXIT_NO, 'the npm package v86 is not installed: "npm install v86" gets it');
}

function plain(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `0x${hex(value)}` : value;
}

function toJson(story: Story, dump: string): string {
  return `${JSON.stringify({ dump, ...story }, plain, 2)}\n`;
}
