import { styleText } from 'node:util';
import {
  type CheckedRegister,
  type DumpedFunctionExplanation,
  type FunctionIdentity,
  type HiddenCapability,
  type LinuxCheck,
  LINUX_CHECKS,
  type PasidAnswer,
  type ShownCapability,
  type TopologyExplanation,
} from '../../src/inspect/index.ts';
import { hex } from '../../src/pci/bdf.ts';

type Style = Parameters<typeof styleText>[0];
type Paint = (style: Style, text: string) => string;

/** Columns that text is wrapped at. */
const WIDTH = 110;

const STATUS: Readonly<Record<LinuxCheck['status'] | 'note', Style>> = {
  pass: 'green',
  fail: 'red',
  unknown: 'yellow',
  note: 'cyan',
};
const VERDICT: Readonly<Record<PasidAnswer['verdict'], Style>> = { yes: 'green', no: 'red', port: 'dim' };

/** The explanation for people; `colour`: with the terminal's colours. */
export function explanationText({ functions }: TopologyExplanation, colour: boolean): string {
  const paint: Paint = (style, text) => (colour ? styleText(style, text, { validateStream: false }) : text);
  const parts = functions.map((one) => functionText(one, paint));
  if (functions.length > 1) {
    const width = Math.max(...functions.map(({ bdf }) => bdf.length));
    const lines = functions.flatMap(({ bdf, answer }) =>
      hanging(`${bdf.padEnd(width)}  `, answer.sentence, paint, VERDICT[answer.verdict]),
    );
    parts.push([paint('bold', 'In all'), ...lines.map((line) => `  ${line}`)].join('\n'));
  }
  return `${parts.join('\n\n')}\n`;
}

function functionText(one: DumpedFunctionExplanation, paint: Paint): string {
  const { above, capabilities, extendedCapabilities, hidden, checks, answer } = one;
  const low = hidden.filter(({ offset }) => offset < 0x100);
  const high = hidden.filter(({ offset }) => offset >= 0x100);
  const path = above.length === 0 ? '' : `, below ${above.join(' below ')}`;
  const sections: [title: string, lines: string[]][] = [
    ['Capabilities', chainLines(capabilities, low, 2, paint)],
    ['Extended capabilities', chainLines(extendedCapabilities, high, 4, paint)],
    ['Bytes', byteLines(one, paint)],
    ['Room for one more extended capability', one.gaps.map(gapLine)],
    ['Findings', findingLines(one, paint)],
    [`What Linux checks before it enables PASID${path}`, checks.flatMap((check) => checkLines(check, paint))],
    ['What else decides', adviceLines(one, paint)],
    ['Will Linux enable PASID?', hanging('', answer.sentence, paint, VERDICT[answer.verdict])],
  ];
  return [
    `${paint('bold', `${one.bdf} ${one.title}`)}\n  ${identityLine(one.identity)}`,
    ...sections.flatMap(([title, lines]) =>
      lines.length === 0
        ? []
        : [[`  ${paint('bold', title)}`, ...lines.map((line) => `    ${line}`)].join('\n')],
    ),
  ].join('\n');
}

function identityLine({ vendorId, deviceId, classCode, size, kind, express }: FunctionIdentity): string {
  const where =
    express === null
      ? ''
      : `, PCI Express Capability version ${express.version} at 0x${hex(express.offset, 3)}`;
  const article = /^(?:[aeiou]|RC )/.test(kind) ? 'an' : 'a';
  return `${hex(vendorId, 4)}:${hex(deviceId, 4)}, class ${hex(classCode, 6)}: ${article} ${kind} with ${size} bytes${where}`;
}

/** The guest's chain in its order; what is hidden stands before the first that has a higher offset. */
function chainLines(
  shown: readonly ShownCapability[],
  hidden: readonly HiddenCapability[],
  digits: number,
  paint: Paint,
): string[] {
  const line = (offset: number, id: string, length: number, source: string): string =>
    `0x${hex(offset, 3)}  ${id.padEnd(digits === 4 ? 7 : 2)}  ${String(length).padStart(4)} bytes  ${source.padEnd(11)}  `;
  const left = [...hidden];
  const lines: string[] = [];
  const addHidden = (before: number): void => {
    for (let first = left[0]; first !== undefined && first.offset < before; first = left[0]) {
      left.shift();
      const { offset, id, length, reason } = first;
      const what = reason.replace(` at 0x${hex(offset, 3)} is hidden`, '');
      lines.push(
        ...hanging(line(offset, id === null ? '' : hex(id, digits), length, 'hidden'), what, paint, 'dim'),
      );
    }
  };
  for (const { offset, id, version, length, name, source, placement } of shown) {
    addHidden(offset);
    const versioned = digits === 4 ? `${hex(id, digits)} v${version}` : hex(id, digits);
    const what = placement === null ? name : `${name} (made by vpci: ${placement})`;
    lines.push(
      ...hanging(
        line(offset, versioned, length, source),
        what,
        paint,
        placement === null ? undefined : 'cyan',
      ),
    );
  }
  addHidden(Infinity);
  return lines;
}

function byteLines({ owners }: DumpedFunctionExplanation, paint: Paint): string[] {
  return owners.map(({ start, end, source, owner }) => {
    const text = `${range(start, end)}  ${source.padEnd(11)}  ${owner}`.trimEnd();
    return source === 'free' || source === 'unclaimed' || source === 'hidden' ? paint('dim', text) : text;
  });
}

function gapLine({ start, end }: { start: number; end: number }): string {
  return `${range(start, end)}  ${String(end - start).padStart(4)} bytes`;
}

function range(start: number, end: number): string {
  return `0x${hex(start, 3)}..0x${hex(end - 1, 3)}`;
}

/** Hidden capabilities stand in the chain already, and unclaimed bytes among the bytes. */
function findingLines({ findings, refused }: DumpedFunctionExplanation, paint: Paint): string[] {
  const rows: [code: string, message: string][] = [];
  let unclaimed = 0;
  for (const { code, length, message } of findings) {
    if (code === 'unclaimed-bytes') unclaimed += length;
    else if (code !== 'capability-hidden') rows.push([code, message]);
  }
  if (unclaimed > 0) {
    rows.push([
      'unclaimed-bytes',
      `${unclaimed} bytes (unclaimed above) belong to no capability and read 0; name those that the device's driver needs in passthroughRanges`,
    ]);
  }
  if (refused !== null) rows.push(['refused', refused]);
  const width = Math.max(...rows.map(([code]) => code.length));
  return rows.flatMap(([code, message]) => hanging(`${code.padEnd(width)}  `, message, paint));
}

function checkLines({ id, status, port, register, message, remedy }: LinuxCheck, paint: Paint): string[] {
  const title = port === null ? LINUX_CHECKS[id] : `${LINUX_CHECKS[id]}, ${port}`;
  const word = (status === 'fail' ? 'FAIL' : status).padEnd(7);
  const first = `${title.padEnd(26)}  `;
  const indent = ' '.repeat(word.length + 2 + first.length);
  const details = [
    ...hanging(first, message, paint),
    ...(register === null ? [] : [paint('dim', `${' '.repeat(first.length)}${registerText(register)}`)]),
    ...(remedy === null ? [] : hanging(' '.repeat(first.length), `-> ${remedy}`, paint)),
  ];
  return details.map((line, index) =>
    index === 0 ? `${paint(STATUS[status], word)}  ${line}` : `${indent.slice(0, word.length + 2)}${line}`,
  );
}

function adviceLines({ advice }: DumpedFunctionExplanation, paint: Paint): string[] {
  return advice.flatMap(({ topic, ok, register, message }) => {
    const status = ok === null ? 'note' : ok ? 'pass' : 'fail';
    const word = (status === 'fail' ? 'FAIL' : status).padEnd(7);
    const first = `${topic.padEnd(26)}  `;
    const details = [
      ...hanging(first, message, paint),
      ...(register === null ? [] : [paint('dim', `${' '.repeat(first.length)}${registerText(register)}`)]),
    ];
    return details.map((line, index) =>
      index === 0 ? `${paint(STATUS[status], word)}  ${line}` : `${' '.repeat(word.length + 2)}${line}`,
    );
  });
}

/** `Device Capabilities 2 at 0x0c4 is 0x00300000: bit 21 = 1`. */
function registerText({ name, offset, size, mask, value }: CheckedRegister): string {
  const fields: string[] = [];
  for (let high = 8 * size - 1; high >= 0; high--) {
    if (((mask >>> high) & 1) === 0) continue;
    let low = high;
    while (low > 0 && ((mask >>> (low - 1)) & 1) === 1) low--;
    const field = Math.floor(value / 2 ** low) % 2 ** (high - low + 1);
    fields.push(high === low ? `bit ${high} = ${field}` : `bits ${high}:${low} = ${field}`);
    high = low;
  }
  const bits = fields.length === 0 ? '' : `: ${fields.join(', ')}`;
  return `${name} at 0x${hex(offset, 3)} is 0x${hex(value, 2 * size)}${bits}`;
}

/** `text` after `head`, wrapped and indented to stand below itself. */
function hanging(head: string, text: string, paint: Paint, style?: Style): string[] {
  const room = WIDTH - 4 - head.length;
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > room) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines.map(
    (one, index) =>
      `${index === 0 ? head : ' '.repeat(head.length)}${style === undefined ? one : paint(style, one)}`,
  );
}
