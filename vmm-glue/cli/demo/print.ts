import { styleText } from 'node:util';
import { hex } from '../../../src/pci/bdf.ts';
import { type Actor, type Decided, describeVerdict, type Step, type Story } from './story.ts';

type Style = Parameters<typeof styleText>[0];
type Paint = (style: Style, text: string) => string;

const COLOURS: Readonly<Record<Actor, Style>> = {
  host: 'yellow',
  VMM: 'magenta',
  guest: 'cyan',
  device: 'blue',
};

const INTRODUCTION = `A guest is given a real PCI device that can tag its memory requests with a PASID, the number of a process.
The device's own PASID capability belongs to the host, so vpci shows the guest another one. What the guest
writes there stays there. The vIOMMU decides about every request, and rejects those that nobody configured.
`;

/** The story for people; `colour`: with the terminal's colours. */
export function printStory(story: Story, dump: string, colour: boolean): string {
  const paint: Paint = (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text);
  const { bdf, title } = story.function;
  return [
    `${paint('bold', 'The story of a PASID capability')}\n`,
    INTRODUCTION,
    `Device: ${bdf} ${title}\nFrom:   ${dump}\nGuest:  ${story.guest.about}\n`,
    ...story.steps.map((step, index) => printStep(step, index + 1, paint)),
    paint('bold', "The device's requests, and what the vIOMMU said"),
    ...printTable(story.requests, paint),
    '',
    `In all, ${writesSeen(story.physicalWrites)}.${story.physicalWrites === 0 ? ' What the guest wrote stayed in vpci.' : ''}\n`,
  ].join('\n');
}

function printStep({ who, did, result, physicalWrites }: Step, number: number, paint: Paint): string {
  const lines = result.split('\n').map((line) => `            ${paintVerdict(line, paint)}`);
  return [
    `${String(number).padStart(2)}  ${paint(COLOURS[who], who.padEnd(6))}  ${did}`,
    ...lines,
    `            ${paint('dim', writesSeen(physicalWrites))}`,
    '',
  ].join('\n');
}

function writesSeen(count: number): string {
  return `the physical function saw ${count === 1 ? '1 write' : `${count} writes`}`;
}

function paintVerdict(line: string, paint: Paint): string {
  if (line.startsWith('accepted')) return paint('green', line);
  return line.startsWith('rejected') ? paint('red', line) : line;
}

function printTable(requests: readonly Decided[], paint: Paint): string[] {
  const rows = requests.map(({ pasid, address, access, verdict }, index) => [
    String(index + 1),
    access,
    `0x${hex(pasid)}`,
    `0x${hex(address)}`,
    describeVerdict(verdict),
  ]);
  const heads = ['', 'access', 'PASID', 'address', 'verdict'];
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const format = (row: readonly string[]): string[] =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
  return [
    paint('dim', format(heads).join('  ').trimEnd()),
    ...rows.map((row) => {
      const cells = format(row);
      const verdict = (cells.pop() ?? '').trimEnd();
      return `${cells.join('  ')}  ${paintVerdict(verdict, paint)}`;
    }),
  ];
}
