// Bed A: what `vpci view` prints goes through the real lspci, which knows nothing of this project.
//
// For every function of every dump: what is not hidden decodes as it did in the dump, in the same order and
// at the same offsets; the PASID capability says what was asked for; nothing is broken or looped that was not
// so before. The dumps are our own captures and, where the folder is there, real machines' config spaces.
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { bed } from '../support/beds.ts';

const repo = fileURLToPath(new URL('../..', import.meta.url));
const cli = join(repo, 'dist/vmm-glue/cli/main.js');
const captures = join(repo, 'vmm-glue/captures');
const sharedDumps = join(repo, '../shared/config-dumps');

// ---- running -----------------------------------------------------------------------------------------------

interface Run {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], input = ''): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== 'number') reject(error);
      else resolve({ status: child.exitCode, stdout, stderr });
    });
    child.stdin?.on('error', () => undefined).end(input);
  });
}

/** The real lspci on a dump. Node's stdin is a socket, which can't be opened as /dev/stdin; `cat |` makes a pipe. */
async function lspci(dump: string): Promise<string> {
  const { status, stdout, stderr } = await run('sh', ['-c', 'cat | lspci -F /dev/stdin -vvv'], dump);
  if (status !== 0) throw new Error(`lspci -F: exit ${status}: ${stderr}`);
  return stdout;
}

const view = (file: string, ...options: string[]): Promise<Run> =>
  run(process.execPath, [cli, 'view', file, ...options]);

/** A view that must be printed, as lspci decodes it, by slot. */
async function shownView(file: string, ...options: string[]): Promise<Map<string, LspciFunction>> {
  const { status, stdout, stderr } = await view(file, ...options);
  if (status !== 0) throw new Error(`vpci view ${options.join(' ')}: exit ${status}: ${stderr}`);
  return bySlot(parseLspci(await lspci(stdout)));
}

/** A view that must be refused, with a reason, which is returned. */
async function refusal(file: string, ...options: string[]): Promise<string> {
  const { status, stdout, stderr } = await view(file, ...options);
  if (status !== 1 || stdout !== '' || stderr.trim() === '') {
    const seen = `exit ${status}, ${stdout.length} characters printed; ${stderr}`;
    throw new Error(`vpci view ${options.join(' ')} must be refused: ${seen}`);
  }
  return stderr;
}

function lspciMissing(): string | undefined {
  const found = spawnSync('lspci', ['--version']).error === undefined;
  return found ? undefined : 'no lspci; Debian package pciutils has it';
}

const cliMissing = (): string | undefined =>
  lspciMissing() ?? (existsSync(cli) ? undefined : 'the command is not built; npm run build');

// ---- lspci's output, in blocks -----------------------------------------------------------------------------

interface Capability {
  readonly offset: number;
  readonly extended: boolean;
  /** The header line after the offset, for example `Power Management version 2`. */
  readonly title: string;
  /** The header line and everything below it, tabs included. */
  readonly lines: readonly string[];
}

interface LspciFunction {
  readonly slot: string;
  /** All lines that are no capability: the first one, registers of the header, what follows the chain. */
  readonly header: readonly string[];
  readonly capabilities: readonly Capability[];
}

const slotPattern = /^((?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) /;
/** lspci leaves out the domain when all it shows is in domain 0. */
const withDomain = (slot: string): string => (slot.split(':').length === 3 ? slot : `0000:${slot}`);

function parseLspci(text: string): LspciFunction[] {
  const functions: { slot: string; header: string[]; capabilities: (Capability & { lines: string[] })[] }[] =
    [];
  let block: string[] = [];
  for (const line of text.split('\n')) {
    const current = functions.at(-1);
    const slot = slotPattern.exec(line)?.[1];
    const [, offset, version, title] = /^\tCapabilities: \[([0-9a-f]+)( v\d+)?\] (.*)$/.exec(line) ?? [];
    if (slot !== undefined) {
      block = [line.slice(slot.length + 1)];
      functions.push({ slot: withDomain(slot), header: block, capabilities: [] });
    } else if (current !== undefined && offset !== undefined && title !== undefined) {
      block = [line];
      const extended = version !== undefined;
      current.capabilities.push({ offset: Number.parseInt(offset, 16), extended, title, lines: block });
    } else if (current !== undefined && line !== '') {
      // Deeper lines belong to the block above; a line with one tab is the function's own.
      if (!line.startsWith('\t\t')) block = current.header;
      block.push(line);
    }
  }
  return functions;
}

const bySlot = (functions: readonly LspciFunction[]): Map<string, LspciFunction> =>
  new Map(functions.map((entry) => [entry.slot, entry]));

function at<T>(map: ReadonlyMap<string, T>, slot: string): T {
  const found = map.get(slot);
  if (found === undefined) throw new Error(`no function ${slot}, only ${[...map.keys()].join(', ')}`);
  return found;
}

const isPasid = ({ title }: Capability): boolean => title.startsWith('Process Address Space ID (PASID)');
const isAtsOrPri = ({ title }: Capability): boolean =>
  /^(Address Translation Service|Page Request Interface)/.test(title);

/** What the guest never gets (docs/pasid.md). PASID is a case of its own. */
const hiddenTitles = [
  /^Single Root I\/O Virtualization/,
  /^Multi-Root I\/O Virtualization/,
  /^Alternative Routing-ID Interpretation/,
  /^(Physical|Virtual) Resizable BAR/,
  /^Data Object Exchange/,
  /^Root Complex (Link|Internal Link|Event Collector|Register Block)/,
  /^(Integrity (&|and) Data Encryption|Extended Capability ID 0x30\b)/,
];
const isHidden = ({ title }: Capability): boolean => hiddenTitles.some((pattern) => pattern.test(title));

const damage = /<chain (?:broken|looped)>|<unreadable>|!!!/g;
const damageIn = (shown: LspciFunction): string[] =>
  [...shown.header, ...shown.capabilities.flatMap(({ lines }) => lines)].flatMap(
    (line) => line.match(damage) ?? [],
  );

// ---- dumps -------------------------------------------------------------------------------------------------

interface DumpFunction {
  readonly slot: string;
  readonly bytes: readonly number[];
}

function parseDump(text: string): DumpFunction[] {
  const functions: { slot: string; bytes: number[] }[] = [];
  for (const line of text.split('\n')) {
    const slot = slotPattern.exec(line)?.[1];
    const hex = /^[0-9a-f]+: ((?:[0-9a-f]{2} ?)+)\s*$/.exec(line)?.[1];
    if (slot !== undefined) functions.push({ slot: withDomain(slot), bytes: [] });
    if (hex === undefined) continue;
    functions.at(-1)?.bytes.push(
      ...hex
        .trim()
        .split(' ')
        .map((byte) => Number.parseInt(byte, 16)),
    );
  }
  return functions;
}

interface Case extends DumpFunction {
  readonly file: string;
  readonly title: string;
  /** How lspci decodes the dump itself. */
  readonly original: LspciFunction;
  /** Options that pick this function, and name its IDs if it is a virtual function. */
  readonly options: readonly string[];
  readonly virtual: boolean;
}

interface Dump {
  readonly file: string;
  readonly name: string;
  readonly text: string;
  readonly cases: readonly Case[];
}

/** The IDs that each captured virtual function has; any other gets made-up ones. */
const virtualFunctionIds: Readonly<Record<string, string>> = { 'igb-82576-vf.txt': '8086:10ca' };

async function readDump(file: string): Promise<Dump> {
  const name = basename(file);
  const text = readFileSync(file, 'utf8');
  const originals = bySlot(parseLspci(await lspci(text)));
  const cases = parseDump(text).map(({ slot, bytes }): Case => {
    const virtual = bytes.slice(0, 4).every((byte) => byte === 0xff);
    const ids = virtual ? ['--id', virtualFunctionIds[name] ?? '1234:5678'] : [];
    const options = ['--function', slot, ...ids];
    return { file, slot, bytes, virtual, options, original: at(originals, slot), title: `${name} ${slot}` };
  });
  return { file, name, text, cases };
}

async function readDumps(folder: string): Promise<Dump[]> {
  if (lspciMissing() !== undefined || !existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith('.txt'));
  return Promise.all(names.toSorted().map((name) => readDump(join(folder, name))));
}

const express = (capabilities: readonly Capability[]): Capability | undefined =>
  capabilities.find(({ title }) => title.startsWith('Express ('));

/** Why a function can't carry PASID at all, going by its bytes and by lspci; undefined if it can. */
function cannotCarryPasid({ bytes, original }: Case): string | undefined {
  if (bytes.length < 4096) return `${bytes.length}-byte config space`;
  if (((bytes[0x0e] ?? 0) & 0x7f) !== 0) return 'bridge';
  const title = express(original.capabilities)?.title;
  if (title === undefined) return 'no PCIe capability';
  if (title.startsWith('Express (v1)')) return 'PCIe capability version 1';
  const type = /^Express \(v\d\) (?:Legacy |Root Complex Integrated )?Endpoint\b/;
  return type.test(title) ? undefined : title;
}

// ---- what must come out ------------------------------------------------------------------------------------

interface Ask {
  readonly width: number;
  readonly execute: boolean;
  readonly privileged: boolean;
  readonly offset?: number;
}

const sign = (on: boolean): string => (on ? '+' : '-');
const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

function askOptions({ width, execute, privileged, offset }: Ask): string[] {
  const options = ['--pasid-width', String(width)];
  if (execute) options.push('--exec');
  if (privileged) options.push('--priv');
  if (offset !== undefined) options.push('--pasid-offset', `0x${hex(offset, 3)}`);
  return options;
}

function pasidCapability({ width, execute, privileged }: Ask, offset: number): Capability {
  const title = 'Process Address Space ID (PASID)';
  const lines = [
    `\tCapabilities: [${hex(offset, 3)} v1] ${title}`,
    `\t\tPASIDCap: Exec${sign(execute)} Priv${sign(privileged)}, Max PASID Width: ${hex(width, 2)}`,
    '\t\tPASIDCtl: Enable- Exec- Priv-',
  ];
  return { offset, extended: true, title, lines };
}

/** A hidden head stays as a header that names nothing. */
const nullHead: Capability = {
  offset: 0x100,
  extended: true,
  title: 'Null',
  lines: ['\tCapabilities: [100 v0] Null'],
};

const endToEndPrefix = /ExtFmt([-+]) EETLPPrefix([-+])(?:, MaxEETLPPrefixes (\d))?/;

/** Device Capabilities 2 as a guest must see it next to PASID; otherwise unchanged. */
const withEndToEndPrefix = (capability: Capability): Capability => ({
  ...capability,
  lines: capability.lines.map((line) =>
    line.replace(endToEndPrefix, (_all, _format, prefix: string, most?: string) => {
      // lspci prints the field 00b as 4, as PCIe has it.
      return `ExtFmt+ EETLPPrefix+, MaxEETLPPrefixes ${prefix === '+' ? (most ?? '') : '1'}`;
    }),
  ),
});

/** The capabilities that lspci must find in the view of a function with these ones. */
function expectedCapabilities(original: readonly Capability[], ask?: Ask): Capability[] {
  const present = original.find(isPasid);
  const extended = original.filter((capability) => capability.extended);
  let pasidAt: number | undefined;
  if (ask !== undefined) pasidAt = ask.offset ?? present?.offset ?? (extended.length === 0 ? 0x100 : 0xff8);
  const shown: Capability[] = [];
  for (const capability of original) {
    if (isPasid(capability)) {
      // Replaced where it is, unless it was to be elsewhere.
      if (ask !== undefined && pasidAt === capability.offset) shown.push(pasidCapability(ask, pasidAt));
    } else if (!isHidden(capability)) {
      shown.push(ask === undefined ? capability : withEndToEndPrefix(capability));
    }
  }
  if (ask !== undefined && pasidAt !== undefined && pasidAt !== present?.offset) {
    const place = pasidAt;
    const next = shown.findIndex(({ extended: isExtended, offset }) => isExtended && offset > place);
    shown.splice(next === -1 ? shown.length : next, 0, pasidCapability(ask, place));
  }
  const head = shown.findIndex((capability) => capability.extended);
  if (head !== -1 && shown[head]?.offset !== 0x100) shown.splice(head, 0, nullHead);
  return shown;
}

const text = (capabilities: readonly Capability[]): string[] => capabilities.flatMap(({ lines }) => lines);

/** Compares a shown function with its original: header, undamaged chain, and each capability. */
function expectView(shown: LspciFunction, { original, virtual, options }: Case, ask?: Ask): void {
  expect(text(shown.capabilities)).toEqual(text(expectedCapabilities(original.capabilities, ask)));
  const before = damageIn(original);
  expect(damageIn(shown).filter((mark) => !before.includes(mark))).toEqual([]);
  // A virtual function's header is emulated: IDs are given, memory decode and BARs are virtual.
  // Interrupt Status is that of the guest's pin (finding `interrupt-state`).
  const header = original.header.map((line) => line.replace(/^(\tStatus: .*)INTx\+$/, '$1INTx-'));
  if (!virtual) expect(shown.header).toEqual(header);
  else expect(options).toContain('--id');
}

const [captured, shared] = await Promise.all([readDumps(captures), readDumps(sharedDumps)]);

// ---- the bed -----------------------------------------------------------------------------------------------

const asks: readonly Ask[] = [
  { width: 16, execute: true, privileged: false },
  { width: 20, execute: true, privileged: true },
  { width: 1, execute: false, privileged: false },
  { width: 5, execute: false, privileged: true, offset: 0xfe0 },
];

function parsing(dumps: readonly Dump[]): void {
  it.concurrent.each(dumps)(
    '$name: every line lspci prints lands in a block',
    async ({ text: dump, cases }) => {
      const printed = await lspci(dump);
      const blocks = parseLspci(printed);
      const lines = blocks.flatMap(({ header, capabilities }) => [...header, ...text(capabilities)]);
      const wanted = printed.split('\n').filter((line) => line !== '');
      expect(lines.toSorted()).toEqual(wanted.map((line) => line.replace(slotPattern, '')).toSorted());
      expect(blocks.map(({ slot }) => slot)).toEqual(cases.map(({ slot }) => slot).toSorted());
      for (const { bytes } of cases) expect([64, 256, 4096]).toContain(bytes.length);
      for (const { header, capabilities } of blocks) {
        expect(header.filter((line) => line.includes('Capabilities:'))).toEqual([]);
        expect(capabilities.filter(({ extended, offset }) => extended !== offset >= 0x100)).toEqual([]);
      }
    },
  );
}

/** What `--ats --pri` leave alone, and they may move a head. */
const isOther = (capability: Capability): boolean =>
  capability.title !== 'Null' && !isPasid(capability) && !isAtsOrPri(capability);

/** Each run costs two processes: `thorough` asks every function for everything, else the widths take turns. */
function viewing(dumps: readonly Dump[], thorough: boolean): void {
  describe.concurrent.each(dumps)('$name, whole', ({ file, cases }) => {
    // One virtual function needs its IDs, and they would be those of every other one too.
    const ids = cases.length === 1 ? (cases[0]?.options.slice(2) ?? []) : [];

    it('shows every function without PASID', async () => {
      const shown = await shownView(file, ...ids);
      expect([...shown.keys()]).toEqual(cases.map(({ slot }) => slot).toSorted());
      for (const entry of cases) expectView(at(shown, entry.slot), entry);
    });

    if (cases.length === 1) return;
    it('shows PASID on the functions that can carry it, or refuses', async () => {
      const ask: Ask = { width: 16, execute: true, privileged: false };
      if (cases.every((entry) => cannotCarryPasid(entry) !== undefined)) {
        await refusal(file, ...askOptions(ask));
        return;
      }
      const shown = await shownView(file, ...askOptions(ask));
      for (const entry of cases) {
        expectView(at(shown, entry.slot), entry, cannotCarryPasid(entry) === undefined ? ask : undefined);
      }
    });
  });

  const cases = dumps.flatMap((dump) =>
    dump.cases.map((entry) => ({ ...entry, only: dump.cases.length === 1 })),
  );
  describe.concurrent.each(cases)('$title', (entry) => {
    const { file, slot, options, original, only } = entry;

    // Of a dump with one function, that is the whole one.
    if (!only) {
      it('alone, without PASID', async () => {
        const shown = await shownView(file, ...options);
        expect([...shown.keys()]).toEqual([slot]);
        expectView(at(shown, slot), entry);
      });
    }

    const reason = cannotCarryPasid(entry);
    if (reason !== undefined) {
      it(`refuses PASID: ${reason}`, async () => {
        await refusal(file, ...options, '--pasid-width', '16');
      });
      return;
    }

    const turn = cases.indexOf(entry) % (asks.length - 1);
    const some = asks.filter(({ offset }, index) => thorough || offset !== undefined || index === turn);
    it.each(some)('with PASID %j', async (ask) => {
      if (ask.offset !== undefined && !original.capabilities.some(({ extended }) => extended)) {
        // Nothing at 0x100 would lead there.
        expect(await refusal(file, ...options, ...askOptions(ask))).toContain('0x100');
        return;
      }
      const shown = await shownView(file, ...options, ...askOptions(ask));
      expect([...shown.keys()]).toEqual([slot]);
      expectView(at(shown, slot), entry, ask);
    });

    it('with PASID, ATS and PRI', async () => {
      const ask: Ask = { width: 20, execute: false, privileged: false };
      const shown = at(await shownView(file, ...options, ...askOptions(ask), '--ats', '--pri'), slot);
      const wanted = expectedCapabilities(original.capabilities, ask);
      expect(text(shown.capabilities.filter(isOther))).toEqual(text(wanted.filter(isOther)));
      expect(damageIn(shown)).toEqual(damageIn(original));
      // Which of them gets which place is the design's business.
      expect(
        shown.capabilities
          .filter(isAtsOrPri)
          .map(({ title }) => title)
          .toSorted(),
      ).toEqual(['Address Translation Service (ATS)', 'Page Request Interface (PRI)']);
      const pasid = shown.capabilities.filter(isPasid).map(({ lines }) => lines.slice(1));
      expect(pasid).toEqual([pasidCapability(ask, 0).lines.slice(1)]);
    });

    if (!thorough) return;
    it('refuses PASID on top of another capability', async () => {
      const other = original.capabilities.find(
        (capability) => capability.extended && !isHidden(capability) && !isPasid(capability),
      );
      if (other === undefined) return;
      for (const offset of [other.offset, other.offset + 4]) {
        const ask: Ask = { width: 8, execute: false, privileged: false, offset };
        expect(await refusal(file, ...options, ...askOptions(ask))).toContain(hex(other.offset, 3));
      }
    });
  });
}

bed('lspci', lspciMissing)('reading what lspci prints', () => {
  parsing([...captured, ...shared]);
});

bed('lspci', cliMissing)('vpci view through lspci: our captures', () => {
  viewing(captured, true);

  const cases = captured.flatMap((dump) => dump.cases);

  it('shows a virtual function under the IDs given, and refuses it without', async () => {
    const virtual = cases.find((entry) => entry.virtual);
    if (virtual === undefined) throw new Error('no virtual function among the captures');
    for (const options of [[], ['--pasid-width', '16']]) {
      expect(await refusal(virtual.file, ...options)).toContain('--id');
    }
    const shown = await view(virtual.file, '--id', '8086:10ca', '--pasid-width', '16');
    const named = await run('sh', ['-c', 'cat | lspci -F /dev/stdin -n'], shown.stdout);
    expect(named.stdout).toBe('01:10.0 0200: 8086:10ca (rev 01)\n');
  });

  it('shows an endpoint as a root complex integrated endpoint', async () => {
    const ask: Ask = { width: 16, execute: false, privileged: false };
    const endpoint = cases.find(({ title }) => title.startsWith('igb-82576.txt'));
    if (endpoint === undefined) throw new Error('no igb-82576.txt among the captures');
    const shown = at(await shownView(endpoint.file, ...askOptions(ask), '--as-rciep'), endpoint.slot);
    const seen = express(shown.capabilities);
    expect(seen?.title).toBe('Express (v2) Root Complex Integrated Endpoint, MSI 00');
    expect(seen?.lines.filter((line) => /Lnk(?:Cap|Ctl|Sta)/.test(line))).toEqual([]);
    const wanted = expectedCapabilities(endpoint.original.capabilities, ask);
    const rest = (capability: Capability): boolean => !capability.title.startsWith('Express (');
    expect(text(shown.capabilities.filter(rest))).toEqual(text(wanted.filter(rest)));
  });
});

const sharedMissing = (): string | undefined =>
  cliMissing() ?? (shared.length > 0 ? undefined : 'no dumps in ../shared/config-dumps');

// A name of its own: only the machines that have the folder can run it, so lspci alone does not require it.
bed('config-dumps', sharedMissing)("vpci view through lspci: real machines' dumps", () => {
  viewing(shared, false);

  it('works in a pipe, as a user types it', async () => {
    const command = '"$0" "$1" view "$2" --pasid-width 16 --exec | lspci -F /dev/stdin -vvv';
    const dump = join(sharedDumps, 'cap-l1-pm.txt');
    const { stdout } = await run('sh', ['-c', command, process.execPath, cli, dump]);
    expect(stdout).toContain('Process Address Space ID (PASID)');
    expect(stdout).toContain('Exec+ Priv-, Max PASID Width: 10');
  });
});
